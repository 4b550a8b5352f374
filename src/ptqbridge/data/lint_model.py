"""Calibration data against the model: does its first BatchNormalization see what it saw in training?

The running mean and variance of that layer tell how the training data was prepared. The part of the graph up to it is
run on the samples as they are and under the usual mistakes undone (channels swapped, scale, normalisation); per
channel the observed and the stored distribution are compared as Gaussians: D = (ln(vb/v) + (v + (m-mb)^2)/vb - 1) / 2,
the Kullback-Leibler divergence, averaged over the channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import onnx

from ptqbridge.data.arrays import Array
from ptqbridge.data.lint import Finding, is_image
from ptqbridge.data.recipe import preset
from ptqbridge.data.samples import Samples
from ptqbridge.spec.tensor import TensorSpec

SAMPLES = 32
"""Samples looked at; more change the statistics of a first layer little."""
_FITS = 0.25
_CONTRADICTS = 2.0
_MAX_NODES = 16


def against_model(proto: onnx.ModelProto, samples: Samples, inputs: Sequence[TensorSpec]) -> Iterator[Finding]:
    """Findings about scale, normalisation and channel order of the image inputs of ``proto``."""
    for spec in inputs:
        if not is_image(spec) or not spec.dtype.startswith("float"):
            continue
        front = _front(proto, spec.name)
        if front is None:
            reason = "the model has no BatchNormalization near this input, so RGB and BGR cannot be told apart"
            yield Finding("unsure", "color", spec.name, "", reason)
            continue
        try:
            scores = _scores(*front, spec, samples)
        except Exception as error:  # whatever the runtime cannot do with a part of a model: no verdict, and said so
            reason = f"the model's first layer could not be run ({type(error).__name__}), so its statistics say nothing"
            yield Finding("unsure", "statistics", spec.name, "", reason)
            continue
        yield from _judge(spec, scores)


def _judge(spec: TensorSpec, scores: dict[str, float]) -> Iterator[Finding]:
    here = scores.pop("as it is")
    swapped = scores.get(_SWAPPED)
    change, best = min(scores.items(), key=lambda item: item[1])
    if here > _FITS and best < here / 3:
        reason = f"the model's BatchNorm statistics fit the data {_times(here, best)} better {change}"
        yield Finding("error", "statistics", spec.name, "", reason)
    elif swapped is not None and here > 0.01 and swapped < here / 2:
        reason = f"the model's BatchNorm statistics fit the data {_times(here, swapped)} better {_SWAPPED}"
        yield Finding("warning", "color", spec.name, "", reason)
    elif here > _CONTRADICTS:
        reason = (
            f"the data contradicts the model's BatchNorm statistics (divergence {here:.2g}, up to {_FITS:g} is usual)"
        )
        yield Finding("warning", "statistics", spec.name, "", reason)
    elif swapped is not None and swapped < here * 2:
        reason = "the model's BatchNorm statistics fit RGB and BGR about equally well"
        yield Finding("unsure", "color", spec.name, "", reason)


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
    model: onnx.ModelProto, mean: Array, variance: Array, spec: TensorSpec, samples: Samples
) -> dict[str, float]:
    """Divergence from the stored statistics, per change to the data."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    changes = _changes(spec)
    sums = {text: np.zeros((2, len(mean))) for text in changes}
    count = 0
    for sample in islice(samples, SAMPLES):
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


_SWAPPED = "with red and blue swapped"


def _changes(spec: TensorSpec) -> dict[str, Callable[[Array], Array]]:
    """The usual mistakes, undone."""
    axis = 1 if spec.shape[1] in (1, 3) else 3
    changes: dict[str, Callable[[Array], Array]] = {
        "as it is": lambda array: array,
        "divided by 255": lambda array: array / 255,
        "times 255": lambda array: array * 255,
        "as 2x - 1": lambda array: array * 2 - 1,
        "as (x + 1) / 2": lambda array: (array + 1) / 2,
    }
    if spec.shape[axis] == 3:
        shape = (1, 3, 1, 1) if axis == 1 else (1, 1, 1, 3)
        recipe = preset("imagenet")
        mean, std = (np.array(numbers).reshape(shape) for numbers in (recipe.mean, recipe.std))
        changes[_SWAPPED] = lambda array: np.flip(array, axis)
        changes["normalised by ImageNet's mean and std"] = lambda array: (array - mean) / std
        changes["divided by 255 and normalised by ImageNet's mean and std"] = lambda array: (array / 255 - mean) / std
        changes["with ImageNet's mean and std undone"] = lambda array: array * std + mean
    return changes
