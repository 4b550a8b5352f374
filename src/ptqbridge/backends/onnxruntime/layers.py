"""Per-layer requests: names and wildcards to real nodes before the build, asked against got after it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ptqbridge.errors import LimitNotMet, OptionError
from ptqbridge.result import AskedGot
from ptqbridge.spec import Precision


@dataclass(frozen=True)
class LayerRequests:
    """``asked``: node name to fp32 or int8 (the words a CPU distinguishes). ``notes``: what could not be matched."""

    asked: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def keep_float(self) -> frozenset[str]:
        """The nodes that stay out of quantization."""
        return frozenset(name for name, kind in self.asked.items() if kind == "fp32")


def resolve_layers(precision: Precision, nodes: Sequence[str]) -> LayerRequests:
    """Match per-layer requests against the model's node names.

    A bare ``*`` is the default for all other layers; elsewhere ``*`` stands for any part of a name. Exact names win
    over patterns, later patterns over earlier ones. With obey a name that matches nothing is an OptionError.
    """
    if precision.constraints == "none":
        return LayerRequests({}, ())
    asked: dict[str, str] = {}
    notes: list[str] = []
    requests = [("--layerOutputTypes", precision.layer_outputs), ("--layerPrecisions", precision.layers)]
    for option, layers in requests:
        for pattern, types in sorted(layers.items(), key=lambda item: (item[0] != "*", "*" not in item[0])):
            matches = [name for name in nodes if _matches(pattern, name)]
            if not matches:
                notes.append(_no_match(option, pattern, nodes, strict=precision.constraints == "obey"))
            for name in matches:
                asked[name] = "int8" if types[0] == "int8" else "fp32"
    return LayerRequests(asked, tuple(notes))


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _no_match(option: str, pattern: str, nodes: Sequence[str], *, strict: bool) -> str:
    near = difflib.get_close_matches(pattern, nodes, n=1)
    text = f"{option}: no layer is called {pattern!r}"
    guess = f"did you mean {near[0]!r}?" if near else "'ptqbridge run --dumpLayerInfo' lists names"
    if strict:
        raise OptionError(text, hint=guess)
    return f"{text} ({guess})"


def asked_against_got(
    requests: LayerRequests, kernels: Mapping[str, str], integer: Collection[str], producers: Mapping[str, str]
) -> tuple[AskedGot, ...]:
    """Compare requests with the finished graph.

    ``kernels`` is node name to operator for the nodes still there, ``integer`` the nodes on integers; a node that was
    fused counts as the node before it (``producers``: node to the node that makes its first input, for nodes that
    ONNX Runtime fuses into that one).
    """
    rows = []
    for name, asked in requests.asked.items():
        runs_in = _survivor(name, kernels, integer, producers)
        kind = "int8" if runs_in in integer else "float32"
        what = kernels.get(runs_in, "moves integers" if kind == "int8" else "fused")
        got = f"{kind} ({what})" if runs_in == name else f"{kind} (fused into {runs_in}, {what})"
        rows.append(AskedGot(name, asked, got, (kind == "int8") == (asked == "int8")))
    return tuple(rows)


def _survivor(name: str, kernels: Mapping[str, str], integer: Collection[str], producers: Mapping[str, str]) -> str:
    node = name
    while node not in kernels and node not in integer and node in producers:
        node = producers[node]
    return node if node in kernels or node in integer else name


def enforce(rows: Sequence[AskedGot], constraints: str) -> tuple[str, ...]:
    """Notes on requests not met; with obey they are a LimitNotMet error."""
    missed = [row for row in rows if not row.met]
    if missed and constraints == "obey":
        first = missed[0]
        more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
        raise LimitNotMet(
            f"--precisionConstraints=obey: layer {first.layer!r} was asked in {first.asked}, got {first.got}{more}",
            hint="--precisionConstraints=prefer accepts the difference and reports it",
        )
    return tuple(f"layer {row.layer!r}: asked {row.asked}, got {row.got}" for row in missed)
