"""Rules for running on the board: what becomes a flag of hrt_model_exec."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules import network, precision
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, EXACT, RULES, carry
from ptqbridge.rulebook import Outcome, ignored, implied, refused
from ptqbridge.spec import Shape

MODEL_INFO = "hrt_model_exec model_info"


@RULES.rule("batch")
def batch(count: int, context: Context) -> Outcome:
    """Caffe models only: ONNX has an explicit batch."""
    if count <= 1 or count == context.value("maxBatch"):
        return implied("the model runs the batch it was built for")
    if context.value("maxBatch"):
        return refused(f"a BPU model runs the batch it was built for: give --maxBatch={count} as well")
    why = "the batch is fixed when building; the input shapes must start with 1"
    return carry(APPROXIMATE, why, yaml={"input_parameters.input_batch": count})


@RULES.rule("shapes")
def shapes(asked: Mapping[str, Shape], context: Context) -> Outcome:
    """A built model has one shape; with ``--onnx`` this is the one that is built."""
    if not context.request.build.shapes and not context.builds:
        return implied("a built model runs in its own shape only")
    if not context.builds:
        why = "a built model has one shape: the board's tool tells which, and a different one cannot be run"
        return carry(APPROXIMATE, why, becomes=f"compared with {MODEL_INFO}")
    outcome = network.shapes(asked, context)
    for name, dims in asked.items():
        built = context.request.build.shapes.get(name)
        if built is not None and built.opt != dims:
            return refused(f"a BPU model runs the shape it was built for, and for {name!r} that is {built.text()}")
    return outcome


@RULES.rule("loadInputs")
def load_inputs(files: Mapping[str, str], context: Context) -> Outcome:
    """The board's tool takes a list in the model's order, without names."""
    names = [spec.name for spec in context.network.inputs] if context.network else list(files)
    unknown = [name for name in files if name not in names]
    if unknown:
        return refused(f"the model has no input {unknown[0]!r}; it has {', '.join(names)}")
    listed = ",".join(files[name] for name in names if name in files)
    why = "the files go in the model's order; pictures and arrays are brought to the form that the board takes"
    return carry(APPROXIMATE, why, perf={"input_file": listed}, infer={"input_file": listed})


@RULES.rule("iterations")
def iterations(count: int, context: Context) -> Outcome:
    """trtexec: at least so many AND at least the duration; hrt_model_exec: exactly so many."""
    if count <= 0:
        return implied("no least number of frames")
    if context.value("duration", 0) > 0:
        why = "hrt_model_exec stops by time alone when both are given"
        return carry(APPROXIMATE, why, perf={"frame_count": count})
    why = "exactly so many frames, over all threads together, instead of at least so many per stream"
    return carry(APPROXIMATE, why, perf={"frame_count": count})


@RULES.rule("warmUp")
def warm_up(milliseconds: float, context: Context) -> Outcome:
    """Recent Journey 6 tools leave the first frame out of the figures."""
    if not context.recent:
        return ignored("the board's tool has no warm-up: the first frames count")
    if milliseconds <= 0:
        return carry(APPROXIMATE, "the first frame counts as well", perf={"enable_warmup": False})
    why = "the first frame, not a time, is left out of the figures"
    return carry(APPROXIMATE, why, perf={"enable_warmup": True})


@RULES.rule("duration")
def duration(seconds: float, context: Context) -> Outcome:
    """Seconds in trtexec; minutes in hrt_model_exec, which has a second flag for seconds on recent Journey 6."""
    if seconds < 0:
        return refused("the board's tool prints no result when it is stopped: give a number of seconds")
    if seconds == 0:
        return implied("no least time")
    if context.recent:
        whole = math.ceil(seconds)
        if whole == seconds:
            return carry(EXACT, perf={"perf_time_in_seconds": whole})
        return carry(APPROXIMATE, "rounded up to whole seconds", perf={"perf_time_in_seconds": whole})
    why = "this tool counts minutes: rounded up; it overrides frame_count"
    return carry(APPROXIMATE, why, perf={"perf_time": math.ceil(seconds / 60)})


@RULES.rule("sleepTime", "idleTime")
def pauses(milliseconds: float, context: Context) -> Outcome:
    """The board's tool cannot wait between frames."""
    if milliseconds <= 0:
        return ignored("the board's tool never pauses")
    return refused("the board's tool cannot pause between frames, so its figures would be those of a busy chip")


