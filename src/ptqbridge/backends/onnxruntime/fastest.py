"""Times candidate models by turns on the same input, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ptqbridge.backends.onnxruntime.session import SessionPolicy, default_threads, open_session
from ptqbridge.data import noise
from ptqbridge.model.save import session_model
from ptqbridge.spec import RunSpec, TensorSpec

_ROUNDS = (15, 401)
_BUDGET_S = 4.0
_WORTH = 0.98
"""A later candidate must be this much faster than the first (float32): it costs accuracy."""


@dataclass(frozen=True)
class Race:
    """Median milliseconds per query of each candidate, and the one that was faster."""

    winner: str
    medians_ms: Mapping[str, float]
    rounds: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "winner": self.winner,
            "median_ms": dict(self.medians_ms),
            "rounds": self.rounds,
            "threads": self.threads,
        }

    def text(self) -> str:
        """One line for people."""
        times = ", ".join(f"{name} {value:.4g} ms" for name, value in self.medians_ms.items())
        return f"{self.winner} is kept: {times} (medians of {self.rounds} turns, {self.threads} thread(s))"


def fastest(candidates: Mapping[str, onnx.ModelProto], inputs: Sequence[TensorSpec], run: RunSpec, level: str) -> Race:
    """Query every candidate in turn with noise of the given fixed shapes until the medians have settled.

    At least 15 and at most 401 turns, about four seconds. The first candidate wins unless another is at
    least 2 % faster.
    """
    threads = run.intra_op_threads or default_threads(run.streams)
    policy = SessionPolicy(threads, run.spin, level)
    sessions = {}
    for name, proto in candidates.items():
        with session_model(proto) as source:
            sessions[name] = open_session(source, policy)
    feeds = {spec.name: noise(spec, tuple(int(dim) for dim in spec.shape)) for spec in inputs}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        for _ in range(3):
            session.run(None, feeds)
    begin = time.perf_counter()
    least, most = _ROUNDS
    for turn in range(most):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds)
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= least and time.perf_counter() - begin > _BUDGET_S:
            break
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    first = next(iter(medians))
    quickest = min(medians, key=lambda name: medians[name])
    winner = quickest if medians[quickest] < _WORTH * medians[first] else first
    return Race(winner, medians, len(next(iter(times.values()))), threads)
