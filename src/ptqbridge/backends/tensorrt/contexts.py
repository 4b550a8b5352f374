"""Execution contexts made ready to run: shapes, values that are shapes, memory, addresses, listeners, as trtexec does.

Order: NVIDIA/TensorRT samples/common/sampleInference.cpp (setUpInference), v8.6.1 and v10.13.3.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.debug import DebugWriter, debug_listener
from ptqbridge.backends.tensorrt.perform import Performer
from ptqbridge.backends.tensorrt.tensors import (
    Bindings,
    LateOutput,
    Tensor,
    check_names,
    describe,
    input_values,
    output_allocator,
    plausible,
)
from ptqbridge.backends.tensorrt.version import key
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.measure.text import dimensions
from ptqbridge.plan import Plan
from ptqbridge.spec import TensorSpec
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.backends.tensorrt.device import Device

    Array = NDArray[Any]

FIRST = ("context.nvtx_verbosity", "context.persistent_cache_limit")
PROFILE = "context.set_optimization_profile_async"
DEBUG = ("context.set_debug_listener", "context.set_tensor_debug", "context.set_all_tensors", "context.unfused_tensors")
MEMORY = ("memory = ", "context.set_device_memory", "context.device_memory")
FIRST_ONLY = "context = engine.create_execution_context()"
DEFAULT = 1
"""What trtexec takes for a dimension or a value that no option tells."""


class Contexts:
    """Makes the contexts of a run; what they were fed is in ``arrays``, by name, the same for all of them."""

    def __init__(self, plan: Plan, performer: Performer, device: Device, say: Callable[[str], None]) -> None:
        self.plan, self.spec, self.performer, self.device, self.say = plan, plan.run, performer, device, say
        self.calls: tuple[str, ...] = plan.settings["calls"]
        self.trt, self.engine = performer.names["trt"], performer.names["engine"]
        self.stars = key(plan.settings["version"]) >= (9, 1)
        self.names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.inputs = [name for name in self.names if self._is_input(name)]
        self.arrays: dict[str, Array] = {}
        self.writer: DebugWriter | None = None
        check_names("--shapes", self.spec.shapes, self.inputs, stars=self.stars)
        check_names("--loadInputs", self.spec.inputs, self.inputs, stars=self.stars)
        # trtexec takes host and device memory for one where the chip shares them and nothing is copied.
        shared = not self.spec.transfers and bool(device.attribute("integrated"))
        self.managed = bool(plan.settings.get("managed", False)) or shared

    def _is_input(self, name: str) -> bool:
        return bool(self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT)

    def make(self, stack: ExitStack, profiler: Any, *, first: bool) -> tuple[Any, Bindings]:
        """A context that can be queried, and its memory, which ``stack`` gives back. Raises as ``Performer.perform``.

        ``profiler`` (or None) and the debug listener are for the ``first`` only, as in trtexec.
        """
        perform, names = self.performer.perform, self.performer.names
        create = [text for text in self.calls if text.startswith("context = ")]
        perform(create or [FIRST_ONLY])
        context = names["context"]
        names["max_persisting_l2_cache_size"] = self.device.attribute("persisting_l2_bytes")
        perform(text for text in self.calls if text.startswith(FIRST))
        for text in self.calls:
            if text.startswith(PROFILE):
                names["stream"] = self.device.stream()
                stack.callback(names["stream"].close)
                perform([text])
                names["stream"].synchronize()
        if profiler is not None:
            context.profiler = profiler.receiver
            context.enqueue_emits_profile = False
        bindings = Bindings()
        stack.callback(bindings.close)
        for name in self.inputs:
            values = self._shape(context, name)
            if values is not None:  # told before anything is asked: shapes of outputs may depend on them
                self._host(context, name, values, bindings, fed=True)
        if first and any(text.startswith(DEBUG) for text in self.calls):
            self.writer = DebugWriter(
                self.plan.settings.get("debug_files", {}),
                self.plan.settings.get("debug_forms", ()),
                self.device,
                str(self.engine.name),
            )
            names["listener"] = debug_listener(self.trt, self.writer)
            perform(text for text in self.calls if text.startswith(DEBUG))
        perform(text for text in self.calls if text.startswith(MEMORY))
        if any(text.startswith(MEMORY) for text in self.calls):
            stack.callback(names["memory"].close)
            self.say(f"Device memory of the context: {names['memory'].size / 2**20:.6g} MiB")
        bindings.tensors = tuple(describe(self.engine, context, self.trt, name) for name in self.names)
        for tensor in bindings.tensors:
            if tensor.spec.name not in bindings.hosts:
                self._bind(context, tensor, bindings)
        return context, bindings

    def _shape(self, context: Any, name: str) -> Array | None:
        """Tell the context an input's shape; for an input that is a shape, the values to feed."""
        asked = plausible(self.spec.shapes, name, stars=self.stars)
        if self.engine.is_shape_inference_io(name):
            return self._values(name, tuple(int(size) for size in context.get_tensor_shape(name)), asked)
        shape = tuple(int(size) for size in self.engine.get_tensor_shape(name))
        if -1 in shape:
            if asked is None:
                asked = tuple(DEFAULT if size < 0 else size for size in shape)
                said = f"Shape missing for input with dynamic shape: {name}. Automatically setting shape to: {asked}"
                self.say(said)
            if not context.set_input_shape(name, tuple(asked)):
                raise InputError(
                    f"--shapes: {name}:{dimensions(asked)} is outside the engine's profile, or of another rank"
                )
        elif asked is not None and tuple(asked) != shape:
            raise InputError(
                f"--shapes: {name}:{dimensions(asked)} was asked for, the engine was built for {dimensions(shape)} only"
            )
        return None

    def _values(self, name: str, shape: tuple[int, ...], asked: Any) -> Array:
        """The values of an input that is a shape: from --loadInputs, else --shapes, else ones, as in trtexec."""
        import numpy as np

        kind = self.engine.get_tensor_dtype(name).name
        if kind not in ("INT32", "INT64"):
            raise InputError(f"input {name!r} holds a shape of type {kind}; INT32 or INT64 was expected")
        dtype = kind.lower()
        file = plausible(self.spec.inputs, name, stars=self.stars)
        if file:
            return input_values(Tensor(TensorSpec(name, dtype, shape), True, 0, kind), file)
        count = int(np.prod(shape, dtype=np.int64))
        if asked is None:
            self.say(f"Values missing for input shape tensor: {name}. Automatically setting values to: {DEFAULT}")
            asked = (DEFAULT,) * count
        if len(asked) != count:
            raise InputError(f"--shapes: input {name!r} holds a shape of {counted(count, 'value')}, found {len(asked)}")
        return np.array(asked, dtype).reshape(shape)

    def _bind(self, context: Any, tensor: Tensor, bindings: Bindings) -> None:
        """Memory for one tensor, its data, and its address told to the context."""
        import numpy as np

        name = tensor.spec.name
        if tensor.late:
            self.say(f"Output {name} has a shape that depends on the data: it is allocated during execution")
            bindings.lates[name] = late = LateOutput(self.device, self.managed)
            if not context.set_output_allocator(name, output_allocator(self.trt, late)):
                raise self._refused("set_output_allocator", name)
        elif tensor.on_host:
            shape = tuple(int(size) for size in tensor.spec.shape)
            values = self._fed(tensor) if tensor.is_input else np.zeros(shape, tensor.spec.dtype)
            self._host(context, name, values, bindings, fed=tensor.is_input)
        else:
            buffer = bindings.buffers[name] = self.device.buffer(tensor.nbytes, managed=self.managed)
            if tensor.is_input:
                buffer.host[:] = self._fed(tensor).reshape(-1).view("uint8")
            self._address(context, name, buffer.address)

    def _host(self, context: Any, name: str, values: Array, bindings: Bindings, *, fed: bool) -> None:
        """Memory that TensorRT reads and writes where the host does: nothing is copied."""
        import numpy as np

        bindings.hosts[name] = np.ascontiguousarray(values)
        if fed:
            self.arrays[name] = bindings.hosts[name]
        self._address(context, name, int(bindings.hosts[name].ctypes.data))

    def _address(self, context: Any, name: str, address: int) -> None:
        if not context.set_tensor_address(name, address):
            raise self._refused("set_tensor_address", name)

    def _refused(self, call: str, name: str) -> ToolchainFailed:
        said = "; ".join(self.performer.names["logger"].errors[-3:])
        return ToolchainFailed(f"target trt: {call} failed for {name!r}: {said or 'TensorRT gave no reason'}")

    def _fed(self, tensor: Tensor) -> Array:
        """The data of an input, read or made once for all streams."""
        name = tensor.spec.name
        if name not in self.arrays:
            file = plausible(self.spec.inputs, name, stars=self.stars) or ""
            self.say(f"Using {f'values loaded from {file}' if file else 'random values'} for input {name}")
            self.arrays[name] = input_values(tensor, file)
        return self.arrays[name]
