"""Rules on precision and calibration: flags of the builder up to 10, edits of the ONNX where typing is strong."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, combine, flag, quoted, too_old
from ptqbridge.backends.tensorrt.rules.network import DTYPES, LATER_DTYPES
from ptqbridge.rulebook import Outcome, Verdict, approximate, exact, ignored, implied, refused

PRECISION = Part("tensorrt")

QDQ = "Q/DQ nodes from our calibration"
QDQ_CACHE = "Q/DQ nodes with the scales of the calibration cache"
QDQ_NOISE = "Q/DQ nodes with the ranges of seeded noise"
CAST = "Cast to {} where values fit"
STRICT = "--strict: no --calib, --calibData or Q/DQ nodes tell the INT8 ranges, so they would be made up"


def _edit(context: Context, edit: str, option: str, detail: str = "") -> Outcome:
    because = f"{context.name} takes precision from the ONNX only (strong typing), so --{option} edits it"
    return approximate(f"{edit} written into the ONNX", because + (f"; {detail}" if detail else ""), edits=(edit,))


def _half(name: str, context: Context) -> Outcome:
    return _edit(context, CAST.format(name), name, "nodes whose values leave the type's range stay fp32")


@PRECISION.building("fp16")
def fp16(value: bool, context: Context) -> Outcome:
    """Weak: the builder may choose. Strong: every node that stays in range is half precision."""
    return _half("fp16", context) if context.strong else flag("FP16")


@PRECISION.building("int8")
def int8(value: bool, context: Context) -> Outcome:
    """Ranges come from a cache, our calibration or the model's Q/DQ nodes; else they are made up as in trtexec."""
    if context.made_up and context.request.build.strict:
        return refused(STRICT)
    if not context.strong:
        return flag("INT8", _ranges(context))
    if context.has_qdq:
        return implied(f"the model's own Q/DQ nodes decide: {context.name} takes precision from the ONNX only")
    return _edit(context, _qdq(context), "int8", _ranges(context))


def _qdq(context: Context) -> str:
    if context.made_up:
        return QDQ_NOISE
    return QDQ_CACHE if context.request.build.calibration.cache else QDQ


def _ranges(context: Context) -> str:
    """Where the ranges come from, when it has to be said."""
    if context.alone:
        return "without --calib, --calibData or Q/DQ nodes the ranges are made up and the engine is for timing only"
    if context.made_up:
        source = "one batch of seeded noise" if context.strong else "made-up ranges (2 and 4, as in trtexec)"
        return f"performance only: {source}, for want of --calib or --calibData"
    if context.has_qdq:
        return "the model's Q/DQ nodes hold the ranges"
    return ""


@PRECISION.building("fp8")
def fp8(value: bool, context: Context) -> Outcome:
    """A flag up to 10; our own pass writes no FP8 nodes."""
    if context.strong:
        return refused(_foreign(context, "fp8", "FP8"))
    return flag("FP8")


def _foreign(context: Context, option: str, kind: str) -> str:
    return (
        f"{context.name} with strong typing has no --{option}; use --int8, or bring a model that holds {kind} Q/DQ"
        " nodes and leave the option out"
    )


@PRECISION.building("bf16")
def bf16(value: bool, context: Context) -> Outcome:
    """A flag from 9.1 to 10; before that the type does not exist."""
    if not context.at_least("9.1"):
        return too_old(context, "bfloat16", "9.1", "use --fp16")
    return _half("bf16", context) if context.strong else flag("BF16")


@PRECISION.building("int4")
def int4(value: bool, context: Context) -> Outcome:
    """A flag of 10.1 to 10.x that lets INT4 Q/DQ nodes of the model through."""
    if not context.at_least("10.1"):
        return too_old(context, "INT4", "10.1", "use --int8")
    return refused(_foreign(context, "int4", "INT4")) if context.strong else flag("INT4")


