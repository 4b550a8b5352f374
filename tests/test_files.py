"""Atomic writing: whole or not at all, nothing left behind, one clear line on failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ptqbridge.errors import InputError
from ptqbridge.files import atomic_path, write_atomic

not_as_root = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root ignores permissions")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_text_and_bytes_are_written_as_given(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "grün\r\n")
    write_atomic(str(tmp_path / "b.bin"), b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == "grün\r\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.txt", "b.bin"]


def test_relative_name_lands_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomic("plain", "x")
    assert (tmp_path / "plain").read_text() == "x"


def test_temporary_name_lies_beside_and_keeps_the_extension(tmp_path: Path) -> None:
    final = tmp_path / "model.onnx"
    with atomic_path(final) as temporary:
        assert os.path.dirname(temporary) == os.path.realpath(tmp_path)
        assert temporary.endswith(".onnx") and os.path.getsize(temporary) == 0
        assert not final.exists()
        Path(temporary).write_bytes(b"ok")
    assert final.read_bytes() == b"ok" and names(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, InputError("other")])
def test_failure_keeps_the_last_good_file(tmp_path: Path, failure: BaseException | type[BaseException]) -> None:
    final = tmp_path / "out.json"
    final.write_text("good")
    with pytest.raises((KeyboardInterrupt, RuntimeError, InputError)), atomic_path(final) as temporary:
        Path(temporary).write_text("half")
        raise failure
    assert final.read_text() == "good" and names(tmp_path) == ["out.json"]


def test_missing_folder_and_folder_as_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*no/x\.json: its folder does not exist"):
        write_atomic(tmp_path / "no" / "x.json", "")
    with pytest.raises(InputError, match="that is a folder"):
        write_atomic(tmp_path, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="its folder is a file"):
        write_atomic(tmp_path / "file" / "x", "")
    with pytest.raises(InputError, match="the name is too long"):
        write_atomic(tmp_path / ("n" * 300), "")
    assert names(tmp_path) == ["file"]


def test_full_disk_while_writing_leaves_nothing(tmp_path: Path) -> None:
    final = tmp_path / "big.bin"
    with pytest.raises(InputError, match=r"big\.bin: the disk is full"), atomic_path(final):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_device_is_said() -> None:
    with pytest.raises(InputError, match="/dev/full: the disk is full"):
        write_atomic("/dev/full", "x")


def test_a_device_is_written_directly() -> None:
    with atomic_path(os.devnull) as temporary:
        assert temporary == os.path.realpath(os.devnull)


def test_an_error_about_another_file_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        open(tmp_path / "not there").close()
    assert names(tmp_path) == []


def test_permissions_of_a_replaced_file_stay_and_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(real)
    write_atomic(link, "new")
    assert link.is_symlink() and real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_permissions_of_a_new_file_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomic(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@not_as_root
def test_unwritable_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        write_atomic(tmp_path / "x", "")
