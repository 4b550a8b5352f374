"""Loading an engine, running and timing it as trtexec does: the calls of the plan, then the timing loop."""

from __future__ import annotations

import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.cuda import CudaError
from ptqbridge.backends.tensorrt.device import OUT_OF_MEMORY, Buffer, Device, Event
from ptqbridge.backends.tensorrt.gpu_stream import GpuStream, LaunchFailed, Policy
from ptqbridge.backends.tensorrt.perform import Performer
from ptqbridge.backends.tensorrt.planfile import plan_version
from ptqbridge.backends.tensorrt.profiler import layer_profiler
from ptqbridge.backends.tensorrt.rules.book import quoted
from ptqbridge.backends.tensorrt.run import require
from ptqbridge.errors import InputError, OptionError, ToolchainFailed
from ptqbridge.measure.loop import ENDLESS_WARNING, LoopPolicy, run_loop
from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.measure.text import dimensions
from ptqbridge.plan import Plan
from ptqbridge.spec import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]

Say = Callable[[str], None]
NUMPY = {
    **{"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8"},
    **{"INT64": "int64", "BF16": "uint16", "FP8": "uint8"},
}
"""TensorRT's element types as NumPy holds them; types that NumPy lacks as their bits."""
PREAMBLE = ("import ", "device = ", "ctypes.", "logger = ", "trt.init", "runtime")
PER_CONTEXT = ("context.nvtx_verbosity", "context.persistent_cache_limit", "context.set_input_shape")
UNDONE = {
    "set_device_memory": "--allocationStrategy",
    "set_debug_listener": "--saveDebugTensors",
    "get_tensor_profile_shape": "--dumpOptimizationProfile",
}
"""Parts of calls that no run makes yet, and their options."""
LOADS = 23
"""Loads of --timeDeserialize: two unmeasured, the first, and twenty to average."""


def run(plan: Plan, artifact: str, *, say: Say) -> Outcome:
    """Load and run ``artifact``. Raises as ``Performer.perform``, and InputError for inputs that do not fit."""
    if plan.settings.get("head", False):
        version = plan_version(artifact)
        say(f"Plan was created with TensorRT version {version}")
        return Outcome(artifact, processor="GPU", skipped=True, notes=(f"the engine was made by TensorRT {version}",))
    refuse_undone(plan)
    require()
    job = _Job(plan, artifact, say)
    try:
        return job.outcome()
    except CudaError as error:
        hint = "the GPU has too little free memory" if error.status == OUT_OF_MEMORY else ""
        raise ToolchainFailed(f"target trt: {error}", hint=hint) from error
    except LaunchFailed:
        said = "; ".join(job.performer.names["logger"].errors[-3:])
        raise ToolchainFailed(f"target trt: the query failed: {said or 'TensorRT gave no reason'}") from None


def refuse_undone(plan: Plan) -> None:
    """Refuse what plans show and no run does yet, rather than leave it out. Raises OptionError."""
    if plan.settings.get("times_refit", False):
        raise OptionError("--timeRefit: a run on the GPU does not do this yet")
    for text in plan.settings["calls"]:
        for part, option in UNDONE.items():
            if part in text:
                raise OptionError(f"{option}: a run on the GPU does not do this yet ({text})")


