"""Rules on the network: model files, shapes, element types of inputs and outputs, sparsity, TF32."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, combine, flag, quoted, too_old
from ptqbridge.rulebook import Outcome, approximate, exact, ignored, refused
from ptqbridge.spec import IOFormat, Shape, ShapeRange

NETWORK = Part("tensorrt")

DTYPES = {
    "fp32": "float32",
    "fp16": "float16",
    "int8": "int8",
    "int32": "int32",
    "fp8": "fp8",
    "bf16": "bfloat16",
    "int64": "int64",
    "bool": "bool",
    "uint8": "uint8",
    "int4": "int4",
}
"""Type words and the module's names for them."""
LATER_DTYPES = {"bf16": "9.1", "int64": "10.0", "int4": "10.1"}
"""Element types that 8.6 does not have, and when they came."""
ADD_PROFILE = ("require_valid(profile)", "config.add_optimization_profile(profile)")
PRUNED = "weights of Conv, Gemm and MatMul pruned to 2:4"
NOT_ONNX = "ptqbridge builds from ONNX only"


@NETWORK.building("onnx")
def onnx(path: str, context: Context) -> Outcome:
    """The parser reads external data beside the file; its errors come node by node."""
    return call(f"parser.parse_from_file({quoted(path)})")


@NETWORK.rule("uff", "model", "deploy", "output", "uffInput", "uffNHWC")
def caffe_and_uff(value: object, context: Context) -> Outcome:
    """8.6 still has deprecated parsers for both; we read ONNX only, on every version."""
    has = "has deprecated Caffe and UFF parsers" if context.generation == "8.6" else "has no Caffe or UFF parser"
    return refused(f"{context.name} {has}, and {NOT_ONNX}: convert the model and pass it with --onnx")


def profile_calls(name: str, shape: ShapeRange, profile: str = "profile") -> tuple[str, ...]:
    """One input's range in an optimization profile, which is then complete."""
    dims = ", ".join(_tuple(part) for part in (shape.min, shape.opt, shape.max))
    return (f"{profile}.set_shape({quoted(name)}, {dims})", *ADD_PROFILE)


def _tuple(shape: Shape) -> str:
    return repr(tuple(shape))


def _range(name: str, dims: Shape, context: Context) -> ShapeRange:
    return context.request.build.shapes.get(name, ShapeRange(dims, dims, dims))


def _bound(bound: str, shapes: dict[str, Shape], context: Context) -> Outcome:
    if context.loads:
        if context.shape_options().get("opt") != bound:
            return ignored("the engine is built already; it runs at the optimal shape or at that of --shapes")
        given = {name for dims in context.values("shapes") for name in dims}
        calls = [
            f"context.set_input_shape({quoted(name)}, {_tuple(dims)})"
            for name, dims in shapes.items()
            if name not in given
        ]
        if not calls or not context.runs:
            return ignored("the engine is built already, and runs at --shapes or not at all")
        because = "the engine's own profile is fixed; the optimal shape only says what to run at"
        return approximate("; ".join(calls), because, calls=tuple(calls))
    sources = context.shape_options()
    copied = [other for other, source in sources.items() if source == bound and other != bound]
    because = f"the {' and '.join(copied)} shape was not given and is taken from here, as in trtexec" if copied else ""
    calls = [text for name, dims in shapes.items() for text in profile_calls(name, _range(name, dims, context))]
    return call(*dict.fromkeys(calls), because=because) if calls else ignored("the value names no input")


@NETWORK.rule("minShapes")
def min_shapes(shapes: dict[str, Shape], context: Context) -> Outcome:
    """Smallest shape of the profile."""
    return _bound("min", shapes, context)


@NETWORK.rule("optShapes")
def opt_shapes(shapes: dict[str, Shape], context: Context) -> Outcome:
    """The shape kernels are timed at, and the one that is run when --shapes is not given."""
    return _bound("opt", shapes, context)


@NETWORK.rule("maxShapes")
def max_shapes(shapes: dict[str, Shape], context: Context) -> Outcome:
    """Largest shape of the profile."""
    return _bound("max", shapes, context)


