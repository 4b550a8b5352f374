"""RGB, YUV and NV12."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ptqbridge.data.yuv import nv12_to_rgb, rgb_to_nv12, rgb_to_yuv444, split_nv12, yuv444_to_rgb
from ptqbridge.errors import InputError


def test_agrees_with_pillow_which_is_bt601_full_range(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (32, 32, 3), np.uint8)
    yuv = rgb_to_yuv444(rgb)
    theirs = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(int)
    assert np.abs(yuv - theirs).max() <= 1
    back = np.asarray(Image.frombytes("YCbCr", (32, 32), yuv.tobytes()).convert("RGB")).astype(int)
    assert np.abs(yuv444_to_rgb(yuv) - back).max() <= 1


def test_primaries() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]], np.uint8)
    expected = [[76, 85, 255], [150, 44, 21], [29, 255, 107], [255, 128, 128], [0, 128, 128]]
    assert rgb_to_yuv444(rgb)[0].tolist() == expected


def test_round_trips(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (64, 64, 3), np.uint8)
    assert np.abs(yuv444_to_rgb(rgb_to_yuv444(rgb)).astype(int) - rgb).max() <= 2
    blocks = rgb[:8, :8].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(nv12_to_rgb(rgb_to_nv12(blocks)).astype(int) - blocks).max() <= 2


def test_nv12_layout() -> None:
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[:, 2:] = (255, 0, 0)
    nv12 = rgb_to_nv12(rgb)
    assert nv12.tolist() == [[0, 0, 76, 76], [0, 0, 76, 76], [128, 128, 85, 255]]
    luma, chroma = split_nv12(nv12)
    assert luma.shape == (1, 2, 4, 1)
    assert chroma.tolist() == [[[[128, 128], [85, 255]]]]


def test_chroma_is_the_mean_of_four() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 0] = (255, 255, 255)
    rgb[1, 1] = (0, 0, 255)
    full = rgb_to_yuv444(rgb)[:, :, 1:].reshape(4, 2).mean(0)
    assert np.abs(rgb_to_nv12(rgb)[2] - full).max() <= 1


@pytest.mark.parametrize("shape", [(3, 4), (4, 3)])
def test_odd_sizes(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"even height and width, found {shape[0]}x{shape[1]}"):
        rgb_to_nv12(np.zeros((*shape, 3), np.uint8))
    with pytest.raises(InputError, match="expected an nv12 picture"):
        nv12_to_rgb(np.zeros((shape[0] + 1, shape[1]), np.uint8))
