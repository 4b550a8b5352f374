"""How much memory a calibration takes, its tensors split into groups that fit under a cap, and memory given back."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

from ptqbridge.errors import OptionError
from ptqbridge.quantize.observe import Observation
from ptqbridge.quantize.sources import GraphFacts

_MODEL_COPIES = 4
"""The model as given, serialized, as ONNX Runtime's weights, and those once more in its own layout."""

_LIVE_TENSORS = 3
"""Tensors of the largest size that a running graph holds at a time: an input, an output and one kept for later."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that a calibration will hold on top of the interpreter and its libraries.

    ``fixed`` is needed whatever is observed: the copies of the model and the largest tensors of a run per worker.
    ``held`` is one sample of every observed tensor per worker. ``unknown`` counts observed tensors whose size the
    graph does not tell, which are left out of the sum.
    """

    fixed: int
    held: int
    unknown: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.fixed + self.held

    def text(self, cap: int | None) -> str:
        """One line for the user; ``cap`` in bytes."""
        least = f"about {math.ceil(self.total / 2**20)} MiB"
        if self.unknown:
            least += f", and what {self.unknown} tensors of open shape take"
        if cap is None:
            return f"memory: {least}"
        split = " (in groups, one pass over the samples each)" if self.total > cap else ""
        return f"memory: {least}; at most {cap / 2**20:g} MiB are taken{split}"


def estimate(observation: Observation, facts: GraphFacts, workers: int) -> Estimate:
    """The memory that running ``observation`` takes with ``workers`` workers."""
    sizes = [facts.bytes_of(watch.name) for watch in observation.watches if watch.values]
    held = workers * sum(size for size in sizes if size is not None)
    largest = max((facts.bytes_of(name) or 0 for name in facts.producers), default=0)
    fixed = _MODEL_COPIES * observation.proto.ByteSize() + workers * _LIVE_TENSORS * largest
    return Estimate(fixed, held, sizes.count(None))


def groups_within(cap: int, observation: Observation, facts: GraphFacts, workers: int) -> list[list[str]]:
    """The tensors of ``observation`` in as few groups, in graph order, as each estimate stays within ``cap`` bytes.

    Raises ``OptionError`` when even one tensor alone takes more.
    """
    whole = estimate(observation, facts, workers)
    room = cap - whole.fixed
    sizes = {
        watch.name: workers * (facts.bytes_of(watch.name) or 0) if watch.values else 0 for watch in observation.watches
    }
    least = max(sizes.values(), default=0)
    if room < least:
        raise OptionError(
            f"calibration memory cap: expected at least {math.ceil((whole.fixed + least) / 2**20)} MiB "
            f"for this model and {workers} worker(s), found {cap / 2**20:.0f} MiB",
            hint=f"--memCap={math.ceil((whole.fixed + least) / 2**20)} is enough",
        )
    groups: list[list[str]] = [list(observation.inputs)]
    taken = 0
    for name, size in sizes.items():
        if taken and taken + size > room:
            groups.append([])
            taken = 0
        groups[-1].append(name)
        taken += size
    return groups


def give_back() -> None:
    """Return to the system what was freed, where the C library can (glibc): it would keep several copies of a model."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library; on Windows ``None`` is no library
        return


def forget_bytes(session: Any) -> None:
    """Let go of the serialized model that an ``onnxruntime.InferenceSession`` keeps; it is for making it again."""
    if hasattr(session, "_model_bytes"):
        session._model_bytes = b""
