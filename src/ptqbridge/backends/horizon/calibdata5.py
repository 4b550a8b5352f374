"""Calibration data for hb_mapper: written from the one neutral source, in its form, and looked at before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptqbridge.backends.horizon.workspace import Workspace
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.samples import Samples
from ptqbridge.data.writers import write_raw
from ptqbridge.errors import InputError
from ptqbridge.spec import TensorSpec

_ABSURD = 1e20
_TINY = np.finfo(np.float32).tiny
_FEW_REAL = 0.2
STAGING = "calibration"
"""Where the writer's folder stands in the workspace; the tool sees its parts under the names of the YAML."""


def write_samples(
    place: Workspace, samples: Samples, inputs: Sequence[TensorSpec], config: Mapping[str, Any], asked: Recipe
) -> dict[str, Any]:
    """Write ``samples`` for the folders that ``config`` names; returns what is to be remembered of them.

    Inputs that the tool normalises get pixels: what ``samples`` holds, brought back by the recipe that made it (by
    ``asked`` where the data were arrays). Raises InputError for data that do not fit or could only ruin the build.
    """
    given, wanted = config["input_parameters"], config["calibration_parameters"]
    names = [spec.name for spec in inputs]
    norms = _entries(given.get("norm_type"), len(names), "no_preprocess")
    kinds = _entries(wanted.get("cal_data_type"), len(names), "float32")
    folders = _entries(wanted.get("cal_data_dir"), len(names), "")
    pixels = {
        spec.name: samples.recipes.get(spec.name) or asked
        for spec, norm in zip(inputs, norms, strict=True)
        if norm != "no_preprocess"
    }
    own = next((kind for name, kind in zip(names, kinds, strict=True) if name in pixels), "float32")
    typed = [TensorSpec(s.name, kind, s.shape) for s, kind in zip(inputs, kinds, strict=True)]
    written = write_raw(samples, typed, str(place.root / STAGING), pixels=pixels, dtype=own)
    for spec, folder, kind in zip(inputs, folders, kinds, strict=True):
        target = place.job / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(written[spec.name]).rename(target)
        look(spec.name, sorted(target.iterdir()), kind)
    return {
        "samples": samples.used,
        "data_sha256": samples.fingerprint,
        "skipped": list(samples.skipped),
        "recipes": {name: recipe.to_dict() for name, recipe in (pixels | samples.recipes).items()},
    }


def _entries(value: object, count: int, missing: str) -> list[str]:
    """One entry per input of a ``;`` list; a single one stands for all."""
    found = [part.strip() for part in str(value or missing).split(";")]
    if len(found) == 1:
        found *= count
    return (found + [missing] * count)[:count]


def look(name: str, files: Sequence[Path], kind: str) -> None:
    """Refuse data that the tool takes without a word: no files, NaN, inf, one single value, another type's bytes.

    Raises InputError naming the input and, for one bad sample, its file.
    """
    low, high, elements = math.inf, -math.inf, 0
    if not files:
        raise InputError(f"calibration data of input '{name}': no sample is left")
    for file in files:
        array = np.fromfile(file, dtype=kind)
        if not array.size:
            raise InputError(f"calibration data of input '{name}': sample {file.stem} is empty")
        elements = array.size
        least, most = float(array.min()), float(array.max())
        if not math.isfinite(least) or not math.isfinite(most):
            raise InputError(f"calibration data of input '{name}': sample {file.stem} holds NaN or inf")
        if array.dtype.kind == "f":
            strange = float(np.mean((np.abs(array) < _TINY) & (array != 0)))
            if max(abs(least), abs(most)) > _ABSURD or strange > _FEW_REAL:
                reason = f"values {least:.3g} to {most:.3g}: another type of the same size read as {kind}?"
                raise InputError(f"calibration data of input '{name}': sample {file.stem} has {reason}")
        low, high = min(low, least), max(high, most)
    if low == high and elements > 1:
        raise InputError(f"calibration data of input '{name}': every value of every sample is {low:g}")
