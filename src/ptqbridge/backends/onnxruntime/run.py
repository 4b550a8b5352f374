"""Runs and times an ONNX artifact on this CPU: ``run`` is the whole of the target's run side."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.onnxruntime import layerinfo, profiler
from ptqbridge.backends.onnxruntime.buffers import BINDING_QUERIES, Bound, bind
from ptqbridge.backends.onnxruntime.deserialize import time_loads
from ptqbridge.backends.onnxruntime.device import cpu_info
from ptqbridge.backends.onnxruntime.inputs import load_inputs, resolve_shapes, shape_ranges
from ptqbridge.backends.onnxruntime.session import SessionPolicy, default_threads, open_session, runtime_errors
from ptqbridge.errors import InputError
from ptqbridge.measure.loop import ENDLESS_WARNING, LoopPolicy, collector_off, run_loop
from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.measure.sync_stream import SyncStream
from ptqbridge.measure.text import dimensions
from ptqbridge.spec.run import RunSpec

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    from ptqbridge.measure.trace import Trace
    from ptqbridge.spec.tensor import TensorSpec

    Tensors = dict[str, NDArray[Any]]

Say = Callable[[str], None]
STAMP = "ptqbridge.performance_only"
"""The artifact's property that says why its accuracy is meaningless."""


def run(artifact: str, spec: RunSpec, *, level: str = "all", say: Say = lambda text: None) -> Outcome:
    """Load ``artifact`` and run it as ``spec`` says. ``say`` gets a line on each step as it happens.

    Raises:
        InputError: the artifact, a shape or an input file is unusable, or a query fails.
        KeyboardInterrupt: Ctrl-C in a run that is not endless.
    """
    from ptqbridge.model.load import load_model

    policy = SessionPolicy(spec.intra_op_threads or default_threads(spec.streams), spec.spin, level)
    inputs = load_model(artifact).inputs
    start = time.perf_counter_ns()
    session = open_session(artifact, policy)
    load_s = (time.perf_counter_ns() - start) * 1e-9
    say(f"Engine loaded in {load_s:.6g} sec.")
    job = _Job(artifact, spec, policy, session, _as_held(inputs, session), say)
    outcome = Outcome(
        artifact,
        load_s=load_s,
        device=cpu_info(),
        policy=job.effective_policy(),
        skipped=spec.skip,
        warnings=tuple(f"performance only: {reason}" for reason in [job.metadata.get(STAMP)] if reason),
    )
    if spec.skip:
        return replace(outcome, layer_info=job.layer_info() if job.wants_layers else None)
    if spec.time_load:
        del job, session
        say("Begin deserialization warmup...")
        return replace(outcome, load_times_s=time_loads(partial(open_session, artifact, policy)))
    return job.measured(outcome)


def _as_held(inputs: Sequence[TensorSpec], session: onnxruntime.InferenceSession) -> list[TensorSpec]:
    """``inputs`` as ONNX Runtime holds to them: a size of 0, which elsewhere means "not known", is fixed for it."""
    held = {value.name: value.shape for value in session.get_inputs()}
    return [
        replace(
            spec,
            shape=tuple(0 if found == 0 else size for size, found in zip(spec.shape, held[spec.name], strict=True)),
        )
        for spec in inputs
    ]


