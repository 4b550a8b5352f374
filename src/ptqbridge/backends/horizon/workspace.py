"""A private empty folder per build, so that nothing stale, shared or importable meets the vendor's tool.

hb_mapper puts its working directory on Python's search path, keeps earlier products when it fails, truncates a log of
fixed name there and leaves temporary files in TMPDIR when it is killed (observed with hb_mapper 1.24.3). Here the
working directory and TMPDIR are new for every run and go away with it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptqbridge.errors import InputError
from ptqbridge.files import write_failure

JOB, TEMPORARY = "job", "tmp"


class Workspace:
    """``root`` holds ``job`` (the tool's working directory) and ``tmp`` (its TMPDIR)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job = root / JOB
        for folder in (self.job, root / TEMPORARY):
            folder.mkdir()

    def write(self, name: str, text: str) -> None:
        """A text file in the working directory. Raises InputError when the disk is full."""
        path = self._new(name)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise write_failure(path, error) from error

    def copy(self, source: str | os.PathLike[str], name: str) -> None:
        """A copy of a file or folder: what the tool does to it stays here. Raises InputError naming ``source``."""
        path = self._new(name)
        try:
            if os.path.isdir(source):
                shutil.copytree(source, path)
            else:
                shutil.copyfile(source, path)
        except shutil.Error as error:
            raise InputError(f"{os.fspath(source)}: cannot be copied ({error.args[0][0][2]})") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise write_failure(path, error) from error
            raise InputError(f"{os.fspath(source)}: cannot be read ({error.strerror or error})") from error

    def _new(self, name: str) -> Path:
        path = self.job / name
        if self.job not in path.parents or ".." in Path(name).parts:
            raise ValueError(f"{name} lies outside the workspace")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def workspace(parent: str | os.PathLike[str] | None = None) -> Iterator[Workspace]:
    """A workspace readable by its owner only, removed at the end, also after an error or Ctrl-C.

    ``parent`` is where it is made (default: the system's place for temporary files). Raises InputError.
    """
    try:
        root = Path(tempfile.mkdtemp(prefix="ptqbridge-", dir=parent)).resolve()
    except OSError as error:
        raise write_failure(parent or tempfile.gettempdir(), error) from error
    try:
        yield Workspace(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
