"""Rules on our own options: strictness, where things run, calibration data."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, beside, call, quoted
from ptqbridge.backends.tensorrt.rules.precision import QDQ
from ptqbridge.rulebook import Outcome, exact, ignored, implied, refused
from ptqbridge.wording import counted

BRIDGE = Part("tensorrt")

OWN_CACHE = "calibration.cache"
"""Where our own calibration writes its ranges, inside the output folder."""


@BRIDGE.rule("strict")
def strict(value: bool, context: Context) -> Outcome:
    """Made-up ranges are refused by the rules of --int8 and --best."""
    return exact("made-up INT8 ranges and options without effect are refused")


@BRIDGE.rule("toolchain")
def toolchain(where: str, context: Context) -> Outcome:
    """TensorRT is a library, not a program."""
    if where == "local":
        return exact("the tensorrt module of this Python")
    return ignored("TensorRT is a module of this Python; run ptqbridge itself inside the container or on the host")


@BRIDGE.rule("board")
def board(where: str, context: Context) -> Outcome:
    """For Horizon's boards."""
    return ignored("--board is for Horizon targets; a TensorRT engine runs on a GPU of this machine")


BRIDGE.always("toolchainVersion", "horizonYaml", outcome=ignored("they are for the Horizon targets"))
BRIDGE.always("fixShapes", outcome=ignored("TensorRT takes dynamic dimensions, within --minShapes and --maxShapes"))
BRIDGE.always("convertOpset", outcome=ignored("TensorRT's parser reads the model as it is"))
BRIDGE.always("checkOperators", outcome=ignored("it is for the Horizon targets"))


@BRIDGE.building("calibData")
def calibration_data(path: str, context: Context) -> Outcome:
    """Our own calibration, on any machine: its ranges reach TensorRT as a cache or as Q/DQ nodes."""
    why_not = _unused(context, data=True)
    if why_not:
        return ignored(why_not)
    if context.strong:
        edits = (QDQ,)
        return exact(f"{QDQ} of {path}", f"{context.name} takes ranges from the ONNX only", edits=edits)
    if context.native:
        return implied(f"TensorRT's own calibrator reads {path}, see --trtCalibrator")
    calls = (f"config.int8_calibrator = cached_ranges(trt, {beside(OWN_CACHE)})",)
    return exact(
        f"our calibration of {path} writes {OWN_CACHE}; {calls[0]}", "the ranges reach TensorRT as a cache", calls=calls
    )


def _unused(context: Context, *, data: bool = False) -> str:
    """Why calibration options have no effect; "" when they have."""
    if context.alone:
        return ""
    if not context.quantizes:
        return "nothing is calibrated without --int8 or --best"
    if context.request.build.calibration.cache:
        return "the ranges come from the cache of --calib"
    if context.has_qdq:
        return "the model's Q/DQ nodes hold the ranges"
    if not data and not context.request.build.calibration.data:
        return "there is no --calibData to apply it to"
    return ""


@BRIDGE.building("calibAlgo")
def algorithm(name: str, context: Context) -> Outcome:
    """Our own collector chooses; TensorRT gets finished ranges."""
    if name == "load":
        if context.has_qdq:
            return implied("TensorRT always takes the ranges of the model's Q/DQ nodes")
        return refused("the model has no Q/DQ nodes to take ranges from; --calib=FILE loads a cache")
    if name == "skip":
        return refused("it is for the Horizon targets; here --int8 without --calibData and --calib makes ranges up")
    return _applied(f"our own calibration with {name}", context, ours=True)


@BRIDGE.building("calibSamples")
def samples(count: int, context: Context) -> Outcome:
    """Spread evenly."""
    return _applied(f"{counted(count, 'sample')}, spread evenly", context)


@BRIDGE.building("calibBatch")
def calibration_batch(count: int, context: Context) -> Outcome:
    """Never changes the ranges."""
    return _applied(f"{counted(count, 'sample')} per calibration inference", context, ours=True)


@BRIDGE.building("calibPercentile")
def calibration_percentile(percent: float, context: Context) -> Outcome:
    """Belongs to one algorithm."""
    if context.native and "legacy" in context.values("trtCalibrator"):
        return exact(f"get_quantile() gives {percent / 100:.10g}", "the legacy calibrator's quantile")
    if not context.alone and context.request.build.calibration.algorithm != "percentile":
        return ignored("it belongs to --calibAlgo=percentile")
    return _applied(f"ranges hold {percent:g} % of the absolute values", context, ours=True)


@BRIDGE.building("calibCutoff")
def calibration_cutoff(share: float, context: Context) -> Outcome:
    """Of the legacy calibrator, beside its quantile. trtexec has no option for either."""
    if not context.alone and not (context.native and "legacy" in context.values("trtCalibrator")):
        return ignored("it belongs to --trtCalibrator=legacy")
    return exact(f"get_regression_cutoff() gives {share:.10g}")


