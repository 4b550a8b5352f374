#!/usr/bin/env bash
# Prints a folder that holds the bindings-only wheels of three TensorRT generations, each unpacked in a folder of its
# own with the interpreter that fits it; fetches them first if they are missing (once, 1 MB each, no dependencies).
#
#   scripts/trt_bindings.sh PYTHON        PYTHON: the first interpreter to try
#
# It lives outside the checkout, beside the environments of scripts/env.sh.
set -euo pipefail

python=${1:?usage: trt_bindings.sh PYTHON}
unset PYTHONPATH
home=${PTQBRIDGE_ENVS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/ptqbridge/envs}
folder=$home/tensorrt-bindings-1
making=
trap '[ -z "$making" ] || rm -rf "$making"' EXIT

fits() {  # fits OLDEST NEWEST: the first working Python with a minor version between them
    local candidate
    for candidate in "$python" python3 python3.1{1,0,2,3} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1*/bin/python; do
        if "$candidate" -c "import sys; sys.exit(not ($1 <= sys.version_info[1] <= $2))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "trt_bindings.sh: no Python from 3.$1 to 3.$2 found" >&2
    return 1
}

mkdir -p "$folder"
while read -r package version newest; do
    place=$folder/$version
    [ -d "$place" ] && continue
    interpreter=$(fits 10 "$newest") || continue  # the test says that this one is missing
    making=$(mktemp -d "$folder/.making-XXXXXX")
    "$interpreter" -m pip install -qq --disable-pip-version-check --no-deps --only-binary=:all: \
        --target "$making/site" "$package==$version" >&2 || { rm -rf "$making"; continue; }
    readlink -f "$interpreter" > "$making/python"
    mv -T "$making" "$place" 2>/dev/null || rm -rf "$making"
done <<'LIST'
tensorrt_bindings 8.6.1 11
tensorrt_cu12_bindings 10.13.3.9 13
tensorrt_cu12_bindings 11.4.0.106 13
LIST
echo "$folder"
