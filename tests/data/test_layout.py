"""Which file belongs to which input and sample."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.data.layout import find, safe_name
from ptqbridge.errors import InputError


def touch(root: Path, *names: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return str(root)


def files(root: str, *inputs: str) -> dict[str, dict[str, str]]:
    return {key: {name: ref.name for name, ref in row.items()} for key, row in find(root, inputs).rows.items()}


def test_one_input_takes_everything_below(tmp_path: Path) -> None:
    root = touch(tmp_path, "cat/2.jpg", "cat/1.png", "dog/1.JPEG", "readme.md", "recipe.yaml")
    assert files(root, "x") == {name: {"x": name} for name in ("cat/1.png", "cat/2.jpg", "dog/1.JPEG")}
    assert find(root, ["x"]).notes == [f"{root}: 1 file of other kinds left out (readme.md)"]


def test_subfolders_are_paired_by_name(tmp_path: Path) -> None:
    root = touch(tmp_path, "left/b.npy", "left/a.npy", "right/a.bin", "right/b.bin")
    assert files(root, "left", "right") == {
        "a": {"left": "left/a.npy", "right": "right/a.bin"},
        "b": {"left": "left/b.npy", "right": "right/b.bin"},
    }


def test_own_folder_of_a_single_input_wins(tmp_path: Path) -> None:
    root = touch(tmp_path, "x/1.npy", "labels/1.npy")
    assert files(root, "x") == {"1": {"x": "x/1.npy"}}
    assert "1 file outside the inputs' folders" in find(root, ["x"]).notes[0]


def test_input_names_with_other_characters(tmp_path: Path) -> None:
    assert safe_name("model/in:0") == "model_in_0"
    root = touch(tmp_path, "model_in_0/1.npy", "b/1.npy")
    assert files(root, "model/in:0", "b") == {"1": {"model/in:0": "model_in_0/1.npy", "b": "b/1.npy"}}


def test_prefixes_are_paired_by_the_rest(tmp_path: Path) -> None:
    root = touch(tmp_path, "a_1.npy", "a_2.npy", "a_b_1.npy", "a_b_2.npy")
    assert files(root, "a", "a_b") == {
        "1": {"a": "a_1.npy", "a_b": "a_b_1.npy"},
        "2": {"a": "a_2.npy", "a_b": "a_b_2.npy"},
    }
    assert files(touch(tmp_path / "t", "a.npy", "b.npy"), "a", "b") == {"": {"a": "a.npy", "b": "b.npy"}}


def test_npz_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", a=np.zeros(1), b=np.zeros(1), extra=np.zeros(1))
    assert files(str(tmp_path), "a", "b") == {"1.npz": {"a": "a.npy", "b": "b.npy"}}
    assert find(str(tmp_path / "1.npz"), ["a", "b"]).notes[0].endswith("1.npz: arrays left out: extra")
    np.savez(tmp_path / "1.npz", np.zeros(1))
    assert files(str(tmp_path / "1.npz"), "x") == {"1.npz": {"x": "arr_0.npy"}}


def test_zip_holds_the_same_layouts(tmp_path: Path) -> None:
    for top in ("", "calib/"):
        with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
            for name in ("left/1.npy", "right/1.npy"):
                archive.writestr(top + name, b"")
        assert files(str(tmp_path / "d.zip"), "left", "right") == {"1": {"left": "left/1.npy", "right": "right/1.npy"}}


@pytest.mark.parametrize(
    ("names", "inputs", "message"),
    [
        ((), ("x",), "holds no data files .*, it is empty"),
        (("a.txt",), ("x",), r"holds no data files .*; found a\.txt"),
        (("a.npy", "b.jpg", "c.jpg"), ("x",), r"one kind, found 1 \.npy files \(a\.npy\), 2 pictures \(b\.jpg\)"),
        (
            ("l/1.npy", "l/2.npy", "r/1.npy"),
            ("l", "r"),
            r"l/2\.npy of input 'l' has no partner of input 'r' \(2 against 1",
        ),
        (
            ("l/1.npy", "r/1.npy", "r/2.npy"),
            ("l", "r"),
            r"r/2\.npy of input 'r' has no partner of input 'l' \(2 against 1",
        ),
        (("l/1.npy",), ("l", "r"), "folders for l found, but none with data for r"),
        (("l/1.npy", "l/2.bin", "r/1.npy"), ("l", "r"), r"data files of one kind, found l/1\.npy, l/2\.bin"),
        (("l/1.jpg", "l/1.png", "r/1.png"), ("l", "r"), "the same name but for the suffix"),
        (("l_1.npy", "q_1.npy"), ("l", "r"), r"q_1\.npy: belongs to no input; .* l\[_KEY\], r\[_KEY\]"),
        (("l_1.npy", "r_2.npy"), ("l", "r"), r"l_1\.npy of input 'l' has no partner of input 'r'"),
    ],
)
def test_unclear_folders_are_errors(
    tmp_path: Path, names: tuple[str, ...], inputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find(touch(tmp_path, *names), inputs)
    assert "\n" not in caught.value.message


def test_single_files(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.npy", "a.docx", "a")
    assert files(f"{root}/a.npy", "x") == {"a.npy": {"x": "a.npy"}}
    with pytest.raises(InputError, match=r"a\.npy: one file for 2 inputs \(x, y\)"):
        find(f"{root}/a.npy", ["x", "y"])
    with pytest.raises(InputError, match=r"found '\.docx'"):
        find(f"{root}/a.docx", ["x"])
    with pytest.raises(InputError, match="found 'no suffix'"):
        find(f"{root}/a", ["x"])
    with pytest.raises(InputError, match="none: no such file or folder"):
        find(f"{root}/none", ["x"])


def test_npz_without_the_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", images=np.zeros(1), labels=np.zeros(1))
    with pytest.raises(InputError, match=r"1\.npz: no array named 'x', found images, labels"):
        find(str(tmp_path / "1.npz"), ["x"])
    assert files(str(tmp_path / "1.npz:images"), "x") == {str(tmp_path / "1.npz:images"): {"x": "images.npy"}}
    with pytest.raises(InputError, match=r"1\.npz:none\.npy: no such member"):
        find(str(tmp_path / "1.npz:none"), ["x"])
    with pytest.raises(InputError, match="no such file or folder"):
        find(str(tmp_path / "1.npz:images"), ["x", "y"])


@given(st.sets(st.text("abc_", min_size=1, max_size=4), min_size=1, max_size=6), st.randoms())
def test_pairing_never_depends_on_order(tmp_path_factory: pytest.TempPathFactory, keys: set[str], draw: object) -> None:
    root = tmp_path_factory.mktemp("d")
    names = [f"{side}/{key}.npy" for key in keys for side in ("left", "right")]
    draw.shuffle(names)  # type: ignore[attr-defined]
    for key, row in files(touch(root, *names), "right", "left").items():
        assert row == {"right": f"right/{key}.npy", "left": f"left/{key}.npy"}
