"""One input's data for ``--loadInputs``: raw bytes as trtexec reads them, and also .npy, .npz and pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ptqbridge.data import layout
from ptqbridge.data.arrays import Array, RawReader
from ptqbridge.data.reading import rows_per_sample
from ptqbridge.data.recipe import Recipe, recipe_beside
from ptqbridge.data.samples import open_reader
from ptqbridge.data.store import Folder
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec


def load_input(
    path: str | os.PathLike[str], spec: TensorSpec, shape: Sequence[int] | None = None, *, recipe: Recipe | None = None
) -> Array:
    """The array for input ``spec`` at the concrete ``shape`` (default: the input's own, which must then be fixed).

    A file of any other suffix is headerless binary of exactly the right size. trtexec ignores what a longer file has
    beyond that; here it is an error. An ``.npz`` holds an array named as the input, or a single array. A picture
    is repeated to fill the batch; ``recipe``, else a ``recipe.yaml`` beside it, says how it becomes a tensor. Raises
    InputError, one line; NaN and inf are allowed.
    """
    text = os.fspath(path)
    fixed = TensorSpec(spec.name, spec.dtype, spec.shape if shape is None else tuple(shape))
    if fixed.is_dynamic:
        raise InputError(f"{text}: the shape of {spec.text()} is open; give it with --shapes")
    if not os.path.exists(text):
        raise InputError(f"{text}: no such file")
    if os.path.isdir(text):
        raise InputError(f"{text}: expected a file, found a folder")
    ref = layout.Ref(Folder(os.path.dirname(text)), os.path.basename(text))
    if ref.kind == ".npz files":
        ref = layout.find(text, [spec.name]).rows[ref.name][spec.name]
    if recipe is None and (beside := recipe_beside(ref.store, "")):
        recipe = beside[1]
    reader = open_reader(ref, fixed, recipe) if ref.kind else RawReader(ref.store, ref.name, fixed, several=False)
    if reader.whole and reader.units > 1:
        raise InputError(f"{text}: expected one {fixed.text()}, found {reader.units} of them")
    array = reader.read(0, reader.units)
    if ref.kind == "pictures":
        array = np.repeat(array, rows_per_sample(fixed), axis=0)
    if array.shape != fixed.shape:
        raise InputError(f"{text}: expected {fixed.text()}, found {array.dtype.name}{list(array.shape)}")
    return array
