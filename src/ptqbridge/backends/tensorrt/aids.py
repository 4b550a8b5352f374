"""What the calls of a plan lean on beside TensorRT itself: checks, layer loops, calibration and timing caches, files.

An emitted script carries this file's text, so it needs the standard library only. Which layers are left alone, and in
which order things are set, is as in NVIDIA/TensorRT samples/common/sampleEngines.cpp, v8.6.1 and v10.13.3.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

NONE_FAILS = frozenset(
    {
        *("create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network"),
        *("create_timing_cache", "load_library", "load_runtime", "deserialize_cuda_engine"),
        *("create_execution_context", "create_engine_inspector", "get_engine_information"),
    }
)
"""Methods whose None means failure; the bindings do not raise."""


class CallFailed(Exception):
    """A call of TensorRT failed. ``member`` is its method; the text holds TensorRT's own messages."""

    def __init__(self, member: str, text: str) -> None:
        super().__init__(text)
        self.member = member


def check(member: str, value: Any, logger: Any = None, parser: Any = None) -> Any:
    """``value``, which a call of ``member`` returned, unless it says that the call failed: then CallFailed."""
    failed = value is False or (value is None and member in NONE_FAILS)
    if member == "add_optimization_profile":
        failed = value == -1
    if not failed:
        return value
    details = list(parser_errors(parser)) if member == "parse_from_file" and parser is not None else []
    details += [] if details else list(getattr(logger, "errors", ()))[-5:]
    raise CallFailed(member, f"{member} failed: {'; '.join(details) or 'TensorRT gave no reason'}")


def parser_errors(parser: Any) -> Iterable[str]:
    """Every error of the ONNX parser with its node. 8.6 knows the node's number, 10 and 11 its name and operator."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = error.node_name() if hasattr(error, "node_name") else ""
        kind = error.node_operator() if hasattr(error, "node_operator") else ""
        node = f"node {name or error.node()}" + (f" ({kind})" if kind else "")
        yield f"{node}: {' '.join(str(error.desc()).split())}"


def message_log(trt: Any, say: Callable[[str], None] | None = None) -> Any:
    """A logger that keeps TensorRT's errors, and hands warnings and errors on to ``say`` (default: stderr)."""
    tell = say or (lambda text: print(text, file=sys.stderr))

    class MessageLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity if hasattr(trt.ILogger, "Severity") else trt.Logger.Severity
            text = " ".join(str(message).split())
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR):
                self.errors.append(text)
                tell(f"TensorRT error: {text}")
            elif severity == kinds.WARNING:
                tell(f"TensorRT warning: {text}")

    return MessageLog()


def read_file(path: str) -> bytes:
    """The content of a file."""
    with open(path, "rb") as file:
        return file.read()


def read_or_empty(path: str) -> bytes:
    """The content of a file, or nothing when there is no such file yet."""
    return read_file(path) if os.path.exists(path) else b""


