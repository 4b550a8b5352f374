"""Calibration data against the model: does its first BatchNormalization see what it saw in training?

The running mean and variance of that layer tell how the training data was prepared. The part of the graph up to it is
run on the samples as they are and under the usual mistakes undone (channels swapped, scale, normalisation); per
channel the observed and the stored distribution are compared as Gaussians: D = (ln(vb/v) + (v + (m-mb)^2)/vb - 1) / 2,
the Kullback-Leibler divergence, averaged over the channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ptqbridge.data.arrays import Array
from ptqbridge.data.facts import Facts, Finding, is_image
from ptqbridge.data.recipe import preset
from ptqbridge.data.samples import Samples
from ptqbridge.spec.tensor import TensorSpec

SAMPLES = 32
"""Samples looked at, evenly spread; more change the statistics of a first layer little."""
_FITS = 0.25
_DIFFERS = 0.5
_CONTRADICTS = 2.0
_MAX_NODES = 16
_SWAPPED = "with red and blue swapped"
_AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Verdict:
    """What the model says of the data of ``input``. ``settled``: its statistics fit the data as they are."""

    input: str
    findings: tuple[Finding, ...]
    settled: bool = False


def against_model(
    proto: onnx.ModelProto,
    samples: Samples,
    inputs: Sequence[TensorSpec],
    facts: Mapping[str, Sequence[Facts]],
    *,
    without: frozenset[str] = frozenset(),
) -> list[Verdict]:
    """Verdicts on scale, normalisation and channel order of the image inputs of ``proto``.

    ``without`` names samples that are wrong in themselves and would only blur the statistics; when that are all, there
    is no verdict.
    """
    names = [fact.sample for fact in facts[inputs[0].name] if fact.sample not in without]
    taken = frozenset(names[:: -(-len(names) // SAMPLES)] if names else ())
    return [
        _verdict(proto, samples, spec, [fact for fact in facts[spec.name] if fact.sample in taken], taken)
        for spec in inputs
        if taken and is_image(spec) and spec.dtype.startswith("float")
    ]


def _verdict(
    proto: onnx.ModelProto, samples: Samples, spec: TensorSpec, facts: Sequence[Facts], taken: frozenset[str]
) -> Verdict:
    def unsure(check: str, reason: str) -> Verdict:
        return Verdict(spec.name, (Finding("unsure", check, spec.name, "", reason),))

    low, high = (float(np.median([getattr(fact, end) for fact in facts])) for end in ("low", "high"))
    front = _front(proto, spec.name)
    if front is None:
        what = "RGB and BGR cannot be told apart" if 3 in spec.shape[1:] else "the scale cannot be checked"
        reason = f"the model has no BatchNormalization near this input, so {what}"
        if 3 in spec.shape[1:]:
            reason += f", nor whether values of {low:.3g}..{high:.3g} are normalised as in training"
        return unsure("color" if 3 in spec.shape[1:] else "statistics", reason)
    try:
        scores = _scores(*front, spec, samples, taken, _changes(spec, low, high))
    except Exception as error:  # whatever the runtime cannot do with a part of a model: no verdict, and said so
        reason = f"the model's first layer could not be run ({type(error).__name__}), so its statistics say nothing"
        return unsure("statistics", reason)
    settled = scores[_AS_IT_IS] <= _FITS
    return Verdict(spec.name, tuple(_judge(spec, scores)), settled)


def _judge(spec: TensorSpec, scores: dict[str, float]) -> Iterator[Finding]:
    here = scores.pop(_AS_IT_IS)
    swapped = scores.get(_SWAPPED)
    if here > _FITS and scores:
        change, best = min(scores.items(), key=lambda item: item[1])
        plain = change.removesuffix(f", {_SWAPPED}")
        if plain in scores and scores[plain] < 2 * best:
            change = plain  # both orders of colour fit: no reason to speak of it
        if best < here / 3 and change != _SWAPPED:
            reason = f"the model's BatchNorm statistics fit the data {_times(here, best)} better {change}"
            yield Finding("error", "statistics", spec.name, "", reason)
            return
    if swapped is not None and here > 0.01 and swapped < here / 2:
        reason = f"the model's BatchNorm statistics fit the data {_times(here, swapped)} better {_SWAPPED}"
        yield Finding("warning", "color", spec.name, "", reason)
        return
    if here > _CONTRADICTS:
        reason = (
            f"the data contradicts the model's BatchNorm statistics (divergence {here:.2g}, up to {_FITS:g} is usual)"
        )
        yield Finding("warning", "statistics", spec.name, "", reason)
        return
    elif here > _DIFFERS:
        reason = f"the data differs from the model's BatchNorm statistics (divergence {here:.2g}, up to {_FITS:g} is "
        reason += "usual): other scenes than in training, or prepared in another way"
        yield Finding("unsure", "statistics", spec.name, "", reason)
    if swapped is not None and swapped < here * 2:
        often = "about equally well"
        if swapped < here / 1.3:
            often = f"alike, {_times(here, swapped)} better {_SWAPPED}"
        yield Finding("unsure", "color", spec.name, "", f"the model's BatchNorm statistics fit RGB and BGR {often}")


def _times(here: float, there: float) -> str:
    """How many times smaller ``there`` is; beyond 1000 a figure would only pretend to be exact."""
    ratio = here / max(there, 1e-3)
    return f"{ratio:.2g} times" if ratio < 1000 else "over 1000 times"


def _front(proto: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, Array, Array] | None:
    """The graph from input ``name`` to its first BatchNormalization, and that layer's mean and variance."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "BatchNormalization" or not {node.input[3], node.input[4]} <= set(constants):
            continue
        nodes: list[onnx.NodeProto] = []
        roots: set[str] = set()
        wanted = [node.input[0]]
        while wanted and len(nodes) <= _MAX_NODES:
            value = wanted.pop()
            if value in makers:
                if makers[value] not in nodes:
                    nodes.append(makers[value])
                    wanted += [source for source in makers[value].input if source]
            elif value not in constants:
                roots.add(value)
        if wanted or roots != {name} or sum(part.op_type == "Conv" for part in nodes) != 1:
            continue
        nodes = [part for part in proto.graph.node if part in nodes]
        used = {source for part in nodes for source in part.input}
        graph = onnx.helper.make_graph(
            nodes,
            "front",
            [value for value in proto.graph.input if value.name == name],
            [onnx.ValueInfoProto(name=node.input[0])],
            [tensor for key, tensor in constants.items() if key in used],
        )
        model = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        mean, variance = (onnx.numpy_helper.to_array(constants[node.input[place]]) for place in (3, 4))
        return model, mean.astype(np.float64), variance.astype(np.float64)
    return None


