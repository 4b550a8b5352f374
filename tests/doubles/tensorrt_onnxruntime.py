"""The stand-in for ``tensorrt`` with engines that ONNX Runtime computes: tests/gpu can be rehearsed without a GPU.

An engine is the head of a real one and the ONNX behind it. ``install`` makes a folder with the module, which then needs
the compiled stand-in for the driver (cuda_stub.py), whose device memory is host memory. Nothing here says anything
about TensorRT: only command lines, files and comparisons of the checks are tried.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

TYPES = {1: ("FLOAT", np.float32), 7: ("INT64", np.int64), 10: ("HALF", np.float16)}


def install(folder: Path, version: str) -> None:
    """Put the module ``tensorrt`` of this version into ``folder``, with the metadata of a distribution."""
    (folder / "tensorrt").mkdir(parents=True)
    load = "import importlib.util, sys\nspec = importlib.util.spec_from_file_location('made', {!r})\n"
    load += "made = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(made)\n"
    load += "globals().update(vars(made.make({!r})))\n"
    (folder / "tensorrt" / "__init__.py").write_text(load.format(__file__, version))
    metadata = folder / f"tensorrt-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {version}\n")


def make(version: str) -> Any:
    """The module: tensorrt_double.py with builder, engine and context replaced."""
    path = Path(__file__).with_name("tensorrt_double.py")
    spec = importlib.util.spec_from_file_location("tensorrt_double", path)
    assert spec is not None and spec.loader is not None
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    api: Any = double.make(version)
    numbers = [int(part) for part in f"{version}.0.0".split(".")[:4]]
    head = b"ftrt" + bytes(20) + bytes(numbers)
    old = version.startswith("8")
    parse = api.OnnxParser.parse_from_file

    def parse_from_file(self: Any, path: str) -> bool:
        self._network._path = path
        return bool(parse(self, path))

    class HostMemory(bytes):
        nbytes = property(len)

    def build(self: Any, network: Any, config: Any) -> Any:
        import onnx

        calibrator = getattr(config, "int8_calibrator", None)
        if calibrator is not None and not calibrator.read_calibration_cache():
            names = [network.get_input(index).name for index in range(network.num_inputs)]
            while calibrator.get_batch(names):
                pass
            lines = "".join(f"{name}: 3c010a14\n" for name in (*names, "a", "b", "c"))
            calibrator.write_calibration_cache(f"TRT-8601-EntropyCalibration2\n{lines}".encode())
        return HostMemory(head + onnx.load(network._path).SerializeToString())

    class Engine(api.ICudaEngine):  # type: ignore[misc]
        num_optimization_profiles = 1
        device_memory_size_v2 = 4096

        def __init__(self, blob: bytes) -> None:
            import onnx
            import onnxruntime

            graph = onnx.load_from_string(blob).graph
            self.session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
            self.inputs, self.outputs = ({value.name: value for value in side} for side in (graph.input, graph.output))
            self.values = {**self.inputs, **self.outputs}
            self.late = any(node.op_type == "NonZero" for node in graph.node)

        num_io_tensors = property(lambda self: len(self.values))

        def get_tensor_name(self, index: int) -> str:
            return list(self.values)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return api.TensorIOMode.INPUT if name in self.inputs else api.TensorIOMode.OUTPUT

        def type_of(self, name: str) -> tuple[str, Any]:
            kind, dtype = TYPES[self.values[name].type.tensor_type.elem_type]
            return ("INT32", np.int32) if kind == "INT64" and old else (kind, dtype)

        def get_tensor_dtype(self, name: str) -> Any:
            return api.DataType[self.type_of(name)[0]]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            dims = self.values[name].type.tensor_type.shape.dim
            return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
            shape = self.get_tensor_shape(name)
            return [tuple(size if size > 0 else open_ for size in shape) for open_ in (1, 4, 8)]

        def create_execution_context(self, *strategy: Any) -> Any:
            return Context(self)

        def create_engine_inspector(self) -> Any:
            text = json.dumps({"Layers": [{"Name": "all", "Outputs": [{"Format/Datatype": "Int8"}]}]})
            return SimpleNamespace(get_engine_information=lambda form: text)

    class Context(api.IExecutionContext):  # type: ignore[misc]
        def __init__(self, engine: Engine) -> None:
            self._engine, self._shapes, self._at, self._allocators = engine, {}, {}, {}

        def set_input_shape(self, name: str, shape: Any) -> bool:
            self._shapes[name] = tuple(shape)
            return True

        def feed(self, name: str) -> Any:
            dtype, shape = self._engine.type_of(name)[1], self._shapes.get(name, self._engine.get_tensor_shape(name))
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            array = np.frombuffer((ctypes.c_uint8 * size).from_address(self._at[name]), dtype).reshape(shape)
            return array.astype(np.int64) if dtype is np.int32 else array

        def get_tensor_shape(self, name: str) -> Any:
            shape = self._shapes.get(name, self._engine.get_tensor_shape(name))
            if -1 not in shape or name in self._engine.inputs or self._engine.late:
                return shape
            feeds = {}
            for key in self._engine.inputs:
                full, dtype = self._shapes.get(key, self._engine.get_tensor_shape(key)), self._engine.type_of(key)[1]
                feeds[key] = self.feed(key) if key in self._at else np.zeros(full, dtype)
            return self._engine.session.run([name], feeds)[0].shape

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._at[name] = address
            return True

        def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
            self._allocators[name] = output_allocator
            return True

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            return profile_index == 0

        def set_device_memory(self, memory: int, size: int) -> None:
            assert memory

        def update_device_memory_size_for_shapes(self) -> int:
            return 1000

        def execute_async_v3(self, stream_handle: int) -> bool:
            names = list(self._engine.outputs)
            found = self._engine.session.run(names, {name: self.feed(name) for name in self._engine.inputs})
            for name, values in zip(names, map(np.ascontiguousarray, found), strict=True):
                allocator = self._allocators.get(name)
                address = allocator.reallocate_output(name, 0, values.nbytes, 256) if allocator else self._at[name]
                ctypes.memmove(address, values.ctypes.data, values.nbytes)
                if allocator:
                    allocator.notify_shape(name, values.shape)
            return True

    def deserialize(self: Any, content: Any) -> Any:
        blob = bytes(content)
        try:
            return Engine(blob[len(head) :]) if blob.startswith(head) else None
        except Exception as error:  # ONNX Runtime's and protobuf's have no common base
            self._logger.log(api.ILogger.Severity.ERROR, f"bad engine: {type(error).__name__}")
            return None

    def is_shape(self: Any, name: str) -> bool:
        return name == "s"

    Engine.is_shape_inference_io = is_shape
    api.OnnxParser.parse_from_file, api.Builder.build_serialized_network = parse_from_file, build
    api.Runtime.deserialize_cuda_engine = deserialize
    return api
