"""Calibration folders for the Horizon compilers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import Recipe, open_samples
from ptqbridge.data.writers import to_pixels, write_npy, write_raw
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec

IMAGE = TensorSpec("in:put", "float32", (1, 3, 8, 6))
RECIPE = Recipe(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=(1 / 255,), color="bgr")


@pytest.fixture
def pictures(tmp_path: Path, save_picture: Callable[..., Path]) -> Path:
    for index in range(3):
        save_picture(f"d/{index}.png")
    return tmp_path / "d"


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_raw_files_hold_the_pixels(tmp_path: Path, pictures: Path, dtype: str) -> None:
    from PIL import Image

    samples = open_samples(pictures, [IMAGE], recipe=RECIPE)
    place = "in_put_f32" if dtype == "float32" else "in_put"
    folders = write_raw(samples, [IMAGE], str(tmp_path / "out"), pixels={"in:put": RECIPE}, dtype=dtype)
    assert folders == {"in:put": str(tmp_path / "out" / place)}
    assert listing(tmp_path / "out") == ["data.json", *(f"{place}/0000{index}.bin" for index in range(3))]
    for index in range(3):
        got = np.fromfile(tmp_path / f"out/{place}/0000{index}.bin", dtype).reshape(1, 3, 8, 6)
        pixels = np.asarray(Image.open(pictures / f"{index}.png"))[:, :, ::-1].transpose(2, 0, 1)
        assert np.array_equal(got[0], pixels)


def test_npy_files_hold_what_the_model_wants(tmp_path: Path, pictures: Path) -> None:
    samples = open_samples(pictures, [IMAGE], recipe=RECIPE)
    (folder,) = write_npy(samples, [IMAGE], str(tmp_path / "out")).values()
    for index, sample in enumerate(samples):
        assert np.array_equal(np.load(f"{folder}/0000{index}.npy"), sample.arrays["in:put"])
    record = json.loads((tmp_path / "out/data.json").read_text())
    assert record["fingerprint"] == samples.fingerprint
    form = {"folder": "in_put", "dtype": "float32", "shape": [1, 3, 8, 6], "pixels": False}
    assert record["inputs"]["in:put"] == form
    assert Recipe.from_mapping(record["recipes"]["in:put"]) == samples.recipes["in:put"]
    assert len(record["samples"]) == 3
    again = open_samples(folder, [IMAGE])
    assert [np.array_equal(a.arrays["in:put"], b.arrays["in:put"]) for a, b in zip(again, samples, strict=True)] == [
        True
    ] * 3


def test_other_inputs_keep_values_and_type(tmp_path: Path, save_npy: Callable[..., Path]) -> None:
    specs = [TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int64", (1, 2))]
    save_npy("d/a.npy", np.array([[0.5, -2]], np.float32))
    root = save_npy("d/b.npy", np.array([[3, 4]])).parent
    folders = write_raw(open_samples(root, specs), specs, str(tmp_path / "out"))
    assert [Path(folder).name for folder in folders.values()] == ["a_f32", "b"]
    assert np.fromfile(f"{folders['a']}/00000.bin", np.float32).tolist() == [0.5, -2]
    assert np.fromfile(f"{folders['b']}/00000.bin", np.int64).tolist() == [3, 4]


def test_values_that_are_no_pixels(tmp_path: Path, save_npy: Callable[..., Path]) -> None:
    path = save_npy("d/a.npy", np.full((1, 3, 8, 6), 100, np.float32))
    with pytest.raises(InputError, match=r"a\.npy: undoing mean, std and scale gives .*, expected pixels 0\.\.255"):
        write_raw(open_samples(path, [IMAGE]), [IMAGE], str(tmp_path / "out"), pixels={"in:put": RECIPE})
    path = save_npy("d/a.npy", np.full((1, 3, 8, 6), 0.3331, np.float32))
    recipe = Recipe(scale=(1 / 255,))
    with pytest.raises(InputError, match="expected whole pixel values for uint8"):
        write_raw(open_samples(path, [IMAGE]), [IMAGE], str(tmp_path / "out"), pixels={"in:put": recipe}, dtype="uint8")
    assert listing(tmp_path) == ["d/a.npy"]


def test_pixels_come_back_exactly_for_every_value() -> None:
    recipe = RECIPE.resolve(TensorSpec("x", "float32", (1, 3, 16, 16)))
    pixels = np.arange(256).reshape(1, 1, 16, 16).repeat(3, axis=1)
    mean, std = (np.array(numbers).reshape(1, 3, 1, 1) for numbers in (recipe.mean, recipe.std))
    values = ((pixels / 255 - mean) / std).astype(np.float32)
    assert np.array_equal(to_pixels(values, recipe, "a"), pixels)


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "out"
    write_npy(open_samples(pictures, [IMAGE]), [IMAGE], str(out))
    before = listing(out)
    (pictures / "1.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"1\.png"):
        write_npy(open_samples(pictures, [IMAGE]), [IMAGE], str(out))
    assert listing(out) == before
    write_npy(open_samples(pictures, [IMAGE], skip_broken=1), [IMAGE], str(out))
    assert listing(out) == ["data.json", "in_put/00000.npy", "in_put/00001.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "out"]


def test_foreign_folders_are_left_alone(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match="was not written as calibration data"):
        write_npy(open_samples(pictures, [IMAGE]), [IMAGE], str(pictures))
    assert listing(pictures) == ["0.png", "1.png", "2.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: exists and was not written"):
        write_npy(open_samples(pictures, [IMAGE]), [IMAGE], str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot write"):
        write_npy(open_samples(pictures, [IMAGE]), [IMAGE], str(tmp_path / "file/sub"))


def test_inputs_with_the_same_folder_name(tmp_path: Path, save_npy: Callable[..., Path]) -> None:
    specs = [TensorSpec("a:0", "float32", (1,)), TensorSpec("a/0", "float32", (1,))]
    np.savez(tmp_path / "d.npz", **{"a:0": np.zeros(1, np.float32), "a/0": np.zeros(1, np.float32)})
    with pytest.raises(InputError, match="two inputs share the folder name a_0"):
        write_npy(open_samples(tmp_path / "d.npz", specs), specs, str(tmp_path / "out"))