@RULES.rule("infStreams", "streams")
def streams(count: int, context: Context) -> Outcome:
    """Jobs in flight are threads of the board's tool: 8 at most on Journey 5, 32 on Journey 6."""
    most = 32 if context.march.journey6 else 8
    if count > most:
        return refused(f"expected at most {most} on {context.march.name}, found {count}")
    why = "one thread per frame in flight is what comes nearest to a stream"
    return carry(APPROXIMATE, why, perf={"thread_num": count})


RULES.always("exposeDMA", outcome=ignored("CPU and BPU share one memory: there are no copies to overlap"))
RULES.always("noDataTransfers", outcome=implied("CPU and BPU share one memory: no copy is ever timed"))
RULES.always("includeDataTransfers", outcome=ignored("CPU and BPU share one memory: there are no copies to time"))
RULES.always("useManagedMemory", outcome=ignored("CPU and BPU share one memory anyway"))
RULES.always("useSpinWait", outcome=ignored("how the board's tool waits cannot be chosen"))
RULES.always("noSpinWait", outcome=ignored("how the board's tool waits cannot be chosen"))
RULES.always(
    "threads", outcome=implied("the board's tool has a host thread per frame in flight; --infStreams says how many")
)
RULES.always("useCudaGraph", outcome=ignored("CUDA graphs belong to NVIDIA GPUs; a BPU model is one task already"))
RULES.always("noCudaGraph", outcome=implied("there are no CUDA graphs"))


@RULES.rule("separateProfileRun")
def separate_profile(given: bool, context: Context) -> Outcome:
    """One run for the figures, one for the profile."""
    why = "two perf runs, the second of them with a profile"
    return carry(APPROXIMATE, why, becomes="a second hrt_model_exec perf with --profile_path", separate=True)


@RULES.rule("timeDeserialize")
def time_deserialize(given: bool, context: Context) -> Outcome:
    """The tool prints how long loading took."""
    why = "loading includes moving the model to DDR; the tool's own figure is taken"
    return carry(APPROXIMATE, why, becomes=MODEL_INFO, model_info=True)


RULES.always("timeRefit", outcome=refused("weights cannot be replaced in a built BPU model"))


@RULES.rule("persistentCacheRatio")
def persistent_cache(ratio: float, context: Context) -> Outcome:
    """On-chip memory is claimed when building."""
    if ratio == 0:
        return implied("nothing is kept in on-chip memory between frames")
    where = "; --memPoolSize=dlaSRAM:N claims on-chip memory when building" if context.march.l2m else ""
    return ignored(f"the board's tool has no such share{where}")


RULES.rule("useProfile")(precision.profile)
RULES.always("allocationStrategy", outcome=ignored("the memory of a model is fixed when it is built"))


@RULES.rule("weightStreamingBudget")
def streaming_budget(budget: str, context: Context) -> Outcome:
    """Nothing to stream."""
    if budget == "-2":
        return implied("weights are never streamed")
    return ignored("weights and activations share the chip's memory already")


@RULES.rule("saveDebugTensors", "saveAllDebugTensors")
def save_debug(what: object, context: Context) -> Outcome:
    """The board's tool dumps the tensors between its segments."""
    why = "all tensors between the model's segments are dumped, in the tool's own file names"
    return carry(APPROXIMATE, why, infer={"dump_intermediate": 2 if "string" in _words(what) else 1})


def _words(what: object) -> tuple[object, ...]:
    return tuple(what) if isinstance(what, (tuple, Mapping)) else ()


RULES.always("refitFromOnnx", outcome=refused("weights cannot be replaced in a built BPU model: build it anew"))


@RULES.rule("loadRefOutputs")
def reference_outputs(files: Mapping[str, str], context: Context) -> Outcome:
    """The comparison is done here, on outputs dumped there."""
    infer: dict[str, object] = {"enable_dump": True, "dump_format": "bin"}
    why = "the board's outputs are dumped and compared here; an int8 model's tolerance has to be wide"
    return carry(APPROXIMATE, why, infer=infer | dequantized(context))


def dequantized(context: Context) -> dict[str, object]:
    """Flags that make dumped outputs plain floats; Journey 5's tool has one for text dumps only."""
    return {"dequantize_process": True, "remove_padding_process": True} if context.march.journey6 else {}


@RULES.rule("refPair")
def reference_pair(index: int, context: Context) -> Outcome:
    """One infer run per pair."""
    return carry(APPROXIMATE, "one infer run per pair", becomes=f"infer run {index}")


@RULES.rule("accuracyAlgorithm", "accuracyThreshold", "atol", "rtol")
def accuracy(value: object, context: Context) -> Outcome:
    """The comparison is done on this machine."""
    return carry(EXACT, becomes="used when the dumped outputs are compared here")
