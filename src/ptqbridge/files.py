"""Atomic writing: a file is there whole, or the last good one stays untouched."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ptqbridge.errors import InputError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be too large",
    errno.EIO: "the disk reports an error",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EISDIR: "that is a folder",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is a file",
    errno.ENAMETOOLONG: "the name is too long",
}
DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Numbers of an ``OSError`` that is the disk's fault, not the program's."""


def write_failure(path: str | os.PathLike[str], error: OSError) -> InputError:
    """The one-line error for a file that could not be written."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return InputError(f"cannot write {os.fspath(path) or repr('')}: {reason}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a temporary name in the folder of ``path``; on success sync it to disk and rename it to ``path``.

    The temporary file exists, empty, when the body starts, and has the extension of ``path``, since some libraries
    choose a format by it. On any exception, Ctrl-C included, it is removed and ``path`` is left as it was.
    A new file gets the permissions a plain ``open`` gives; a replaced one keeps its own. A symbolic link is followed.
    A device or pipe (``/dev/stdout``) cannot be renamed onto and is written directly.

    Raises:
        InputError: the file cannot be written (folder missing, no permission, full disk, ...), also when the body
            meets that failure while it writes. Other errors of the body pass through unchanged.
    """
    final = os.path.realpath(os.fspath(path))
    if os.path.exists(final) and not os.path.isfile(final) and not os.path.isdir(final):
        with _blaming(path, final):
            yield final
        return
    folder, name = os.path.split(final)
    stem, extension = os.path.splitext(name)
    temporary = os.path.join(folder, f".{stem[:40]}.{secrets.token_hex(6)}{extension[:20]}")
    try:
        try:
            _create_beside(final, temporary)
        except OSError as error:
            raise write_failure(path, error) from error
        with _blaming(path, temporary):
            yield temporary
        try:
            _sync(temporary)
            os.replace(temporary, final)
        except OSError as error:
            raise write_failure(path, error) from error
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # not every file system can sync a folder, and the rename itself is done
        _sync(folder)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8, line ends as given) to ``path``: whole, or not at all.

    Raises:
        InputError: the file cannot be written; the message names it and the reason.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def _create_beside(final: str, temporary: str) -> None:
    """Make the empty temporary file, with the permissions the finished one shall have."""
    if os.path.isdir(final):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), final)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less what the umask forbids
    with suppress(FileNotFoundError):
        os.chmod(temporary, os.stat(final).st_mode & 0o7777)


@contextmanager
def _blaming(path: str | os.PathLike[str], written: str) -> Iterator[None]:
    """Turn an ``OSError`` into the error for ``path`` if it is about ``written`` or the disk, and no other file."""
    try:
        yield
    except OSError as error:
        if error.filename == written or (error.filename is None and error.errno in DISK_TROUBLE):
            raise write_failure(path, error) from error
        raise


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
