"""Doubles of ssh, scp and docker: they do on this machine what the real ones do elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

# Like sshd: options away, the rest joined by blanks for a shell that leads a session of its own.
SSH = r"""#!/bin/sh
printf '%s\n' "ssh $*" >> "$CALLS"
while [ $# -gt 0 ]; do
    case $1 in -T) ;; -o|-p) shift ;; --) shift; break ;; *) break ;; esac
    shift
done
[ "$1" = unknown ] && { echo "Host key verification failed." >&2; exit 255; }
[ "$1" = refused ] && { echo "ssh: connect to host refused port 22: Connection refused" >&2; exit 255; }
shift
exec setsid --wait sh -c "$*"
"""
SCP = r"""#!/bin/sh
printf '%s\n' "scp $*" >> "$CALLS"
while [ $# -gt 0 ]; do
    case $1 in -q|-r) ;; -o|-P) shift ;; --) shift; break ;; *) break ;; esac
    shift
done
exec cp -rL "${1#board:}" "${2#board:}"
"""
# The container is this machine with the mount's folder in the place of /ptqbridge, as far as words go.
DOCKER = r"""#!/bin/sh
printf '%s\n' "$*" >> "$CALLS"
[ "$1" = rm ] && exit 0
shift
for word; do
    shift
    case $word in
    --mount=*) source=${word#*source=}; source=${source%%,target*} ;;
    --workdir=*) cd "$source/${word#--workdir=/ptqbridge}" ;;
    --env=*) export "${word#--env=}" ;;
    --*) ;;
    *) image=$word; break ;;
    esac
done
[ "$image" = missing ] && { echo "Unable to find image 'missing:latest' locally" >&2; exit 125; }
exec "$@"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """ssh, scp and docker are doubles first on PATH; ``calls()`` is what they were called with."""
    folder = tmp_path / "doubles"
    folder.mkdir()
    for name, text in (("ssh", SSH), ("scp", SCP), ("docker", DOCKER)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(log))
    return log.read_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace: ``job`` with one file, ``tmp``."""
    root = tmp_path / "work place"
    (root / "job").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "job" / "model.txt").write_text("weights")
    return root
