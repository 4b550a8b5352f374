"""Which layers really run on integers: read from the graph that ONNX Runtime made of a quantized model."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from ptqbridge.model.save import session_model
from ptqbridge.quantize.placement import MOVES, WEIGHTED

INTEGER_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "QAttention")
"""Operators of ONNX Runtime (docs/ContribOperators.md and ONNX) that multiply or add integers."""

_MAKES_INTEGERS = ("QuantizeLinear", "QLinear")  # QGemm does when it has the scale of its output (input 8)
_RENAMED = re.compile(r"(_token_\d+|/MatMulAddFusion)+$")
"""Suffixes that ONNX Runtime's rewrites put on a layer's name."""


@dataclass(frozen=True)
class KernelReport:
    """What became of the layers. ``kernels``: layer name -> the operator that runs it, for layers that still exist.

    ``integer``: names of the layers whose kernel works on integers. ``weighted``: operator of each Conv, Gemm and
    MatMul of the float model by name.
    """

    kernels: Mapping[str, str]
    integer: frozenset[str]
    weighted: Mapping[str, str]

    def summary(self) -> tuple[str, ...]:
        """Lines like ``20 of 21 Conv run as QLinearConv``, per operator and kernel."""
        total = Counter(self.weighted.values())
        became = Counter(
            (operator, self.kernels[name]) for name, operator in self.weighted.items() if name in self.integer
        )
        lines = [f"{count} of {total[op]} {op} run as {kernel}" for (op, kernel), count in sorted(became.items())]
        none = [op for op in sorted(total) if not any(op == found for found, _ in became)]
        return (*lines, *(f"0 of {total[op]} {op} run on integers" for op in none))


def integer_kernels(path: str | os.PathLike[str]) -> dict[str, str]:
    """Layer name -> kernel (``QLinearConv``...) for the layers of the quantized model at ``path`` that run on integers.

    Layers that only move data count when they move integers. ``path`` is loaded by ONNX Runtime with all its
    optimisations for this CPU; its own exception is raised when it cannot.
    """
    quantized = onnx.load(os.fspath(path), load_external_data=False)
    return _integer(_kernels(os.fspath(path), quantized))


def kernel_report(float_model: onnx.ModelProto, quantized: onnx.ModelProto) -> KernelReport:
    """What ONNX Runtime makes of ``quantized`` on this CPU, layer by layer of ``float_model`` (as prepared)."""
    with session_model(quantized) as source:
        found = _kernels(source, quantized)
    names = {node.name for node in float_model.graph.node}
    return KernelReport(
        kernels={name: kernel for name, (kernel, _) in found.items() if name in names},
        integer=frozenset(_integer(found)) & names,
        weighted={node.name: node.op_type for node in float_model.graph.node if node.op_type in WEIGHTED},
    )


def _integer(found: Mapping[str, tuple[str, bool]]) -> dict[str, str]:
    return {
        name: kernel
        for name, (kernel, moves_integers) in found.items()
        if kernel.startswith(INTEGER_PREFIXES) or moves_integers
    }


def _kernels(source: bytes | str, quantized: onnx.ModelProto) -> dict[str, tuple[str, bool]]:
    """Layer name -> (operator after ONNX Runtime's optimisation, whether it moves 8-bit integers).

    ONNX Runtime keeps most names. Its channels-last rewrite gives convolutions new ones, so layers with constant
    weights are found by the weights they read.
    """
    by_weight: dict[str, list[str]] = {}
    made_from = {name: node.input[0] for node in quantized.graph.node for name in node.output if node.input}
    for node in quantized.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in made_from:
            by_weight.setdefault(made_from[node.input[1]], []).append(node.name)
    names = {node.name for node in quantized.graph.node}
    integers: set[str] = set()  # tensors of 8-bit integers
    found: dict[str, tuple[str, bool]] = {}
    for node in _optimized(source).node:
        moves = node.op_type.removeprefix("Nhwc") in MOVES
        makes = node.op_type.startswith(_MAKES_INTEGERS) or (node.op_type == "QGemm" and len(node.input) > 7)
        if makes or (moves and node.input[0] in integers):
            integers.update(node.output)
        kind = (node.op_type, moves and node.input[0] in integers)
        layer = _RENAMED.sub("", node.name)
        if layer in names:
            found[layer] = kind
        if node.op_type.startswith(INTEGER_PREFIXES):
            for name in node.input:
                found.update(dict.fromkeys(by_weight.get(name, ()), kind))
    return found


def _optimized(source: bytes | str) -> onnx.GraphProto:
    """The graph as ONNX Runtime runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder:
        written = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(written)
        # Weights stay out of the file: only the nodes are read.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "256")
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return onnx.load(written, load_external_data=False).graph
