#!/usr/bin/env bash
# Prints the path of the real hb_mapper, installing it first if it is missing (once, about two minutes, 750 MB).
#
#   scripts/real_env.sh PYTHON        PYTHON: one that can import this package
#
# It lives outside the checkout, beside the environments of scripts/env.sh, one per content of its pinned list. With
# PTQBRIDGE_HB_MAPPER set, that program is used and nothing is installed.
set -euo pipefail

if [ -n "${PTQBRIDGE_HB_MAPPER:-}" ]; then
    echo "$PTQBRIDGE_HB_MAPPER"
    exit 0
fi
python=${1:?usage: real_env.sh PYTHON}
home=${PTQBRIDGE_ENVS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/ptqbridge/envs}
env=$home/hb-mapper-$("$python" -c 'from ptqbridge.toolchains.install import key; print(key())')
# Quick and silent when it is there: the record in it is written last.
[ -f "$env/ptqbridge-toolchain.json" ] || "$python" -m ptqbridge toolchain install hb-mapper "$env" >&2
echo "$env/bin/hb_mapper"
