"""Calibration with ``max``: a tensor that has reached the upper bound of its Clip needs no further look."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ptqbridge.quantize.collect import Findings, collect, open_session
from ptqbridge.quantize.observe import Observation, observe
from ptqbridge.quantize.sources import GraphFacts

if TYPE_CHECKING:
    import onnxruntime

_LEAST_SAMPLES = 32
"""With fewer, opening a second session takes longer than the looks that it saves (MobileNetV2: from about 25 on)."""

_LEAST_SHARE = 4
"""One in so many of the observed tensors must have settled."""


def settle(
    whole: Observation, samples: Iterable[Any], count: int, facts: GraphFacts, workers: int
) -> tuple[Observation, onnxruntime.InferenceSession | None, Findings]:
    """What is left to observe, its session if one is open, and what was seen of the first samples.

    Those are one for each of the ``workers``, of ``count`` ``samples`` in all; none where it would not pay: in a
    trained MobileNet nearly every ReLU6 reaches 6 on the first image, in most other networks nothing has a bound.
    ``whole`` observes extremes only. Raises as ``collect``.
    """
    bounds = {
        watch.name: bound
        for watch in whole.watches
        if watch.never_negative and (bound := facts.ceiling(watch.name)) is not None
    }
    enough = max(1, len(whole.watches) / _LEAST_SHARE)
    if count < _LEAST_SAMPLES or len(bounds) < enough:
        return whole, None, Findings()
    session = open_session(whole)
    seen = collect(whole, islice(samples, workers), workers=workers, session=session)
    reached = {name for name, bound in bounds.items() if name in seen.extremes and seen.extremes[name].high >= bound}
    if len(reached) < enough:
        return whole, session, seen
    rest = [name for name, source in whole.sources.items() if source not in reached]
    return observe(whole.proto, rest, values=False, facts=facts), None, seen
