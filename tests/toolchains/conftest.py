"""Doubles of ssh, scp and docker: they do on this machine what the real ones do elsewhere."""

from __future__ import annotations

import os
import stat
import sys
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


@pytest.fixture
def calls(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """ssh, scp and docker are doubles first on PATH; ``calls()`` is what they were called with."""
    folder = tmp_path / "doubles"
    folder.mkdir()
    docker = f'#!/bin/sh\nexec {sys.executable} {root}/tests/doubles/docker "$@"\n'
    for name, text in (("ssh", SSH), ("scp", SCP), ("docker", docker)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.setenv("DOCKER_STATE", str(tmp_path))  # with the same file for its calls
    monkeypatch.setenv("DOCKER_IMAGES", "oe:latest")
    return log.read_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace: ``job`` with one file, ``tmp``."""
    root = tmp_path / "work place"
    (root / "job").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "job" / "model.txt").write_text("weights")
    return root
