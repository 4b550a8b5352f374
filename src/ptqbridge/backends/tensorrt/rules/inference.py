"""Rules on running and measuring: the loop is trtexec's, with the defaults of 8.6.1 on every version."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, no_hint, quoted, too_old
from ptqbridge.backends.tensorrt.rules.network import profile_calls
from ptqbridge.rulebook import Outcome, approximate, exact, ignored, implied, refused
from ptqbridge.spec import Shape, ShapeRange

INFERENCE = Part("tensorrt")

DEFAULTS_86 = "the defaults here are those of 8.6.1 on every version; trtexec 11 changed them"
DEBUG_ONCE = "each tensor is written once, when it comes first; trtexec writes it again in every query"
BUDGET_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@INFERENCE.rule("batch")
def batch(size: int, context: Context) -> Outcome:
    """0 is trtexec's word for not given."""
    if size == 0:
        return ignored("0 means not given")
    return refused("implicit-batch engines come from Caffe and UFF only; ONNX has an explicit batch, use --shapes")


@INFERENCE.rule("shapes")
def shapes(dims: dict[str, Shape], context: Context) -> Outcome:
    """What to run at; an input that no build shape names gets a profile of just this shape."""
    build = [] if context.loads else [name for name in dims if name not in _build_named(context)]
    calls = [text for name in build for text in profile_calls(name, ShapeRange(dims[name], dims[name], dims[name]))]
    if context.runs:
        calls += [f"context.set_input_shape({quoted(name)}, {tuple(shape)!r})" for name, shape in dims.items()]
    if not calls:
        return ignored("nothing is run, and the build shapes name every input")
    because = f"{', '.join(build)}: no build shape was given, so min = opt = max = this one" if build else ""
    return call(*dict.fromkeys(calls), because=because)


def _build_named(context: Context) -> set[str]:
    bounds = ("minShapes", "optShapes", "maxShapes")
    return {name for bound in bounds for given in context.values(bound) for name in given}


@INFERENCE.running("loadInputs")
def load_inputs(files: dict[str, str], context: Context) -> Outcome:
    """Raw bytes as trtexec reads them; .npy and .npz too."""
    return exact("; ".join(f"{name} from {path}" for name, path in files.items()), "copied into pinned host buffers")


@INFERENCE.running("iterations")
def iterations(count: int, context: Context) -> Outcome:
    """Together with the duration: both have to be reached."""
    return exact(f"at least {count} iterations after the warm-up")


@INFERENCE.running("warmUp")
def warm_up(milliseconds: float, context: Context) -> Outcome:
    """On the GPU's clock."""
    return exact(f"{milliseconds:g} ms of queries that are not measured")


@INFERENCE.running("duration")
def duration(seconds: float, context: Context) -> Outcome:
    """-1 never ends."""
    if seconds == -1:
        return exact("until interrupted", "Ctrl-C ends the run and reports it")
    return exact(f"at least {seconds:g} s after the warm-up")


@INFERENCE.running("sleepTime")
def sleep_time(milliseconds: float, context: Context) -> Outcome:
    """trtexec puts a host callback on a stream; Python's CUDA bindings have none."""
    if milliseconds <= 0:
        return exact("no delay")
    return approximate(
        f"the host sleeps {milliseconds:g} ms before the first query",
        "trtexec lets the GPU's stream wait on a host callback instead; the measured times are the same",
    )


@INFERENCE.running("idleTime")
def idle_time(milliseconds: float, context: Context) -> Outcome:
    """Inside the wall time, so it lowers the throughput."""
    return exact(f"the host sleeps {milliseconds:g} ms after each measured iteration")


@INFERENCE.running("infStreams")
def streams(count: int, context: Context) -> Outcome:
    """One context and one set of buffers each."""
    if count == 1:
        return exact("one execution context", "the default")
    return exact(f"{count} execution contexts, each with its own streams and buffers")


@INFERENCE.running("streams")
def older_streams(count: int, context: Context) -> Outcome:
    """The older name."""
    if context.gave("infStreams"):
        return ignored("--infStreams was given too, and wins")
    return streams(count, context)


@INFERENCE.running("exposeDMA")
def expose_dma(value: bool, context: Context) -> Outcome:
    """Single instead of double buffering."""
    return exact("one query in flight per stream instead of two", expose_dma=True)


@INFERENCE.running("noDataTransfers")
def no_transfers(value: bool, context: Context) -> Outcome:
    """The default of trtexec 11, not ours."""
    return exact("inputs are copied once before, outputs once after the loop", "" if _old(context) else DEFAULTS_86)


def _old(context: Context) -> bool:
    return context.generation != "11"