@PRECISION.building("best")
def best(value: bool, context: Context) -> Outcome:
    """8.6: FP16 and INT8; 10: BF16 too; strong typing has nothing to choose from, so both are written down."""
    if context.made_up and context.request.build.strict:
        return refused(STRICT)
    if context.strong:
        edits = (CAST.format("fp16"), *(() if context.has_qdq else (_qdq(context),)))
        because = f"{context.name} takes precision from the ONNX only: every node gets a type, none is tried both ways"
        detail = _ranges(context)
        return approximate(
            f"{' and '.join(edits)} written into the ONNX", f"{because}; {detail}" if detail else because, edits=edits
        )
    names = ("FP16", "INT8", "BF16") if context.at_least("9.1") else ("FP16", "INT8")
    gpu = "BF16 needs compute capability 8.0 and is left out below" if "BF16" in names else ""
    because = "; ".join(text for text in (gpu, _ranges(context)) if text)
    calls = [f"config.set_flag(trt.BuilderFlag.{name})" for name in names if name != "BF16"]
    calls += ["allow_bf16(trt, config, device)"] * ("BF16" in names)
    return call(*calls, because=because)


@PRECISION.building("stronglyTyped")
def strongly_typed(value: bool, context: Context) -> Outcome:
    """A creation flag of the network in 10, the only way in 11."""
    if not context.at_least("9.1"):
        return too_old(context, "strongly typed networks", "9.1", "use --fp16 or --int8")
    if context.generation == "11":
        return implied(f"{context.name} builds strongly typed networks only")
    return call("network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))")


@PRECISION.building("directIO")
def direct_io(value: bool, context: Context) -> Outcome:
    """The same flag everywhere."""
    return flag("DIRECT_IO")


@PRECISION.building("precisionConstraints")
def constraints(mode: str, context: Context) -> Outcome:
    """Obey and prefer are builder flags; in the ONNX a type is simply there."""
    if mode == "none":
        return exact("no flag", "per-layer requests are not applied")
    if context.lacks("layerPrecisions", "layerOutputTypes") and context.strong:
        return ignored("there is no --layerPrecisions or --layerOutputTypes to apply it to")
    if context.strong:
        return approximate(
            "per-layer types written into the ONNX",
            f"{context.name} with strong typing obeys the ONNX always, so prefer and obey are the same",
        )
    return flag(f"{mode.upper()}_PRECISION_CONSTRAINTS")


@PRECISION.building("layerPrecisions")
def layer_precisions(layers: dict[str, tuple[str, ...]], context: Context) -> Outcome:
    """Names and ``*`` patterns are resolved on the parsed network, with trtexec's own skipping rules."""
    return _per_layer("layerPrecisions", layers, context)


@PRECISION.building("layerOutputTypes")
def layer_output_types(layers: dict[str, tuple[str, ...]], context: Context) -> Outcome:
    """One type serves all outputs of a layer; else the count must be theirs, which the build checks."""
    return _per_layer("layerOutputTypes", layers, context)


def _per_layer(option: str, layers: dict[str, tuple[str, ...]], context: Context) -> Outcome:
    if not context.alone and context.request.build.precision.constraints == "none":
        return ignored("per-layer requests are applied only with --precisionConstraints=prefer or obey, as in trtexec")
    found = combine(_one_layer(option, layer, types, context) for layer, types in layers.items())
    if context.strong or found.verdict is Verdict.REFUSED or not layers:
        return found
    return call(_layer_call(option, layers, context), because=found.because)


def _layer_call(option: str, layers: dict[str, tuple[str, ...]], context: Context) -> str:
    """One call for all layers: they are gone through in the network's order, as in trtexec."""
    one = option == "layerPrecisions"
    entries = []
    for layer, types in layers.items():
        kinds = [f"trt.{DTYPES[word]}" for word in types]
        entries.append(f"{quoted(layer)}: {kinds[0] if one else '[' + ', '.join(kinds) + ']'}")
    helper = "set_layer_precisions" if one else "set_layer_output_types"
    return f"{helper}(trt, network, {{{', '.join(entries)}}}, {_stars(context)})"


