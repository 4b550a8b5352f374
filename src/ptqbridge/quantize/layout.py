"""Lets observers read tensors in the layout that ONNX Runtime computes them in, so that none is put in order first.

For convolutions ONNX Runtime keeps tensors in blocks of channels (operators of the domain ``com.microsoft.nchwc``), and
a ``ReorderOutput`` before everyone who wants NCHW: on YOLOv5s, whose 195 tensors all are wanted, a fifth of the time.
Extremes and histograms are the same in any order, so the optimised model is written out, its reorders before observers
are bridged, and the result is what runs.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx

from ptqbridge.model.walk import captured
from ptqbridge.quantize.memory import forget_bytes

if TYPE_CHECKING:
    import onnxruntime

Arrays = Mapping[str, npt.NDArray[Any]]

_BLOCKED = "com.microsoft.nchwc"
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMin", "ReduceSum"})
_SAVES_FAST = (1, 22)
"""Before, ONNX Runtime took 0.3 to 1 s to write the 30 MB of YOLOv5s's weights beside the optimised model, now 0.02."""
_INLINE = "1024"  # bytes of weights that stay in the model


class Observer:
    """An observed model that is ready to run."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Mapping[str, str] | None = None) -> None:
        """``names`` of what stands for an output of the observed model, where it has another name in ``session``."""
        self._session = session
        self._names = names or {}

    def run(self, fetches: Sequence[str], arrays: Arrays) -> list[npt.NDArray[Any]]:
        """The outputs named; the elements of a tensor with channels may come in any order. Raises as ONNX Runtime."""
        names = [self._names.get(name, name) for name in fetches]
        found: list[npt.NDArray[Any]] = self._session.run(names, dict(arrays))
        return found

    def lane(self, fetches: Sequence[str]) -> Lane:
        """A way to run samples one after another, on one thread at a time, always for ``fetches``."""
        return Lane(self._session, {name: self._names.get(name, name) for name in fetches})


class Lane:
    """Runs sample after sample into the same arrays, as long as the shapes stay: made anew they scatter memory."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Mapping[str, str]) -> None:
        """``names`` in ``session`` of what is to be fetched."""
        self._session = session
        self._names = names
        self._outputs = list(dict.fromkeys(names.values()))
        self._binding: Any = None
        self._shapes: object = None  # of the inputs that the binding is for; until there is one, the first sample's
        self._results: dict[str, npt.NDArray[Any]] = {}

    def run(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """As ``Observer.run``, by name. The next run may overwrite the arrays."""
        shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if self._binding is not None and shapes == self._shapes and self._run_bound(arrays):
            results = self._results
        else:
            results = dict(zip(self._outputs, self._session.run(self._outputs, dict(arrays)), strict=True))
            if self._shapes is None:
                self._shapes = shapes
                self._bind(results)
        return {name: results[output] for name, output in self._names.items()}

    def _bind(self, results: dict[str, npt.NDArray[Any]]) -> None:
        binding = self._session.io_binding()
        try:
            for name, array in results.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        except Exception:  # bfloat16, say, which NumPy lacks
            return
        self._binding, self._results = binding, results

    def _run_bound(self, arrays: Arrays) -> bool:
        try:
            for name, array in arrays.items():
                self._binding.bind_cpu_input(name, array)
            self._session.run_with_iobinding(self._binding)
        except Exception:  # a shape that depends on values, say; the common way will do, or tell what is wrong
            self._binding = None
            return False
        return True


def open_observer(
    model: bytes | str,
    new_options: Callable[[], onnxruntime.SessionOptions],
    fetches: Sequence[str],
    prefix: str,
    *,
    blocked: bool,
) -> Observer:
    """``model`` (serialized, or the path of a file) on ONNX Runtime's CPU provider, to be asked for ``fetches``.

    ``new_options`` makes the options of a session. With ``blocked`` the blocked layout is used where that is possible
    and pays; ``prefix`` starts the names of nodes whose results do not depend on the order of what they read.
    Raises as ONNX Runtime.
    """
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if blocked and tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= _SAVES_FAST:
        try:
            with tempfile.TemporaryDirectory(prefix="ptqbridge-", ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "model.onnx"
                _optimise(model, new_options(), path)
                names = _bridge(path, set(fetches), prefix)
                options = new_options()
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was done
                return Observer(onnxruntime.InferenceSession(str(path), options, providers=providers), names)
        except Exception:  # no room for the file, say, or a model that cannot be saved: then the common way must do
            pass
    session = onnxruntime.InferenceSession(model, new_options(), providers=providers)
    forget_bytes(session)
    return Observer(session)


def _optimise(model: bytes | str, options: onnxruntime.SessionOptions, path: Path) -> None:
    """Write ``model`` as ONNX Runtime's optimisations for this machine leave it, the weights beside it."""
    import onnxruntime

    options.optimized_model_filepath = os.fspath(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "model.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", _INLINE)
    options.add_session_config_entry("session.disable_prepacking", "1")  # this session never runs
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bridge(path: Path, fetches: set[str], prefix: str) -> dict[str, str]:
    """Let ``fetches`` and observers read blocked tensors in the file at ``path``; what each fetch is called then."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    unpadded = _unpadded(graph)
    before = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "ReorderOutput" and node.domain == _BLOCKED and unpadded(node)
    }
    if not before:
        return {}
    for node in graph.node:
        if node.op_type in _REDUCTIONS and node.name.startswith(prefix) and node.input[0] in before:
            node.input[0] = before[node.input[0]]
    names = {name: before[name] for name in fetches & before.keys()}
    kept_outputs = [value for value in graph.output if value.name not in names]
    wanted = {name for node in graph.node for name in node.input} | {value.name for value in kept_outputs}
    wanted |= {name for node in graph.node for name in captured(node)}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.output[0] in before and node.output[0] not in wanted:
            del graph.node[index]
    del graph.output[:]
    graph.output.extend(kept_outputs)
    for name in dict.fromkeys(names.values()):
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    path.write_bytes(model.SerializeToString())
    return names


def _unpadded(graph: onnx.GraphProto) -> Callable[[onnx.NodeProto], bool]:
    """Says of a reorder whether what it reads holds the tensor's elements alone: channels fill whole blocks.

    The size of a block depends on the machine, but it divides the output channels of every blocked convolution.
    """
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.domain == _BLOCKED]
    block = math.gcd(*(sizes[node.input[1]][0] if node.input[1] in sizes else 1 for node in convolutions))

    def unpadded(node: onnx.NodeProto) -> bool:
        channels = next((attribute.i for attribute in node.attribute if attribute.name == "channels"), 0)
        return block > 1 and channels > 0 and channels % block == 0

    return unpadded
