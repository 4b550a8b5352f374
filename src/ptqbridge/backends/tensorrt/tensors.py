"""Inputs and outputs of an engine at the shapes of a run: how large, where they live, what is fed, what came out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.wildcards import matches
from ptqbridge.errors import InputError
from ptqbridge.spec import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.backends.tensorrt.device import Buffer, Device

    Array = NDArray[Any]

NUMPY = {
    **{"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8"},
    **{"INT64": "int64", "BF16": "uint16", "FP8": "uint8"},
}
"""TensorRT's element types as NumPy holds them; types that NumPy lacks as their bits."""


@dataclass(frozen=True)
class Tensor:
    """One input or output at the shape of the run, padding of vectorized formats included.

    ``kind`` is TensorRT's type. ``on_host``: TensorRT reads or writes it in host memory (values that are shapes).
    ``late``: the shape is known only once the query has run.
    """

    spec: TensorSpec
    is_input: bool
    nbytes: int
    kind: str
    on_host: bool = False
    late: bool = False


class LateOutput:
    """An output whose shape the data decide: memory is taken when TensorRT asks for it during a query.

    Earlier memory is kept until the end: a copy of an earlier query may still be on its way.
    """

    def __init__(self, device: Device, managed: bool) -> None:
        self.device, self.managed = device, managed
        self.buffers: list[Buffer] = []
        self.shape: tuple[int, ...] = ()
        self.error: Exception | None = None
        self._copied: tuple[Buffer, Callable[[], None]] | None = None

    def take(self, size: int, alignment: int) -> int:
        """The address of at least ``size`` bytes. Raises CudaError."""
        if not self.buffers or self.buffers[-1].size < size:
            step = max(1, alignment)
            self.buffers.append(self.device.buffer(-(-max(1, size) // step) * step, managed=self.managed))
        return self.buffers[-1].address

    def copy(self, stream: Any) -> None:
        """Put the copy of what there is now to the host into ``stream``."""
        if not self.buffers:
            return
        if self._copied is None or self._copied[0] is not self.buffers[-1]:
            now = self.buffers[-1]
            self._copied = now, self.device.batch([now.downloader(stream)])
        self._copied[1]()

    def values(self, dtype: str) -> Array:
        """What the last query gave."""
        import numpy as np

        if not self.buffers:
            return np.zeros(0, dtype)
        nbytes = math.prod(self.shape) * np.dtype(dtype).itemsize
        return self.buffers[-1].host[:nbytes].copy().view(dtype).reshape(self.shape)

    def close(self) -> None:
        """Give all memory back."""
        for buffer in self.buffers:
            buffer.close()
        self.buffers = []


def output_allocator(trt: Any, late: LateOutput) -> Any:
    """TensorRT's callback for one output (NvInferRuntime.h, IOutputAllocator). What it raises is kept in ``late``."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            try:
                return late.take(size, alignment)
            except Exception as error:  # the bindings swallow it; 0 makes the query fail
                late.error = error
                return 0

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            late.shape = tuple(int(size) for size in shape)

    return Allocator()


@dataclass
class Bindings:
    """The memory of one stream's inputs and outputs, by name."""

    tensors: tuple[Tensor, ...] = ()
    buffers: dict[str, Buffer] = field(default_factory=dict)
    hosts: dict[str, Array] = field(default_factory=dict)
    lates: dict[str, LateOutput] = field(default_factory=dict)

    def of(self, *, inputs: bool) -> list[Buffer]:
        """The buffers that are copied."""
        return [
            self.buffers[tensor.spec.name]
            for tensor in self.tensors
            if tensor.is_input is inputs and tensor.spec.name in self.buffers
        ]

    def outputs(self) -> dict[str, Array]:
        """What the last query gave; bfloat16 as float32."""
        found = {}
        for tensor in self.tensors:
            name, dtype = tensor.spec.name, tensor.spec.dtype
            if tensor.is_input:
                continue
            if name in self.lates:
                values = self.lates[name].values(dtype)
            elif name in self.hosts:
                values = self.hosts[name].copy()
            else:
                shape = tuple(int(size) for size in tensor.spec.shape)
                values = self.buffers[name].host.copy().view(dtype).reshape(shape)
            found[name] = from_bf16(values) if tensor.kind == "BF16" else values
        return found

    def error(self) -> Exception | None:
        """What a callback raised, if any did."""
        return next((late.error for late in self.lates.values() if late.error), None)

    def close(self) -> None:
        """Give all memory back."""
        for buffer in self.buffers.values():
            buffer.close()
        for late in self.lates.values():
            late.close()


def describe(engine: Any, context: Any, trt: Any, name: str) -> Tensor:
    """One tensor at the shapes that ``context`` has been given. Raises InputError for types without whole bytes."""
    import numpy as np

    shape = [int(size) for size in context.get_tensor_shape(name)]
    kind = engine.get_tensor_dtype(name).name
    if kind not in NUMPY:
        raise InputError(f"tensor {name!r} is of type {kind}, which has no whole bytes per element")
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
    axis, lanes = engine.get_tensor_vectorized_dim(name), engine.get_tensor_components_per_element(name)
    if axis >= 0 and lanes > 1 and shape[axis] > 0:
        shape[axis] = -(-shape[axis] // lanes) * lanes
    late = -1 in shape
    if late and is_input:
        raise InputError(f"input {name!r} has no shape yet; give it with --shapes")
    size = 0 if late else int(np.prod(shape, dtype=np.int64)) * np.dtype(NUMPY[kind]).itemsize
    return Tensor(TensorSpec(name, NUMPY[kind], tuple(shape)), is_input, size, kind, on_host, late)


def plausible(named: Mapping[str, Any], name: str, *, stars: bool) -> Any:
    """The entry for ``name``: under its own name, or a pattern with one ``*`` (trtexec 9.1 and later); None if none."""
    if name in named:
        return named[name]
    fits = (value for pattern, value in named.items() if stars and matches(pattern, name))
    return next(fits, None)


def check_names(option: str, given: Iterable[str], inputs: list[str], *, stars: bool) -> None:
    """Raises InputError for a name that is no input's."""
    for name in given:
        if name not in inputs and not (stars and any(matches(name, known) for known in inputs)):
            raise InputError(f"{option}: the engine has no input {name!r}; its inputs are {', '.join(inputs)}")


def input_values(tensor: Tensor, file: str) -> Array:
    """What ``--loadInputs`` holds for a tensor, or trtexec's noise when ``file`` is "". Raises InputError."""
    from ptqbridge.data.inputs import load_input
    from ptqbridge.data.noise import noise

    shape = tuple(int(size) for size in tensor.spec.shape)
    if file:
        return load_input(file, tensor.spec, shape)
    if tensor.kind == "FP8":  # noise of bits would hold NaN; trtexec gives up here too
        raise InputError(f"input {tensor.spec.name!r} is FP8, for which there is no noise; give --loadInputs")
    if tensor.kind == "BF16":
        return to_bf16(noise(TensorSpec(tensor.spec.name, "float32", shape), shape))
    return noise(tensor.spec, shape)


def from_bf16(bits: Array) -> Array:
    """bfloat16 bits (uint16) as float32: its upper half."""
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values: Array) -> Array:
    """float32 as bfloat16 bits (uint16), rounded to nearest, ties to even; no NaN."""
    import numpy as np

    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
