"""What our own options become on the CPU, in the order of the option table."""

from __future__ import annotations

from ptqbridge.backends.onnxruntime.context import RULES, Context
from ptqbridge.rulebook import Outcome, approximate, exact, ignored, implied, refused

rule, always = RULES.rule, RULES.always

_FROM_FILE = "the ranges come from the file of --calib"

always("strict", outcome=exact("refuses made-up ranges and options without effect"))


@rule("toolchain")
def toolchain(place: str, context: Context) -> Outcome:
    """No vendor program is needed."""
    return implied("nothing else is needed") if place == "local" else refused("this target runs in this program only")


always("board", outcome=refused("this target runs here; boards belong to the Horizon targets"))
always("toolchainVersion", "horizonYaml", outcome=ignored("they are for the Horizon targets"))
always("fixShapes", outcome=ignored("ONNX Runtime takes dynamic dimensions"))
always("convertOpset", outcome=ignored("ONNX Runtime takes the opset and IR version that were loaded"))
always("checkOperators", outcome=ignored("it is for the Horizon targets"))


@rule("calibData")
def calibration_data(path: str, context: Context) -> Outcome:
    """A file of ranges goes first, as on TensorRT."""
    if context.request.build.calibration.cache:
        return approximate("the first samples are compared with float32", _FROM_FILE)
    return exact("the samples whose activations give the ranges")


@rule("calibAlgo")
def algorithm(word: str, context: Context) -> Outcome:
    """``load`` and ``skip`` are hb_mapper's."""
    if word == "load":
        return refused("--calib=FILE loads ranges; a model with Q/DQ nodes runs as it is, without --int8")
    if word == "skip":
        return refused("it is for the Horizon targets; here --int8 without --calib and --calibData makes its ranges up")
    return _calibrating("how ranges are chosen from the samples", context)


always("calibSamples", "calibSeed", "skipBroken", outcome=exact("the same on every target"))
always("calibBatch", outcome=exact("samples per calibration inference", "dynamic batch only; the ranges stay the same"))


@rule("calibPercentile")
def percentile(value: float, context: Context) -> Outcome:
    """Of the percentile method."""
    return _calibrating("share of magnitudes inside the range", context)


@rule("memCap")
def memory_cap(value: int, context: Context) -> Outcome:
    """Of our own calibration."""
    return _calibrating("tensors are seen in groups that keep it, with the same ranges", context)


@rule("calibCheckpoint")
def checkpoint(path: str, context: Context) -> Outcome:
    """Of our own calibration."""
    return _calibrating("calibration goes on where it was interrupted", context)


def _calibrating(becomes: str, context: Context) -> Outcome:
    return ignored(_FROM_FILE) if context.request.build.calibration.cache else exact(becomes)


always("calibCutoff", outcome=ignored("it is for TensorRT's own calibrators"))
always("scheme", "trtCalibrator", outcome=ignored("it belongs to the calibrate command"))
always("trtVersion", "emitScript", outcome=ignored("TensorRT is not used on this target"))
always("preset", outcome=exact("the image preprocessing to start from"))
always(
    *("mean", "std", "scale", "resize", "resizeFilter", "color", "layout"),
    outcome=exact("how images become input tensors"),
)
always("intraOpThreads", outcome=exact("threads inside one query"))
always("verify", outcome=refused("it is for the compiled code of Journey 5, X5 and X3"))
always("sweepThreads", "sweepCores", outcome=ignored("it is for boards; --infStreams says it here"))
