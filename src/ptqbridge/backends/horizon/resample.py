"""Calibration samples of Journey 5 (raw pixels) made into those of Journey 6 (.npy as the float model wants it)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptqbridge.backends.horizon.context import safe
from ptqbridge.backends.horizon.lookup import look_up
from ptqbridge.backends.horizon.schema import dims, entries, floats
from ptqbridge.errors import InputError
from ptqbridge.spec import ModelFile

NORM = {
    "data_mean": (True, False),
    "data_scale": (False, True),
    "data_mean_and_scale": (True, True),
}
"""Which of mean_value and scale_value a norm_type of hb_mapper uses."""


def convert_samples(config: Mapping[str, Any], folder: str, out: str) -> tuple[list[str], int]:
    """Write ``OUT/INPUT/NNNNN.npy`` from the raw files a hb_mapper configuration names; paths start at ``folder``.

    Pictures get ``(pixel - mean_value) * scale_value`` as hb_mapper would have done inside the model. Returns the new
    folder of each input and the number of samples. ``out`` appears whole or not at all.
    Raises InputError: nothing to convert, a shape that is not known, a file of another size, unequal numbers.
    """
    calibration, inputs = config.get("calibration_parameters") or {}, config.get("input_parameters") or {}
    sources = [os.path.join(folder, str(entry)) for entry in entries(calibration.get("cal_data_dir"))]
    if not sources:
        raise InputError("--calibOut: the configuration names no cal_data_dir, so there is nothing to convert")
    if calibration.get("preprocess_on"):
        raise InputError("--calibOut: preprocess_on means pictures; ptqbridge build --calibData reads those itself")
    if os.path.exists(out):
        raise InputError(f"--calibOut: {out} is there already; choose a new folder")
    names, shapes = _names_and_shapes(config, folder, len(sources))
    types = entries(calibration.get("cal_data_type"))
    parent = os.path.dirname(os.path.abspath(out))
    os.makedirs(parent, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{os.path.basename(out)}.", dir=parent))
    try:
        counts = []
        for index, (name, source) in enumerate(zip(names, sources, strict=True)):
            kind = types[index] if index < len(types) else "float32" if source.endswith("_f32") else "uint8"
            factors = _factors(inputs, index)
            counts.append(_one(source, fresh / safe(name), shapes[index], str(kind), *factors))
        if len(set(counts)) > 1:
            raise InputError(f"--calibOut: expected as many samples for each input, found {counts}")
        fresh.chmod(0o755)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return [os.path.join(out, safe(name)) for name in names], counts[0]


def _names_and_shapes(config: Mapping[str, Any], folder: str, count: int) -> tuple[list[str], list[tuple[int, ...]]]:
    inputs, model = config.get("input_parameters") or {}, config.get("model_parameters") or {}
    names = [str(name) for name in entries(inputs.get("input_name"))]
    written = entries(inputs.get("input_shape"))
    network = look_up(ModelFile(os.path.join(folder, str(model.get("onnx_model", ""))), "onnx"))[0]
    specs = {spec.name: spec for spec in network.inputs} if network else {}
    names = names or list(specs) or ([f"input{index}" for index in range(count)] if written else [])
    shapes: list[tuple[int, ...]] = []
    for index, name in enumerate(names):
        if index < len(written) and written[index]:
            shapes.append(dims(str(written[index])))
        elif name in specs and not specs[name].is_dynamic:
            shapes.append(tuple(int(dim) for dim in specs[name].shape))
        else:
            raise InputError(f"--calibOut: the shape of input {name} is not known: write input_shape")
    if len(names) != count:
        raise InputError(
            f"--calibOut: expected the model or input_shape to tell the shapes of {count} inputs, found {len(names)}"
        )
    return names, shapes


Numbers = tuple[float, ...]


def _factors(inputs: Mapping[str, Any], index: int) -> tuple[Numbers, Numbers, str]:
    """mean and scale that count for one input, and its layout."""

    def entry(key: str) -> str:
        words = entries(inputs.get(key))
        return (words[index] or "") if index < len(words) else ""

    uses = NORM.get(entry("norm_type"), (False, False))
    mean, scale = (
        floats(entry(key)) if used else () for key, used in zip(("mean_value", "scale_value"), uses, strict=True)
    )
    return mean, scale, entry("input_layout_train") or "NCHW"


def _one(
    source: str, target: Path, shape: tuple[int, ...], kind: str, mean: Numbers, scale: Numbers, layout: str
) -> int:
    target.mkdir(parents=True)
    try:
        files = sorted(os.listdir(source))
    except OSError as error:
        raise InputError(f"--calibOut: cannot read {source}: {error.strerror}") from None
    if not files:
        raise InputError(f"--calibOut: {source} is empty")
    place = (1, -1, 1, 1) if layout == "NCHW" else (1, 1, 1, -1)
    size = int(np.prod(shape))
    for number, name in enumerate(files):
        path = os.path.join(source, name)
        expected = size * np.dtype(kind).itemsize
        if not os.path.isfile(path) or os.path.getsize(path) != expected:
            found = os.path.getsize(path) if os.path.isfile(path) else "no file"
            text = "x".join(map(str, shape))
            raise InputError(f"{path}: expected {expected} bytes ({kind} {text}), found {found}")
        array = np.fromfile(path, dtype=kind).reshape(shape)
        if mean or scale:
            array = array.astype(np.float32)
            array = array - np.array(mean, np.float32).reshape(place) if mean else array
            array = array * np.array(scale, np.float32).reshape(place) if scale else array
        elif kind == "uint8":
            array = array.astype(np.float32)
        np.save(target / f"{number:05d}.npy", np.ascontiguousarray(array))
    return len(files)
