"""Private workspaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbridge.backends.horizon.workspace import workspace
from ptqbridge.errors import InputError


def test_it_is_private_empty_and_gone_afterwards(tmp_path: Path) -> None:
    with workspace(tmp_path) as place:
        assert place.root.parent == tmp_path.resolve()
        assert place.root.stat().st_mode & 0o077 == 0
        assert list(place.job.iterdir()) == []
        assert (place.root / "tmp").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_it_goes_away_after_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path) as place:
        place.write("a/b.yaml", "x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_meet(tmp_path: Path) -> None:
    with workspace(tmp_path) as one, workspace(tmp_path) as two:
        one.write("x", "1")
        assert not (two.job / "x").exists()


def test_copies_are_copies(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "a").write_text("a")
    with workspace(tmp_path) as place:
        place.copy(source, "copied")
        place.copy(source / "a", "deep/one")
        (place.job / "copied" / "a").write_text("changed")
        assert (place.job / "deep" / "one").read_text() == "a"
    assert (source / "a").read_text() == "a"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        workspace(tmp_path) as place,
        pytest.raises(InputError, match=r"no\.onnx: cannot be read \(No such file"),
    ):
        place.copy(tmp_path / "no.onnx", "model.onnx")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with workspace(tmp_path) as place, pytest.raises(ValueError, match="outside"):
        place.write(name, "x")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*its folder does not exist"), workspace(tmp_path / "no"):
        pass
