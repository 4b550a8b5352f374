"""Lets the stand-in for ``tensorrt`` run engines of the network it parsed last, instead of its own small one.

``install(api)``: engines have that network's inputs and outputs, with dynamic dimensions as the contexts were told;
queries compute nothing and are recorded.
"""

from __future__ import annotations

from typing import Any


def install(api: Any) -> None:
    """Replace what ``api.Runtime`` hands out; the parser has to run before the engine is asked for anything."""

    class NetworkContext(api.IExecutionContext):  # type: ignore[misc]
        def __init__(self, engine: Any) -> None:
            super().__init__(False)
            self._engine = engine
            self._told_shapes: dict[str, tuple[int, ...]] = {}

        def set_input_shape(self, name: str, shape: Any) -> bool:
            api.record("IExecutionContext.set_input_shape", name, tuple(shape))
            self._told_shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            batch = next((shape[0] for shape in self._told_shapes.values()), 1)
            shape = self._told_shapes.get(name, self._engine.get_tensor_shape(name))
            return tuple(batch if size < 0 else size for size in shape)

        def execute_async_v3(self, stream_handle: int) -> bool:
            api.record("IExecutionContext.execute_async_v3")
            if api.DRIVER is not None and api.DRIVER.capturing:
                api.DRIVER.captured = lambda: True
            return "enqueue" not in api.FAIL

        def report_to_profiler(self) -> bool:
            api.record("IExecutionContext.report_to_profiler")
            return bool(super().report_to_profiler())

    class NetworkEngine(api.ICudaEngine):  # type: ignore[misc]
        num_optimization_profiles = 1

        @property
        def _inputs(self) -> dict[str, Any]:
            return {tensor.name: tensor for tensor in api.NETWORK._inputs}

        @property
        def _tensors(self) -> tuple[str, ...]:
            return (*self._inputs, *(tensor.name for tensor in api.NETWORK._outputs))

        def _tensor(self, name: str) -> Any:
            return next(t for t in (*api.NETWORK._inputs, *api.NETWORK._outputs) if t.name == name)

        def get_tensor_mode(self, name: str) -> Any:
            return api.TensorIOMode.INPUT if name in self._inputs else api.TensorIOMode.OUTPUT

        def get_tensor_location(self, name: str) -> Any:
            return api.TensorLocation.DEVICE

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(self._tensor(name).shape)

        def get_tensor_dtype(self, name: str) -> Any:
            return self._tensor(name).dtype

        def is_shape_inference_io(self, name: str) -> bool:
            return bool(self._tensor(name).is_shape_tensor)

        def create_execution_context(self, *strategy: Any) -> Any:
            api.record("ICudaEngine.create_execution_context", *strategy)
            return NetworkContext(self)

    plain = api.Runtime.deserialize_cuda_engine
    parse = api.OnnxParser.parse_from_file

    def deserialize(runtime: Any, content: Any) -> Any:
        return NetworkEngine() if plain(runtime, content) is not None else None

    def parse_from_file(parser: Any, path: str) -> bool:
        api.NETWORK = parser._network
        return bool(parse(parser, path))

    api.Runtime.deserialize_cuda_engine = deserialize
    api.OnnxParser.parse_from_file = parse_from_file
