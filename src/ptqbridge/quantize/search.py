"""``default`` and ``mix``: several methods' ranges, judged by what they do to the model's outputs.

Both follow Horizon's hb_mapper 1.24.3, whose rules were found by running it on models and data made for the purpose:

``default`` (model-wise): of percentile 99.995, max and kl the one whose twin (see ``twin``) comes nearest to the float
model on the first sample, by cosine, averaged over the outputs. If that is below 0.995, each is tried once more with
non-negative tensors as uint8. (hb_mapper then also tries thresholds per channel, which no range file can hold.)

``mix`` (tensor-wise): the base is the method whose twin with float weights comes nearest (for horizon ``kl`` only when
it leads by more than 2e-7). Each tensor is then rounded alone, for horizon on the last sample; where that leaves a
cosine below 0.999 the other methods are tried for it, and the best one wins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ptqbridge.quantize.memory import give_back
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.ranges import TensorRange
from ptqbridge.quantize.twin import Roots, make_twin, rounded_tensors, rounding, run_floats
from ptqbridge.wording import counted

Candidates = Mapping[str, Mapping[str, TensorRange]]
"""Method -> tensor -> range. Of equally good methods the first one wins."""

SATISFYING = 0.995
SENSITIVE = 0.999
_ORDERS = {("horizon", "default"): ("kl", "max", "percentile"), ("horizon", "mix"): ("max", "percentile", "kl")}

_KL_LEAD = 2e-7
"""By how much ``kl`` must lead as the base of horizon's ``mix``: our thresholds for it differ from hb_mapper's by a bin
or more now and then, which turns scores as near as this, three steps of float32, around."""

JUDGED = {"horizon": 1}
"""How many of the first samples are compared, as in hb_mapper. Otherwise:"""
JUDGED_ELSE = 8


def order(scheme: str, search: str) -> tuple[str, ...]:
    """The candidates, of which the first wins when several are equally good; for horizon as in hb_mapper."""
    return _ORDERS.get((scheme, search), ("percentile", "max", "kl"))


@dataclass(frozen=True)
class Choice:
    """The ranges chosen, and why: scores and winners as plain JSON values."""

    tensors: dict[str, TensorRange]
    details: dict[str, object]


class Judge:
    """Compares twins of one model with it, on a few samples; twins with one tensor rounded on the one ``apart``."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        scheme: str,
        samples: list[Mapping[str, npt.NDArray[Any]]],
        apart: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.scheme, self.samples = scheme, samples
        self.proto = _prepared(proto)
        self.roots = rounded_tensors(self.proto, scheme)
        self.expected = run_floats(self.proto, samples)
        self._apart = samples if apart is None else [apart]
        self._expected_apart = self.expected if apart is None else run_floats(self.proto, self._apart)

    def score_alone(self, group: Roots, ranges: Mapping[str, TensorRange]) -> float:
        """``score`` with float weights where only the tensors of ``group`` are rounded."""
        twin = make_twin(self.proto, group, ranges, rounding(self.scheme), weights=False)
        return self._nearness(self._expected_apart, run_floats(twin, self._apart))

    def groups(self) -> list[dict[str, str]]:
        """The rounded tensors that ``mix`` judges together, each with the tensor whose range it takes.

        For horizon each range once, where it was found: so hb_mapper compares, before ranges are shared.
        """
        if self.scheme == "horizon":
            return [{name: source} for name, source in _each_once(self.proto, self.roots).items()]
        found: dict[str, dict[str, str]] = {}
        for name, root in self.roots.items():
            found.setdefault(root, {})[name] = root
        return list(found.values())

    def score(
        self,
        ranges: Mapping[str, TensorRange],
        *,
        roots: Roots | None = None,
        weights: bool = True,
        asymmetric: bool = False,
    ) -> float:
        """The cosine between the outputs of model and twin, averaged over outputs and samples; 1.0 without outputs."""
        affine = rounding(self.scheme, asymmetric)
        # The twin has no name here, so that it can go as soon as there is a session of it.
        found = run_floats(make_twin(self.proto, roots or self.roots, ranges, affine, weights=weights), self.samples)
        return self._nearness(self.expected, found)

    def _nearness(self, expected: list[list[npt.NDArray[Any]]], found: list[list[npt.NDArray[Any]]]) -> float:
        near = row_cosine if self.scheme == "horizon" else cosine
        cosines = [
            near(want, have)
            for wanted, had in zip(expected, found, strict=True)
            for want, have in zip(wanted, had, strict=True)
        ]
        return math.fsum(cosines) / len(cosines) if cosines else 1.0


