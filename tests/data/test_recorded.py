"""Calibration folders for Horizon's compilers are read back as what they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import Recipe, Samples, open_samples
from ptqbridge.data.recorded import find_record
from ptqbridge.data.writers import write_npy, write_raw
from ptqbridge.errors import InputError, OptionError
from ptqbridge.spec.tensor import TensorSpec

IMAGE = TensorSpec("in:put", "float32", (1, 3, 8, 6))
RECIPE = Recipe(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=(1 / 255,), color="bgr")
PIXELS = {"in:put": RECIPE}


@pytest.fixture
def samples(tmp_path: Path, save_picture: Callable[..., Path]) -> Samples:
    for index in range(3):
        save_picture(f"d/{index}.png")
    return open_samples(tmp_path / "d", [IMAGE], recipe=RECIPE)


def arrays(samples: Samples) -> list[np.ndarray]:
    return [sample.arrays["in:put"] for sample in samples]


@pytest.mark.parametrize("form", ["float32", "uint8", "npy"])
@pytest.mark.parametrize("inner", [False, True])
def test_the_samples_come_back_bit_for_bit(tmp_path: Path, samples: Samples, form: str, inner: bool) -> None:
    out = str(tmp_path / "out")
    if form == "npy":
        folders = write_npy(samples, [IMAGE], out)
    else:
        folders = write_raw(samples, [IMAGE], out, pixels=PIXELS, dtype=form)
    again = open_samples(folders["in:put"] if inner else out, [IMAGE])
    assert np.array_equal(arrays(again), arrays(samples))
    assert "calibration data for a Horizon compiler" in again.notes[0]
    assert again.recipes == samples.recipes
    record = find_record(out)
    assert record is not None and record.journey6 == (form == "npy")
    assert record.inputs() == (IMAGE,) and record.pixels() == ([] if form == "npy" else ["in:put"])


def test_from_one_generation_to_the_other_and_back(tmp_path: Path, samples: Samples) -> None:
    five, six, back = (str(tmp_path / name) for name in ("five", "six", "back"))
    first = write_raw(samples, [IMAGE], five, pixels=PIXELS)["in:put"]
    write_npy(open_samples(five, [IMAGE]), [IMAGE], six)
    open_six = open_samples(six, [IMAGE])
    last = write_raw(open_six, [IMAGE], back, pixels=open_six.recipes)["in:put"]
    for index in range(3):
        assert Path(f"{first}/0000{index}.bin").read_bytes() == Path(f"{last}/0000{index}.bin").read_bytes()


def test_several_inputs(tmp_path: Path) -> None:
    inputs = [TensorSpec("a", "float32", ("n", 3)), TensorSpec("b", "int64", ("n", 2))]
    rows = {"a": np.random.default_rng(0).random((4, 3), np.float32), "b": np.arange(8).reshape(4, 2)}
    np.savez(tmp_path / "d.npz", **rows)
    write_raw(open_samples(tmp_path / "d.npz", inputs), inputs, str(tmp_path / "out"))
    found = list(open_samples(tmp_path / "out", inputs))
    for name, row in rows.items():
        assert np.array_equal(np.concatenate([sample.arrays[name] for sample in found]), row)
    with pytest.raises(InputError, match="for the inputs a, b, but the model takes a"):
        open_samples(tmp_path / "out", inputs[:1])


def test_options_change_numbers_only(tmp_path: Path, samples: Samples) -> None:
    out = str(tmp_path / "out")
    write_raw(samples, [IMAGE], out, pixels=PIXELS)
    plain = open_samples(out, [IMAGE], recipe=Recipe(mean=(0.0,), std=(1.0,)))
    assert np.allclose(arrays(plain)[0], arrays(samples)[0] * [[[0.229]], [[0.224]], [[0.225]]] + [
        [[0.485]], [[0.456]], [[0.406]],
    ])  # fmt: skip
    with pytest.raises(OptionError, match="--color=rgb: the data were written with bgr"):
        open_samples(out, [IMAGE], recipe=Recipe(color="rgb"))
    with pytest.raises(OptionError, match="mean: expected 1 or 3 numbers, found 2"):
        open_samples(out, [IMAGE], recipe=Recipe(mean=(0.1, 0.2)))


def test_a_missing_or_short_file_is_named(tmp_path: Path, samples: Samples) -> None:
    out = tmp_path / "out"
    write_raw(samples, [IMAGE], str(out), pixels=PIXELS)
    (out / "in_put_f32/00001.bin").write_bytes(b"1234")
    with pytest.raises(InputError, match=r"00001\.bin: expected 576 bytes"):
        open_samples(out, [IMAGE])
    (out / "in_put_f32/00001.bin").unlink()
    with pytest.raises(InputError, match=r"00001\.bin: No such file"):
        open_samples(out, [IMAGE])


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"in:put": {"folder": "../etc", "dtype": "float32", "shape": [1]}}},
        {"inputs": {"x": {}}},
        {"recipes": 3},
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, samples: Samples, change: dict[str, object]) -> None:
    out = tmp_path / "out"
    write_raw(samples, [IMAGE], str(out), pixels=PIXELS)
    record = json.loads((out / "data.json").read_text())
    (out / "data.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(InputError, match=r"data\.json: a damaged record"):
        open_samples(out, [IMAGE])


def test_other_files_of_that_name_mean_nothing(tmp_path: Path, samples: Samples) -> None:
    for text in ("{", "[1]", '{"a": 1}'):
        (tmp_path / "d" / "data.json").write_text(text)
        assert len(open_samples(tmp_path / "d", [IMAGE])) == 3