@INFERENCE.running("includeDataTransfers")
def include_transfers(value: bool, context: Context) -> Outcome:
    """The way back from a default of trtexec 11."""
    return implied(DEFAULTS_86)


@INFERENCE.running("useManagedMemory")
def managed_memory(value: bool, context: Context) -> Outcome:
    """No copies at all then."""
    return exact("cuMemAllocManaged for inputs and outputs", "the copies become no-ops, as in trtexec", managed=True)


@INFERENCE.running("useSpinWait")
def spin_wait(value: bool, context: Context) -> Outcome:
    """Events without blocking synchronization."""
    return exact("cuEventCreate without blocking synchronization", "" if _old(context) else DEFAULTS_86)


@INFERENCE.running("noSpinWait")
def no_spin_wait(value: bool, context: Context) -> Outcome:
    """The way back from a default of trtexec 11."""
    return implied(DEFAULTS_86)


@INFERENCE.running("threads")
def threads(value: bool, context: Context) -> Outcome:
    """Python's threads take turns on the host side of each launch."""
    return approximate(
        "one Python thread per stream",
        "launches take turns in Python: below about 0.1 ms per query the throughput is a lower bound",
    )


@INFERENCE.running("useCudaGraph")
def cuda_graph(value: bool, context: Context) -> Outcome:
    """Captured through the driver after one plain launch; a failed capture is said and falls back."""
    if context.at_least("10.10") and any(core >= 0 for core in context.values("useDLACore")):
        return ignored("the DLA takes no CUDA graph; trtexec switches it off too since 10.10")
    because = "an engine that cannot be captured runs without, and that is said"
    return exact(
        "cuStreamBeginCapture_v2 around context.execute_async_v3, then cuGraphLaunch per query",
        because if _old(context) else f"{because}; {DEFAULTS_86}",
        graph=True,
    )


@INFERENCE.running("noCudaGraph")
def no_cuda_graph(value: bool, context: Context) -> Outcome:
    """The way back from a default of trtexec 11."""
    return implied(DEFAULTS_86)


@INFERENCE.running("separateProfileRun")
def separate_profile(value: bool, context: Context) -> Outcome:
    """Always so in trtexec 11."""
    return exact("a second run with context.profiler", "the first run is measured without the profiler")


@INFERENCE.rule("timeDeserialize")
def time_deserialize(value: bool, context: Context) -> Outcome:
    """No inference follows."""
    return exact("2 unmeasured, 1 first and 20 timed runtime.deserialize_cuda_engine, then stop")


@INFERENCE.rule("timeRefit")
def time_refit(value: bool, context: Context) -> Outcome:
    """Needs the network, so an engine built here; done right after the build, also when nothing is run."""
    if context.loads:
        return ignored("a loaded engine has no network to refit from, as in trtexec")
    if context.lacks("refit", "stripAllWeights"):
        return ignored("it acts only with --refit, as in trtexec")
    times, form = (5, "()") if context.generation == "8.6" else (10, "_async(stream.handle)")
    calls = ("refitter = trt.Refitter(engine, logger)", f"refitter.refit_cuda_engine{form}")
    return exact("; ".join(calls), f"the mean of {times} refits", calls=calls, times_refit=True)


@INFERENCE.running("persistentCacheRatio")
def persistent_cache(ratio: float, context: Context) -> Outcome:
    """A share of what the device offers."""
    return call(f"context.persistent_cache_limit = int(max_persisting_l2_cache_size * {ratio:g})")


@INFERENCE.running("useProfile")
def use_profile(index: int, context: Context) -> Outcome:
    """8.6 trtexec always runs profile 0."""
    if index == 0:
        return exact("optimization profile 0", "the default")
    return call(f"context.set_optimization_profile_async({index}, stream.handle)")


@INFERENCE.running("allocationStrategy")
def allocation(strategy: str, context: Context) -> Outcome:
    """8.6 sizes every context for its largest shape."""
    if not context.at_least("10.0"):
        if strategy == "static":
            return implied(f"{context.name} always sizes a context's memory for its largest shape")
        return no_hint(context, "other allocation strategy than static", "outputs are the same, more memory is taken")
    if strategy == "static":
        return call(_context("STATIC"))
    if strategy == "runtime":
        size = "context.update_device_memory_size_for_shapes()"
    else:
        index = next(iter(context.values("useProfile")), 0)
        size = f"engine.get_device_memory_size_for_profile{'_v2' * context.at_least('10.3')}({index})"
    given = (
        "context.set_device_memory(memory.address, memory.size)"
        if context.at_least("10.3")
        else "context.device_memory = memory.address"
    )
    return call(_context("USER_MANAGED"), f"memory = device.memory({size})", given)