def write_engine(path: str, content: Any) -> None:
    """Write a file under a temporary name, then rename it: a failed build leaves the last good engine alone."""
    temporary = f"{path}.{secrets.token_hex(6)}"
    try:
        with open(temporary, "wb") as file:
            file.write(memoryview(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def engine_reader(trt: Any, path: str) -> Any:
    """A reader through which TensorRT takes the engine from a file piece by piece."""

    class EngineReader(trt.IStreamReaderV2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IStreamReaderV2.__init__(self)
            self.file = open(path, "rb")  # noqa: SIM115 - TensorRT reads after this returns

        def read(self, size: int, stream: int) -> bytes:
            return self.file.read(size)

        def seek(self, offset: int, where: Any) -> bool:
            self.file.seek(offset, int(where))
            return True

    return EngineReader()


def merge_timing_cache(path: str, config: Any) -> None:
    """Add the build's timings to what the file holds by now, and replace the file; a lock keeps other builds out."""
    timings = config.get_timing_cache()
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = check("create_timing_cache", config.create_timing_cache(read_or_empty(path)))
        check("combine", merged.combine(timings, False))
        write_engine(path, merged.serialize())


def require_dla_core(builder: Any, core: int) -> None:
    """Refuse a DLA core that this machine lacks."""
    if core >= builder.num_DLA_cores:
        raise CallFailed("num_DLA_cores", f"DLA core {core} was asked for, this machine has {builder.num_DLA_cores}")


def allow_bf16(trt: Any, config: Any, device: Any) -> None:
    """Allow bfloat16 where the GPU has it: from compute capability 8.0 on."""
    if device.attribute("compute_major") >= 8:
        config.set_flag(trt.BuilderFlag.BF16)


def load_plugins(registry: Any, paths: Sequence[str] | None) -> None:
    """Load plugin libraries that the parser named."""
    for path in paths or ():
        check("load_library", registry.load_library(path))


def serialize_plugins(config: Any, given: Sequence[str], named_by_parser: Sequence[str] | None) -> None:
    """Put plugin libraries into the engine: those given, and those that the parser named."""
    paths = [*given, *(named_by_parser or ())]
    if paths:
        config.plugins_to_serialize = paths


def set_input_range(profile: Any, tensor: Any, low: Any, best: Any, high: Any) -> None:
    """The range of an integer input in a profile: of its values if they are a shape, else of its dimensions."""
    if tensor.is_shape_tensor:
        profile.set_shape_input(tensor.name, list(low), list(best), list(high))
    elif any(size < 0 for size in tensor.shape):
        profile.set_shape(tensor.name, low, best, high)


def require_valid(profile: Any) -> None:
    """Refuse an optimization profile that TensorRT finds incomplete, before it is used."""
    if not profile:
        raise CallFailed(
            "is_valid", "the optimization profile is invalid: a shape is missing, or min <= opt <= max fails"
        )


def mark_debug(network: Any, names: Sequence[str]) -> None:
    """Mark tensors by name, so that a debug listener gets them."""
    found = {tensor.name: tensor for layer in _layers(network) for tensor in _outputs(layer)}
    found.update((network.get_input(index).name, network.get_input(index)) for index in range(network.num_inputs))
    for name in names:
        if name not in found:
            raise CallFailed("mark_debug", f"the network has no tensor {name}")
        check("mark_debug", network.mark_debug(found[name]))


def make_decomposable(trt: Any, network: Any, names: Sequence[str]) -> None:
    """Let the builder take attentions apart, by name or pattern; each shows up in the network as its input layer."""
    wanted = dict.fromkeys(names, True)
    for layer in _layers(network):
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings hand every layer out as a plain ILayer
            if _chosen(layer.attention.name, wanted, stars=True)[0]:
                layer.attention.decomposable = True


def set_made_up_ranges(trt: Any, network: Any) -> None:
    """Ranges that only serve timing: 2 for a layer's inputs (4 for Concat), 4 for its outputs (2 for pooling)."""
    for layer in _layers(network):
        around = 4.0 if layer.type == trt.LayerType.CONCATENATION else 2.0
        after = 2.0 if layer.type == trt.LayerType.POOLING else 4.0
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        for tensor, bound in [(tensor, around) for tensor in inputs] + [(tensor, after) for tensor in _outputs(layer)]:
            if tensor is not None and tensor.dynamic_range is None:
                check("set_dynamic_range", tensor.set_dynamic_range(-bound, bound))


def set_io_ranges(network: Any, path: str, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Ranges of INT8 inputs and outputs (by number) from a calibration cache: 127 times the scale."""
    scales = cache_scales(read_file(path))
    tensors = [network.get_input(index) for index in inputs] + [network.get_output(index) for index in outputs]
    for tensor in tensors:
        if tensor.name not in scales:
            raise CallFailed("set_dynamic_range", f"{path} holds no scale of the INT8 tensor {tensor.name}")
        bound = 127 * scales[tensor.name]
        check("set_dynamic_range", tensor.set_dynamic_range(-bound, bound))


def cache_scales(content: bytes) -> dict[str, float]:
    """Tensor to scale, from a calibration cache: ``name: hex`` of a float32's bits, the last colon being the border."""
    import struct

    pairs = (line.rpartition(":") for line in content.decode("utf-8").splitlines()[1:] if ":" in line)
    return {name: struct.unpack(">f", int(bits.strip(), 16).to_bytes(4, "big"))[0] for name, _, bits in pairs}


def _layers(network: Any) -> Iterable[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _outputs(layer: Any) -> list[Any]:
    return [layer.get_output(index) for index in range(layer.num_outputs)]


def _chosen(name: str, wanted: Mapping[str, Any], stars: bool) -> tuple[Any, bool]:
    """What is asked for a layer, and whether by its name. ``stars``: one ``*`` may stand anywhere (10 and later)."""
    if name in wanted:
        return wanted[name], True
    for pattern, value in wanted.items():
        head, star, tail = pattern.partition("*")
        fits = len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail)
        if star and ((stars and fits) or pattern == "*"):
            return value, False
    return None, False


def _untouchable(trt: Any) -> set[Any]:
    return {getattr(trt, name) for name in ("int32", "bool", "int64", "uint8") if hasattr(trt, name)}


def _fixed(trt: Any, layer: Any) -> bool:
    """Whether a pattern leaves this layer alone: it computes integers or truth values, or holds such constants."""
    kinds = _untouchable(trt)
    if layer.precision in kinds:
        return True
    return layer.type == trt.LayerType.CONSTANT and layer.get_output(0).dtype in kinds


def set_layer_precisions(trt: Any, network: Any, wanted: Mapping[str, Any], stars: bool) -> None:
    """Precisions by layer name or pattern; a pattern passes over what must stay integer or carries shapes."""
    kinds = _untouchable(trt)
    for layer in _layers(network):
        kind, by_name = _chosen(layer.name, wanted, stars)
        first = layer.get_input(0) if layer.num_inputs else None
        if kind is None:
            continue
        if not by_name:
            integers = first is not None and first.dtype in kinds and layer.get_output(0).dtype in kinds
            if _fixed(trt, layer) or (first is not None and first.is_shape_tensor) or integers:
                continue
        layer.precision = kind


def set_layer_output_types(trt: Any, network: Any, wanted: Mapping[str, Sequence[Any]], stars: bool) -> None:
    """Output types by layer name or pattern; one type serves all outputs of a layer, else the counts must agree."""
    for layer in _layers(network):
        kinds, by_name = _chosen(layer.name, wanted, stars)
        if kinds is None:
            continue
        if by_name and len(kinds) not in (1, layer.num_outputs):
            text = f"layer {layer.name} has {layer.num_outputs} outputs, --layerOutputTypes names {len(kinds)} types"
            raise CallFailed("set_output_type", text)
        if not by_name and (_fixed(trt, layer) or layer.get_output(0).is_shape_tensor):
            continue
        for index in range(layer.num_outputs):
            layer.set_output_type(index, kinds[index] if len(kinds) > 1 else kinds[0])


def set_layer_devices(network: Any, config: Any, wanted: Mapping[str, Any], stars: bool) -> None:
    """Devices by layer name; patterns only where ``stars`` says so."""
    for layer in _layers(network):
        device, by_name = _chosen(layer.name, wanted, stars)
        if device is not None and (by_name or stars):
            config.set_device_type(layer, device)


CALIBRATORS = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "EntropyCalibration": "IInt8EntropyCalibrator",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "LegacyCalibration": "IInt8LegacyCalibrator",
}
"""The word in a cache's first line, and the calibrator whose cache it is."""


def version_number(version: str) -> int:
    """The number in a cache's first line: 8601 for 8.6.1, 101303 for 10.13.3."""
    major, minor, patch = ([int(part) for part in re.findall(r"\d+", version)] + [0, 0])[:3]
    return major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch


def fitting_cache(content: bytes, version: str) -> tuple[bytes, str, str]:
    """A cache with its first line made to fit this TensorRT: the content, the calibrator's word, what was changed."""
    head, _, rest = content.partition(b"\n")
    found = re.fullmatch(r"TRT-(\d+)-(\w+)\s*", head.decode("utf-8", "replace"))
    if not found or found.group(2) not in CALIBRATORS:
        raise CallFailed("read_calibration_cache", f"no calibration cache: its first line is {head[:60]!r}")
    number = version_number(version)
    changed = "" if int(found.group(1)) == number else f"first line rewritten from TRT-{found.group(1)} to TRT-{number}"
    return f"TRT-{number}-{found.group(2)}\n".encode() + rest, found.group(2), changed


def cached_ranges(trt: Any, path: str, say: Callable[[str], None] = print) -> Any:
    """A calibrator that has finished ranges only: it hands TensorRT the cache and never a batch."""
    try:
        content, word, changed = fitting_cache(read_file(path), trt.__version__)
    except CallFailed as failed:
        raise CallFailed(failed.member, f"{path}: {failed}") from None
    if changed:
        say(f"{path}: {changed}, since TensorRT passes over a cache of another version")
    base = getattr(trt, CALIBRATORS[word])

    class CachedRanges(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.asked_for_data = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Sequence[str]) -> None:
            self.asked_for_data = True  # TensorRT refused the cache; without it ranges would be missing

        def read_calibration_cache(self) -> bytes:
            return content

        def write_calibration_cache(self, cache: Any) -> None:
            pass  # it is the one that was read

        def get_quantile(self) -> float:
            return 0.9999

        def get_regression_cutoff(self) -> float:
            return 1.0

        def read_histogram_cache(self, length: int) -> None:
            return None

        def write_histogram_cache(self, pointer: Any, length: int) -> None:
            pass

    return CachedRanges()
