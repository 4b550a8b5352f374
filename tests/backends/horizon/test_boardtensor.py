"""Dumped outputs and given inputs in every form that the board's tool has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.horizon.boardlog import BoardTensor, ModelInfo
from ptqbridge.backends.horizon.boardtensor import decode, from_float, intakes, made_up, outputs_of, read_given
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.yuv import rgb_to_nv12
from ptqbridge.errors import InputError, ToolchainFailed


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.integers(0, 9), st.sampled_from(["S8", "S16", "S32"])
)
def test_rows_in_memory_lose_their_padding(batch: int, high: int, wide: int, more: int, kind: str) -> None:
    own = np.dtype(f"int{kind[1:]}")
    values = np.arange(batch * high * wide, dtype=own).reshape(batch, high, wide)
    row = (wide + more) * own.itemsize
    memory = np.zeros((batch, high, wide + more), own)
    memory[..., :wide] = values
    stride = (high * row, row, own.itemsize)
    by_stride = BoardTensor("o", values.shape, kind, memory.nbytes, stride=stride)
    by_shape = BoardTensor("o", values.shape, kind, memory.nbytes, aligned=memory.shape)
    for tensor in (by_stride, by_shape):
        assert np.array_equal(decode(tensor, memory.tobytes(), dequantized=False), values)
        assert np.array_equal(decode(tensor, values.tobytes(), dequantized=False), values)
        with pytest.raises(ToolchainFailed, match="output o: expected"):
            decode(tensor, memory.tobytes() + bytes(3), dequantized=False)


def test_the_last_row_may_end_early() -> None:
    """A total that is padded as a whole: (1, 1000) floats in 4096 bytes."""
    values = np.arange(1000, dtype=np.float32)[None]
    tensor = BoardTensor("o", (1, 1000), "F32", 4096, stride=(4000, 4))
    assert np.array_equal(decode(tensor, values.tobytes() + bytes(96), dequantized=True), values)


def test_integers_become_floats_by_their_scales() -> None:
    values = np.array([[[1, 2], [3, -4]]], np.int32)
    scaled = BoardTensor("o", (1, 2, 2), "S32", 16, scale=(0.5, 2.0), axis=2)
    assert decode(scaled, values.tobytes(), dequantized=False).tolist() == [[[0.5, 4.0], [1.5, -8.0]]]
    moved = BoardTensor("o", (1, 2, 2), "S32", 16, scale=(0.5,), zero_point=(1,))
    assert decode(moved, values.tobytes(), dequantized=False).tolist() == [[[0.0, 0.5], [1.0, -2.5]]]
    floats = values.astype(np.float32)
    assert decode(scaled, floats.tobytes(), dequantized=True).tolist() == floats.tolist()
    wrong = BoardTensor("o", (1, 2, 2), "S32", 16, scale=(1.0, 1.0, 1.0), axis=2)
    with pytest.raises(ToolchainFailed, match="3 scales for 2 places of axis 2"):
        decode(wrong, values.tobytes(), dequantized=False)
    with pytest.raises(ToolchainFailed, match="the type S4 is not known"):
        decode(BoardTensor("o", (1,), "S4", 1), b"1", dequantized=False)


def test_an_output_that_is_missing() -> None:
    info = ModelInfo(None, "m", (), (BoardTensor("a/b", (1,), "U8", 1), BoardTensor("c", (2,), "U8", 2)))
    files = {"model_infer_output_0_a_b.bin": b"\1", "model_infer_output_1_c.bin": b"\1\2"}
    assert outputs_of(info, files, dequantized=True)["a/b"].tolist() == [1]
    with pytest.raises(ToolchainFailed, match=r"wrote no output 1 \(c\)"):
        outputs_of(info, {"model_infer_output_0_a_b.bin": b"\1"}, dequantized=True)


J6 = ModelInfo(
    None,
    "m",
    (BoardTensor("img_y", (1, 4, 6, 1), "U8", -1), BoardTensor("img_uv", (1, 2, 3, 2), "U8", -1),
     BoardTensor("state", (1, 2), "F32", 8)),
    (),
)  # fmt: skip
J5 = ModelInfo(None, "m", (BoardTensor("img", (1, 3, 4, 6), "NV12", 36, layout="NCHW"),), ())


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)


def test_nv12_is_two_inputs_on_journey6_and_one_on_journey5(tmp_path: Path) -> None:
    from PIL import Image

    rgb = picture()
    whole = rgb_to_nv12(rgb)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    whole.tofile(tmp_path / "a.nv12")
    np.save(tmp_path / "a.npy", whole)
    np.save(tmp_path / "pixels.npy", rgb.transpose(2, 0, 1)[None].astype(np.float32))
    np.save(tmp_path / "model.npy", (rgb.transpose(2, 0, 1)[None] / 255).astype(np.float32))
    np.savez(tmp_path / "a.npz", img=whole)
    six, state = intakes(J6)
    (five,) = intakes(J5)
    assert (six.name, six.names, six.kind, six.spec.shape) == ("img", ("img", "img_y", "img_uv"), "nv12", (1, 3, 4, 6))
    assert (state.kind, state.spec.dtype) == ("", "float32")
    recipes = {"model.npy": Recipe(scale=(1 / 255,))}
    for name in ("a.png", "a.nv12", "a.npy", "a.npz", "pixels.npy", "model.npy"):
        luma, chroma = read_given(six, str(tmp_path / name), recipes.get(name))
        assert luma.tobytes() + chroma.tobytes() == whole.tobytes(), name
        (one,) = read_given(five, str(tmp_path / name), recipes.get(name))
        assert one.tobytes() == whole.tobytes(), name


def test_pictures_reach_the_models_size_by_the_recipe(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8)).save(tmp_path / "red.png")
    (five,) = intakes(J5)
    recipe = Recipe(resize="letterbox:114", mean=(0.5,), std=(0.2,))
    (rows,) = read_given(five, str(tmp_path / "red.png"), recipe)
    assert rows[0, 0, 0] == 114 and rows[0, 0, 3] == 76  # the border, and the luma of red


@pytest.mark.parametrize("kind", ["RGB", "BGR", "YUV444", "Y"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_other_pixels(kind: str, layout: str) -> None:
    channels = 1 if kind == "Y" else 3
    shape = (1, channels, 4, 6) if layout == "NCHW" else (1, 4, 6, channels)
    (intake,) = intakes(ModelInfo(None, "m", (BoardTensor("x", shape, kind, None, layout=layout),), ()))
    values = np.random.default_rng(1).integers(0, 256, tuple(map(int, intake.spec.shape))).astype(np.float32)
    (made,) = from_float(intake, values, None, "x")
    assert made.shape == shape and made.dtype == np.uint8
    planes = made if layout == "NCHW" else made.transpose(0, 3, 1, 2)
    if kind in ("RGB", "Y"):
        assert np.array_equal(planes, values)
    elif kind == "BGR":
        assert np.array_equal(planes, values[:, ::-1])


def test_what_is_no_picture(tmp_path: Path) -> None:
    six, _ = intakes(J6)
    np.save(tmp_path / "a.npy", np.full((1, 3, 4, 6), 300, np.float32))
    with pytest.raises(InputError, match="takes pixels of 0 to 255, found 300 to 300"):
        read_given(six, str(tmp_path / "a.npy"), None)
    np.save(tmp_path / "a.npy", np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match=r"expected 36 bytes of nv12, or floats \[1, 3, 4, 6\], found uint8\[5, 5\]"):
        read_given(six, str(tmp_path / "a.npy"), None)
    (tmp_path / "a.yuv").write_bytes(bytes(35))
    with pytest.raises(InputError, match=r"a\.yuv: expected 36 bytes"):
        read_given(six, str(tmp_path / "a.yuv"), None)
    with pytest.raises(ToolchainFailed, match="the type S4 is not known"):
        intakes(ModelInfo(None, "m", (BoardTensor("x", (1,), "S4", 1),), ()))


def test_noise_has_the_form_of_the_input() -> None:
    luma, chroma = made_up(intakes(J6)[0])
    assert (luma.shape, chroma.shape, luma.dtype.name) == ((1, 4, 6), (1, 2, 6), "uint8")
    assert made_up(intakes(J6)[1])[0].shape == (1, 2)


def test_the_builders_record_tells_pixels_from_features() -> None:
    tensors = tuple(BoardTensor(name, (1, 3, 4, 4), "S8", 48) for name in ("a", "b"))
    desc = {"INPUT_NAMES": "a;b", "INPUT_TYPE_RT": "bgr;featuremap"}
    assert [intake.kind for intake in intakes(ModelInfo(None, "m", tensors, (), desc))] == ["bgr", ""]