@BRIDGE.building("calibSeed")
def seed(value: int, context: Context) -> Outcome:
    """Noise serves the strong lowering only; the weak one has trtexec's fixed ranges."""
    if not context.strong:
        return ignored("no noise is drawn: without data the ranges are fixed numbers, as in trtexec")
    if context.alone or context.made_up:
        return exact(f"seed {value} of the noise", "there is no calibration data")
    return ignored("there is no noise to draw: ranges are told, or not needed")


@BRIDGE.building("skipBroken")
def skip_broken(count: int, context: Context) -> Outcome:
    """Each one is named."""
    return _applied(f"up to {count} unreadable samples are passed over, and named", context)


@BRIDGE.building("memCap")
def memory_cap(size: int, context: Context) -> Outcome:
    """Our own collector's."""
    return _applied(f"our calibration keeps within {size / 2**20:g} MiB", context, ours=True)


@BRIDGE.building("calibCheckpoint")
def checkpoint(path: str, context: Context) -> Outcome:
    """Our own collector's."""
    return _applied(f"our calibration goes on from {path} after an interruption", context, ours=True)


BRIDGE.always("scheme", outcome=ignored("it belongs to the calibrate command"))


@BRIDGE.rule("trtVersion")
def version(text: str, context: Context) -> Outcome:
    """A build needs that very generation installed; a plan does not."""
    return exact(f"the calls are those of TensorRT {context.version}", "a build needs this generation installed")


@BRIDGE.building("emitScript")
def emit_script(path: str, context: Context) -> Outcome:
    """The same calls in the same order; written by build and by --dryRun."""
    if not path:
        return refused("expected a file name, found an empty path")
    return exact(f"{path}: the calls of this plan as a program of their own")


@BRIDGE.building("trtCalibrator")
def native(kind: str, context: Context) -> Outcome:
    """Asked for by name: TensorRT's own calibrator, on the GPU. Else our ranges, the same on every machine."""
    why_not = _unused(context)
    if why_not:
        return ignored(why_not)
    if context.strong:
        return ignored(f"{context.name} has no calibrators with strong typing: our own calibration makes the ranges")
    if context.gave("emitScript"):
        return refused("a program of its own has no data reader: calibrate here first, then give it --calib")
    if any(entry.dtype not in ("", "fp32", "int32", "int64") for entry in context.request.build.input_formats):
        return refused("TensorRT's calibrators are fed float32; leave it out, and our own calibration is used")
    quantile = context.request.build.calibration.percentile / 100
    cutoff = context.values("calibCutoff") if kind == "legacy" else ()
    numbers = f"{quoted(kind)}, {quantile:.10g}, {beside(OWN_CACHE)}" + "".join(f", {share:.10g}" for share in cutoff)
    text = f"config.int8_calibrator = native_calibrator(trt, network, device, {numbers})"
    because = f"TensorRT calibrates on the GPU at the optimal shape and writes {OWN_CACHE}"
    return call(text, because=because)


@BRIDGE.building("preset")
def preset(name: str, context: Context) -> Outcome:
    """Images only."""
    return _applied(f"calibration images prepared as {name}", context)


@BRIDGE.building("mean")
def mean(values: tuple[float, ...], context: Context) -> Outcome:
    """Images only."""
    return _applied(f"samples minus {_numbers(values)} per channel", context)


@BRIDGE.building("std")
def std(values: tuple[float, ...], context: Context) -> Outcome:
    """Images only."""
    return _applied(f"samples divided by {_numbers(values)} per channel", context)


@BRIDGE.building("scale")
def scale(values: tuple[float, ...], context: Context) -> Outcome:
    """Images only."""
    return _applied(f"pixels times {_numbers(values)} first", context)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


@BRIDGE.building("resize")
def resize(how: str, context: Context) -> Outcome:
    """Images only."""
    return _applied(f"calibration images by {how}", context)


@BRIDGE.building("resizeFilter")
def resize_filter(name: str, context: Context) -> Outcome:
    """Images only."""
    return _applied(f"calibration images resized with {name} interpolation", context)


@BRIDGE.building("color")
def color(order: str, context: Context) -> Outcome:
    """Images only."""
    return _applied(f"calibration images in {order}", context)


@BRIDGE.building("layout")
def layout(order: str, context: Context) -> Outcome:
    """Images only."""
    return _applied(f"calibration images in {order}", context)


def _applied(text: str, context: Context, *, ours: bool = False) -> Outcome:
    why_not = _unused(context)
    if ours and context.native:
        why_not = "it is for our own calibration; --trtCalibrator has TensorRT's instead, at the optimal shape"
    return ignored(why_not) if why_not else exact(text)


@BRIDGE.rule("intraOpThreads")
def intra_op_threads(count: int, context: Context) -> Outcome:
    """ONNX Runtime's."""
    return ignored("it is for the cpu target; a GPU query has no host threads")


BRIDGE.always("verify", outcome=refused("it is for the compiled code of Journey 5, X5 and X3"))
BRIDGE.always("sweepThreads", "sweepCores", outcome=ignored("it is for boards; --infStreams says it here"))
