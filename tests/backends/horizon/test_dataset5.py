"""A data set through the quantized model: what the .bin takes is made of what the float model takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.backends.horizon.beside5 import Beside
from ptqbridge.backends.horizon.dataset5 import float_input, infer, to_runtime, with_recipe, write_outputs
from ptqbridge.backends.horizon.infer5 import Feed, nv12_to_yuv444
from ptqbridge.backends.horizon.tools5 import InputInfo
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.yuv import rgb_to_nv12
from ptqbridge.errors import InputError
from ptqbridge.spec import Calibration, Preprocess, TensorSpec

SCALED = Preprocess(mean=(0.5,), std=(0.25,), scale=(1 / 255,))


def quiet(text: str) -> None:
    """Says nothing."""


def feed(kind: str, taken: tuple[int, ...], given: tuple[int, ...], train: str = "rgb") -> Feed:
    details = {"input_layout_train": "NCHW", "input_type_train": train}
    info = InputInfo("x", kind, "NCHW", (1, 3, 4, 6), details)
    return Feed(TensorSpec("x", "uint8", given), TensorSpec("x", "int8", taken), info)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), np.uint8)


def test_every_row_is_run(bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    x = np.arange(5 * 18, dtype=np.float32).reshape(5, 2, 3, 3)
    np.save(tmp_path / "x.npy", x)
    artifact = bin5(factor=2)
    out = tmp_path / "y.npz"
    record = infer(str(artifact), Calibration(data=str(tmp_path / "x.npy")), str(out), toolchain="local", say=quiet)
    with np.load(out, allow_pickle=False) as outputs:
        np.testing.assert_array_equal(outputs["/out/y"], 2 * x + 1)
    assert record["samples"] == 5
    assert record["outputs"] == {"/out/y": {"dtype": "float32", "shape": [5, 2, 3, 3]}}


def test_broken_samples_are_left_out(bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    x = np.ones((4, 2, 3, 3), np.float32)
    x[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    wanted = Calibration(data=str(tmp_path / "x.npy"), skip_broken=1)
    record = infer(str(bin5()), wanted, str(tmp_path / "y.npy"), toolchain="local", say=quiet)
    assert np.load(tmp_path / "y.npy").shape == (3, 2, 3, 3)
    assert (record["samples"], len(record["skipped"])) == (3, 1)


@pytest.mark.parametrize("kind", ["rgb", "bgr", "yuv444", "nv12"])
def test_pixels_are_made_from_normalised_values(
    bin5: Callable[..., Path], tools5: Path, tmp_path: Path, pixels: np.ndarray, kind: str
) -> None:
    np.save(tmp_path / "x.npy", ((pixels / 255 - 0.5) / 0.25).astype(np.float32))
    wanted = Calibration(data=str(tmp_path / "x.npy"), preprocess=SCALED)
    infer(str(bin5(kind)), wanted, str(tmp_path / "y.npy"), toolchain="local", say=quiet)
    taken = (np.load(tmp_path / "y.npy") - 1) / 2 + 128  # what the quantized model was fed
    if kind == "nv12":
        planes = np.stack([rgb_to_nv12(picture) for picture in pixels.transpose(0, 2, 3, 1)])
        np.testing.assert_array_equal(taken, nv12_to_yuv444(planes, channels_first=False))
    elif kind == "yuv444":
        luma = pixels.astype(float).transpose(0, 2, 3, 1) @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(taken[:, 0], luma, atol=0.51)
    else:
        np.testing.assert_array_equal(taken, pixels if kind == "rgb" else pixels[:, ::-1])


def test_the_recipe_of_the_build_is_used_unless_another_is_given(tmp_path: Path) -> None:
    recipe = {"mean": [0.5], "std": [0.25], "scale": [1 / 255], "color": "bgr", "dtype": "float32", "resize": ""}
    facts = {"calibration": {"recipes": {"x": recipe}}}
    beside = Beside({"build": {"facts": facts}})
    wanted, said = with_recipe(Calibration(data=str(tmp_path)), beside)
    assert wanted.preprocess == Preprocess(mean=(0.5,), std=(0.25,), scale=(1 / 255,), color="bgr")
    assert "as when it was calibrated" in said
    given = Calibration(data=str(tmp_path), preprocess=SCALED)
    assert with_recipe(given, beside) == (given, "")
    (tmp_path / "recipe.yaml").write_text("color: rgb\n")
    assert with_recipe(Calibration(data=str(tmp_path)), beside)[0].preprocess == Preprocess()
    facts["calibration"]["recipes"]["z"] = {}
    assert with_recipe(Calibration(), beside) == (Calibration(), "")


def test_values_that_are_no_pixels(pixels: np.ndarray) -> None:
    rgb = feed("rgb", (1, 3, 4, 6), (1, 3, 4, 6))
    with pytest.raises(InputError, match=r"takes pixels of 0 to 255, found -1 to -1") as caught:
        to_runtime(rgb, np.full((1, 3, 4, 6), -1.0, np.float32), None, "s")
    assert "--mean" in caught.value.hint
    recipe = Recipe(mean=(0.5,), std=(0.25,), scale=(1 / 255,)).resolve(float_input(rgb))
    with pytest.raises(InputError, match="s"):
        to_runtime(rgb, np.full((1, 3, 4, 6), 9.0, np.float32), recipe, "s")
    with pytest.raises(InputError, match="gray cannot be made nv12"):
        to_runtime(feed("nv12", (1, 4, 6, 3), (1, 6, 6), "gray"), pixels[:1].astype(np.float32), None, "s")


def test_bytes_become_int8() -> None:
    rgb = feed("rgb", (1, 3, 4, 6), (1, 3, 4, 6))
    given = np.array([0, 127, 128, 255], np.uint8)
    assert rgb.convert(given).tolist() == [-128, -1, 0, 127]


def test_nv12_in_both_orders() -> None:
    planes = np.arange(6 * 6, dtype=np.uint8).reshape(1, 6, 6)
    last = nv12_to_yuv444(planes, channels_first=False)
    assert last.shape == (1, 4, 6, 3)
    assert last[0, 0, 0].tolist() == [0, 24, 25]
    assert last[0, 3, 5].tolist() == [23, 34, 35]
    np.testing.assert_array_equal(nv12_to_yuv444(planes, channels_first=True), last.transpose(0, 3, 1, 2))


def test_names_of_outputs_and_files(tmp_path: Path) -> None:
    outputs = {"a/b": np.zeros(2, np.float32), "file": np.ones(3, np.int32)}
    write_outputs(str(tmp_path / "o.npz"), outputs)
    with np.load(tmp_path / "o.npz", allow_pickle=False) as back:
        assert {name: back[name].tolist() for name in back.files} == {"a/b": [0, 0], "file": [1, 1, 1]}
    with pytest.raises(InputError, match=r"the model has 2 outputs, which take an \.npz"):
        write_outputs(str(tmp_path / "o.npy"), outputs)
    assert not (tmp_path / "o.npy").exists()