def _context(strategy: str) -> str:
    return f"context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.{strategy})"


@INFERENCE.running("weightStreamingBudget")
def streaming_budget(budget: str, context: Context) -> Outcome:
    """Set before any context exists."""
    if budget == "-2":
        return (
            exact("no weight streaming", "the default")
            if context.at_least("10.0")
            else implied(f"{context.name} streams no weights")
        )
    if not context.at_least("10.0"):
        return too_old(context, "weight streaming", "10.0", "use a GPU that holds the weights")
    name = "weight_streaming_budget_v2" if context.at_least("10.3") else "weight_streaming_budget"
    return call(f"engine.{name} = {_budget(budget)}")


def _budget(budget: str) -> str:
    if budget == "-1":
        return "engine.get_weight_streaming_automatic_budget()"
    if budget.endswith("%"):
        return f"int(engine.streamable_weights_size * {float(budget[:-1]):g} / 100)"
    unit = budget[-1].upper() if budget[-1].upper() in BUDGET_UNITS else ""
    return str(int(float(budget[: len(budget) - len(unit)]) * BUDGET_UNITS[unit or "M"]))


@INFERENCE.running("saveDebugTensors")
def debug_tensors(files: dict[str, str], context: Context) -> Outcome:
    """A listener gets each tensor as it is made."""
    if not context.at_least("10.0"):
        return too_old(context, "debug tensors", "10.0", "make the tensors outputs of the model")
    states = (f"context.set_tensor_debug_state({quoted(name)}, True)" for name in files)
    calls = ("context.set_debug_listener(listener)", *states)
    return exact("; ".join(calls), DEBUG_ONCE, calls=calls, debug_files=dict(files))


@INFERENCE.running("saveAllDebugTensors")
def all_debug_tensors(forms: tuple[str, ...], context: Context) -> Outcome:
    """Every tensor that was marked."""
    if not context.at_least("10.12"):
        return too_old(context, "dump of all debug tensors", "10.12", "name them with --saveDebugTensors or as outputs")
    calls = (
        "context.set_debug_listener(listener)",
        "context.set_all_tensors_debug_state(True)",
        "context.unfused_tensors_debug_state = True",
    )
    because = f"written as {', '.join(forms)}; {DEBUG_ONCE}"
    return exact("; ".join(calls), because, calls=calls, debug_forms=tuple(forms))


@INFERENCE.running("refitFromOnnx")
def refit_from_onnx(path: str, context: Context) -> Outcome:
    """The parser refitter came with 10.0, trtexec's option with 10.14."""
    if not context.at_least("10.0"):
        return too_old(context, "refitting from ONNX", "10.0", "build the engine from that model")
    if context.lacks("loadEngine"):
        return ignored("no engine is loaded that could be refitted")
    return call(
        "refitter = trt.Refitter(engine, logger)",
        f"trt.OnnxParserRefitter(refitter, logger).refit_from_file({quoted(path)})",
        "refitter.refit_cuda_engine()",
    )


@INFERENCE.running("loadRefOutputs")
def reference_outputs(files: dict[str, str], context: Context) -> Outcome:
    """Compared by ourselves, on every version."""
    return exact("; ".join(f"{name} against {path}" for name, path in files.items()), "compared after the run")


@INFERENCE.running("refPair")
def reference_pair(index: int, context: Context) -> Outcome:
    """One pair is --loadInputs with --loadRefOutputs; several would need several runs."""
    if len(context.values("refPair")) <= 1:
        return exact("--loadInputs and --loadRefOutputs", "there is one pair, and these are it")
    return refused("several reference pairs are not compared in one run; run once per pair with --loadRefOutputs")


@INFERENCE.running("accuracyAlgorithm")
def accuracy_algorithm(name: str, context: Context) -> Outcome:
    """The distance to the expected outputs."""
    return _accuracy(f"distance {name}", context)


@INFERENCE.running("accuracyThreshold")
def accuracy_threshold(limit: float, context: Context) -> Outcome:
    """Exit status 6 when it is passed."""
    return _accuracy(f"exit status 6 from a distance of {limit:g} on", context)


@INFERENCE.running("atol", "rtol")
def tolerance(value: float, context: Context) -> Outcome:
    """Of the l0 distance."""
    return _accuracy(f"tolerance {value:g} of the l0 distance", context)


def _accuracy(text: str, context: Context) -> Outcome:
    return ignored("no --loadRefOutputs to compare with") if context.lacks("loadRefOutputs") else exact(text)
