"""Shapes and data of a run's inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.backends.onnxruntime.inputs import SHAPES_KEY, load_inputs, resolve_shapes, shape_ranges
from ptqbridge.errors import InputError
from ptqbridge.spec.shapes import ShapeRange
from ptqbridge.spec.tensor import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 3, 4))
MASK = TensorSpec("mask", "bool", (2,))
RANGES = {"image": ShapeRange((1, 3, 4), (4, 3, 4), (8, 3, 4))}


def test_asked_shapes_win_then_the_artifacts_then_one() -> None:
    asked, warnings = resolve_shapes([IMAGE, MASK], {"image": (2, 3, 4)}, RANGES)
    assert (asked, warnings) == ({"image": (2, 3, 4), "mask": (2,)}, [])
    built, warnings = resolve_shapes([IMAGE, MASK], {}, RANGES)
    assert (built["image"], warnings) == ((4, 3, 4), [])
    bare, warnings = resolve_shapes([IMAGE, MASK], {}, {})
    assert bare["image"] == (1, 3, 4)
    assert warnings == [
        "Dynamic dimensions required for input: image, but no shapes were provided. Automatically overriding shape "
        "to: 1x3x4"
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"imge": (1, 3, 4)}, ["--shapes", "no input 'imge'", "image: float32[batch,3,4]"]),
        ({"image": (1, 3)}, ["image:1x3 has 2 dimensions", "float32[batch,3,4]"]),
        ({"image": (1, 5, 4)}, ["image:1x5x4 does not fit", "float32[batch,3,4]"]),
        ({"image": (9, 3, 4)}, ["image:9x3x4 is outside", "1x3x4 to 8x3x4"]),
        ({"mask": (3,)}, ["mask:3 does not fit", "bool[2]"]),
    ],
)
def test_wrong_shapes_say_what_was_expected(asked: dict[str, tuple[int, ...]], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        resolve_shapes([IMAGE, MASK], asked, RANGES)
    for word in words:
        assert word in caught.value.message
    if "imge" in asked:
        assert caught.value.hint == "did you mean 'image'?"


def test_ranges_come_from_the_artifact() -> None:
    text = json.dumps({"image": {"min": [1, 3, 4], "opt": [4, 3, 4], "max": [8, 3, 4]}})
    assert shape_ranges({SHAPES_KEY: text}, "a.onnx") == RANGES
    assert shape_ranges({}, "a.onnx") == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"image": 3}', '{"image": {"min": [1]}}', '{"a": {"min": "x"}}'])
def test_broken_ranges_name_the_file(text: str) -> None:
    with pytest.raises(InputError, match=r"a\.onnx: its metadata entry ptqbridge\.shapes is broken"):
        shape_ranges({SHAPES_KEY: text}, "a.onnx")


def test_inputs_from_files_and_noise(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    data.tofile(tmp_path / "image.bin")
    said: list[str] = []
    arrays = load_inputs(
        [IMAGE, MASK],
        {"image": (1, 3, 4), "mask": (2,)},
        {"image": str(tmp_path / "image.bin")},
        said.append,
    )
    np.testing.assert_array_equal(arrays["image"], data)
    assert arrays["mask"].dtype == bool
    assert said[0] == f"Using values loaded from {tmp_path / 'image.bin'} for input image"
    assert said[2] == "Using random values for input mask"


def test_noise_is_trtexecs() -> None:
    values = load_inputs([IMAGE], {"image": (1, 3, 4)}, {})["image"].reshape(-1)
    np.testing.assert_allclose(values[:4], [-0.9999843, -0.7369244, 0.5112107, -0.0826997], rtol=1e-5)


def test_data_for_an_input_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="--loadInputs: the model has no input 'img'"):
        load_inputs([IMAGE], {"image": (1, 3, 4)}, {"img": "x.bin"})