def _each_once(proto: onnx.ModelProto, roots: Roots) -> dict[str, str]:
    """Of the tensors with one range the one it is that of, else the next; and cuts by themselves, with their own."""
    order = [value.name for value in proto.graph.input] + [name for node in proto.graph.node for name in node.output]
    place = {name: position for position, name in enumerate(order)}
    cuts = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type in ("Relu", "Clip")}
    found = {}
    for name, root in roots.items():
        if name == root or (name in cuts and roots.get(cuts[name]) == root):
            found[name] = name
    for name, root in roots.items():
        if root not in found.values() and place[name] > place[root]:
            found[name] = root
    return found


def _prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` itself where nothing is to be prepared: mostly the caller has, and a copy takes as much memory."""
    found = prepare(proto).proto
    if _shape(found) != _shape(proto):
        return found
    del found
    give_back()
    return proto


def _shape(proto: onnx.ModelProto) -> tuple[object, ...]:
    """All that ``prepare`` could have changed. Where it changes a weight's values, a node goes."""
    graph = proto.graph
    return (
        proto.ir_version,
        [(opset.domain, opset.version) for opset in proto.opset_import],
        [value.name for value in graph.input],
        [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer],
        [node.SerializeToString(deterministic=True) for node in graph.node],
    )


def cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Cosine between two arrays as vectors: 1.0 when both are zero, 0.0 when one is."""
    a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    square = float(a @ a) * float(b @ b)
    if square == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(a @ b) / math.sqrt(square)


def row_cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The cosine as hb_mapper takes it: in float32, averaged over the rows of the first axis; 0.0 for a row of zeros.

    The precision decides: candidates that differ by less than float32 shows are equally good.
    """
    rows = [
        np.dot(a, b) / (max(np.linalg.norm(a), np.float32(1e-8)) * max(np.linalg.norm(b), np.float32(1e-8)))
        for a, b in zip(np.atleast_2d(one), np.atleast_2d(other), strict=True)
        for a, b in [(a.astype(np.float32).ravel(), b.astype(np.float32).ravel())]
    ]
    return float(np.mean(np.array(rows, np.float32))) if rows else 1.0


def choose_default(judge: Judge, candidates: Candidates) -> Choice:
    """The one method for the whole model."""
    scores = {method: judge.score(ranges) for method, ranges in candidates.items()}
    winner = _best(scores)
    details: dict[str, object] = {"candidates": scores, "winner": winner, **_how(judge)}
    if judge.scheme == "horizon" and scores[winner] < SATISFYING:
        variants = {method: judge.score(ranges, asymmetric=True) for method, ranges in candidates.items()}
        details["asymmetric_candidates"] = variants
        best = _best(variants)
        details["asymmetric"] = variants[best] > scores[winner]
        winner = best if variants[best] > scores[winner] else winner
        details["winner"] = winner
    return Choice(dict(candidates[winner]), details)


def choose_mix(judge: Judge, candidates: Candidates) -> Choice:
    """A method for the whole model, and others for the tensors whose rounding alone hurts."""
    groups = judge.groups()
    roots = {name: root for group in groups for name, root in group.items()}
    scores = {method: judge.score(ranges, roots=roots, weights=False) for method, ranges in candidates.items()}
    base = _best(scores)
    if judge.scheme == "horizon" and base == "kl":
        others = {method: score for method, score in scores.items() if method != "kl"}
        if others and scores["kl"] - max(others.values()) <= _KL_LEAD:
            base = _best(others)
    chosen = dict(candidates[base])
    sensitive: dict[str, dict[str, float]] = {}
    for group in groups:
        root = next(iter(group.values()))
        if root not in chosen:
            continue
        first = judge.score_alone(group, candidates[base])
        if first >= SENSITIVE:
            continue
        tried = {base: first}
        for method in candidates:
            if method != base:
                tried[method] = judge.score_alone(group, candidates[method])
        sensitive[root] = tried
        chosen[root] = candidates[_best(tried)][root]
    return Choice(chosen, {"candidates": scores, "base": base, "sensitive": sensitive, **_how(judge)})


def verdict(details: Mapping[str, Any]) -> str:
    """One line on what was chosen, from a ``Choice``'s details."""
    scores = ", ".join(f"{method} {score:.6f}" for method, score in details["candidates"].items())
    if "winner" in details:
        return f"chosen: {details['winner']} ({details['metric']}: {scores})"
    others = counted(len(details["sensitive"]), "tensor")
    return f"chosen: {details['base']}, other methods tried for {others} ({details['metric']}: {scores})"


def _best(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda method: -math.inf if math.isnan(scores[method]) else scores[method])


def _how(judge: Judge) -> dict[str, object]:
    return {"metric": "cosine of the outputs to float32", "judged_samples": len(judge.samples)}
