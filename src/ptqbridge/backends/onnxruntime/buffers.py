"""One stream's input and output buffers, bound to a session so that a query makes and copies nothing in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]

BINDING_QUERIES = 1
"""Queries that `bind` runs before the first that counts."""


@dataclass(frozen=True)
class Bound:
    """Bound buffers of one stream.

    Attributes:
        call: runs one query on them; it raises what ONNX Runtime raises.
        buffers: each output's memory, overwritten by every query; of strings, what the first query gave.
        warnings: on outputs that have no buffer.
        alive: what must live as long as ``call``, which knows only the memory.
    """

    call: Callable[[], object]
    buffers: Tensors
    warnings: tuple[str, ...]
    alive: tuple[object, ...]

    def outputs(self) -> Tensors:
        """Copies of the outputs of the last query."""
        return {name: array.copy() for name, array in self.buffers.items()}


def bind(session: onnxruntime.InferenceSession, arrays: Mapping[str, NDArray[Any]]) -> Bound:
    """Bind the inputs, run one query to learn the outputs' shapes, and bind buffers of these shapes.

    Raises what ONNX Runtime raises when the query fails.
    """
    import numpy as np

    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_cpu_input(name, array)
    names = [value.name for value in session.get_outputs()]
    for name in names:
        binding.bind_output(name)  # ONNX Runtime allocates
    call = _first_query(session, binding)
    buffers: Tensors = {}
    warnings: list[str] = []
    for name, value in zip(names, binding.get_outputs(), strict=True):
        try:
            buffers[name] = np.ascontiguousarray(value.numpy())
        except Exception:  # bfloat16 and the like
            warnings.append(f"output {name}: NumPy cannot hold a {value.data_type()}, its values are not shown")
            continue
        buffer = buffers[name].reshape(value.shape())  # ascontiguousarray makes a scalar an array of one
        buffers[name] = buffer
        if buffer.dtype.kind in "fiub" and buffer.size:
            binding.bind_output(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
    return Bound(call, buffers, tuple(warnings), (session, binding, arrays))


def _first_query(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> Callable[[], object]:
    """Run a query; returns the call that did it, which leaves out the Python layer's checks where it can.

    Run options made once save ONNX Runtime from making them anew for every query (1.4 us of 4.5 on a bare Relu).
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    try:
        call: partial[object] = partial(session._sess.run_with_iobinding, binding._iobinding, options)
        call()
    except (AttributeError, TypeError):  # its insides are others than we know
        call = partial(session.run_with_iobinding, binding, options)
        call()
    return call