@dataclass
class _Job:
    """One artifact, loaded, with what to do with it."""

    artifact: str
    spec: RunSpec
    policy: SessionPolicy
    session: onnxruntime.InferenceSession
    inputs: Sequence[TensorSpec]
    say: Say

    @property
    def wants_layers(self) -> bool:
        return self.spec.reports.dump_layers or bool(self.spec.reports.export_layers)

    @property
    def metadata(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        return found

    def measured(self, outcome: Outcome) -> Outcome:
        """Run, and profile if asked: in the same run, or in a second one with ``separate_profile_run``."""
        arrays, warnings = self._arrays(self.say)
        info = self.layer_info(arrays) if self.wants_layers else None
        outcome = replace(outcome, inputs=arrays, layer_info=info, warnings=(*outcome.warnings, *warnings))
        if self._loop().endless:
            self.say(ENDLESS_WARNING)
        wants_profile = self.spec.reports.wants_profile
        self.say("Starting inference")
        if not wants_profile or self.spec.separate_profile_run:
            outcome = self._timed(outcome)
        if wants_profile and not outcome.interrupted:
            outcome = self._profiled(outcome)
        return outcome

    def layer_info(self, arrays: Tensors | None = None) -> LayerInfo:
        """What the optimised graph consists of; in as much detail as the artifact was built for."""
        detail = self.metadata.get(layerinfo.DETAIL_KEY, "names")
        feeds = (arrays or self._arrays()[0]) if detail == "detailed" else {}
        bindings = [spec.name for spec in self.inputs] + [value.name for value in self.session.get_outputs()]
        return LayerInfo(*layerinfo.layer_info(self.artifact, self.policy, detail, bindings, feeds))

    def effective_policy(self) -> dict[str, object]:
        """How the figures come about, as plain data."""
        import numpy as np
        import onnxruntime

        from ptqbridge import __version__

        spec = self.spec
        return {
            "clock": "host, monotonic (perf_counter_ns)",
            "latency": "one query on bound buffers, from the call to its return",
            "streams": spec.streams,
            "threads_per_query": self.policy.intra_op_threads,
            "spin": self.policy.spin is not False,
            "graph": False,
            "transfers": "none: inputs and outputs stay in host memory",
            "graph_optimization": self.policy.level,
            "warmup_ms": spec.warmup_ms,
            "duration_s": spec.duration_s,
            "iterations": spec.iterations,
            "idle_ms": spec.idle_ms,
            "versions": {
                "ptqbridge": __version__,
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    def _arrays(self, say: Say = lambda text: None) -> tuple[Tensors, list[str]]:
        """The inputs' data at the shapes of the run, and warnings about the shapes."""
        ranges = shape_ranges(self.metadata, self.artifact)
        shapes, warnings = resolve_shapes(self.inputs, self.spec.shapes, ranges)
        return load_inputs(self.inputs, shapes, self.spec.inputs, say), warnings

    def _loop(self) -> LoopPolicy:
        spec = self.spec
        return LoopPolicy(
            spec.iterations,
            spec.duration_s,
            spec.warmup_ms,
            spec.idle_ms,
            spec.sleep_ms,
            threads=spec.streams > 1,  # a call blocks until its query is done
        )

    def _timed(self, outcome: Outcome) -> Outcome:
        from ptqbridge.measure.summary import summarize
        from ptqbridge.measure.trace import merge

        with self._query_errors():
            bounds = [bind(self.session, outcome.inputs) for _ in range(self.spec.streams)]
        self._say_outputs(bounds[0])
        streams = [SyncStream(bound.call) for bound in bounds]
        with collector_off(), self._query_errors():
            result = run_loop(streams, self._loop())
        trace: Trace = merge([stream.trace() for stream in streams])
        performance = summarize(
            trace,
            warmup_ms=self.spec.warmup_ms,
            percentiles=self.spec.reports.percentiles,
            streams=self.spec.streams,
            policy=outcome.policy,
        )
        return replace(
            outcome,
            performance=performance,
            kept=trace.without_warmup(self.spec.warmup_ms)[1],
            outputs=bounds[0].outputs(),
            warnings=(*outcome.warnings, *bounds[0].warnings),
            interrupted=result.interrupted,
        )

    def _profiled(self, outcome: Outcome) -> Outcome:
        """Add per-layer times, of one stream as in trtexec, and outputs if there was no other run."""
        limit = self._profile_limit(outcome.inputs)
        stop = Event()
        runs = 0

        def query() -> None:
            nonlocal runs
            bound.call()
            runs += 1
            if runs >= limit:
                stop.set()

        with profiler.profiled(self.artifact, self.policy) as (session, end), self._query_errors():
            bound = bind(session, outcome.inputs)
            with collector_off():
                result = run_loop([SyncStream(query)], replace(self._loop(), threads=False), stop_event=stop)
            layers, count = profiler.layer_times(islice(profiler.read_runs(end()), BINDING_QUERIES, None))
        notes = list(outcome.notes)
        if runs >= limit:
            notes.append(f"per-layer times are of the first {runs} queries: the profiler holds no more")
        if count < runs:
            notes.append(f"the profile was not written whole: per-layer times are of {count} of {runs} queries")
        if self.spec.streams > 1:
            notes.append("per-layer times are of one stream running alone")
        first = outcome.performance is None
        return replace(
            outcome,
            layers=layers,
            profiled_runs=count,
            outputs=bound.outputs() if first else outcome.outputs,
            warnings=(*outcome.warnings, *bound.warnings) if first else outcome.warnings,
            interrupted=result.interrupted and runs < limit,
            notes=tuple(notes),
        )

    def _profile_limit(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """How many queries one profile may hold, from the events of a single one."""
        with profiler.profiled(self.artifact, self.policy) as (session, end):
            with self._query_errors():
                bind(session, arrays)
            return profiler.most_runs(profiler.count_events(end()))

    @contextmanager
    def _query_errors(self) -> Iterator[None]:
        """A query that fails is an InputError; its hint names the shapes and values that nobody gave."""
        try:
            with runtime_errors(f"{self.artifact}: the query failed"):
                yield
        except InputError as error:
            error.hint = error.hint or self._assumed()
            raise

    def _assumed(self) -> str:
        """What to give where this run had to assume something; "" where it had not."""
        given = {*self.spec.shapes, *shape_ranges(self.metadata, self.artifact)}
        shapes = [f"{spec.name}:..." for spec in self.inputs if spec.is_dynamic and spec.name not in given]
        noise = [
            f"{spec.name}:FILE" for spec in self.inputs if "int" in spec.dtype and spec.name not in self.spec.inputs
        ]
        hints = []
        if shapes:
            hints.append(f"--shapes={','.join(shapes)} was not given, and dynamic dimensions became 1")
        if noise:
            hints.append(f"--loadInputs={','.join(noise)} was not given, and the values were noise of -128 to 127")
        return "; ".join(hints)

    def _say_outputs(self, bound: Bound) -> None:
        for name, array in bound.buffers.items():
            self.say(f"Output binding for {name} with dimensions {dimensions(array.shape)} is created.")
