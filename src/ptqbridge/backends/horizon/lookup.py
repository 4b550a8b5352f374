"""What the model file tells a plan: inputs, node names, opset. A missing or unreadable file is a note, no failure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ptqbridge.errors import InputError
from ptqbridge.spec import ModelFile, TensorSpec

if TYPE_CHECKING:
    from ptqbridge.model.load import Model

OLDEST_OPSET, NEWEST_OPSET = 7, 11
"""The ONNX opsets that hb_mapper 1.24 accepts."""
NEWEST_IR = 9
"""The newest ONNX IR version that hb_mapper 1.24 accepts."""


TOOL_DOMAINS = ("horizon", "horizon.custom")
"""Operator domains of Horizon's own: only its tools know what is in them."""


@dataclass(frozen=True)
class Network:
    """The looked-up facts of one model."""

    inputs: tuple[TensorSpec, ...]
    nodes: frozenset[str]
    opset: int
    ir_version: int
    qdq: bool = False
    """Whether QuantizeLinear and DequantizeLinear nodes hold ranges."""

    def match(self, patterns: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """Node names per pattern (``*`` stands for any text), and the patterns that match no node."""
        found = {pattern: _matching(pattern, self.nodes) for pattern in patterns}
        return {key: names for key, names in found.items() if names}, tuple(k for k, v in found.items() if not v)


def look_up(model: ModelFile) -> tuple[Network | None, str]:
    """The network, or None with a note saying what could not be looked up."""
    if model.format != "onnx" or model.path.endswith(".bc"):
        return None, ""
    if not Path(model.path).is_file():
        return None, f"{model.path or '--onnx'} was not found: input names, shapes and node names were not checked"
    try:
        return network_of(loaded(model.path)), ""
    except InputError as error:
        return None, f"{error.message}: input names, shapes and node names were not checked"


def network_of(model: Model) -> Network:
    """The facts of a model that is there."""
    graph = model.structure.graph
    names = frozenset(node.name for node in graph.node if node.name)
    qdq = {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    return Network(model.inputs, names, model.opset, model.structure.ir_version, qdq)


def loaded(path: str) -> Model:
    """The model file, parsed once as long as it stays as it is, since planning and checking both look into it.

    Raises InputError.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _load(path, -1, -1)
    return _load(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1)
def _load(path: str, size: int, time: int) -> Model:
    from ptqbridge.model.load import load_model  # brings onnx, which explain does not otherwise need

    return load_model(path, custom=TOOL_DOMAINS)


def _matching(pattern: str, nodes: frozenset[str]) -> tuple[str, ...]:
    if "*" not in pattern:
        return (pattern,) if pattern in nodes else ()
    regex = re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
    return tuple(sorted(name for name in nodes if regex.fullmatch(name)))
