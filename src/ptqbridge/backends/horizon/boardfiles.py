"""Files on their way to a board: named by their content and sent as one tar, so never twice and never in halves."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ptqbridge.errors import InputError, OptionError

TOOL = "hrt_model_exec"
_PLAIN = re.compile(r"[\w.+@/-]+")


@dataclass(frozen=True)
class Staged:
    """A file or folder of ours and its name on the board: its hash, with the suffix by which the tool knows it.

    ``members`` of a folder: place in it, path here, whether it is a program, SHA-256.
    """

    path: str
    name: str
    sha256: str
    size: int
    members: tuple[tuple[str, str, bool, str], ...] = ()


def staged(path: str, suffix: str = "") -> Staged:
    """The file at ``path`` under its board name. Raises InputError when it cannot be read."""
    digest, size = _digest(path)
    ending = suffix or os.path.splitext(path)[1]
    ending = ending if re.fullmatch(r"\.\w{1,8}", ending) else ""
    return Staged(path, digest[:32] + ending, digest, size)


@dataclass(frozen=True)
class Runtime:
    """The tool that is brought along: the program's place below the folder for files, and where its libraries are."""

    files: Staged
    program: str
    libraries: tuple[str, ...]


def runtime(path: str) -> Runtime:
    """A program, or a folder with ``hrt_model_exec`` (often in ``bin``) and its libraries (often in ``lib``).

    Raises InputError when it cannot be read, OptionError for a folder without the program.
    """
    if not os.path.isdir(path):
        file = staged(path)
        return Runtime(Staged(path, file.sha256[:32], file.sha256, file.size), file.sha256[:32], ())
    members = sorted(_members(Path(path)))
    programs = [place for place, *_ in members if place.rpartition("/")[2] == TOOL]
    if not programs:
        raise OptionError(f"{path}: expected {TOOL} in this folder, found {len(members)} other files")
    digest = hashlib.sha256("".join(f"{place} {run} {sha}\n" for place, _, run, sha in members).encode()).hexdigest()
    name = f"{digest[:32]}.d"
    libraries = sorted({place.rpartition("/")[0] for place, *_ in members if re.search(r"\.so(\.|$)", place)})
    size = sum(os.path.getsize(source) for _, source, _, _ in members)
    files = Staged(path, name, digest, size, tuple(members))
    return Runtime(files, f"{name}/{programs[0]}", tuple(f"{name}/{place}".rstrip("/") for place in libraries))


def _members(folder: Path) -> Iterator[tuple[str, str, bool, str]]:
    """The regular files in a folder; links are what they point to."""
    for path in folder.rglob("*"):
        if path.is_file():
            place = path.relative_to(folder).as_posix()
            if not _PLAIN.fullmatch(place):
                raise InputError(f"{path}: expected a name of letters, digits and ._+@- in a runtime folder")
            runs = os.access(path, os.X_OK) or path.name == TOOL
            yield place, str(path), runs, _digest(str(path))[0]


def _digest(path: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return digest.hexdigest(), size


def write_tar(target: BinaryIO, files: Sequence[Staged], program: str = "") -> None:
    """All ``files`` under their board names, and ``.sums`` to check them by; ``program`` is one that can be run.

    Raises InputError for a file that has changed since it was staged, OSError when nobody reads any more.
    """
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        sums = "".join(f"{sha}  {place}\n" for file in files for place, _, _, sha in _parts(file, program))
        _add(tar, ".sums", io.BytesIO(sums.encode()), len(sums.encode()), runs=False)
        for file in files:
            for place, path, runs, _ in _parts(file, program):
                try:
                    source = open(path, "rb")  # noqa: SIM115 - opening and sending fail for different reasons
                except OSError as error:
                    raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
                with source:
                    _add(tar, place, source, os.fstat(source.fileno()).st_size, runs=runs)


def _parts(file: Staged, program: str) -> Iterable[tuple[str, str, bool, str]]:
    if not file.members:
        return [(file.name, file.path, file.name == program, file.sha256)]
    return [(f"{file.name}/{place}", path, runs, sha) for place, path, runs, sha in file.members]


def _add(tar: tarfile.TarFile, place: str, source: BinaryIO, size: int, *, runs: bool) -> None:
    entry = tarfile.TarInfo(place)
    entry.size, entry.mode = size, 0o755 if runs else 0o644
    tar.addfile(entry, source)
