"""Calibration folders that ``writers`` made, read back: ``data.json`` tells inputs, types, shapes and the recipe.

A Journey 5 folder holds pixels from before mean and scale. Read as plain arrays they would calibrate the float model on
values it never sees, so they go through the recorded recipe again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptqbridge.data.arrays import Array, ArrayReader, NpyRows, RawReader, Reader, model_dtype
from ptqbridge.data.layout import Ref, Table, safe_name
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.store import BrokenData, Folder
from ptqbridge.errors import InputError, OptionError, PtqbridgeError
from ptqbridge.spec.tensor import TensorSpec

RECORD = "data.json"
_NUMBERS = ("mean", "std", "scale")


@dataclass(frozen=True)
class Form:
    """How one input lies in the folder. ``pixels``: before mean and scale, which ``recipe`` then tells."""

    folder: str
    dtype: str
    shape: tuple[int, ...]
    pixels: bool
    recipe: Recipe | None


@dataclass(frozen=True)
class Recorded:
    """A folder that was written as calibration data: ``root``, its inputs and the names of its samples."""

    root: str
    forms: Mapping[str, Form]
    samples: tuple[str, ...]

    @property
    def journey6(self) -> bool:
        """Whether it holds .npy files, for a Journey 6 compiler."""
        form = next(iter(self.forms.values()))
        return os.path.exists(os.path.join(self.root, form.folder, "00000.npy"))

    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the float model took; an input of pixels takes what the recipe makes of them."""
        return tuple(
            TensorSpec(name, form.recipe.dtype if form.pixels and form.recipe else form.dtype, form.shape)
            for name, form in self.forms.items()
        )

    def table(self, inputs: Sequence[str]) -> Table:
        """The files of each sample. Raises InputError when the model's inputs are others."""
        if set(inputs) != set(self.forms):
            raise InputError(
                f"{self.root}: written as data for the inputs {', '.join(self.forms)}, "
                f"but the model takes {', '.join(inputs)}"
            )
        suffix = ".npy" if self.journey6 else ".bin"
        store = Folder(self.root)
        rows = {}
        for index in range(len(self.samples)):
            row = {name: Ref(store, f"{form.folder}/{index:05d}{suffix}") for name, form in self.forms.items()}
            rows[f"{index:05d}"] = row
        how = "pixels from before mean and scale, normalised again by the recipe" if self.pixels() else "values"
        return Table(rows, [f"{self.root}: written as calibration data for a Horizon compiler; {RECORD} says: {how}"])

    def pixels(self) -> list[str]:
        """The inputs whose files hold pixels."""
        return [name for name, form in self.forms.items() if form.pixels]

    def reader(self, ref: Ref, spec: TensorSpec, asked: Recipe | None) -> Reader:
        """The reader of one of its files; ``asked`` may change numbers of the recipe. Raises InputError."""
        form = self.forms[spec.name]
        if ref.name.endswith(".npy"):
            return ArrayReader(NpyRows(ref.store, ref.name), spec)
        written = TensorSpec(spec.name, form.dtype, form.shape)
        raw = RawReader(ref.store, ref.name, written, several=False)
        if not form.pixels or form.recipe is None:
            return raw
        return NumbersReader(raw, spec, _with(form.recipe, asked))


def _with(recorded: Recipe, asked: Recipe | None) -> Recipe:
    if asked is None:
        return recorded
    for name in ("color", "layout", "resize"):
        wanted, is_so = getattr(asked, name), getattr(recorded, name)
        if wanted and wanted.partition(":")[0] != is_so.partition(":")[0]:
            raise OptionError(f"--{name}={wanted}: the data were written with {is_so} and are not made anew")
    channels = len(recorded.mean)
    changes = {}
    for name in _NUMBERS:
        if numbers := getattr(asked, name):
            if len(numbers) not in (1, channels):
                raise OptionError(f"{name}: expected 1 or {channels} numbers, found {len(numbers)}")
            changes[name] = numbers * channels if len(numbers) == 1 else numbers
    return replace(recorded, **changes)


class NumbersReader:
    """Pixels in their final layout and size: only the numbers of a resolved recipe are done to them."""

    whole = False
    note = ""

    def __init__(self, raw: RawReader, spec: TensorSpec, recipe: Recipe) -> None:
        self.shown, self.units, self.recipe = raw.shown, raw.units, recipe
        self._raw, self._dtype = raw, model_dtype(spec)

    def read(self, start: int, count: int) -> Array:
        pixels = self._raw.read(start, count)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise BrokenData(f"{self.shown}: NaN or infinity among its pixels")
        return numbers_of(pixels, self.recipe).astype(self._dtype)


def numbers_of(pixels: Array, recipe: Recipe) -> Array:
    """``(pixel * scale - mean) / std`` per channel of N x channels x H x W (or NHWC), in float64."""
    scale, mean, std = per_channel(recipe)
    return np.asarray((pixels.astype(np.float64) * scale - mean) / std)


def per_channel(recipe: Recipe) -> tuple[Array, Array, Array]:
    """Scale, mean and std of a resolved recipe, shaped to meet N x channels x H x W (or NHWC) values; float64."""
    shape = (1, -1, 1, 1) if recipe.layout == "nchw" else (1, 1, 1, -1)
    scale, mean, std = (np.array(numbers).reshape(shape) for numbers in (recipe.scale, recipe.mean, recipe.std))
    return scale, mean, std


def find_record(path: str) -> Recorded | None:
    """The record of the folder ``path``, or of the one that ``path`` is an input's folder of; None when there is none.

    Raises InputError for a damaged record.
    """
    if not os.path.isdir(path):
        return None
    path = os.path.normpath(path)
    here = _read(path)
    if here is not None:
        return here
    above = _read(os.path.dirname(os.path.abspath(path)))
    if above is not None and len(above.forms) == 1:
        (form,) = above.forms.values()
        if form.folder == os.path.basename(os.path.abspath(path)):
            return above
    return None


def _read(root: str) -> Recorded | None:
    file = os.path.join(root, RECORD)
    if not os.path.isfile(file):
        return None
    try:
        with open(file, encoding="utf-8") as stream:
            document: Any = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return None  # someone else's file
    if not isinstance(document, dict) or not {"fingerprint", "inputs", "recipes", "samples"} <= set(document):
        return None
    try:
        recipes = {name: Recipe.from_mapping(recipe) for name, recipe in document["recipes"].items()}
        forms = {name: _form(name, entry, recipes.get(name)) for name, entry in document["inputs"].items()}
        samples = tuple(str(name) for name in document["samples"])
    except (AttributeError, KeyError, TypeError, ValueError, PtqbridgeError) as error:
        raise InputError(f"{file}: a damaged record of calibration data ({error})") from None
    return Recorded(root, forms, samples) if forms and samples else None


def _form(name: str, entry: Mapping[str, Any], recipe: Recipe | None) -> Form:
    folder, shape = str(entry["folder"]), tuple(int(dim) for dim in entry["shape"])
    if folder not in (safe_name(name), f"{safe_name(name)}_f32"):
        raise ValueError(f"folder {folder!r} of input {name!r}")
    return Form(folder, str(entry["dtype"]), shape, bool(entry.get("pixels", False)), recipe)
