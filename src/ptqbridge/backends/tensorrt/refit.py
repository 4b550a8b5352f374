"""Refitting an engine's weights: timing it (--timeRefit), listing what can be refitted, weights from another ONNX.

After NVIDIA/TensorRT samples/common/sampleEngines.cpp (timeRefit, dumpRefittable), v8.6.1 and v10.13.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from ptqbridge.errors import ToolchainFailed

WEIGHTS = {
    "CONSTANT": ("IConstantLayer", {"CONSTANT": "weights"}),
    "CONVOLUTION": ("IConvolutionLayer", {"KERNEL": "kernel", "BIAS": "bias"}),
    "DECONVOLUTION": ("IDeconvolutionLayer", {"KERNEL": "kernel", "BIAS": "bias"}),
    "FULLY_CONNECTED": ("IFullyConnectedLayer", {"KERNEL": "kernel", "BIAS": "bias"}),
    "SCALE": ("IScaleLayer", {"SCALE": "scale", "SHIFT": "shift"}),
}
"""Layer type: its class, and the attribute of each weights role."""
TIMES = {"8.6": 5}
"""Refits to average, by generation; the others take ten, without waiting in between."""
THREADS = 10
"""Threads that the refitter may use with --threads."""


def time_refit(trt: Any, names: dict[str, Any], *, generation: str, threads: bool) -> float:
    """Milliseconds of one refit of ``names["engine"]`` with the weights of ``names["network"]``, on average.

    Raises ToolchainFailed when TensorRT refuses; the missing weights are named.
    """
    refitter = trt.Refitter(names["engine"], names["logger"])
    if threads:
        refitter.max_threads = THREADS
    if generation != "8.6":
        refitter.weights_validation = False  # they are those the engine was built with
    weights = list(_refittable(trt, refitter, names["network"]))
    _set_weights(refitter, weights, names["logger"])
    layers, roles = refitter.get_missing()
    if layers:
        listed = ", ".join(f"{layer} {role}" for layer, role in zip(layers, roles, strict=True))
        raise ToolchainFailed(f"target trt: --timeRefit: weights are missing for {listed}")
    _refit(refitter.refit_cuda_engine, names["logger"])
    times = TIMES.get(generation, 10)
    with closing(names["device"].stream()) as stream:
        started = time.perf_counter()
        for _ in range(times):
            if generation == "8.6":  # there a refit takes the weights with it, so they are handed over anew
                _set_weights(refitter, weights, names["logger"])
                _refit(refitter.refit_cuda_engine, names["logger"])
            else:
                _refit(lambda: refitter.refit_cuda_engine_async(stream.handle), names["logger"])
        stream.synchronize()
        return (time.perf_counter() - started) * 1e3 / times


def _refit(call: Callable[[], bool], logger: Any) -> None:
    if not call():
        raise ToolchainFailed(f"target trt: the engine could not be refitted: {_said(logger)}")


def _said(logger: Any) -> str:
    return "; ".join(logger.errors[-3:]) or "TensorRT gave no reason"


def _set_weights(refitter: Any, weights: Sequence[tuple[str, Any, Any]], logger: Any) -> None:
    for layer, role, values in weights:
        if not refitter.set_weights(layer, role, values):
            raise ToolchainFailed(f"target trt: --timeRefit: {layer} {role} was refused: {_said(logger)}")


def _refittable(trt: Any, refitter: Any, network: Any) -> Iterator[tuple[str, Any, Any]]:
    """Layer name, role and values of every weights of the network that the engine can take."""
    layers, roles = refitter.get_all()
    wanted = set(zip(layers, roles, strict=True))
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for role, weights in _weights(trt, layer):
            if (layer.name, role) in wanted:
                yield layer.name, role, weights


def _weights(trt: Any, layer: Any) -> Iterator[tuple[Any, Any]]:
    """The role and the weights of each of a layer's weights."""
    kind, roles = WEIGHTS.get(layer.type.name, ("", {}))
    if not kind:
        return
    layer.__class__ = getattr(trt, kind)  # the bindings hand every layer out as a plain ILayer
    for role, attribute in roles.items():
        yield getattr(trt.WeightsRole, role), getattr(layer, attribute)


def list_refittable(trt: Any, names: dict[str, Any], say: Callable[[str], None]) -> None:
    """--dumpRefit: one line per weights that can be refitted."""
    layers, roles = trt.Refitter(names["engine"], names["logger"]).get_all()
    for layer, role in zip(layers, roles, strict=True):
        say(f"{layer} {role}")


def refit_calls(calls: Sequence[str]) -> tuple[str, ...]:
    """The calls that take weights from another ONNX (--refitFromOnnx)."""
    if not any(text.startswith("trt.OnnxParserRefitter") for text in calls):
        return ()
    return tuple(text for text in calls if text.startswith(("refitter", "trt.OnnxParserRefitter")))