@dataclass(frozen=True)
class Tensor:
    """One input or output at the shape of the run, padding of vectorized formats included."""

    spec: TensorSpec
    is_input: bool
    nbytes: int


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
        try:
            self.performer.perform(load)
        except ToolchainFailed as error:
            made = f"made by TensorRT {plan_version(self.artifact)}, this is {self.names['trt'].__version__}"
            raise InputError(f"--loadEngine: {self.artifact} cannot be used here ({made}): {error.message}") from error
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
        self.performer.perform(text for text in self.calls if text.startswith("engine.weight_streaming"))
        self._refit()
        wants_layers = self.spec.reports.dump_layers or self.spec.reports.export_layers
        if wants_layers:
            found = replace(found, layer_info=self._layers())
        return found if self.spec.skip else self._run(found)

    @property
    def device(self) -> Device:
        device: Device = self.names["device"]
        return device

    def _loads(self, load: Sequence[str]) -> tuple[float, ...]:
        times = []
        for _ in range(LOADS):
            self.names["engine"] = None
            gc.collect()
            started = time.perf_counter()
            self.performer.perform(load)
            times.append(time.perf_counter() - started)
        return tuple(times[2:])

    def _refit(self) -> None:
        """Weights from another ONNX, and the list of what can be refitted, where that was asked for."""
        for text in self.calls:
            if text == "trt.Refitter(engine, logger).get_all()":
                layers, roles = self.names["trt"].Refitter(self.names["engine"], self.names["logger"]).get_all()
                for layer, role in zip(layers, roles, strict=True):
                    self.say(f"{layer} {role}")
            elif text.startswith(("refitter", "trt.OnnxParserRefitter")):
                self.performer.perform([text])

    def _layers(self) -> LayerInfo:
        self.performer.perform(["inspector = engine.create_engine_inspector()"])
        trt, engine = self.names["trt"], self.names["engine"]
        text = self.names["inspector"].get_engine_information(trt.LayerInformationFormat.JSON)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return LayerInfo(json.loads(text or "{}").get("Layers", []), names)

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

        settings = self.plan.settings
        policy = Policy(
            transfers=self.spec.transfers,
            overlap=not settings.get("expose_dma", False),
            spin=bool(self.spec.spin),
            graph=bool(settings.get("graph", False)) and profiler is None,
        )
        count = 1 if profiler else self.spec.streams
        with ExitStack() as stack:
            main = self.device.stream()
            stack.callback(main.close)
            zero = self.device.event(spin=False)
            stack.callback(zero.close)
            streams: list[GpuStream] = []
            buffers: list[tuple[list[Tensor], dict[str, Buffer]]] = []
            arrays: Tensors = {}
            for number in range(count):
                context, tensors = self._context(profiler if number == 0 else None)
                own = {
                    tensor.spec.name: self.device.buffer(tensor.nbytes, managed=bool(settings.get("managed", False)))
                    for tensor in tensors
                }
                for buffer in own.values():
                    stack.callback(buffer.close)
                arrays = self._fill(tensors, own, arrays)
                for name, buffer in own.items():
                    if not context.set_tensor_address(name, buffer.address):
                        raise LaunchFailed
                made = GpuStream(
                    self.device,
                    context,
                    [own[tensor.spec.name] for tensor in tensors if tensor.is_input],
                    [own[tensor.spec.name] for tensor in tensors if not tensor.is_input],
                    zero,
                    policy,
                    context.report_to_profiler if profiler and number == 0 else None,
                )
                stack.callback(made.close)
                made.prepare()
                streams.append(made)
                buffers.append((tensors, own))
            if profiler:
                profiler.start()
            with _collector_off():
                result = run_loop(streams, self._loop(), zero=self._zero(zero, main), attach=self._attached)
            trace = merge([stream.trace() for stream in streams])
            notes = tuple(dict.fromkeys(stream.note for stream in streams if stream.note))
            outputs = _outputs(*buffers[0])
        found = replace(found, inputs=arrays, outputs=outputs, interrupted=result.interrupted)
        found = replace(found, warnings=tuple(dict.fromkeys((*found.warnings, *notes))))
        if profiler:
            return replace(found, layers=profiler.layers(), profiled_runs=len(trace))
        performance = summarize(
            trace,
            warmup_ms=self.spec.warmup_ms,
            percentiles=self.spec.reports.percentiles,
            streams=self.spec.streams,
            processor="GPU",
            policy=found.policy,
        )
        return replace(found, performance=performance, kept=trace.without_warmup(self.spec.warmup_ms)[1])

    def _context(self, profiler: Any) -> tuple[Any, list[Tensor]]:
        """A context as the plan says, and the tensors at the shapes of the run."""
        create = [text for text in self.calls if text.startswith("context = ")]
        self.performer.perform(create or ["context = engine.create_execution_context()"])
        names = self.names
        names["max_persisting_l2_cache_size"] = self.device.attribute("persisting_l2_bytes")
        self.performer.perform(text for text in self.calls if text.startswith(PER_CONTEXT[:2]))
        context, engine = names["context"], names["engine"]
        trt = names["trt"]
        if profiler is not None:
            context.profiler = profiler.receiver
            context.enqueue_emits_profile = False
        self._check_names(engine, trt)
        tensors = []
        for text in self.calls:
            if text.startswith("context.set_optimization_profile_async"):
                self.names["stream"] = self.device.stream()
                self.performer.perform([text])
                self.names["stream"].synchronize()
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and engine.is_shape_inference_io(name):
                raise InputError(f"input {name!r} holds a shape; engines with such inputs cannot be run here yet")
            shape = tuple(engine.get_tensor_shape(name))
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and -1 in shape:
                asked = self._shape_of(name, shape)
                if not context.set_input_shape(name, asked):
                    raise InputError(
                        f"--shapes: {name}:{dimensions(asked)} is outside the engine's profile, or of another rank"
                    )
        for index in range(engine.num_io_tensors):
            tensors.append(self._tensor(context, engine, trt, engine.get_tensor_name(index)))
        return context, tensors

    def _check_names(self, engine: Any, trt: Any) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for option, given in (("--shapes", self.spec.shapes), ("--loadInputs", self.spec.inputs)):
            for name in given:
                if name not in inputs:
                    raise InputError(f"{option}: the engine has no input {name!r}; its inputs are {', '.join(inputs)}")

    def _shape_of(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if name in self.spec.shapes:
            return tuple(self.spec.shapes[name])
        filled = tuple(1 if size < 0 else size for size in shape)
        self.say(f"Shape missing for input with dynamic shape: {name}. Automatically setting shape to: {filled}")
        return filled

    def _tensor(self, context: Any, engine: Any, trt: Any, name: str) -> Tensor:
        import numpy as np

        shape = [int(size) for size in context.get_tensor_shape(name)]
        if -1 in shape:
            raise InputError(
                f"output {name!r} has a shape that depends on the data; such engines cannot be run here yet"
            )
        kind = engine.get_tensor_dtype(name)
        if kind.name not in NUMPY:
            raise InputError(f"tensor {name!r} is of type {kind.name}, which has no whole bytes per element")
        padded = list(shape)
        axis, lanes = engine.get_tensor_vectorized_dim(name), engine.get_tensor_components_per_element(name)
        if axis >= 0 and lanes > 1:
            padded[axis] = -(-padded[axis] // lanes) * lanes
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        size = int(np.prod(padded, dtype=np.int64)) * np.dtype(NUMPY[kind.name]).itemsize
        return Tensor(TensorSpec(name, NUMPY[kind.name], tuple(padded)), is_input, size)

    def _fill(self, tensors: Sequence[Tensor], buffers: dict[str, Buffer], arrays: Tensors) -> Tensors:
        """Put the data of ``--loadInputs``, or trtexec's noise, into the input buffers; read once for all streams."""
        from ptqbridge.data.inputs import load_input
        from ptqbridge.data.noise import noise

        for tensor in tensors:
            name, shape = tensor.spec.name, tuple(int(size) for size in tensor.spec.shape)
            if not tensor.is_input:
                continue
            if name not in arrays:
                file = self.spec.inputs.get(name)
                source = f"values loaded from {file}" if file else "random values"
                self.say(f"Using {source} for input {name}")
                arrays[name] = load_input(file, tensor.spec, shape) if file else noise(tensor.spec, shape)
            buffers[name].host[:] = arrays[name].reshape(-1).view("uint8")
        return arrays

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


def _outputs(tensors: Sequence[Tensor], buffers: dict[str, Buffer]) -> Tensors:
    found = {}
    for tensor in tensors:
        if not tensor.is_input:
            shape = tuple(int(size) for size in tensor.spec.shape)
            found[tensor.spec.name] = buffers[tensor.spec.name].host.copy().view(tensor.spec.dtype).reshape(shape)
    return found


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection inside: its pauses would land in single queries, and a capture must not free memory."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
