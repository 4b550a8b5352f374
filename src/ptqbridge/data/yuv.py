"""Between RGB and YUV 4:4:4 / NV12, BT.601 in full range, as Horizon's image inputs use it.

Matrices: ITU-T T.871 (JFIF), section 7. NV12 is a plane of luma, then rows of interleaved chroma (U, V) at half the
height and width; chroma is the mean of its four pixels. All arrays are uint8.
"""

from __future__ import annotations

import numpy as np

from ptqbridge.data.arrays import Array
from ptqbridge.errors import InputError

_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]]
)
_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1.0, 1.772, 0.0]])
_CENTRE = np.array([0.0, 128.0, 128.0])


def rgb_to_yuv444(rgb: Array) -> Array:
    """HxWx3 RGB to HxWx3 YUV, rounded."""
    return _bytes(_to_yuv(rgb))


def yuv444_to_rgb(yuv: Array) -> Array:
    """HxWx3 YUV to HxWx3 RGB, rounded and clipped."""
    return _bytes((yuv - _CENTRE) @ _TO_RGB.T)


def rgb_to_nv12(rgb: Array) -> Array:
    """HxWx3 RGB to the (H*3/2)xW NV12 picture. Raises InputError for an odd height or width."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        raise InputError(f"nv12 needs even height and width, found {height}x{width}")
    yuv = _to_yuv(rgb)
    chroma = yuv[:, :, 1:].reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3))
    return np.concatenate([_bytes(yuv[:, :, 0]), _bytes(chroma).reshape(height // 2, width)])


def nv12_to_rgb(nv12: Array) -> Array:
    """(H*3/2)xW NV12 to HxWx3 RGB; each chroma pair serves its four pixels. Raises InputError for an odd size."""
    height, width = nv12.shape[0] * 2 // 3, nv12.shape[1]
    if nv12.shape[0] % 3 or height % 2 or width % 2:
        raise InputError(f"expected an nv12 picture of even height*3/2 and width, found {nv12.shape[0]}x{width}")
    chroma = nv12[height:].reshape(height // 2, width // 2, 2).repeat(2, axis=0).repeat(2, axis=1)
    return yuv444_to_rgb(np.concatenate([nv12[:height, :, None], chroma], axis=2))


def split_nv12(nv12: Array) -> tuple[Array, Array]:
    """The two inputs of a Journey 6 model: luma 1xHxWx1 and chroma 1x(H/2)x(W/2)x2."""
    height, width = nv12.shape[0] * 2 // 3, nv12.shape[1]
    return nv12[:height].reshape(1, height, width, 1), nv12[height:].reshape(1, height // 2, width // 2, 2)


def _to_yuv(rgb: Array) -> Array:
    yuv: Array = rgb @ _TO_YUV.T + _CENTRE
    return yuv


def _bytes(values: Array) -> Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
