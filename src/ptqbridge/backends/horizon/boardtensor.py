"""The tensors of a model on a board: dumped outputs as arrays, and given data as the files that the board's tool reads.

Forms after hrt_model_exec's manuals and published dumps: a dumped output holds whole rows of memory unless padding was
removed, and integers unless they were dequantized; an input file holds the tensor's own type without padding. NV12 is
one file on Journey 5 and its relatives, and two inputs, ``NAME_y`` and ``NAME_uv``, on Journey 6.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.boardlog import BoardTensor, ModelInfo
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.spec import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.data.recipe import Recipe

    Array = NDArray[Any]

_TYPES = {
    **{f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("S", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BOOL8": "bool",
}
_PICTURES = {
    "NV12": "nv12", "NV12_SEPARATE": "nv12", "YUV444": "yuv444", "RGB": "rgb", "RGBP": "rgb", "BGR": "bgr",
    "BGRP": "bgr", "Y": "gray",
}  # fmt: skip
PICTURE_FILES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
AS_IT_IS = (".txt",)
"""Files that the board's tool reads by itself, in its own way."""


def decode(tensor: BoardTensor, data: bytes, *, dequantized: bool) -> Array:
    """A dumped output in its own shape; integers with a scale become float32.

    ``dequantized``: the tool was asked to do that itself. Raises ToolchainFailed when the size fits no known form.
    """
    import numpy as np

    kind = _TYPES.get(tensor.dtype)
    if kind is None:
        raise ToolchainFailed(f"output {tensor.name}: the type {tensor.dtype} is not known here")
    count, own = math.prod(tensor.shape), np.dtype(kind).newbyteorder("<")
    if dequantized and tensor.scale and len(data) == count * 4:
        return np.frombuffer(data, "<f4").reshape(tensor.shape).copy()
    array = _unpadded(tensor, data, own)
    if array is None:
        raise ToolchainFailed(
            f"output {tensor.name}: expected {count * own.itemsize} bytes for {kind}{list(tensor.shape)}, "
            f"found {len(data)}"
        )
    return dequantize(tensor, array) if tensor.scale and own.kind in "iu" else array.astype(kind)


def _unpadded(tensor: BoardTensor, data: bytes, own: Any) -> Array | None:
    """The valid part: all of it, what the strides reach, or the corner of the aligned shape."""
    import numpy as np

    if len(data) == math.prod(tensor.shape) * own.itemsize:
        return np.frombuffer(data, own).reshape(tensor.shape)
    strides = tensor.stride
    if len(strides) == len(tensor.shape) and all(stride > 0 for stride in strides):
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True)) + own.itemsize
        if reach <= len(data) == (tensor.size or len(data)):
            return np.ndarray(tensor.shape, own, data, strides=strides)
    if len(data) == math.prod(tensor.aligned) * own.itemsize and len(tensor.aligned) == len(tensor.shape):
        return np.frombuffer(data, own).reshape(tensor.aligned)[tuple(map(slice, tensor.shape))]
    return None


def dequantize(tensor: BoardTensor, array: Array) -> Array:
    """``(value - zero_point) * scale`` as float32, per place of the tensor's axis when there is more than one."""
    import numpy as np

    scale: Array = np.asarray(tensor.scale, np.float32)
    zero: Array = np.asarray(tensor.zero_point or (0,), np.int64)
    if len(scale) > 1 or len(zero) > 1:
        axis = tensor.axis if tensor.axis is not None and tensor.axis >= 0 else 1
        places = array.shape[axis] if axis < array.ndim else 0
        if not {len(scale), len(zero)} <= {1, places}:
            raise ToolchainFailed(f"output {tensor.name}: {len(scale)} scales for {places} places of axis {axis}")
        shape = [-1 if place == axis else 1 for place in range(array.ndim)]
        scale, zero = (part.reshape(shape) if len(part) > 1 else part for part in (scale, zero))
    result: Array = ((array.astype(np.int64) - zero) * scale).astype(np.float32)
    return result


