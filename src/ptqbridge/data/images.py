"""Pictures through Pillow, and the recipe applied to them."""

from __future__ import annotations

import math
import struct
import warnings
import zipfile
import zlib
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ptqbridge.data.arrays import Array, NpyRows, first_line
from ptqbridge.data.recipe import Recipe, Resize, parse_resize
from ptqbridge.data.store import BrokenData, Misfit, Store
from ptqbridge.errors import InputError, ToolchainMissing
from ptqbridge.spec.tensor import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, pixels (300 MB as RGB)."""
_TOO_LARGE = "put a smaller copy into its place, or take it out of the data"
_ORIENTATION = 0x0112
_DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
)


def pillow() -> ModuleType:
    """The module PIL.Image. Raises ToolchainMissing with the way to get it."""
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError:
        raise ToolchainMissing(
            "reading pictures needs Pillow, which is not installed", hint="pip install 'ptqbridge[images]'"
        ) from None
    return PIL.Image


class ImageReader:
    """One picture file: one row, decoded when read. ``recipe`` is resolved for ``spec``."""

    units = 1
    whole = False
    note = ""

    def __init__(self, store: Store, name: str, spec: TensorSpec, recipe: Recipe) -> None:
        self.shown = store.shown(name)
        self._store, self._name, self._spec, self.recipe = store, name, spec, recipe
        pillow()

    def read(self, start: int, count: int) -> Array:
        array = apply(load_image(self._store, self._name), self.recipe, self.shown)
        check_size(array, self._spec, self.shown)
        return array[None]


class PixelReader:
    """A uint8 array file of pictures (HxW, HxWxC, CxHxW or a stack of them), each a row through the recipe."""

    whole = False
    note = ""

    def __init__(self, rows: NpyRows, spec: TensorSpec, recipe: Recipe) -> None:
        self.shown = rows.shown
        self._rows, self._spec, self.recipe = rows, spec, recipe
        shape = rows.shape
        channels = (1, 3)
        self._stacked = len(shape) == 4 or (len(shape) == 3 and shape[0] not in channels and shape[2] not in channels)
        picture = shape[1:] if self._stacked else shape
        plain = len(picture) == 2 or (len(picture) == 3 and (picture[0] in channels or picture[2] in channels))
        if not plain or 0 in shape:
            raise InputError(f"{self.shown}: expected uint8 pictures HxWxC, CxHxW or a stack, found {list(shape)}")
        self.units = shape[0] if self._stacked else 1
        pillow()

    def read(self, start: int, count: int) -> Array:
        pictures = self._rows.read(start, start + count) if self._stacked else self._rows.all()[None]
        rows = [apply(self._picture(pixels), self.recipe, self.shown) for pixels in pictures]
        for row in rows:
            check_size(row, self._spec, self.shown)
        return np.stack(rows)

    def _picture(self, pixels: Array) -> Image:
        if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        image: Image = pillow().fromarray(np.ascontiguousarray(pixels))
        return image


def check_size(array: Array, spec: TensorSpec, shown: str) -> None:
    """Raise InputError when a finished picture (three axes) does not have the model's fixed dimensions."""
    if any(isinstance(want, int) and want != got for want, got in zip(spec.shape[1:], array.shape, strict=True)):
        raise Misfit(
            f"{shown}: expected {spec.text()}, found {array.dtype.name}{list(array.shape)} after the recipe",
            hint="give a resize rule (stretch, letterbox, crop)",
        )


def load_image(store: Store, name: str) -> Image:
    """Decode one picture, turned upright by its EXIF orientation.

    Raises BrokenData when it cannot be decoded, InputError when it is huge or has more than 8 bits a channel.
    """
    image_module = pillow()
    from PIL import ImageOps

    shown = store.shown(name)
    with store.open(name) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's own size warning: the limit below is an error
                image = image_module.open(file)
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"{shown}: {width}x{height} pixels, more than the limit of {MAX_PIXELS}", hint=_TOO_LARGE
                    )
                image.load()
                if image.getexif().get(_ORIENTATION, 1) != 1:
                    image = ImageOps.exif_transpose(image) or image
                if image.mode == "P":  # palettes with transparency warn when they become RGB in one step
                    image = image.convert("RGBA")
        except image_module.DecompressionBombError:
            raise InputError(f"{shown}: more pixels than the limit of {MAX_PIXELS}", hint=_TOO_LARGE) from None
        except MemoryError:
            raise InputError(f"{shown}: not enough memory to decode this picture") from None
        except _DAMAGE as error:
            reason = first_line(error).replace(repr(file), "of unknown format")
            if not store.size(name):
                reason = "the file is empty"
            raise BrokenData(f"{shown}: not a readable picture ({reason})") from None
    if image.mode[0] in "IF":
        raise InputError(f"{shown}: expected 8 bits a channel, found mode {image.mode}", hint="convert it, or use .npy")
    upright: Image = image
    return upright


