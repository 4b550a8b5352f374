"""Per-layer times from ONNX Runtime's profiler: a session of its own, run for a bounded number of queries."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.onnxruntime.session import SessionPolicy, open_session
from ptqbridge.errors import PtqbridgeError

if TYPE_CHECKING:
    import onnxruntime

    from ptqbridge.measure.export import LayerTimes

MAX_EVENTS = 100_000
"""Most events in one profile. ONNX Runtime drops those after the first 1,000,000 (onnxruntime/core/common/profiler.h,
``max_num_events_``), and each takes some 2 kB of memory and 1 kB of file until the profile is read."""

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "BeamSearch", "GreedySearch", "Sampling"})
"""Operators whose time includes that of nodes inside them, which the profiler lists as well."""
_EVENT = re.compile(r'"dur" ?:(\d+),"ts" ?:(\d+),"ph" ?: ?"X","name" ?:"(.*?)(?:_kernel_time)?","args" ?: ?(\{.*\})\}')
_OPERATOR = re.compile(r'"op_name" ?: ?"([^"]*)"')


@dataclass(frozen=True)
class Event:
    """One node's kernel in one query. Start and length are whole microseconds: the profiler has no finer ones."""

    name: str
    operator: str
    start_us: int
    length_us: int
    outputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Type (ONNX Runtime's word) and shape of each output, where the event tells."""


@contextmanager
def profiled(
    model: str | bytes, policy: SessionPolicy, *, name: str = "", optimized_to: str = ""
) -> Iterator[tuple[onnxruntime.InferenceSession, Callable[[], str]]]:
    """A session with the profiler on, and a call that ends the profile and returns its file.

    The file lies in a temporary folder and is gone after the block.

    Raises:
        InputError: no session can be made of ``model``.
        PtqbridgeError: no temporary folder can be made, or ONNX Runtime wrote nothing into it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="ptqbridge-profile-")
    except OSError as error:
        raise PtqbridgeError(f"cannot make a temporary folder for the profile: {error.strerror}") from error
    with folder:
        prefix = os.path.join(folder.name, "profile")
        session = open_session(model, policy, profile_prefix=prefix, optimized_to=optimized_to, name=name)
        ended: list[str] = []

        def end() -> str:
            if not ended:
                ended.append(session.end_profiling())
            if not os.path.exists(ended[0]):
                raise PtqbridgeError(f"ONNX Runtime could not write its profile to {folder.name}")
            return ended[0]

        try:
            yield session, end
        finally:
            if not ended:  # else the session would write its file when it is deleted, after the folder
                session.end_profiling()


def read_runs(file: str) -> Iterator[list[Event]]:
    """The top-level nodes of each query in the profile ``file``, in execution order.

    ONNX Runtime writes one event a line, each when it ends; a query ends with ``model_run``. Node names are not
    escaped there, so the lines are not always JSON.
    """
    events: list[Event] = []
    with open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if '_kernel_time","args"' in line:
                event = _event(line)
                if event is None:
                    continue
                if event.operator in _CONTROL_FLOW:
                    while events and events[-1].start_us >= event.start_us:
                        events.pop()
                events.append(event)
            elif '"name" :"model_run"' in line or '"name":"model_run"' in line:
                yield events
                events = []


def count_events(file: str) -> int:
    """All events in the profile, whatever their kind."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        return sum(line.startswith("{") for line in lines)


def layer_times(runs: Iterator[list[Event]] | Sequence[list[Event]]) -> tuple[LayerTimes, int]:
    """Milliseconds per layer and run, in execution order, and how many runs there were.

    Nodes with the same name are told apart by their order within a run.
    """
    times: dict[tuple[str, int], list[float]] = {}
    count = 0
    for events in runs:
        count += 1
        seen: Counter[str] = Counter()
        for event in events:
            times.setdefault((event.name, seen[event.name]), []).append(event.length_us / 1000)
            seen[event.name] += 1
    return [(name, values) for (name, _), values in times.items()], count


def most_runs(events_per_run: int) -> int:
    """How many queries a profile can hold; at least 1."""
    return max(MAX_EVENTS // max(events_per_run, 1), 1)


def _event(line: str) -> Event | None:
    match = _EVENT.search(line)
    if not match:
        return None
    length, start, name, args = match.groups()
    operator = _OPERATOR.search(args)
    return Event(name, operator[1] if operator else "", int(start), int(length), _output_types(args))


def _output_types(args: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    match = re.search(r'"output_type_shape" ?: ?(\[(?:\{[^}]*\},?)*\])', args)
    if not match:
        return ()
    try:
        entries: list[dict[str, Any]] = json.loads(match[1])
        return tuple((kind, tuple(map(int, shape))) for entry in entries for kind, shape in entry.items())
    except (ValueError, TypeError, AttributeError):
        return ()
