#!/usr/bin/env bash
# Prints the path of a virtual environment that holds a lock file's packages; makes it first if it is missing.
#
#   scripts/env.sh NAME LOCKFILE [PYTHON]        PYTHON: an interpreter, default python3
#
# Environments live outside the checkout, in ${PTQBRIDGE_ENVS:-${XDG_CACHE_HOME:-$HOME/.cache}/ptqbridge/envs}, one per
# name, Python and content of the lock file. One is built under a temporary name and renamed when it is whole, so an
# interrupted one is never used and two builders do not harm each other. Because of the rename, use its tools as
# `ENV/bin/python -m TOOL`: the scripts beside it still name the temporary place.
set -euo pipefail

fail() { echo "env.sh: $*" >&2; exit 1; }

[ $# -ge 2 ] || fail "usage: env.sh NAME LOCKFILE [PYTHON]"
name=$1 lock=$2 python=${3:-python3}
[ -r "$lock" ] || fail "the lock file $lock cannot be read"
unset PYTHONPATH PYTHONHOME
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

# Version, place and lock together make the key: an environment must not outlive the interpreter that it links to.
key=$("$python" -c '
import hashlib, sys
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 10):
    sys.exit("env.sh: Python 3.10 or newer is needed, this is %s; name one, as in: make test PYTHON=python3.11" % version)
key = hashlib.sha256((sys.version + sys.base_prefix).encode())
key.update(open(sys.argv[1], "rb").read())
print(version + "-" + key.hexdigest()[:12])' "$lock") ||
    fail "$python cannot be used"
home=${PTQBRIDGE_ENVS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/ptqbridge/envs}
env=$home/$name-$key

if [ ! -d "$env" ]; then
    mkdir -p "$home"
    find "$home" -maxdepth 1 -name '.making-*' -mtime +1 -exec rm -rf {} +  # left by a killed builder
    making=$(mktemp -d "$home/.making-XXXXXX")
    trap 'rm -rf "$making"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "Making the environment $env (once, a minute or two)" >&2
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$making" >&2
        pip=("$making/bin/python" -m pip)
    else  # a system Python without its venv package: let its own pip fill the environment (pip 22.3 or newer)
        "$python" -m venv --without-pip "$making" >&2
        pip=("$python" -m pip --python "$making/bin/python")
    fi
    "${pip[@]}" install -qq -r "$lock" >&2 || fail "pip could not install $lock into a new environment"
    # os.rename refuses to replace a folder that is not empty: whoever comes second uses the first one's.
    "$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$making" "$env" 2>/dev/null || [ -d "$env" ] ||
        fail "cannot rename $making to $env"
fi
echo "$env"
