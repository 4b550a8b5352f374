"""Folders and archives: names, sizes, bounds, damage."""

from __future__ import annotations

import os
import zipfile
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import open_samples
from ptqbridge.data import store as module
from ptqbridge.data.store import Archive, BrokenData, Folder, chunks
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec


def test_folder_lists_nested_files_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.npy", "a/2.npy", "a/1.npy", ".hidden", ".git/x.npy"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert Folder(str(tmp_path)).names() == ["a/1.npy", "a/2.npy", "b.npy"]


def test_archive_lists_the_same_way(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("b.npy", "a/1.npy", "__MACOSX/a.npy", "a/.hidden", "empty/"):
            archive.writestr(name, b"x")
    assert Archive(str(tmp_path / "d.zip")).names() == ["a/1.npy", "b.npy"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for call in (folder.size, folder.open):
        with pytest.raises(InputError, match="none: No such file"):
            call("none")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match="sub: expected a file, found a folder"):
        folder.size("sub")
    os.mkfifo(tmp_path / "pipe.npy")
    for call in (folder.size, folder.open):
        with pytest.raises(InputError, match=r"pipe\.npy: expected a file, found a pipe or device"):
            call("pipe.npy")


def test_not_a_zip(tmp_path: Path) -> None:
    (tmp_path / "d.zip").write_bytes(b"PK no")
    with pytest.raises(InputError, match=r"d\.zip: not a readable zip archive"):
        Archive(str(tmp_path / "d.zip")).names()


def test_zip_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(1 << 20))
        archive.writestr("one.bin", b"1")
    assert Archive(str(path)).size("zeros.bin") == 1 << 20
    monkeypatch.setattr(module, "MAX_RATIO", 100)
    with pytest.raises(InputError, match=r"zeros\.bin: would unpack from \d+ to 1048576 bytes.*zip bomb"):
        Archive(str(path)).open("zeros.bin")
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    with pytest.raises(InputError, match="2 members, more than the limit"):
        Archive(str(path)).names()


def test_chunks_of_a_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.bin", b"abcdefgh" * 100)
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BrokenData, match=r"a\.bin: cannot be read \(Bad CRC"):
        b"".join(chunks(Archive(str(path)), "a.bin"))


@pytest.mark.parametrize("name", ["../evil.npy", "a/../../evil.npy", "/etc/evil.npy", "..\\evil.npy"])
def test_members_outside_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.npy", b"x")
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="path traversal"):
        Archive(str(tmp_path / "d.zip")).names()


def test_only_some_of_many_archives_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 3)
    monkeypatch.setattr(module, "_held", deque())
    archives = []
    for index in range(6):
        with zipfile.ZipFile(tmp_path / f"{index}.npz", "w") as archive:
            archive.writestr("x.npy", bytes([index]) * 4)
        archives.append(Archive(str(tmp_path / f"{index}.npz")))
    streams = [archive.open("x.npy") for archive in archives]
    assert sum("_zip" in vars(archive) for archive in archives) == 3
    assert [stream.read() for stream in streams] == [bytes([index]) * 4 for index in range(6)]
    for stream in streams:
        stream.close()
    assert archives[0].names() == ["x.npy"] and archives[0].size("x.npy") == 4


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the open files in /proc")
def test_a_folder_of_many_archives_takes_few_file_handles(tmp_path: Path) -> None:
    for index in range(module.MOST_OPEN * 2):
        np.savez_compressed(tmp_path / f"{index:03d}.npz", x=np.full((3, 2), index, np.float32))
    before = len(os.listdir("/proc/self/fd"))
    samples = open_samples(tmp_path, [TensorSpec("x", "float32", ("n", 2))], samples=module.MOST_OPEN * 2)
    found = [sample.arrays["x"][0, 0] for sample in samples]
    assert found == sorted(found) and len(found) == module.MOST_OPEN * 2
    assert len(os.listdir("/proc/self/fd")) - before <= module.MOST_OPEN + 2
    assert [sample.arrays["x"][0, 0] for sample in samples] == found
