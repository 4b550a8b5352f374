"""What a loaded engine tells of itself (``info``, --dumpOptimizationProfile): its tensors, profiles and layers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ptqbridge.backends.tensorrt.rules.book import quoted
from ptqbridge.backends.tensorrt.version import detect
from ptqbridge.errors import PtqbridgeError

BOUNDS = ("min", "opt", "max")


def profiles(trt: Any, engine: Any) -> list[dict[str, Any]]:
    """One mapping per profile and input: name, profile, and min, opt, max shapes; values too where they are shapes."""
    found: list[dict[str, Any]] = []
    inputs = [
        name
        for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    ]
    for index in range(engine.num_optimization_profiles):
        for name in inputs:
            shapes = engine.get_tensor_profile_shape(name, index)
            row: dict[str, Any] = {"input": name, "profile": index}
            row |= {bound: [int(size) for size in shape] for bound, shape in zip(BOUNDS, shapes, strict=True)}
            if engine.is_shape_inference_io(name):
                row["values"] = _values(engine, name, index)
            found.append(row)
    return found


def _values(engine: Any, name: str, index: int) -> dict[str, list[int]]:
    """The bounds of an input that holds a shape. 10's bindings have the two keywords swapped: no keywords here."""
    if hasattr(engine, "get_tensor_profile_values"):
        found = engine.get_tensor_profile_values(index, name)
    else:
        found = engine.get_profile_shape_input(index, name)
    return {bound: [int(value) for value in values] for bound, values in zip(BOUNDS, found, strict=False)}


def profile_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """As trtexec logs them (samples/common/sampleReporting.cpp, v10.13.3, printOptimizationProfileInfo)."""
    yield "Optimization Profile Information:"
    for row in rows:
        bounds = ", ".join(f"{bound}={'x'.join(map(str, row[bound])) or 'scalar'}" for bound in BOUNDS)
        values = ", ".join(f"{bound}={values}" for bound, values in row.get("values", {}).items())
        line = f"Model input {row['input']} (profile {row['profile']}): {bounds}"
        yield line + (f"; values {values}" if values else "")


def tensors(trt: Any, engine: Any) -> list[dict[str, Any]]:
    """Name, mode, type, shape (-1 where it is open) and format of every input and output."""
    found = []
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        found.append(
            {
                "name": name,
                "mode": "input" if is_input else "output",
                "dtype": engine.get_tensor_dtype(name).name,
                "shape": [int(size) for size in engine.get_tensor_shape(name)],
                "format": str(engine.get_tensor_format_desc(name)),
                "holds_a_shape": bool(engine.is_shape_inference_io(name)),
            }
        )
    return found


def layers(trt: Any, engine: Any) -> list[Any]:
    """What the inspector tells: names, or objects where the engine was built with detailed verbosity."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return list(json.loads(text or "{}").get("Layers", []))
    except ValueError:  # TensorRT does not escape all names
        return text.splitlines()  # type: ignore[no-any-return]


def describe_engine(path: str) -> dict[str, Any]:
    """Everything the engine in a file tells, loaded on the GPU here.

    Raises ToolchainMissing where the module or a GPU is not there, and InputError or ToolchainFailed where this
    TensorRT cannot load it.
    """
    from ptqbridge.backends.tensorrt.perform import Performer
    from ptqbridge.backends.tensorrt.run import require

    require()
    performer = Performer(detect().version, lambda text: None)
    performer.perform(
        (
            "import tensorrt as trt",
            "device = open_device(0)",
            "logger = message_log(trt)",
            'trt.init_libnvinfer_plugins(logger, "")',
            "runtime = trt.Runtime(logger)",
            f"engine = runtime.deserialize_cuda_engine(read_file({quoted(path)}))",
        )
    )
    trt, engine = performer.names["trt"], performer.names["engine"]
    return {
        "name": str(engine.name),
        "tensors": tensors(trt, engine),
        "profiles": profiles(trt, engine),
        "layers": layers(trt, engine),
        "device_memory_bytes": int(_first(engine, "device_memory_size_v2", "device_memory_size")),
        "refittable": bool(engine.refittable),
        "auxiliary_streams": int(engine.num_aux_streams),
        "hardware_compatibility": engine.hardware_compatibility_level.name,
        "profiling_verbosity": engine.profiling_verbosity.name,
        "loaded_with": str(trt.__version__),
        "gpu": performer.names["device"].info()["name"],
    }


def _first(engine: Any, *names: str) -> Any:
    return next(getattr(engine, name) for name in names if hasattr(engine, name))


def info(path: str) -> dict[str, Any]:
    """For ``ptqbridge info``: ``engine`` with all that it tells, or a note on why it could not be loaded here."""
    try:
        return {"engine": describe_engine(path)}
    except PtqbridgeError as error:
        return {"notes": [f"only the head of the file was read: {error.message}"]}
