"""List files and manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbridge.data.layout import find
from ptqbridge.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "b 7", "l.npy", "r.npy"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def rows(path: Path, *inputs: str) -> list[dict[str, str]]:
    return [{name: ref.name for name, ref in row.items()} for row in find(str(path), inputs).rows.values()]


def test_text_list(folder: Path) -> None:
    (folder / "val.txt").write_text("# pictures\n\na.jpg 281\nb.jpg\n" + f"{folder}/a.jpg\n")
    assert rows(folder / "val.txt", "x") == [{"x": "a.jpg"}, {"x": "b.jpg"}, {"x": f"{folder}/a.jpg"}]


@pytest.mark.parametrize("head", ["x", "file", "label,path", "image"])
def test_csv_for_one_input(folder: Path, head: str) -> None:
    cells = "3,a.jpg" if "," in head else "a.jpg"
    (folder / "m.csv").write_text(f"{head}\n{cells}\n")
    assert rows(folder / "m.csv", "x") == [{"x": "a.jpg"}]


def test_manifests_pair_explicitly(folder: Path) -> None:
    expected = [{"l": "l.npy", "r": "r.npy"}, {"l": "r.npy", "r": "l.npy"}]
    (folder / "manifest.csv").write_text("r,l\nr.npy,l.npy\nl.npy,r.npy\n")
    assert rows(folder, "l", "r") == expected
    (folder / "manifest.json").write_text('{"samples": [{"l": "l.npy", "r": "r.npy"}, {"r": "l.npy", "l": "r.npy"}]}')
    assert rows(folder, "l", "r") == expected
    (folder / "manifest.json").write_text('["a.jpg", "b.jpg"]')
    assert rows(folder, "x") == [{"x": "a.jpg"}, {"x": "b.jpg"}]


@pytest.mark.parametrize("place", ["annotations", "val2017", "images/val2017"])
def test_coco_annotations(tmp_path: Path, place: str) -> None:
    for folder in ("annotations", place):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "1.jpg").write_bytes(b"x")
    (tmp_path / place / "2.jpg").write_bytes(b"x")
    text = (
        '{"info": {}, "images": [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}], "annotations": []}'
    )
    (tmp_path / "annotations/instances_val2017.json").write_text(text)
    prefix = "" if place == "annotations" else f"../{place}/"
    expected = [{"x": f"{prefix}2.jpg"}, {"x": f"{prefix}1.jpg"}]
    assert rows(tmp_path / "annotations/instances_val2017.json", "x") == expected


@pytest.mark.parametrize(
    ("name", "text", "inputs", "message"),
    [
        ("m.txt", "a.jpg\nnone.jpg\n", "x", r"m\.txt line 2: .*none\.jpg: No such file"),
        ("m.txt", "m.txt\n", "x", "'m.txt' is neither a picture nor"),
        ("m.txt", "# nothing\n", "x", "names no samples"),
        ("m.txt", "a.jpg\n", "xy", "the model has 2; use .csv"),
        ("m.txt", "\xff", "x", "expected UTF-8"),
        ("m.csv", "", "x", "names no samples"),
        ("m.csv", "q\na.jpg\n", "x", "expected columns named x, found q"),
        ("m.csv", "x,y\nl.npy\n", "xy", "line 2: expected 2 columns, found 1"),
        ("m.csv", 'x\n"a\n', "x", "line 2: unexpected end of data"),
        ("m.json", "{", "x", "not JSON"),
        ("m.json", '{"images": [{"id": 3}]}', "x", "expected a list of samples"),
        ("m.json", '[""]', "x", "sample 0: expected a file name, found ''"),
        ("m.json", '["a\\u0000b"]', "x", "sample 0: expected a file name"),
        ("m.json", "3", "x", "expected a list of samples"),
        ("m.json", "[" * 100000, "x", "not JSON"),
        ("m.json", '[{"x": "l.npy"}]', "xy", "sample 0: expected one file for each of x, y"),
        ("m.json", '[{"x": 3}]', "x", "sample 0: expected one file for each of x"),
    ],
)
def test_wrong_lists_name_list_and_line(folder: Path, name: str, text: str, inputs: str, message: str) -> None:
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        find(str(folder / name), list(inputs))
    assert name in caught.value.message