@dataclass(frozen=True)
class Intake:
    """One input as a user names it. ``kind`` is nv12, yuv444, rgb, bgr or gray for pixels, else "".

    ``spec`` is what the float model takes: floats N x C x H x W for pixels, the tensor's own type otherwise.
    ``tensors`` are the board's inputs that it fills, two for NV12 on Journey 6.
    """

    name: str
    kind: str
    spec: TensorSpec
    tensors: tuple[BoardTensor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that means it, or one of its tensors."""
        return (self.name, *(tensor.name for tensor in self.tensors if tensor.name != self.name))


def intakes(info: ModelInfo) -> tuple[Intake, ...]:
    """The inputs of a model in its order. Raises ToolchainFailed for a type that is not known."""
    found: list[Intake] = []
    kinds = _kinds(info.desc)
    rest = list(info.inputs)
    while rest:
        tensor = rest.pop(0)
        stem = tensor.name.removesuffix("_y")
        if stem != tensor.name and rest and rest[0].name == f"{stem}_uv" and len(tensor.shape) == 4:
            batch, height, width, _ = tensor.shape
            spec = TensorSpec(stem, "float32", (batch, 3, height, width))
            found.append(Intake(stem, "nv12", spec, (tensor, rest.pop(0))))
            continue
        kind = _PICTURES.get(tensor.dtype, kinds.get(tensor.name, "") if tensor.dtype in ("U8", "S8") else "")
        if kind and len(tensor.shape) == 4:
            batch, height, width = tensor.shape[0], *_size(tensor)
            spec = TensorSpec(tensor.name, "float32", (batch, 1 if kind == "gray" else 3, height, width))
            found.append(Intake(tensor.name, kind, spec, (tensor,)))
        elif tensor.dtype in _TYPES:
            found.append(
                Intake(tensor.name, "", TensorSpec(tensor.name, _TYPES[tensor.dtype], tensor.shape), (tensor,))
            )
        else:
            raise ToolchainFailed(f"input {tensor.name}: the type {tensor.dtype} is not known here")
    return tuple(found)


def _kinds(desc: Mapping[str, Any]) -> dict[str, str]:
    """What the builder's record says of image inputs, by name."""
    names, kinds = (re.findall(r"[^\s;,\[\]'\"]+", str(desc.get(key, ""))) for key in ("INPUT_NAMES", "INPUT_TYPE_RT"))
    return {name: kind.lower() for name, kind in zip(names, kinds, strict=False) if kind.lower() in _PICTURES.values()}


def _size(tensor: BoardTensor) -> tuple[int, int]:
    first = tensor.layout != "NHWC" and (tensor.layout == "NCHW" or tensor.shape[1] in (1, 3))
    height, width = tensor.shape[2:4] if first else tensor.shape[1:3]
    return height, width


def read_given(intake: Intake, path: str, recipe: Recipe | None) -> tuple[Array, ...]:
    """The arrays for the tensors of ``intake`` from a file: raw bytes as on the board, .npy, .npz or a picture.

    Pictures and floats of the float model become the pixels that the model takes. Raises InputError.
    """
    from ptqbridge.data.inputs import load_input

    if not intake.kind:
        return (load_input(path, intake.spec, recipe=recipe),)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in PICTURE_FILES:
        return from_float(intake, load_input(path, intake.spec, recipe=_pixel_recipe(intake, recipe)), None, path)
    if suffix in (".npy", ".npz"):
        array = _array(path, intake)
        if array.shape == intake.spec.shape:
            resolved = recipe.resolve(intake.spec) if recipe else None
            return from_float(intake, array, resolved, path)
    else:
        array = load_input(path, TensorSpec(intake.name, "uint8", (_bytes(intake),)))
    return _split(intake, array, path)


def _pixel_recipe(intake: Intake, recipe: Recipe | None) -> Recipe:
    """The geometry of ``recipe``, without its numbers: pixels in RGB, as ``from_float`` wants them."""
    from ptqbridge.data.recipe import Recipe as Parts

    color = "gray" if intake.kind == "gray" else "rgb"
    return replace(recipe or Parts(), mean=(), std=(), scale=(1.0,), dtype="", color=color, layout="nchw")


def _array(path: str, intake: Intake) -> Array:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                names = [name for name in intake.names if name in loaded.files] or loaded.files
                if len(names) != 1:
                    raise InputError(f"{path}: expected an array {intake.name!r}, found {', '.join(loaded.files)}")
                return np.asarray(loaded[names[0]])
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', '') or error}") from None
    return np.asarray(loaded)


def _bytes(intake: Intake) -> int:
    if intake.kind == "nv12":
        batch, _, height, width = map(int, intake.spec.shape)
        return batch * height * width * 3 // 2
    return sum(math.prod(tensor.shape) for tensor in intake.tensors)


def _split(intake: Intake, array: Array, shown: str) -> tuple[Array, ...]:
    """Bytes as the board takes them; NV12 for two inputs is cut into luma and chroma."""
    import numpy as np

    if array.dtype != np.uint8 or array.size != _bytes(intake):
        raise InputError(
            f"{shown}: expected {_bytes(intake)} bytes of {intake.kind}, or floats {list(intake.spec.shape)}, "
            f"found {array.dtype.name}{list(array.shape)}"
        )
    if len(intake.tensors) == 1:
        return (np.ascontiguousarray(array),)
    batch, _, height, width = map(int, intake.spec.shape)
    rows = array.reshape(batch, height * 3 // 2, width)
    parts = (rows[:, :height], rows[:, height:])
    return tuple(np.ascontiguousarray(part) for part in parts)


def from_float(intake: Intake, array: Array, recipe: Recipe | None, shown: str) -> tuple[Array, ...]:
    """From what the float model takes, N x C x H x W, to the tensors of ``intake``.

    ``recipe``, resolved, says how the floats were made from pixels; without one they are pixels of RGB. Raises
    InputError for values that are none.
    """
    import numpy as np

    from ptqbridge.data.writers import to_pixels
    from ptqbridge.data.yuv import rgb_to_nv12, rgb_to_yuv444

    if not intake.kind:
        return (np.ascontiguousarray(array),)
    values = to_pixels(array, recipe, shown) if recipe else array
    if float(values.min()) < 0 or float(values.max()) > 255:
        raise InputError(
            f"{shown}: input {intake.name!r} takes pixels of 0 to 255, found {values.min():g} to {values.max():g}",
            hint="--preset, or --mean, --std and --scale, say how the data were made from pixels",
        )
    pixels = np.rint(values).astype(np.uint8).transpose(0, 2, 3, 1)
    if recipe and recipe.color == "bgr":
        pixels = pixels[..., ::-1]
    if intake.kind == "nv12":
        return _split(intake, np.stack([rgb_to_nv12(picture) for picture in pixels]), shown)
    if intake.kind == "yuv444":
        pixels = np.stack([rgb_to_yuv444(picture) for picture in pixels])
    elif intake.kind == "bgr":
        pixels = pixels[..., ::-1]
    tensor = intake.tensors[0]
    first = tensor.shape[1] == pixels.shape[3] and tensor.shape[3] != pixels.shape[3]
    return (np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if first else pixels),)


def made_up(intake: Intake) -> tuple[Array, ...]:
    """trtexec's own noise for an input that nobody gave."""
    from ptqbridge.data.noise import noise

    if not intake.kind:
        return (noise(intake.spec, tuple(int(size) for size in intake.spec.shape)),)
    flat = TensorSpec(intake.name, "uint8", (_bytes(intake),))
    return _split(intake, noise(flat, (_bytes(intake),)), intake.name)


def outputs_of(info: ModelInfo, files: Mapping[str, bytes], *, dequantized: bool) -> dict[str, Array]:
    """The dumped outputs by name. Raises ToolchainFailed when one is missing or of another size."""
    found = {}
    for index, tensor in enumerate(info.outputs):
        prefix = f"model_infer_output_{index}_"
        names = [name for name in files if os.path.basename(name).startswith(prefix) and name.endswith(".bin")]
        if not names:
            raise ToolchainFailed(f"the board's tool wrote no output {index} ({tensor.name})")
        found[tensor.name] = decode(tensor, files[names[0]], dequantized=dequantized)
    return found


def check_names(given: Sequence[str], known: Sequence[Intake], option: str) -> None:
    """Raises InputError for a name that the model does not have."""
    names = [name for intake in known for name in intake.names]
    wrong = next((name for name in given if name not in names), None)
    if wrong is not None:
        raise InputError(f"{option}: the model has no input {wrong!r}; its inputs are {', '.join(names)}")