def _scores(
    model: onnx.ModelProto,
    mean: Array,
    variance: Array,
    spec: TensorSpec,
    samples: Samples,
    taken: frozenset[str],
    changes: Mapping[str, Callable[[Array], Array]],
) -> dict[str, float]:
    """Divergence from the stored statistics, per change to the data."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    sums = {text: np.zeros((2, len(mean))) for text in changes}
    count = 0
    for sample in samples.named(taken):
        array = sample.arrays[spec.name]
        for text, change in changes.items():
            (out,) = session.run(None, {spec.name: np.ascontiguousarray(change(array), array.dtype)})
            wide = out.astype(np.float64)
            sums[text] += (wide.sum(axis=(0, 2, 3)), (wide**2).sum(axis=(0, 2, 3)))
        count += out.size // out.shape[1]
    scores = {}
    for text, (total, squares) in sums.items():
        observed = total / count
        spread = np.maximum(squares / count - observed**2, 1e-12)
        stored = np.maximum(variance, 1e-12)
        divergence = (np.log(stored / spread) + (spread + (observed - mean) ** 2) / stored - 1) / 2
        scores[text] = float(divergence.mean()) if np.isfinite(divergence).all() else math.inf
    return scores


def _changes(spec: TensorSpec, low: float, high: float) -> dict[str, Callable[[Array], Array]]:
    """The usual mistakes undone, as far as values of ``low`` to ``high`` (of most samples) can stem from them."""
    axis = 1 if spec.shape[1] in (1, 3) else 3
    changes: dict[str, Callable[[Array], Array]] = {}
    if low >= 0 and 2 < high <= 256:  # pixels
        changes["divided by 255"] = lambda array: array / 255
        changes["as x / 127.5 - 1"] = lambda array: array / 127.5 - 1
    if low >= -1.01 and 0 < high <= 1.01:
        changes["times 255"] = lambda array: array * 255
    if low > -0.01 and 0.01 < high <= 1.01:
        changes["as 2x - 1"] = lambda array: array * 2 - 1
    if -1.01 <= low < -0.01 and high <= 1.01:
        changes["as (x + 1) / 2"] = lambda array: (array + 1) / 2
        changes["as 127.5 (x + 1)"] = lambda array: (array + 1) * 127.5
    if spec.shape[axis] == 3:
        changes |= _colour_changes(axis, low, high)
        changes |= {f"{text}, {_SWAPPED}": _then(change, axis) for text, change in changes.items()}
        changes[_SWAPPED] = lambda array: np.flip(array, axis)
    return {_AS_IT_IS: lambda array: array, **changes}


def _colour_changes(axis: int, low: float, high: float) -> dict[str, Callable[[Array], Array]]:
    """Those with ImageNet's mean and std."""
    shape = (1, 3, 1, 1) if axis == 1 else (1, 1, 1, 3)
    recipe = preset("imagenet")
    mean, std = (np.array(numbers).reshape(shape) for numbers in (recipe.mean, recipe.std))
    changes: dict[str, Callable[[Array], Array]] = {}
    if low >= 0 and 2 < high <= 256:
        changes["divided by 255 and normalised by ImageNet's mean and std"] = lambda array: (array / 255 - mean) / std
        changes["less ImageNet's mean of 0..255"] = lambda array: array - 255 * mean
    if low > -0.01 and 0.01 < high <= 1.01:
        changes["normalised by ImageNet's mean and std"] = lambda array: (array - mean) / std
    if -1.01 <= low < -0.01 and high <= 1.01:
        changes["as (x + 1) / 2, normalised by ImageNet's mean and std"] = lambda array: ((array + 1) / 2 - mean) / std
    if -12.5 <= low < -0.01 and high <= 10.5:
        changes["with ImageNet's mean and std undone"] = lambda array: array * std + mean
        changes["with ImageNet's mean and std undone, as 2x - 1"] = lambda array: (array * std + mean) * 2 - 1
        changes["with ImageNet's mean and std undone, times 255"] = lambda array: (array * std + mean) * 255
    if -160 <= low < -16 and 16 < high <= 160:
        changes["plus ImageNet's mean of 0..255"] = lambda array: array + 255 * mean
    return changes


def _then(change: Callable[[Array], Array], axis: int) -> Callable[[Array], Array]:
    return lambda array: np.flip(change(array), axis)