def _stars(context: Context) -> bool:
    """Whether a ``*`` may stand anywhere in a layer's name; in 8.6 only alone."""
    return context.generation != "8.6"


def _one_layer(option: str, layer: str, types: tuple[str, ...], context: Context) -> Outcome:
    for word in types:
        if word == "int16":
            return refused(f"{layer}: int16 is a precision of the BPU; TensorRT has none, use fp16 or fp32")
        if word in LATER_DTYPES and not context.at_least(LATER_DTYPES[word]):
            return too_old(context, f"element type {word}", LATER_DTYPES[word], "use fp16")
        if context.strong and word in ("int32", "fp8"):
            return refused(f"{layer}: with strong typing {word} cannot be asked per layer; write it into the model")
    if context.strong:
        edit = f"{layer}: {'outputs ' if option == 'layerOutputTypes' else ''}{'+'.join(types)}"
        because = f"{context.name} takes precision from the ONNX only: Cast or Q/DQ nodes are put around the layer"
        return approximate(f"{edit} in the ONNX", because, edits=(edit,))
    return exact(f"{layer}: {'+'.join(types)}")


@PRECISION.building("layerDeviceTypes")
def layer_devices(layers: dict[str, str], context: Context) -> Outcome:
    """GPU or DLA."""
    foreign = [
        f"{layer}: TensorRT runs layers on GPU or DLA, not on {device}"
        for layer, device in layers.items()
        if device not in ("GPU", "DLA")
    ]
    if foreign or not layers:
        return refused("; ".join(foreign)) if foreign else ignored("the value names nothing")
    entries = ", ".join(f"{quoted(layer)}: trt.DeviceType.{device}" for layer, device in layers.items())
    stars = _stars(context)
    why = "" if stars else "names only: trtexec 8.6 reads no pattern here"
    return call(f"set_layer_devices(network, config, {{{entries}}}, {stars})", because=why if "*" in entries else "")


@PRECISION.building("calib")
def calib(path: str, context: Context) -> Outcome:
    """The cache holds one scale per tensor. The builder checks its first line; we do so before the build."""
    if not path:
        return ignored("an empty path names no cache")
    if context.lacks("int8", "best"):
        return ignored("a calibration cache has no effect without --int8, as in trtexec")
    if context.has_qdq:
        return ignored("the model's Q/DQ nodes hold the ranges; TensorRT does not look at a cache then")
    if context.strong:
        return _edit(context, QDQ_CACHE, "calib", "a tensor missing in the cache stays in floating point")
    return call(f"config.int8_calibrator = cached_ranges(trt, {quoted(path)})")


@PRECISION.building("profile")
def profile(index: int, context: Context) -> Outcome:
    """8.6 trtexec knows one profile only."""
    if index == 0:
        return exact("optimization profile 0", "the profile that is there anyway")
    if not context.at_least("9.1"):
        return too_old(context, "more than one profile in trtexec", "9.1", "widen the shapes of profile 0")
    name = f"profile{index}"
    shapes = context.request.profiles.get(index, {})
    sets = [
        f"{name}.set_shape({quoted(tensor)}, {tuple(shape.min)}, {tuple(shape.opt)}, {tuple(shape.max)})"
        for tensor, shape in shapes.items()
    ]
    calls = (*sets, f"require_valid({name})") if sets else ()
    return call(f"{name} = builder.create_optimization_profile()", *calls, f"config.add_optimization_profile({name})")


@PRECISION.building("calibProfile")
def calibration_profile(index: int, context: Context) -> Outcome:
    """Which profile's optimal shape calibrates."""
    if context.strong:
        return ignored("our own calibration runs at the shapes of the samples")
    if context.lacks("int8", "best"):
        return ignored("nothing is calibrated without --int8")
    if index == 0:
        return exact("calibration at the optimal shape of profile 0", "the profile that is there anyway")
    if not context.at_least("9.1"):
        return too_old(context, "more than one profile in trtexec", "9.1", "give --optShapesCalib")
    return call(f"config.set_calibration_profile(profile{index})")
