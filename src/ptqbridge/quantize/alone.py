"""Calibration on its own: from a build spec to ranges, or to the data folders of Horizon's compilers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ptqbridge.data.asked import asked_samples
from ptqbridge.data.lint import is_image
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.samples import Samples
from ptqbridge.data.writers import write_npy, write_raw
from ptqbridge.errors import InputError, OptionError
from ptqbridge.model.load import Model, load_model
from ptqbridge.quantize.calibrate import calibrate, memory_estimate
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.verify import needed_tensors
from ptqbridge.spec.build import BuildSpec, Calibration
from ptqbridge.spec.tensor import TensorSpec
from ptqbridge.wording import counted

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """Ranges, and one-line remarks on data and model."""

    ranges: Ranges
    notes: tuple[str, ...]


def find_ranges(
    build: BuildSpec,
    scheme: str,
    *,
    default_algorithm: str,
    regression_cutoff: float = 1.0,
    say: Say,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Calibrate the model of ``build`` over its samples for ``scheme`` (tensorrt, horizon, onnxruntime).

    ``default_algorithm`` is used when ``build`` names none; ``regression_cutoff`` serves ``legacy``. ``say`` gets
    one line per stage, ``progress`` (inferences done, all inferences). Raises InputError or OptionError for a model,
    data or options that do not fit.
    """
    wanted = build.calibration
    model, samples = _open(build, say)
    proto, notes = model.proto, list(samples.notes)
    if scheme == "onnxruntime":
        prepared = prepare(proto, next(iter(samples)).arrays)
        proto = prepared.proto
        notes += prepared.notes
        tensors = observed_tensors(proto, scheme)
    else:
        tensors = needed_tensors(proto, scheme)
    if not tensors:
        raise InputError(f"{model.path}: nothing to calibrate, the scheme {scheme} quantizes no tensor of this model")
    algorithm = wanted.algorithm or default_algorithm
    total = len(samples)
    several = f" in {total} inferences" if samples.used != total else ""
    what, over = counted(len(tensors), "tensor"), counted(samples.used, "sample")
    say(f"calibrating {what} with {over}{several} ({_method(wanted, algorithm)})")
    estimate = memory_estimate(proto, tensors, samples, algorithm=algorithm)
    say(estimate.text(wanted.memory_cap))
    ranges = calibrate(
        proto,
        tensors,
        samples,
        algorithm=algorithm,
        percentile=wanted.percentile,
        regression_cutoff=regression_cutoff,
        memory_cap=wanted.memory_cap,
        checkpoint=wanted.checkpoint or None,
        progress=(lambda done: progress(done, total)) if progress else None,
        model_fingerprint=model.sha256,
        data_fingerprint=samples.fingerprint,
        scheme=scheme,
    )
    notes += [f"left out: {reason}" for reason in samples.skipped]
    details = dict(ranges.details)
    if samples.recipes:
        details["recipes"] = {name: recipe.to_dict() for name, recipe in samples.recipes.items()}
    return Found(replace(ranges, samples=samples.used, details=details), tuple(notes))


def _open(build: BuildSpec, say: Say) -> tuple[Model, Samples]:
    if not build.model.path:
        raise OptionError("--onnx: expected the path of a model, found none")
    if not build.calibration.data:
        raise OptionError("--calibData: expected a folder or file of samples, found none")
    say(f"loading {build.model.path}")
    model = load_model(build.model.path)
    return model, asked_samples(build.calibration, model.inputs)


def _method(wanted: Calibration, algorithm: str) -> str:
    exactly = f" {wanted.percentile:g} %" if algorithm == "percentile" else ""
    return f"{algorithm}{exactly}" + ("" if wanted.algorithm or algorithm == "default" else ", the default")


@dataclass(frozen=True)
class DataFolders:
    """Calibration data as a Horizon compiler reads it.

    ``folders``: input name -> its folder. ``yaml``: what the compiler's configuration must say about them.
    """

    folders: dict[str, str]
    yaml: dict[str, str]
    samples: int
    fingerprint: str
    notes: tuple[str, ...]


def write_horizon_data(
    build: BuildSpec, folder: str, *, journey6: bool, say: Say, progress: Callable[[int, int], None] | None = None
) -> DataFolders:
    """Write the samples of ``build`` to ``folder`` for hb_compile (``journey6``: .npy) or hb_mapper (raw files).

    hb_mapper applies mean and scale itself: pictures are written as pixels of 0..255, and ``yaml`` says mean and scale.
    Raises InputError or OptionError, one line, for data that do not fit; ``folder`` is then as it was.
    """
    model, samples = _open(build, say)
    say(f"writing {counted(len(samples), 'sample')} to {folder}")
    samples.tell(progress)
    return write_folders(samples, model.inputs, folder, journey6=journey6)


def write_folders(samples: Samples, inputs: Sequence[TensorSpec], folder: str, *, journey6: bool) -> DataFolders:
    """``write_horizon_data`` for samples that are open already."""
    if journey6:
        folders = write_npy(samples, inputs, folder)
        yaml = {"cal_data_dir": _joined(folders[spec.name] for spec in inputs)}
        notes = ["the samples are what the float model takes: normalised where the recipe says so"]
    else:
        pixels = {spec.name: samples.recipes[spec.name] for spec in inputs if spec.name in samples.recipes}
        folders = write_raw(samples, inputs, folder, pixels=pixels)
        kinds = ["float32" if spec.name in pixels else spec.dtype for spec in inputs]
        yaml = {"cal_data_dir": _joined(folders[spec.name] for spec in inputs), "cal_data_type": _joined(kinds)}
        notes = []
        if pixels:
            yaml |= _normalisation([pixels.get(spec.name) for spec in inputs])
            notes.append("pictures are pixels of 0..255, before mean and scale, which hb_mapper applies itself")
        if any(is_image(spec) and spec.name not in pixels for spec in inputs):
            notes.append("arrays are written as the model takes them; for such an input norm_type is no_preprocess")
    left_out = [f"left out: {reason}" for reason in samples.skipped]
    return DataFolders(folders, yaml, samples.used, samples.fingerprint, (*samples.notes, *left_out, *notes))


def _joined(words: Iterable[str]) -> str:
    return ";".join(words)


def _normalisation(recipes: list[Recipe | None]) -> dict[str, str]:
    """hb_mapper's (pixel - mean_value) * scale_value for our (pixel * scale - mean) / std, one entry per input."""
    means, scales, types = [], [], []
    for recipe in recipes:
        if recipe is None:
            means.append("None")
            scales.append("None")
            types.append("no_preprocess")
            continue
        each = list(zip(recipe.mean, recipe.std, recipe.scale, strict=True))
        means.append(" ".join(f"{mean / scale:.9g}" for mean, _, scale in each))
        scales.append(" ".join(f"{scale / std:.9g}" for _, std, scale in each))
        types.append("data_mean_and_scale")
    return {"norm_type": ";".join(types), "mean_value": ";".join(means), "scale_value": ";".join(scales)}
