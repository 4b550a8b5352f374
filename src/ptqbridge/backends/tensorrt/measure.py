"""Loading an engine, running and timing it as trtexec does: the calls of the plan, then the timing loop."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from ptqbridge.backends.tensorrt import engine_info, gpu_state
from ptqbridge.backends.tensorrt.call import evaluate, read_call
from ptqbridge.backends.tensorrt.contexts import Contexts
from ptqbridge.backends.tensorrt.cuda import CudaError
from ptqbridge.backends.tensorrt.device import OUT_OF_MEMORY, Device, Event
from ptqbridge.backends.tensorrt.gpu_stream import GpuStream, LaunchFailed, Policy
from ptqbridge.backends.tensorrt.perform import Performer
from ptqbridge.backends.tensorrt.planfile import plan_version
from ptqbridge.backends.tensorrt.profiler import layer_profiler
from ptqbridge.backends.tensorrt.refit import list_refittable, refit_calls
from ptqbridge.backends.tensorrt.rules.book import quoted
from ptqbridge.backends.tensorrt.run import require
from ptqbridge.backends.tensorrt.tensors import Bindings
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.measure.loop import ENDLESS_WARNING, LoopPolicy, collector_off, run_loop
from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.plan import Plan

Say = Callable[[str], None]
PREAMBLE = ("import ", "device = ", "ctypes.", "logger = ", "trt.init", "runtime")
LOADS = 23
"""Loads of --timeDeserialize: two unmeasured, the first, and twenty to average."""
NO_MEMORY = "the GPU has too little free memory"


def run(plan: Plan, artifact: str, *, say: Say) -> Outcome:
    """Load and run ``artifact``. Raises as ``Performer.perform``, and InputError for inputs that do not fit."""
    if plan.settings.get("head", False):
        version = plan_version(artifact)
        say(f"Plan was created with TensorRT version {version}")
        return Outcome(artifact, processor="GPU", skipped=True, notes=(f"the engine was made by TensorRT {version}",))
    require()
    job = _Job(plan, artifact, say)
    try:
        return job.outcome()
    except CudaError as error:
        hint = NO_MEMORY if error.status == OUT_OF_MEMORY else ""
        raise ToolchainFailed(f"target trt: {error}", hint=hint) from error
    except LaunchFailed:
        said = "; ".join(job.performer.names["logger"].errors[-3:])
        raise ToolchainFailed(f"target trt: the query failed: {said or 'TensorRT gave no reason'}") from None


class _Job:
    def __init__(self, plan: Plan, artifact: str, say: Say) -> None:
        self.plan, self.spec, self.artifact, self.say = plan, plan.run, artifact, say
        self.performer = Performer(plan.settings["version"], say)
        self.names = self.performer.names
        self.calls: tuple[str, ...] = plan.settings["calls"]

    def outcome(self) -> Outcome:
        """Load, then time, profile or skip, as the options say."""
        self.performer.perform(text for text in self.calls if text.startswith(PREAMBLE))
        if not any(text.startswith("logger") for text in self.calls):
            raise ToolchainFailed("target trt: the plan holds no calls to load an engine")
        started = time.perf_counter()
        load = [text for text in self.calls if text.startswith("engine = ")]
        if not load or "engine_bytes" in load[0]:
            load = [f"engine = runtime.deserialize_cuda_engine(read_file({quoted(self.artifact)}))"]
        self._load(load)
        load_s = time.perf_counter() - started
        self.say(f"Engine loaded in {load_s:.6g} sec.")
        found = Outcome(
            self.artifact,
            processor="GPU",
            load_s=load_s,
            device=self.device.info(),
            policy=self._policy(),
            skipped=self.spec.skip,
            warnings=(f"performance only: {self.plan.performance_only}",) if self.plan.performance_only else (),
        )
        if self.spec.time_load:
            return replace(found, load_times_s=self._loads(load))
        self._stream_weights()
        self._refit()
        wants_layers = self.spec.reports.dump_layers or self.spec.reports.export_layers
        if wants_layers:
            found = replace(found, layer_info=self._layers())
        if any(text.startswith("engine.get_tensor_profile_shape") for text in self.calls):
            rows = engine_info.profiles(self.names["trt"], self.names["engine"])
            for line in engine_info.profile_lines(rows):
                self.say(line)
            found = replace(found, profiles=rows)
        return found if self.spec.skip else self._run(found)

    @property
    def device(self) -> Device:
        device: Device = self.names["device"]
        return device

    def _load(self, load: Sequence[str]) -> None:
        """Raises InputError for a file that is no engine for this TensorRT and GPU, ToolchainFailed for no memory."""
        if os.path.isfile(self.artifact) and not os.path.getsize(self.artifact):
            raise InputError(f"--loadEngine: expected a TensorRT engine, found an empty file: {self.artifact}")
        try:
            self.performer.perform(load)
        except ToolchainFailed as error:
            if error.hint:
                raise
            made = f"made by TensorRT {plan_version(self.artifact)}, this is {self.names['trt'].__version__}"
            raise InputError(f"--loadEngine: {self.artifact} cannot be used here ({made}): {error.message}") from error

    def _loads(self, load: Sequence[str]) -> tuple[float, ...]:
        times = []
        for _ in range(LOADS):
            self.names["engine"] = None
            gc.collect()
            started = time.perf_counter()
            self.performer.perform(load)
            times.append(time.perf_counter() - started)
        return tuple(times[2:])

    def _stream_weights(self) -> None:
        """Set the budget, and read it back: the bindings drop the setter's answer. Raises ToolchainFailed."""
        for text in self.calls:
            if text.startswith("engine.weight_streaming"):
                self.performer.perform([text])
                call = read_call(text)
                wanted, got = evaluate(call.value, self.names), getattr(self.names["engine"], call.member)
                if got > wanted:
                    raise ToolchainFailed(
                        f"target trt: --weightStreamingBudget: {wanted} bytes were asked for, the engine takes {got}",
                        hint="only engines built with --allowWeightStreaming stream their weights",
                    )
                self.say(f"Weight streaming is enabled with a device memory limit of {got} bytes.")

    def _refit(self) -> None:
        """Weights from another ONNX, and the list of what can be refitted, where that was asked for."""
        if "trt.Refitter(engine, logger).get_all()" in self.calls:
            list_refittable(self.names["trt"], self.names, self.say)
        self.performer.perform(refit_calls(self.calls))

    def _layers(self) -> LayerInfo:
        trt, engine = self.names["trt"], self.names["engine"]
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return LayerInfo(engine_info.layers(trt, engine), names)

    def _run(self, found: Outcome) -> Outcome:
        if self._loop().endless:
            self.say(ENDLESS_WARNING)
        self.say("Starting inference")
        wants_profile = self.spec.reports.wants_profile
        if not wants_profile or self.spec.separate_profile_run:
            found = self._timed(found, profiler=None)
        if wants_profile and not found.interrupted:
            found = self._timed(found, profiler=layer_profiler(self.names["trt"]))
        return found

    def _timed(self, found: Outcome, profiler: Any) -> Outcome:
        from ptqbridge.measure.summary import summarize
        from ptqbridge.measure.trace import merge

        contexts = Contexts(self.plan, self.performer, self.device, self.say)
        state = gpu_state.GpuState(str(found.device.get("pci", "")))
        with ExitStack() as stack:
            main = self.device.stream()
            stack.callback(main.close)
            zero = self.device.event(spin=False)
            stack.callback(zero.close)
            streams, bindings = [], []
            for number in range(self.spec.streams):
                first = number == 0
                context, bound = contexts.make(stack, profiler if first else None, first=first)
                after = context.report_to_profiler if profiler and first else None
                lates = list(bound.lates.values())
                made = GpuStream(
                    self.device, context, bound.of(inputs=True), bound.of(inputs=False), zero, self._way(), after, lates
                )
                stack.callback(made.close)
                streams.append(made)
                bindings.append(bound)
                with self._callbacks(contexts, bindings):
                    made.prepare()
            if profiler:
                profiler.start()
            state.start()
            with collector_off(), self._callbacks(contexts, bindings):
                result = run_loop(streams, self._loop(), zero=self._zero(zero, main), attach=self._attached)
            trace = merge([stream.trace() for stream in streams])
            gpu = state.facts()
            notes = tuple(dict.fromkeys(stream.note for stream in streams if stream.note))
            outputs = bindings[0].outputs()
        written = contexts.writer.finish() if contexts.writer else ()
        found = replace(
            found,
            inputs=contexts.arrays,
            outputs=outputs,
            interrupted=result.interrupted,
            device={**found.device, "state": gpu},
            warnings=tuple(dict.fromkeys((*found.warnings, *notes, *gpu_state.warnings(gpu)))),
            notes=tuple(dict.fromkeys((*found.notes, *written))),
        )
        if profiler:
            if auxiliary := self.names["engine"].num_aux_streams:
                text = f"{auxiliary} auxiliary streams: layers may overlap, so their times may add up to too much"
                found = replace(found, warnings=(*found.warnings, text))
            return replace(found, layers=profiler.layers(), profiled_runs=len(streams[0].trace()))
        performance = summarize(
            trace,
            warmup_ms=self.spec.warmup_ms,
            percentiles=self.spec.reports.percentiles,
            streams=self.spec.streams,
            processor="GPU",
            policy=found.policy,
        )
        return replace(found, performance=performance, kept=trace.without_warmup(self.spec.warmup_ms)[1])

    @contextmanager
    def _callbacks(self, contexts: Contexts, bindings: Sequence[Bindings]) -> Iterator[None]:
        """What TensorRT's bindings swallowed in a callback comes before the failure that it led to."""
        failed: BaseException | None = None
        try:
            yield
        except LaunchFailed as error:
            failed = error
        errors = [bound.error() for bound in bindings]
        errors += [contexts.writer.error if contexts.writer else None]
        raised = next((error for error in errors if error is not None), failed)
        if raised is not None:
            raise raised

    def _way(self) -> Policy:
        settings = self.plan.settings
        return Policy(
            transfers=self.spec.transfers,
            overlap=not settings.get("expose_dma", False),
            spin=bool(self.spec.spin),
            graph=bool(settings.get("graph", False)),
        )

    def _loop(self) -> LoopPolicy:
        spec = self.spec
        return LoopPolicy(
            spec.iterations, spec.duration_s, spec.warmup_ms, spec.idle_ms, spec.sleep_ms, threads=spec.threads
        )

    def _zero(self, event: Event, stream: Any) -> Callable[[], int]:
        record = self.device.batch([event.recorder(stream)])

        def zero() -> int:
            record()
            return time.perf_counter_ns()

        return zero

    @contextmanager
    def _attached(self) -> Iterator[None]:
        self.device.enter()
        try:
            yield
        finally:
            self.device.leave()

    def _policy(self) -> dict[str, object]:
        from ptqbridge import __version__

        spec, settings = self.spec, self.plan.settings
        return {
            "clock": "CUDA events since a zero event; enqueue: host, monotonic",
            "latency": "H2D + compute + D2H of one query",
            "streams": spec.streams,
            "threads": spec.threads,
            "gpu_calls": self.device.layer,
            "spin": bool(spec.spin),
            "graph": bool(settings.get("graph", False)),
            "transfers": "in each query" if spec.transfers else "before and after the loop",
            "managed_memory": bool(settings.get("managed", False)),
            "in_flight": 1 if settings.get("expose_dma", False) else 2,
            "warmup_ms": spec.warmup_ms,
            "duration_s": spec.duration_s,
            "iterations": spec.iterations,
            "idle_ms": spec.idle_ms,
            "versions": {
                "ptqbridge": __version__,
                "tensorrt": str(self.names["trt"].__version__),
                "python": platform.python_version(),
            },
        }