def image_size(store: Store, name: str) -> tuple[int, int] | None:
    """Width and height of a picture file turned upright, from its head only; None when it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with store.open(name) as file, pillow().open(file) as image:
                turned = image.getexif().get(_ORIENTATION, 1) > 4
                width, height = image.size
                return (height, width) if turned else (width, height)
    except (*_DAMAGE, InputError, pillow().DecompressionBombError):
        return None


def apply(image: Image, recipe: Recipe, shown: str) -> Array:
    """The picture as CxHxW or HxWxC of ``recipe.dtype``. ``recipe`` must be resolved (:meth:`Recipe.resolve`).

    ``shown`` is its name in messages. Sums are done once per pixel value, in float64, and rounded to the type once;
    integer types are rounded half to even and clipped to their range.
    """
    gray = recipe.color == "gray"
    mode = "L" if gray else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    pixels = np.asarray(resize(image, parse_resize(recipe.resize), recipe.filter, shown))
    planes = [pixels] if gray else [pixels[:, :, c] for c in ((2, 1, 0) if recipe.color == "bgr" else (0, 1, 2))]
    # mode="clip" clips nothing here (uint8 into 256 entries); it only spares the checks, five times faster
    ready = [np.take(table, plane, mode="clip") for table, plane in zip(_tables(recipe), planes, strict=True)]
    return np.stack(ready, axis=0 if recipe.layout == "nchw" else 2)


def _tables(recipe: Recipe) -> list[Array]:
    """What each pixel value 0..255 becomes, per channel."""
    dtype = np.dtype(recipe.dtype)
    tables = []
    for scale, mean, std in zip(recipe.scale, recipe.mean, recipe.std, strict=True):
        table = (np.arange(256, dtype=np.float64) * scale - mean) / std
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            table = np.clip(np.rint(table), limits.min, limits.max)
        tables.append(table.astype(dtype))
    return tables


def resize(image: Image, rule: Resize, filter_name: str, shown: str) -> Image:
    """Bring an 8-bit picture to ``rule.size`` (height, width).

    Rounding follows the public evaluation code of torchvision (crop) and Ultralytics YOLO (letterbox). Pillow's
    filters widen when shrinking (antialias), which OpenCV's do not.
    """
    module = pillow()
    if rule.mode == "none":
        return image
    assert rule.size is not None
    resample = getattr(module.Resampling, filter_name.upper())
    height, width = rule.size
    old_width, old_height = image.size
    if rule.mode == "stretch":
        return image.resize((width, height), resample)
    if rule.mode == "letterbox":
        ratio = min(height / old_height, width / old_width)
        inner = (max(1, round(old_width * ratio)), max(1, round(old_height * ratio)))
        canvas: Image = module.new(image.mode, (width, height), rule.pad if image.mode == "L" else (rule.pad,) * 3)
        left, top = (round((width - inner[0]) / 2 - 0.1), round((height - inner[1]) / 2 - 0.1))
        canvas.paste(image.resize(inner, resample), (left, top))
        return canvas
    shorter = rule.shorter
    if shorter is None and rule.share is not None:
        shorter = math.floor(min(height, width) / rule.share)
    if shorter is None:
        inner = (0, 0)
    elif old_width <= old_height:
        inner = (shorter, int(shorter * old_height / old_width))
    else:
        inner = (int(shorter * old_width / old_height), shorter)
    if inner[0] < width or inner[1] < height:  # never a border: at least cover the crop
        ratio = max(height / old_height, width / old_width)
        inner = (max(width, round(old_width * ratio)), max(height, round(old_height * ratio)))
    if inner[0] * inner[1] > MAX_PIXELS:
        raise InputError(f"{shown}: {old_width}x{old_height} would grow to {inner[0]}x{inner[1]} before the crop")
    left, top = round((inner[0] - width) / 2.0), round((inner[1] - height) / 2.0)
    return image.resize(inner, resample).crop((left, top, left + width, top + height))