@NETWORK.building("minShapesCalib", "optShapesCalib", "maxShapesCalib")
def calibration_shapes(shapes: dict[str, Shape], context: Context) -> Outcome:
    """TensorRT calibrates at one shape: min = opt = max = the optimal one, whatever the other two say."""
    if context.lacks("int8", "best"):
        return ignored("nothing is calibrated without --int8")
    if context.made_up and not context.strong and not context.alone:
        return ignored("nothing is calibrated: without --calib, --calibData or Q/DQ nodes the ranges are made up")
    opt = context.request.build.calibration.shapes
    dims = {name: opt[name].opt if name in opt else shape for name, shape in shapes.items()}
    if context.strong:
        text = ", ".join(f"{name} at {'x'.join(map(str, shape))}" for name, shape in dims.items())
        return approximate(
            f"our calibration runs {text}",
            f"{context.name} with strong typing has no calibration profile; the shapes serve our own calibration",
        )
    return call(
        *calibration_calls(dims),
        because="the calibration profile is min = opt = max = the optimal calibration shape, as in trtexec",
    )


def calibration_calls(dims: dict[str, Shape]) -> tuple[str, ...]:
    """The calibration profile: one shape per input."""
    return (
        "calibration_profile = builder.create_optimization_profile()",
        *(f"calibration_profile.set_shape({quoted(n)}, {', '.join([_tuple(d)] * 3)})" for n, d in dims.items()),
        "require_valid(calibration_profile)",
        "config.set_calibration_profile(calibration_profile)",
    )


@NETWORK.building("inputIOFormats")
def input_formats(formats: tuple[IOFormat, ...], context: Context) -> Outcome:
    """One entry serves all inputs; else the count must be theirs, which the build checks."""
    return combine(_format("input", index, entry, len(formats), context) for index, entry in enumerate(formats))


@NETWORK.building("outputIOFormats")
def output_formats(formats: tuple[IOFormat, ...], context: Context) -> Outcome:
    """One entry serves all outputs; else the count must be theirs, which the build checks."""
    return combine(_format("output", index, entry, len(formats), context) for index, entry in enumerate(formats))


def _format(side: str, index: int, entry: IOFormat, count: int, context: Context) -> Outcome:
    """A type is set on the tensor, or on 11 (where it is read-only) written into the ONNX; a layout is set on all."""
    if entry.dtype in LATER_DTYPES and not context.at_least(LATER_DTYPES[entry.dtype]):
        since = LATER_DTYPES[entry.dtype]
        return too_old(context, f"element type {entry.dtype}", since, "convert the model's input or output")
    tensor = f"network.get_{side}({'i' if count == 1 else index})"
    calls = (f"{tensor}.allowed_formats = {format_mask(entry)}",) if entry.layouts or not context.strong else ()
    if not context.strong:
        made_up = entry.dtype == "int8" and (context.alone or context.made_up)
        because = "its range is made up unless --calib, --calibData or Q/DQ nodes tell it" if made_up else ""
        return call(f"{tensor}.dtype = trt.{DTYPES[entry.dtype]}", *calls, because=because)
    edit = f"{side} {'all' if count == 1 else index}: element type {entry.dtype}"
    return approximate(
        "; ".join((f"{edit} in the ONNX", *calls)),
        "with strong typing the type of an input or output is the model's: where it differs, the ONNX is changed",
        calls=calls,
        edits=(edit,),
    )


def format_mask(entry: IOFormat) -> str:
    """The bit mask of the layouts as Python text; 0 where the user named none, as in trtexec. chw is LINEAR."""
    names = ("LINEAR" if layout == "chw" else layout.upper() for layout in entry.layouts)
    return " | ".join(f"1 << int(trt.TensorFormat.{name})" for name in names) or "0"


@NETWORK.building("sparsity")
def sparsity(mode: str, context: Context) -> Outcome:
    """Force prunes the ONNX weights: the same kernels become possible as in trtexec, which prunes parsed layers."""
    if mode == "disable":
        return exact("no sparse kernels", "the builder's default")
    if mode == "enable":
        return flag("SPARSE_WEIGHTS")
    edit = PRUNED
    call_text = "config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)"
    return approximate(
        f"{edit}; {call_text}",
        "the weights are pruned in the ONNX, trtexec prunes them in the parsed layers; accuracy suffers in both",
        calls=(call_text,),
        edits=(edit,),
    )


@NETWORK.building("noTF32")
def no_tf32(value: bool, context: Context) -> Outcome:
    """TF32 is on by default on every version."""
    return call("config.clear_flag(trt.BuilderFlag.TF32)")
