#!/usr/bin/env bash
# Builds sdist and wheel, installs the wheel with its dependencies into a fresh environment, runs the installed command.
#
#   scripts/check_wheel.sh PYTHON        PYTHON: an interpreter that has hatchling and pip (an environment of env.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
unset PYTHONPATH PYTHONHOME
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m hatchling build -d "$work/dist"
"$python" -m venv --without-pip "$work/env"
# Every dependency of the wheel must be in the wheel's own metadata: nothing else is named here.
"$python" -m pip --disable-pip-version-check --python "$work/env/bin/python" install -qq "$work"/dist/*.whl
cd "$work"
expected=$("$python" -c 'import pathlib, sys; print(next(pathlib.Path(sys.argv[1]).glob("*.whl")).name.split("-")[1])' dist)
said=$(env/bin/ptqbridge --version)
echo "installed: $said"
case $said in
    *"$expected"*) ;;
    *) echo "check_wheel.sh: ptqbridge --version says '$said', the wheel is of version $expected" >&2; exit 1 ;;
esac
env/bin/ptqbridge --help >/dev/null
