"""A stand-in for the ``tensorrt`` module at its border: it records every call, parses ONNX, and builds nothing.

``make("8.6.1")`` gives a module; ``module.CALLS`` is the record, ``module.PLUGINS`` are libraries that the parser finds
needed, ``module.FAIL`` names what shall fail: ``builder``, ``parse``, ``build``, ``deserialize``, ``memory``,
``execute``, ``context``, ``weights``, ``refit``. ``module.ENGINE`` says what loaded engines compute: ``plain``
(y = 2 x), ``late`` (y = the x above 0, so of a length the data decide) or ``shaped`` (y = x in the shape that the
values of input s give). Names follow the real bindings: who has which member is checked against them in tests/real.
Failures are reported as the bindings do: False, None, -1, TypeError, and the logger.
"""

from __future__ import annotations

import enum
import types
from typing import Any

SINCE_10 = {"BF16": 17, "INT4": 18, "STRIP_PLAN": 14, "WEIGHT_STREAMING": 16}
FLAGS_86 = (
    *("FP16", "INT8", "DEBUG", "GPU_FALLBACK", "STRICT_TYPES", "REFIT", "DISABLE_TIMING_CACHE", "TF32"),
    *("SPARSE_WEIGHTS", "SAFETY_SCOPE", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "DIRECT_IO"),
    *("REJECT_EMPTY_ALGORITHMS", "ENABLE_TACTIC_HEURISTIC", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "FP8"),
)
FLAGS_10 = (
    *("FP16", "INT8", "DEBUG", "GPU_FALLBACK", "REFIT", "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS"),
    *("SAFETY_SCOPE", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS", "DIRECT_IO"),
    *("REJECT_EMPTY_ALGORITHMS", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "FP8", "ERROR_ON_TIMING_CACHE_MISS"),
    *("BF16", "DISABLE_COMPILATION_CACHE", "STRIP_PLAN", "REFIT_IDENTICAL", "WEIGHT_STREAMING", "INT4"),
)
WEAK = ("FP16", "INT8", "FP8", "BF16", "INT4", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
LAYERS = {
    **{"Conv": "CONVOLUTION", "MaxPool": "POOLING", "AveragePool": "POOLING", "GlobalAveragePool": "POOLING"},
    **{"Concat": "CONCATENATION", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Relu": "ACTIVATION"},
    **{"Softmax": "SOFTMAX", "Gather": "GATHER", "MatMul": "MATRIX_MULTIPLY", "Reshape": "SHUFFLE"},
}
FORMATS = (
    *("LINEAR", "CHW2", "HWC8", "CHW4", "CHW16", "CHW32", "DHWC8", "CDHW32", "HWC", "DLA_LINEAR", "DLA_HWC4"),
    *("HWC16", "DHWC"),
)
CALIBRATORS = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "EntropyCalibration": "IInt8EntropyCalibrator",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "LegacyCalibration": "IInt8LegacyCalibrator",
}
ONNX_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT32", 9: "BOOL", 2: "UINT8"}


def _enumeration(name: str, members: Any) -> Any:
    return enum.IntEnum(name, {member: number for number, member in enumerate(members)})


class _Recorded:
    """Attributes without a leading underscore are properties of the bindings: setting one is recorded."""

    _kind = ""
    _api: Any

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_") and self._live:
            self._api.record(f"{self._kind}.{name}=", *self._subject(), value)

    _live = False

    def _subject(self) -> tuple[Any, ...]:
        return ()


def make(version: str = "8.6.1") -> Any:
    """A fresh module."""
    api: Any = types.ModuleType("tensorrt")
    api.__version__ = version
    generation = "8.6" if version.startswith("8") else version.split(".")[0]
    api.CALLS = []
    api.BATCHES = []
    api.PLUGINS = []
    api.INSPECTED = ""
    api.FAIL = set()
    api.DRIVER = None
    api.ENGINE = "plain"
    api.CONVOLUTIONS = []

    def record(name: str, *arguments: Any) -> None:
        api.CALLS.append((name, *arguments))

    api.record = record
    flags = [flag for flag in (FLAGS_86 if generation == "8.6" else FLAGS_10) if generation != "11" or flag not in WEAK]
    api.BuilderFlag = _enumeration("BuilderFlag", flags)
    api.DataType = _enumeration("DataType", ("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64"))
    for short, long in (
        ("float32", "FLOAT"),
        ("float16", "HALF"),
        ("int8", "INT8"),
        ("int32", "INT32"),
        ("bool", "BOOL"),
    ):
        setattr(api, short, api.DataType[long])
    api.uint8, api.fp8 = api.DataType.UINT8, api.DataType.FP8
    creation = {"8.6": ("EXPLICIT_BATCH", "EXPLICIT_PRECISION"), "10": ("EXPLICIT_BATCH", "STRONGLY_TYPED")}
    api.NetworkDefinitionCreationFlag = _enumeration("Creation", creation.get(generation, ("STRONGLY_TYPED",)))
    api.TensorFormat = _enumeration("TensorFormat", FORMATS)
    api.ProfilingVerbosity = _enumeration("ProfilingVerbosity", ("LAYER_NAMES_ONLY", "NONE", "DETAILED"))
    api.HardwareCompatibilityLevel = _enumeration("Hardware", ("NONE", "AMPERE_PLUS"))
    api.TempfileControlFlag = _enumeration("Tempfile", ("ALLOW_IN_MEMORY_FILES", "ALLOW_TEMPORARY_FILES"))
    api.DeviceType = _enumeration("DeviceType", ("GPU", "DLA"))
    api.EngineCapability = _enumeration("EngineCapability", ("STANDARD", "SAFETY", "DLA_STANDALONE"))
    api.MemoryPoolType = _enumeration(
        "MemoryPoolType", ("WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM", "TACTIC_DRAM")
    )
    sources = ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
    api.TacticSource = _enumeration("TacticSource", sources if generation != "11" else sources[3:])
    api.PreviewFeature = _enumeration(
        "PreviewFeature",
        (
            "FASTER_DYNAMIC_SHAPES_0805",
            "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
            "PROFILE_SHARING_0806",
        ),
    )
    api.OnnxParserFlag = _enumeration("OnnxParserFlag", ("NATIVE_INSTANCENORM",))
    api.LayerType = _enumeration("LayerType", (*dict.fromkeys(LAYERS.values()), "CONSTANT", "ELEMENTWISE"))
    api.TensorLocation = _enumeration("TensorLocation", ("DEVICE", "HOST"))
    api.WeightsRole = _enumeration("WeightsRole", ("KERNEL", "BIAS", "SHIFT", "SCALE", "CONSTANT"))
    if generation != "8.6":
        api.ExecutionContextAllocationStrategy = _enumeration(
            "ExecutionContextAllocationStrategy", ("STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED")
        )
    api.TensorIOMode = _enumeration("TensorIOMode", ("NONE", "INPUT", "OUTPUT"))
    api.LayerInformationFormat = _enumeration("LayerInformationFormat", ("ONELINE", "JSON"))

    class Recorded(_Recorded):
        _api = api

    class ILogger:
        Severity = _enumeration("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"))

        def __init__(self) -> None:
            self._made = True

    class Logger(ILogger):
        INFO = ILogger.Severity.INFO

    def complain(logger: Any, text: str) -> None:
        logger.log(ILogger.Severity.ERROR, text)

    class ITensor(Recorded):
        _kind = "ITensor"

        def __init__(self, name: str, dtype: Any, shape: tuple[int, ...], shapes: bool = False) -> None:
            self.name, self.dtype, self.shape = name, dtype, shape
            self.is_shape_tensor = shapes
            self.dynamic_range: Any = None
            self.allowed_formats = 1
            self._live = True

        def _subject(self) -> tuple[Any, ...]:
            return (self.name,)

        def set_dynamic_range(self, low: float, high: float) -> bool:
            record("ITensor.set_dynamic_range", self.name, low, high)
            object.__setattr__(self, "dynamic_range", (low, high))
            return True

    class ILayer(Recorded):
        _kind = "ILayer"

        def __init__(self, name: str, kind: Any, inputs: list[Any], outputs: list[Any], precision: Any) -> None:
            self.name, self.type, self.precision = name, kind, precision
            self.num_inputs, self.num_outputs = len(inputs), len(outputs)
            self._inputs, self._outputs = inputs, outputs
            self._set_types: dict[int, Any] = {}
            self._live = True

        def _subject(self) -> tuple[Any, ...]:
            return (self.name,)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

        @property
        def precision_is_set(self) -> bool:
            return any(call[:2] == ("ILayer.precision=", self.name) for call in api.CALLS)

        def set_output_type(self, index: int, kind: Any) -> None:
            record("ILayer.set_output_type", self.name, index, kind)
            self._set_types[index] = kind

        def output_type_is_set(self, index: int) -> bool:
            return index in self._set_types

        def get_output_type(self, index: int) -> Any:
            return self._set_types[index]

    class INetworkDefinition(Recorded):
        def __init__(self) -> None:
            self._inputs: list[Any] = []
            self._outputs: list[Any] = []
            self._layers: list[Any] = []

        num_inputs = property(lambda self: len(self._inputs))
        num_outputs = property(lambda self: len(self._outputs))
        num_layers = property(lambda self: len(self._layers))

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

        def node(self) -> int:
            return 3

        if generation != "8.6":

            def node_name(self) -> str:
                return "conv3"

            def node_operator(self) -> str:
                return "Conv"

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            record("OnnxParser")
            self._network = network
            self.num_errors = 0

        def get_error(self, index: int) -> Any:
            return ParserError(f"no importer\nregistered for op {index}")

        def set_flag(self, flag: Any) -> None:
            record("OnnxParser.set_flag", flag)

        def clear_flag(self, flag: Any) -> None:
            record("OnnxParser.clear_flag", flag)

        def get_used_vc_plugin_libraries(self) -> list[str]:
            record("OnnxParser.get_used_vc_plugin_libraries")
            return list(api.PLUGINS)

        def parse_from_file(self, path: str) -> bool:
            record("OnnxParser.parse_from_file", path)
            if "parse" in api.FAIL:
                self.num_errors = 2
                return False
            _read_network(api, self._network, ITensor, ILayer, path)
            return True

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
            record("IOptimizationProfile.set_shape", name, tuple(low), tuple(best), tuple(high))
            self._shapes[name] = (low, best, high)

        def set_shape_input(self, name: str, low: Any, best: Any, high: Any) -> None:
            record("IOptimizationProfile.set_shape_input", name, tuple(low), tuple(best), tuple(high))
            self._shapes[name] = (low, best, high)

        def __bool__(self) -> bool:
            record("IOptimizationProfile.__bool__")
            return all(
                len(low) and all(a <= b <= c for a, b, c in zip(low, best, high, strict=True))
                for low, best, high in self._shapes.values()
            )

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = bytes(content)

        def combine(self, other: Any, ignore_mismatch: bool) -> bool:
            record("ITimingCache.combine", ignore_mismatch)
            self._content += other._content
            return True

        def serialize(self) -> bytes:
            record("ITimingCache.serialize")
            return self._content + b"+timings"

    class IBuilderConfig(Recorded):
        _kind = "IBuilderConfig"

        def __init__(self) -> None:
            self._cache: Any = None
            self._live = True

        def set_flag(self, flag: Any) -> None:
            record("IBuilderConfig.set_flag", api.BuilderFlag(flag))

        def clear_flag(self, flag: Any) -> None:
            record("IBuilderConfig.clear_flag", api.BuilderFlag(flag))

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            record("IBuilderConfig.set_memory_pool_limit", pool, size)

        def add_optimization_profile(self, profile: Any) -> int:
            record("IBuilderConfig.add_optimization_profile")
            return 0

        def set_calibration_profile(self, profile: Any) -> bool:
            record("IBuilderConfig.set_calibration_profile")
            return True

        def get_tactic_sources(self) -> int:
            return (1 << len(api.TacticSource)) - 1

        def set_tactic_sources(self, mask: int) -> bool:
            record("IBuilderConfig.set_tactic_sources", mask & ((1 << len(api.TacticSource)) - 1))
            return True

        def set_preview_feature(self, feature: Any, on: bool) -> None:
            record("IBuilderConfig.set_preview_feature", feature, on)

        def set_device_type(self, layer: Any, device: Any) -> None:
            record("IBuilderConfig.set_device_type", layer.name, device)

        def create_timing_cache(self, content: Any) -> Any:
            record("IBuilderConfig.create_timing_cache", len(content))
            return None if bytes(content).startswith(b"broken") else ITimingCache(content)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            record("IBuilderConfig.set_timing_cache", ignore_mismatch)
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            record("IBuilderConfig.get_timing_cache")
            return self._cache

    class IPluginRegistry:
        def load_library(self, path: str) -> Any:
            record("IPluginRegistry.load_library", path)
            return None if "plugin" in api.FAIL else object()

    class IHostMemory(bytes):
        nbytes = property(len)

    def calibrate(calibrator: Any, network: Any) -> bytes:
        """Take batches to the end (an exception counts as the end), and hand a cache back."""
        import ctypes

        names = [network.get_input(index).name for index in range(network.num_inputs)]
        record("Calibrator.get_batch_size", calibrator.get_batch_size())
        count = 0
        while True:
            try:
                addresses = calibrator.get_batch(names)
            except Exception:
                addresses = None
            if not addresses:
                break
            count += 1
            sizes = [ctypes.sizeof(api.DRIVER.memory[address]) for address in addresses]
            api.BATCHES.append([ctypes.string_at(at, size) for at, size in zip(addresses, sizes, strict=True)])
        if not count:
            return b""
        word = {kind: word for word, kind in CALIBRATORS.items()}[type(calibrator).__mro__[1].__name__]
        if word == "LegacyCalibration":
            record("Calibrator.get_quantile", calibrator.get_quantile())
            record("Calibrator.get_regression_cutoff", calibrator.get_regression_cutoff())
        content = f"TRT-8601-{word}\n{names[0]}: 3c010a14\n".encode()
        calibrator.write_calibration_cache(memoryview(content))
        return content

    class Builder(Recorded):
        _kind = "Builder"

        def __init__(self, logger: Any) -> None:
            record("Builder")
            self._logger = logger
            if "builder" in api.FAIL:
                complain(logger, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.num_DLA_cores = 2
            self._live = True

        def create_network(self, flags: int = 0) -> Any:
            record("Builder.create_network", flags)
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            record("Builder.create_builder_config")
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            record("Builder.create_optimization_profile")
            return IOptimizationProfile()

        def get_plugin_registry(self) -> Any:
            return IPluginRegistry()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            record("Builder.build_serialized_network")
            calibrator = getattr(config, "int8_calibrator", None)
            if calibrator is not None:
                content = calibrator.read_calibration_cache()
                record("Calibrator.read_calibration_cache", len(content or b""))
                if not content:
                    content = calibrate(calibrator, network)
                if not content and "cache" not in api.FAIL:
                    complain(self._logger, "Calibration failure occurred with no scaling factors detected.")
                    return None
                if "cache" in api.FAIL:
                    calibrator.get_batch([network.get_input(0).name])
                    complain(self._logger, "Calibration failure occurred with no scaling factors detected.")
                    return None
            if "memory" in api.FAIL:
                complain(self._logger, "Requested amount of GPU memory (8589934592 bytes) could not be allocated.")
                return None
            if "build" in api.FAIL:
                complain(self._logger, "Could not find any implementation for node conv1.")
                return None
            return IHostMemory(b"ftrt engine of the stand-in")

    class Runtime(Recorded):
        _kind = "Runtime"

        def __init__(self, logger: Any) -> None:
            record("Runtime")
            self._logger = api.LOGGER = logger
            self._live = True

        def load_runtime(self, path: str) -> Any:
            record("Runtime.load_runtime", path)
            return None if "lean" in api.FAIL else self

        def get_plugin_registry(self) -> Any:
            return IPluginRegistry()

        def deserialize_cuda_engine(self, content: Any) -> Any:
            record("Runtime.deserialize_cuda_engine", len(content))
            if "memory" in api.FAIL:
                complain(self._logger, "Requested amount of GPU memory (9 bytes) could not be allocated.")
                return None
            if "deserialize" in api.FAIL or not bytes(content).startswith(b"ftrt"):
                complain(self._logger, "magicTag mismatch")
                return None
            return ICudaEngine()

    class IProfiler:
        def __init__(self) -> None:
            self._made = True

    class IOutputAllocator:
        def __init__(self) -> None:
            self._made = True

    class IDebugListener:
        def __init__(self) -> None:
            self._made = True

    class IConvolutionLayer(ILayer):
        @property
        def kernel(self) -> Any:
            return self._weights[0]

        @property
        def bias(self) -> Any:
            return self._weights[1]

    class Refitter(Recorded):
        """Holds the weights of every convolution of the last network."""

        _kind = "Refitter"

        def __init__(self, engine: Any, logger: Any) -> None:
            record("Refitter")
            roles = [(name, api.WeightsRole[role]) for name in api.CONVOLUTIONS for role in ("KERNEL", "BIAS")]
            self._roles, self._given = roles, {}
            self._live = True

        def get_all(self) -> Any:
            return [name for name, _ in self._roles], [role for _, role in self._roles]

        def get_missing(self) -> Any:
            missing = [pair for pair in self._roles if pair not in self._given]
            return [name for name, _ in missing], [role for _, role in missing]

        def set_weights(self, layer_name: str, role: Any, weights: Any) -> bool:
            record("Refitter.set_weights", layer_name, role.name, weights)
            if "weights" not in api.FAIL:
                self._given[(layer_name, role)] = weights
            return True

        def refit_cuda_engine(self) -> bool:
            record("Refitter.refit_cuda_engine")
            return "refit" not in api.FAIL

        if generation != "8.6":

            def refit_cuda_engine_async(self, stream_handle: int) -> bool:
                record("Refitter.refit_cuda_engine_async")
                return isinstance(stream_handle, int)

    class OnnxParserRefitter:
        def __init__(self, refitter: Any, logger: Any) -> None:
            record("OnnxParserRefitter")

        def refit_from_file(self, path: str) -> bool:
            record("OnnxParserRefitter.refit_from_file", path)
            return True

    class EngineInspector:
        def get_engine_information(self, form: Any) -> str:
            return api.INSPECTED or '{"Layers": ["conv1", "prob"], "Bindings": ["x", "y"]}'

    class IExecutionContext(Recorded):
        """Computes on the memory it was given, at once: see ``ENGINE``."""

        _kind = "IExecutionContext"

        def __init__(self, managed: bool) -> None:
            self._shape, self._at, self._late = (-1, 4), {}, None
            self._memory, self._listener, self._states = not managed, None, set()
            self._live = True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            record("IExecutionContext.set_input_shape", name, tuple(shape))
            object.__setattr__(self, "_shape", tuple(shape))
            return len(shape) == 2 and 1 <= shape[0] <= 8 and shape[1] == 4

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name == "s":
                return (2,)
            if name == "y" and api.ENGINE == "late":
                return (-1,)
            if name == "y" and api.ENGINE == "shaped":
                return tuple(self._values("s")) if "s" in self._at else (-1, -1)
            return self._shape

        def set_tensor_address(self, name: str, address: int) -> bool:
            record("IExecutionContext.set_tensor_address", name)
            self._at[name] = address
            return True

        def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
            record("IExecutionContext.set_output_allocator", name)
            assert isinstance(output_allocator, IOutputAllocator)
            object.__setattr__(self, "_late", output_allocator)
            return True

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            record("IExecutionContext.set_optimization_profile_async", profile_index)
            return 0 <= profile_index < ICudaEngine.num_optimization_profiles

        def _values(self, name: str) -> list[int]:
            import ctypes

            kind = ctypes.c_int32 if generation == "8.6" else ctypes.c_int64
            return list((kind * 2).from_address(self._at[name]))

        if generation != "8.6":

            def set_device_memory(self, memory: int, size: int) -> None:
                record("IExecutionContext.set_device_memory", size)
                object.__setattr__(self, "_memory", memory in api.DRIVER.memory)

            def update_device_memory_size_for_shapes(self) -> int:
                return 1000 * self._shape[0]

            def set_debug_listener(self, listener: Any) -> bool:
                record("IExecutionContext.set_debug_listener")
                object.__setattr__(self, "_listener", listener)
                return True

            def set_tensor_debug_state(self, name: str, flag: bool) -> bool:
                record("IExecutionContext.set_tensor_debug_state", name, flag)
                self._states.add(name)
                return True

            def set_all_tensors_debug_state(self, flag: bool) -> bool:
                record("IExecutionContext.set_all_tensors_debug_state", flag)
                self._states.update(("x", "y"))
                return True

        def _told(self, name: str) -> None:
            if self._listener is not None and name in self._states and name in self._at:
                try:  # as the bindings do: what it raises goes to stderr and is gone
                    self._listener.process_debug_tensor(
                        self._at[name], api.TensorLocation.DEVICE, api.DataType.FLOAT, self._shape, name, 7
                    )
                except Exception as error:
                    print(error)

        def execute_async_v3(self, stream_handle: int) -> bool:
            import ctypes

            record("IExecutionContext.execute_async_v3")
            if "execute" in api.FAIL or not self._memory:
                return False

            def floats(address: int, count: int) -> Any:
                return (ctypes.c_float * count).from_address(address)

            def compute() -> bool:
                count = self._shape[0] * 4
                x = floats(self._at["x"], count)
                if api.ENGINE == "late":
                    kept = [value for value in x if value > 0]
                    address = self._late.reallocate_output("y", 0, 4 * count, 256)
                    if not address:
                        return False
                    floats(address, len(kept))[:] = kept
                    self._late.notify_shape("y", (len(kept),))
                    return True
                factor = 1 if api.ENGINE == "shaped" else 2
                room = self.get_tensor_shape("y")
                y = floats(self._at["y"], count)
                for index in range(min(count, room[0] * room[1])):
                    y[index] = factor * x[index]
                return True

            if api.DRIVER is not None and api.DRIVER.capturing:
                api.DRIVER.captured = compute
                return True
            done = compute()
            for name in ("x", "y"):
                self._told(name)
            return done

        def report_to_profiler(self) -> bool:
            for name, took in (("conv1", 0.25), ("prob", 0.5)):
                self.profiler.report_layer_time(name, took)
            return True

    class ICudaEngine:
        name = "Unnamed Network 0"
        num_optimization_profiles = 2
        num_aux_streams = 0
        refittable = False
        device_memory_size = 4096

        @property
        def _tensors(self) -> tuple[str, ...]:
            return ("x", "s", "y") if api.ENGINE == "shaped" else ("x", "y")

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        @property
        def profiling_verbosity(self) -> Any:
            return api.ProfilingVerbosity.LAYER_NAMES_ONLY

        @property
        def hardware_compatibility_level(self) -> Any:
            return api.HardwareCompatibilityLevel.NONE

        def get_tensor_name(self, index: int) -> str:
            return self._tensors[index]

        def get_tensor_mode(self, name: str) -> Any:
            return api.TensorIOMode.OUTPUT if name == "y" else api.TensorIOMode.INPUT

        def get_tensor_location(self, name: str) -> Any:
            return api.TensorLocation.HOST if name == "s" else api.TensorLocation.DEVICE

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name == "s":
                return (2,)
            return (-1,) if name == "y" and api.ENGINE == "late" else (-1, 4)

        def get_tensor_dtype(self, name: str) -> Any:
            if name != "s":
                return api.DataType.FLOAT
            return api.DataType.INT32 if generation == "8.6" else api.DataType.INT64

        def get_tensor_format_desc(self, name: str) -> str:
            return "Row major linear FP32 format (kLINEAR)"

        def is_shape_inference_io(self, name: str) -> bool:
            return name == "s"

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
            if name == "s":
                return [(2,)] * 3
            return [(1, 4), (1 + profile_index, 4), (8, 4)]

        if generation == "8.6":

            def get_profile_shape_input(self, profile_index: int, binding: str) -> Any:
                assert isinstance(profile_index, int) and binding == "s"
                return [[1, 4], [2, 4], [8, 4]]

        else:

            def get_tensor_profile_values(self, profile_index: int, name: str) -> Any:
                assert isinstance(profile_index, int) and name == "s"
                return [[1, 4], [2, 4], [8, 4]]

            def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
                return 5000 + profile_index

        streamable_weights_size = 1000
        _budget = 1000

        def get_weight_streaming_automatic_budget(self) -> int:
            return 700

        @property
        def weight_streaming_budget_v2(self) -> int:
            return self._budget

        @weight_streaming_budget_v2.setter
        def weight_streaming_budget_v2(self, size: int) -> None:
            record("ICudaEngine.weight_streaming_budget_v2=", size)
            if "streaming" not in api.FAIL:
                self._budget = size

        def get_tensor_vectorized_dim(self, name: str) -> int:
            return -1

        def get_tensor_components_per_element(self, name: str) -> int:
            return -1

        def create_execution_context(self, *strategy: Any) -> Any:
            record("ICudaEngine.create_execution_context", *strategy)
            if "context" in api.FAIL:
                complain(api.LOGGER, "Requested amount of GPU memory (9 bytes) could not be allocated.")
                return None
            return IExecutionContext(bool(strategy) and strategy[0].name == "USER_MANAGED")

        def create_engine_inspector(self) -> Any:
            return EngineInspector()

    for kind in ("Entropy2", "Entropy", "MinMax", "Legacy"):
        if generation != "11":
            word = {"Entropy2": "IInt8EntropyCalibrator2", "Entropy": "IInt8EntropyCalibrator"}.get(
                kind, f"IInt8{kind}Calibrator"
            )
            setattr(api, word, type(word, (), {"__init__": lambda self: None}))

    def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
        record("init_libnvinfer_plugins", namespace)
        return True

    for name, value in list(locals().items()):
        if isinstance(value, type) and name not in ("Recorded",):
            setattr(api, name, value)
    api.init_libnvinfer_plugins = init_libnvinfer_plugins
    return api


def _read_network(api: Any, network: Any, tensor: Any, layer: Any, path: str) -> None:
    """Fill a network from an ONNX file: one layer per node, initializers are weights and no layers."""
    import onnx

    graph = onnx.load(path).graph
    weights = {weight.name for weight in graph.initializer}
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    known: dict[str, Any] = {}

    def add(value: Any) -> Any:
        form = value.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in form.shape.dim)
        kind = api.DataType[ONNX_TYPES[form.elem_type]]
        known[value.name] = tensor(value.name, kind, dims, value.name in shapes)
        return known[value.name]

    network._inputs += [add(value) for value in graph.input if value.name not in weights]
    outputs = {value.name: value for value in graph.output}
    for node in graph.node:
        inputs = [known[name] for name in node.input if name in known]
        made = []
        for name in node.output:
            if name in outputs:
                made.append(add(outputs[name]))
            else:
                known[name] = tensor(name, api.DataType.FLOAT, ())
                made.append(known[name])
        kind = api.LayerType[LAYERS.get(node.op_type, "ELEMENTWISE")]
        network._layers.append(layer(node.name, kind, inputs, made, api.DataType.FLOAT))
        if node.op_type == "Conv":  # the names of its weights stand for them
            api.CONVOLUTIONS.append(node.name)
            network._layers[-1]._weights = [*node.input[1:], ""][:2]
    network._outputs += [known[name] for name in outputs]
