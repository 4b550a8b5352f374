"""Calls on the network's inputs and outputs, one by one and in trtexec's order, once the model has been seen.

Source: NVIDIA/TensorRT samples/common/sampleEngines.cpp (setupNetworkAndConfig), v8.6.1 and v10.13.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import beside, quoted
from ptqbridge.backends.tensorrt.rules.bridge import OWN_CACHE
from ptqbridge.backends.tensorrt.rules.network import ADD_PROFILE, DTYPES, format_mask, profile_calls
from ptqbridge.errors import OptionError
from ptqbridge.spec import IOFormat, ShapeRange, TensorSpec

LINEAR = "1 << int(trt.TensorFormat.LINEAR)"
UNSEEN = "network.get_input(i)", "network.get_output(i)"
"""What calls say while the model is unseen."""


def io_calls(context: Context, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Types, formats and shapes of the inputs, the profile, then the outputs. Raises OptionError for a wrong count."""
    build = context.request.build
    calls: list[str] = []
    ranged = False
    for index, spec in enumerate(inputs):
        tensor = f"network.get_input({index})"
        calls += _formats(tensor, _entry(build.input_formats, index, len(inputs), "inputIOFormats"), spec, context)
        shape = list(_shape("profile", spec, build.shapes.get(spec.name), tensor))
        calls += shape
        ranged = ranged or bool(shape)
    if ranged:
        calls += ADD_PROFILE
    for index, _ in enumerate(outputs):
        entry = _entry(build.output_formats, index, len(outputs), "outputIOFormats")
        calls += _formats(f"network.get_output({index})", entry, None, context)
    return tuple(calls)


def io_range_calls(context: Context, inputs: int, outputs: int) -> tuple[str, ...]:
    """Ranges of INT8 inputs and outputs from a cache, ours or that of ``--calib``: 8.6 and 10 want them set there."""
    build = context.request.build
    cache = build.calibration.cache if context.gave("int8", "best") else ""
    ours = context.calibrates and not context.native
    if context.strong or context.has_qdq or not (cache or ours):
        return ()
    chosen = [
        [index for index in range(count) if _is_int8(formats, index)]
        for formats, count in ((build.input_formats, inputs), (build.output_formats, outputs))
    ]
    path = beside(OWN_CACHE) if ours else quoted(cache)
    return (f"set_io_ranges(network, {path}, {chosen[0]}, {chosen[1]})",) if any(chosen) else ()


def _is_int8(formats: Sequence[IOFormat], index: int) -> bool:
    return bool(formats) and formats[0 if len(formats) == 1 else index].dtype == "int8"


def _entry(formats: Sequence[IOFormat], index: int, count: int, option: str) -> IOFormat | None:
    if len(formats) not in (0, 1, count):
        kind = option.removesuffix("IOFormats")
        raise OptionError(f"--{option}: expected one entry or one for each of {count} {kind}s, found {len(formats)}")
    return formats[0 if len(formats) == 1 else index] if formats else None


def _formats(tensor: str, entry: IOFormat | None, spec: TensorSpec | None, context: Context) -> Iterator[str]:
    if entry is not None:
        if not context.strong and entry.dtype:
            yield f"{tensor}.dtype = trt.{DTYPES[entry.dtype]}"
        if entry.layouts or not context.strong:
            yield f"{tensor}.allowed_formats = {format_mask(entry)}"
    elif context.generation == "8.6":
        if spec is not None and spec.dtype in ("float32", "float64", "int8"):
            yield f"{tensor}.dtype = trt.float32"
        yield f"{tensor}.allowed_formats = {LINEAR}"


def later_profile_calls(context: Context, inputs: Sequence[TensorSpec]) -> Iterator[str]:
    """Each ``--profile=N`` after the first: the shapes given, and 1 for dynamic dimensions that none names."""
    for index, shapes in context.request.profiles.items():
        profile = f"profile{index}"
        calls = [
            text
            for place, spec in enumerate(inputs)
            for text in _shape(profile, spec, shapes.get(spec.name), f"network.get_input({place})")
        ]
        if calls:
            yield from (*calls, f"require_valid({profile})", f"config.add_optimization_profile({profile})")


def _shape(profile: str, spec: TensorSpec, asked: ShapeRange | None, tensor: str) -> Iterator[str]:
    """What a profile says of one input. Small integer inputs may be shapes, which only the parsed network tells."""
    if spec.is_dynamic:
        yield profile_calls(spec.name, asked or ones(spec), profile)[0]
    elif spec.dtype in ("int32", "int64") and len(spec.shape) < 2:
        length = int(spec.shape[0]) if spec.shape else 1
        shape = asked or ShapeRange(*[(1,) * length] * 3)
        yield f"set_input_range({profile}, {tensor}, {tuple(shape.min)}, {tuple(shape.opt)}, {tuple(shape.max)})"


def ones(spec: TensorSpec) -> ShapeRange:
    """The shape of an input that no option names: 1 for each dynamic dimension."""
    shape = tuple(1 if isinstance(dim, str) else dim for dim in spec.shape)
    return ShapeRange(shape, shape, shape)
