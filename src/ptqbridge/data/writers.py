"""Calibration folders as the vendors' compilers read them: Journey 5 raw files, Journey 6 ``.npy`` files.

Both read one flat folder per input and pair the n-th files of all folders in sorted order, so every sample gets the
same zero-padded number in each. Nothing else may lie in those folders (a Journey 5 compiler reads every entry as raw
numbers), so the record ``data.json`` stands one level up.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ptqbridge.data.arrays import Array
from ptqbridge.data.layout import safe_name
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.recorded import RECORD, per_channel
from ptqbridge.data.samples import Samples
from ptqbridge.errors import InputError
from ptqbridge.files import write_failure
from ptqbridge.spec.tensor import TensorSpec

_SNAP = 1e-3
"""Pixels got back from normalised values lie this near to whole numbers; then they are made whole."""


def write_npy(samples: Samples, inputs: Sequence[TensorSpec], folder: str) -> dict[str, str]:
    """Journey 6: ``FOLDER/INPUT/00000.npy``, each the full input as the float model wants it.

    Returns input name -> its folder. ``folder`` appears complete or not at all; an earlier one written here is
    replaced. Raises InputError for data that is broken or cannot be written.
    """
    places = {spec.name: safe_name(spec.name) for spec in inputs}
    return _write(samples, folder, places, ".npy", lambda name, array, shown: array, {})


def write_raw(
    samples: Samples,
    inputs: Sequence[TensorSpec],
    folder: str,
    *,
    pixels: Mapping[str, Recipe] | None = None,
    dtype: str = "float32",
) -> dict[str, str]:
    """Journey 5, X5 and X3: ``FOLDER/INPUT_f32/00000.bin``, headerless, full input shape, C order.

    These compilers apply mean and scale themselves, so for each input in ``pixels`` the values are brought back to
    what they were before its recipe: ``(value * std + mean) / scale``, in the recipe's layout and colour.
    ``dtype`` float32 or uint8 is the form of those inputs (uint8 folders lack the ``_f32`` by which the compiler knows
    the type); other inputs keep the model's values and type. Returns input name -> its folder.
    Raises InputError naming the sample when such values are no pixels 0..255: the recipe does not belong to the data.
    """
    recipes = {spec.name: pixels[spec.name].resolve(spec) for spec in inputs if pixels and spec.name in pixels}
    types = {spec.name: dtype if spec.name in recipes else spec.dtype for spec in inputs}
    places = {spec.name: safe_name(spec.name) + ("_f32" if types[spec.name] == "float32" else "") for spec in inputs}

    def convert(name: str, array: Array, shown: str) -> Array:
        if name in recipes:
            array = to_pixels(array, recipes[name], shown)
            if dtype == "uint8" and not np.array_equal(array, np.rint(array)):
                raise InputError(f"{shown}: expected whole pixel values for uint8 data, found fractions")
        return array.astype(types[name])

    return _write(samples, folder, places, ".bin", convert, recipes)


def to_pixels(array: Array, recipe: Recipe, shown: str) -> Array:
    """Undo the numbers of a resolved recipe: N x channels x H x W (or NHWC) values to pixels, float32.

    Raises InputError naming ``shown`` when they leave 0..255 by more than rounding.
    """
    scale, mean, std = per_channel(recipe)
    values = (array.astype(np.float64) * std + mean) / scale
    whole = np.rint(values)
    if np.abs(values - whole).max(initial=0) < _SNAP:
        values = whole
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < -0.5 or high > 255.5:
        raise InputError(
            f"{shown}: undoing mean, std and scale gives {low:.5g}..{high:.5g}, expected pixels 0..255",
            hint="the recipe does not belong to this data",
        )
    return np.asarray(values, np.float32)


def _write(
    samples: Samples,
    folder: str,
    places: Mapping[str, str],
    suffix: str,
    convert: Callable[[str, Array, str], Array],
    pixels: Mapping[str, Recipe],
) -> dict[str, str]:
    if len(set(places.values())) < len(places):
        raise InputError(f"{folder}: two inputs share the folder name {sorted(places.values())[0]}")
    final = Path(folder)
    try:
        if final.exists() and not (final / RECORD).is_file() and (not final.is_dir() or any(final.iterdir())):
            raise InputError(f"{folder}: exists and was not written as calibration data; choose another folder")
        final.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            fresh.chmod(0o777 & ~_umask())
            record = _fill(samples, fresh, places, suffix, convert, pixels)
            (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            _swap(fresh, final)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise write_failure(folder, error) from None
    return {name: os.path.join(folder, place) for name, place in places.items()}


def _fill(
    samples: Samples,
    root: Path,
    places: Mapping[str, str],
    suffix: str,
    convert: Callable[[str, Array, str], Array],
    pixels: Mapping[str, Recipe],
) -> dict[str, object]:
    names = []
    forms: dict[str, dict[str, object]] = {}
    for place in places.values():
        (root / place).mkdir()
    for number, sample in enumerate(samples):
        for name, place in places.items():
            array = np.ascontiguousarray(convert(name, sample.arrays[name], sample.name))
            path = root / place / f"{number:05d}{suffix}"
            with open(path, "wb") as file:  # tofile() and save() would not say why a full disk stops them
                if suffix == ".npy":
                    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
                file.write(array.tobytes())
            forms[name] = {"folder": place, "dtype": array.dtype.name, "shape": list(array.shape)}
            forms[name]["pixels"] = name in pixels
        names.append(sample.name)
    recipes = {name: recipe.to_dict() for name, recipe in {**samples.recipes, **pixels}.items()}
    return {"fingerprint": samples.fingerprint, "inputs": forms, "recipes": recipes, "samples": names}


def _swap(fresh: Path, final: Path) -> None:
    """Put ``fresh`` in the place of ``final``; an earlier one goes away only when the new one stands."""
    if not final.exists():
        fresh.rename(final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent)) / "old"
    try:
        final.rename(old)
        try:
            fresh.rename(final)
        except BaseException:
            old.rename(final)
            raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _umask() -> int:
    """The process's permission mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
