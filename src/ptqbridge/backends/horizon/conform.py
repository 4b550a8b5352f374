"""Conversions that bring a model within hb_mapper's limits, kept only when its outputs stay equal.

``--fixShapes`` and ``--convertOpset`` ask for them; what is converted is a copy, the user's file stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.data.noise import seeded_noise
from ptqbridge.data.reading import Sample
from ptqbridge.errors import InputError
from ptqbridge.model.check import opset_of
from ptqbridge.model.interface import read_interface
from ptqbridge.model.load import Model
from ptqbridge.model.save import session_model
from ptqbridge.quantize.freeze import CannotFreeze, freeze_shapes
from ptqbridge.quantize.lower import CannotLower, lower_ir, lower_opset

if TYPE_CHECKING:
    import numpy.typing as npt

COMPARED = 4
"""As many calibration samples (of noise without them) must give equal outputs."""
TOLERANCE = 1e-5
"""Largest difference of an output, as a share of its largest value: float32 rounding of sums done in another order."""


def conform(
    model: Model,
    *,
    fix_shapes: bool,
    convert_opset: bool,
    shapes: Mapping[str, Sequence[int]],
    samples: Iterable[Sample] | None = None,
) -> tuple[Model, tuple[str, ...]]:
    """The model with what was asked for done, and a note per conversion; the same model when there was nothing to do.

    ``shapes`` by input name, for the dynamic dimensions. ``samples`` are real inputs to compare outputs on.
    Raises InputError: something cannot be converted, or the outputs change.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    notes = []
    try:
        if fix_shapes:
            notes.append(freeze_shapes(proto, shapes))
    except CannotFreeze as reason:
        hint = "--shapes=INPUT:1x3x224x224 says how large they are"
        raise InputError(f"--fixShapes: model {model.path}: {reason}", hint=hint) from None
    try:
        if convert_opset:
            notes += [lower_opset(proto), lower_ir(proto)]
    except CannotLower as reason:
        raise InputError(f"--convertOpset: model {model.path}: {reason}", hint="export it with opset 11") from None
    notes = [note for note in notes if note]
    if not notes:
        return model, ()
    inputs, outputs = read_interface(proto, model.path)
    changed = Model(model.path, inputs, outputs, opset_of(proto), proto)
    real = list(islice(samples, COMPARED)) if samples is not None else []
    tried = real or list(seeded_noise(inputs, COMPARED))
    largest = _compare(model, changed, tried)
    what = "calibration samples" if real else "inputs of seeded noise"
    notes.append(f"outputs compared on {len(tried)} {what}: {_equal(largest)}")
    return changed, tuple(notes)


def _equal(largest: float) -> str:
    return f"equal within {largest:.1e} of their largest value" if largest else "equal to the last bit"


def _compare(model: Model, changed: Model, samples: Sequence[Sample]) -> float:
    """The largest difference as a share of the output's largest value. Raises InputError when it is not small."""
    before, after = _session(model, "the model"), _session(changed, "the converted model")
    largest = 0.0
    for sample in samples:
        feeds = {spec.name: sample.arrays[spec.name] for spec in model.inputs}
        pairs = zip(
            _run(model, before, feeds, "the model"), _run(model, after, feeds, "the converted model"), strict=True
        )
        for spec, (one, other) in zip(model.outputs, pairs, strict=True):
            share = _difference(one, other)
            if not share <= TOLERANCE:
                found = f"{share:.1e} of its largest value" if np.isfinite(share) else "its shape, type or NaN"
                raise InputError(
                    f"model {model.path} cannot be converted: output {spec.name!r} changes by {found} "
                    f"on {sample.name}; expected at most {TOLERANCE:g}",
                    hint="export the model with opset 11 and fixed shapes",
                )
            largest = max(largest, share)
    return largest


def _session(model: Model, what: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Fused operators round differently, and what can be fused depends on the opset.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with session_model(model.proto) as source:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unusable(model, what, error) from error


def _run(model: Model, session: Any, feeds: Mapping[str, npt.NDArray[Any]], what: str) -> list[npt.NDArray[Any]]:
    try:
        values: list[npt.NDArray[Any]] = session.run(None, dict(feeds))
    except Exception as error:
        raise _unusable(model, what, error) from error
    return values


def _unusable(model: Model, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300]
    return InputError(f"model {model.path} cannot be converted: ONNX Runtime cannot run {what}: {reason}")


def _difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """0 for equal arrays, inf for other shapes, types, or NaN elsewhere; else a share of the largest value."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return np.inf
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    odd = ~np.isfinite(one)
    if not np.array_equal(one[odd], other[odd], equal_nan=True) or not np.isfinite(other[~odd]).all():
        return np.inf
    difference = float(np.abs(one[~odd].astype(np.float64) - other[~odd]).max(initial=0.0))
    scale = float(np.abs(one[~odd]).max(initial=0.0))
    return difference / scale if scale else (np.inf if difference else 0.0)
