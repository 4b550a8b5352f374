"""Calibration data in hb_mapper's form, and what is refused before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.horizon.calibdata5 import look, write_samples
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.data import Recipe, open_samples
from ptqbridge.errors import InputError
from ptqbridge.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 3, 4, 4))
STATE = TensorSpec("state", "float32", (1, 2))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path) as made:
        yield made


def config(**given: str) -> dict[str, Any]:
    calibration = {"cal_data_dir": "./cal/image;./cal/state", "cal_data_type": "float32;float32"}
    return {"input_parameters": given, "calibration_parameters": calibration}


def data(folder: Path, pixels: bool = False) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (3, 3, 4, 4)).astype(np.float32)
    np.save(folder / "image.npy", image if pixels else (image / 255 - 0.5) / 0.25)
    np.save(folder / "state.npy", rng.normal(size=(3, 2)).astype(np.float32))
    return folder


def test_one_file_per_sample_and_input(place: Workspace, tmp_path: Path) -> None:
    samples = open_samples(data(tmp_path / "data"), (IMAGE, STATE))
    facts = write_samples(place, samples, (IMAGE, STATE), config(), Recipe())
    assert facts["samples"] == 3
    expected = np.load(tmp_path / "data" / "image.npy")
    for number in range(3):
        array = np.fromfile(place.job / "cal" / "image" / f"{number:05d}.bin", np.float32)
        assert np.array_equal(array, expected[number].reshape(-1))
    assert len(list((place.job / "cal" / "state").iterdir())) == 3


def test_the_input_that_the_tool_normalises_gets_pixels(place: Workspace, tmp_path: Path) -> None:
    samples = open_samples(data(tmp_path / "data"), (IMAGE, STATE))
    recipe = Recipe(scale=(1 / 255,), mean=(0.5,), std=(0.25,), color="rgb", layout="nchw", resize="stretch:4x4")
    given = config(norm_type="data_mean_and_scale;no_preprocess")
    write_samples(place, samples, (IMAGE, STATE), given, recipe)
    array = np.fromfile(place.job / "cal" / "image" / "00001.bin", np.float32)
    assert np.array_equal(array, np.rint(array))
    assert (array.min(), array.max()) > (0, 200)
    state = np.fromfile(place.job / "cal" / "state" / "00001.bin", np.float32)
    assert np.array_equal(state, np.load(tmp_path / "data" / "state.npy")[1])


def sample(folder: Path, *arrays: np.ndarray[Any, Any]) -> list[Path]:
    paths = []
    for number, array in enumerate(arrays):
        paths.append(folder / f"{number:05d}.bin")
        array.tofile(paths[-1])
    return paths


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((floats(1, 2), floats(1, np.nan)), "sample 00001 holds NaN or inf"),
        ((floats(1, np.inf),), "sample 00000 holds NaN or inf"),
        ((floats(0, 0), floats(0, 0)), "every value of every sample is 0"),
        ((np.array([1, 2, 3, 255], np.int32),), "another type of the same size read as float32"),
        ((floats(1, 1e25),), "another type of the same size"),
        ((floats(),), "sample 00000 is empty"),
        ((), "no sample is left"),
    ],
)
def test_what_the_tool_would_take_without_a_word(
    tmp_path: Path, arrays: tuple[np.ndarray[Any, Any], ...], words: str
) -> None:
    with pytest.raises(InputError, match=r"^calibration data of input 'x': ") as caught:
        look("x", sample(tmp_path, *arrays), "float32")
    assert words in caught.value.message


@pytest.mark.parametrize("arrays", [(floats(0, 0), floats(0, 1)), (floats(0.5),), (floats(1e-20, 0, 3),)])
def test_honest_data_pass(tmp_path: Path, arrays: tuple[np.ndarray[Any, Any], ...]) -> None:
    look("x", sample(tmp_path, *arrays), "float32")
