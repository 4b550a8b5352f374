"""Where data files lie: a folder or a zip archive, read through the same few calls."""

from __future__ import annotations

import os
import re
import stat
import weakref
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from ptqbridge.errors import InputError

MAX_MEMBER = 4 << 30
"""Largest unpacked size of one archive member that is read, bytes (a bound against zip bombs)."""
MAX_RATIO = 1100
"""Largest packing ratio accepted; deflate cannot pass about 1032:1, so more means a forged size."""
MAX_MEMBERS = 1_000_000
MOST_OPEN = 64
"""Archives and their members that are held open for later reads; an operating system allows some hundred."""
_held: deque[tuple[weakref.ref[object], str]] = deque()


def hold_open(owner: object, attribute: str) -> None:
    """Note that ``owner`` holds a file open in ``attribute``; of more than MOST_OPEN the oldest loses it.

    A folder may have thousands of .npz files. Who still reads from the file has it until then.
    """
    _held.append((weakref.ref(owner), attribute))
    if len(_held) > MOST_OPEN:
        oldest, name = _held.popleft()
        if (holder := oldest()) is not None:
            vars(holder).pop(name, None)


class BrokenData(InputError):
    """The content of one data file is damaged (undecodable, cut short, NaN): what ``skip_broken`` may leave out."""


SKIP_HINT = "--skipBroken=N goes on without up to N such samples; lint-data names them all"
"""For the error that ends a reading because of BrokenData."""


class Misfit(InputError):
    """A sound data file that is not what the model takes. ``check`` says in which way: shape, layout or type."""

    def __init__(self, message: str, *, hint: str = "", check: str = "shape") -> None:
        super().__init__(message, hint=hint)
        self.check = check


@dataclass(frozen=True)
class Left:
    """A sample that was left out: its file names, ``broken`` or what a :class:`Misfit` says, and why in one line."""

    sample: str
    check: str
    message: str

    @staticmethod
    def because(sample: str, error: InputError) -> Left:
        """What the reader of a sample raised."""
        check = error.check if isinstance(error, Misfit) else "broken"
        return Left(sample, check, error.message + (f" ({error.hint})" if error.hint else ""))


@dataclass(frozen=True)
class Folder:
    """Files below ``root``; names are relative with forward slashes, or absolute (from list files)."""

    root: str

    def names(self) -> list[str]:
        """All files, nested ones too, hidden ones left out, sorted by name. Folder links are not followed."""
        found = []
        for folder, folders, files in os.walk(self.root, onerror=_unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inner = os.path.relpath(folder, self.root)
            found += [name if inner == "." else f"{inner}/{name}" for name in files if not name.startswith(".")]
        return sorted(name.replace(os.sep, "/") for name in found)

    def shown(self, name: str) -> str:
        """The name to put into messages."""
        return os.path.join(self.root, name) if self.root else name

    def path(self, name: str) -> str | None:
        """The real path, for memory mapping."""
        return self.shown(name)

    def size(self, name: str) -> int:
        """Size in bytes. Raises InputError if missing."""
        try:
            found = os.stat(self.shown(name))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.shown(name)}: {getattr(error, 'strerror', None) or error}") from None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
            raise InputError(f"{self.shown(name)}: expected a file, found {kind}")
        return found.st_size

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self.shown(name))

    def open(self, name: str) -> BinaryIO:
        """Open for reading. Raises InputError."""
        self.size(name)
        try:
            return open(self.shown(name), "rb")
        except OSError as error:
            raise InputError(f"{self.shown(name)}: {error.strerror or error}") from None


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror or error}")


@dataclass(frozen=True)
class Archive:
    """Members of the zip (or .npz) file ``root`` whose names begin with ``inside``, which is then left off.

    Sizes are bounded before anything is unpacked. Raises InputError.
    """

    root: str
    inside: str = ""

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            archive = zipfile.ZipFile(self.root)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            text = getattr(error, "strerror", None) or error
            raise InputError(f"{self.root}: not a readable zip archive ({text})") from None
        if len(archive.infolist()) > MAX_MEMBERS:
            raise InputError(f"{self.root}: {len(archive.infolist())} members, more than the limit of {MAX_MEMBERS}")
        outside = next(
            (n for n in archive.namelist() if n.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", n)), None
        )
        if outside is not None:
            raise InputError(
                f"{self.root}: the member {outside!r} would lie outside of the archive's folder (path traversal)"
            )
        hold_open(self, "_zip")
        return archive

    def names(self) -> list[str]:
        """All members that are files, hidden ones left out, sorted by name."""
        names = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        names = [name[len(self.inside) :] for name in names if name.startswith(self.inside)]
        parts = [(name, name.split("/")) for name in names]
        return sorted(n for n, p in parts if p[0] != "__MACOSX" and not any(part.startswith(".") for part in p))

    def shown(self, name: str) -> str:
        """The name to put into messages."""
        return f"{self.root}:{self.inside}{name}"

    def path(self, name: str) -> str | None:
        """None: members cannot be memory-mapped."""
        return None

    def size(self, name: str) -> int:
        """Unpacked size in bytes. Raises InputError if missing or beyond the bounds."""
        try:
            info = self._zip.getinfo(self.inside + name)
        except KeyError:
            raise InputError(f"{self.shown(name)}: no such member in the archive") from None
        if info.file_size > MAX_MEMBER or info.file_size > MAX_RATIO * max(info.compress_size, 1):
            raise InputError(
                f"{self.shown(name)}: would unpack from {info.compress_size} to {info.file_size} bytes, "
                f"limits are {MAX_MEMBER} bytes and {MAX_RATIO}:1 (zip bomb?)"
            )
        if info.flag_bits & 1:
            raise InputError(f"{self.shown(name)}: the member is encrypted")
        return info.file_size

    def holds(self, name: str) -> bool:
        """Whether there is such a member."""
        return self.inside + name in self._zip.namelist()

    def open(self, name: str) -> BinaryIO:
        """Open a member for reading. Raises InputError."""
        self.size(name)
        try:
            return self._zip.open(self.inside + name)  # type: ignore[return-value]
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise BrokenData(f"{self.shown(name)}: cannot be unpacked ({error})") from None


Store = Folder | Archive


def chunks(store: Store, name: str) -> Iterator[bytes]:
    """The content of a file, 1 MiB at a time. Raises BrokenData where it cannot be read on."""
    with store.open(name) as file:
        while True:
            try:
                chunk = file.read(1 << 20)
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise BrokenData(f"{store.shown(name)}: cannot be read ({error})") from None
            if not chunk:
                return
            yield chunk
