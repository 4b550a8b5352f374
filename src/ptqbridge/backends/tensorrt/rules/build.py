"""Rules on the build: memory, timing counts, compatibility, safety and DLA paths, the engine file."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, combine, flag, no_hint, quoted
from ptqbridge.rulebook import Outcome, approximate, exact, ignored, implied, refused

BUILD = Part("tensorrt")

POOLS = {
    "workspace": "WORKSPACE",
    "dlaSRAM": "DLA_MANAGED_SRAM",
    "dlaLocalDRAM": "DLA_LOCAL_DRAM",
    "dlaGlobalDRAM": "DLA_GLOBAL_DRAM",
    "tacticSharedMem": "TACTIC_SHARED_MEMORY",
}
_SRAM_TOP = 2**30
READER_SINCE = "10.7"
NO_SAFETY = "the safety runtime has no Python API; build safety engines with NVIDIA's own trtexec"


@BUILD.rule("maxBatch")
def max_batch(size: int, context: Context) -> Outcome:
    """0 is trtexec's word for not given."""
    if size == 0:
        return ignored("0 means not given")
    return refused("implicit-batch networks come from Caffe and UFF only; ONNX has an explicit batch, use --maxShapes")


@BUILD.building("workspace")
def workspace(mebibytes: float, context: Context) -> Outcome:
    """The same pool limit under its older name; a negative size is trtexec's word for not given."""
    if any("workspace" in sizes for sizes in context.values("memPoolSize")):
        return ignored("--memPoolSize=workspace:N was given too, and wins")
    if mebibytes < 0:
        return ignored("a negative size keeps the default: all device memory")
    because = "" if context.generation == "8.6" else f"{context.name} has no --workspace; its pool limit is the same"
    return call(_limit("workspace", math.floor(mebibytes * 2**20)), because=because)


def _limit(pool: str, size: int) -> str:
    return f"config.set_memory_pool_limit(trt.MemoryPoolType.{POOLS[pool]}, {size})"


@BUILD.building("memPoolSize")
def pool_sizes(sizes: dict[str, float], context: Context) -> Outcome:
    """Sizes arrive in MiB and leave in bytes; DLA SRAM takes powers of two only."""
    return combine(_pool(pool, mebibytes, context) for pool, mebibytes in sizes.items())


def _pool(pool: str, mebibytes: float, context: Context) -> Outcome:
    if math.isinf(mebibytes):
        return refused(f"{pool}: the size is without end; leave the option out for no limit")
    if pool == "tacticSharedMem" and context.generation == "8.6":
        return no_hint(context, "pool tacticSharedMem")
    size = math.floor(mebibytes * 2**20)
    if pool != "dlaSRAM":
        return call(_limit(pool, size))
    rounded = min(2 ** (size.bit_length() - 1), _SRAM_TOP) if size else 1
    if rounded == size:
        return call(_limit(pool, size))
    because = f"DLA SRAM comes in powers of two up to 1 GiB: {size} bytes are rounded down, as in trtexec"
    return approximate(_limit(pool, rounded), because, calls=(_limit(pool, rounded),))


@BUILD.rule("profilingVerbosity")
def profiling_verbosity(level: str, context: Context) -> Outcome:
    """Set on the builder, and on the context for NVTX ranges."""
    return _verbosity(level, context)


@BUILD.rule("nvtxMode")
def nvtx_mode(level: str, context: Context) -> Outcome:
    """The older name."""
    if context.gave("profilingVerbosity"):
        return ignored("--profilingVerbosity was given too, and wins")
    return _verbosity(level, context)


def _verbosity(level: str, context: Context) -> Outcome:
    value = f"trt.ProfilingVerbosity.{level.upper()}"
    run = (f"context.nvtx_verbosity = {value}",) if context.runs else ()
    if context.loads:
        return approximate("; ".join(run), "the loaded engine keeps the detail it was built with", calls=run)
    return call(f"config.profiling_verbosity = {value}", *run)


@BUILD.building("minTiming")
def min_timing(count: int, context: Context) -> Outcome:
    """Gone since 10.0."""
    if context.generation != "8.6":
        return no_hint(context, "least number of timing runs", "--avgTiming says how many are averaged")
    return call(f"config.min_timing_iterations = {count}")


@BUILD.building("avgTiming")
def avg_timing(count: int, context: Context) -> Outcome:
    """The same property everywhere."""
    return call(f"config.avg_timing_iterations = {count}")


@BUILD.rule("refit")
def refit(value: bool, context: Context) -> Outcome:
    """On a loaded engine it only switches --dumpRefit and --timeRefit on."""
    if context.loads:
        return implied("a loaded engine can be refitted if it was built so")
    return flag("REFIT")


@BUILD.rule("versionCompatible")
def version_compatible(value: bool, context: Context) -> Outcome:
    """8.6 asks the parser for native InstanceNorm too (8.6.1 and later), which 10 does by itself."""
    host = "runtime.engine_host_code_allowed = True"
    if context.loads:
        return call(host)
    flags = ["config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)", host, *_plugins_of_parser(context)]
    if context.generation != "8.6":
        return call(*flags)
    native = ["parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)"] if context.at_least("8.6.1") else []
    because = "the 8.6 Python packages bring no lean runtime: install tensorrt_lean or add --excludeLeanRuntime"
    return call(*native, *flags, because="" if context.gave("excludeLeanRuntime") else because)


def _plugins_of_parser(context: Context) -> list[str]:
    """Plugin libraries that the parser found the model to need: loaded, and put into the engine with its runtime."""
    calls = ["parser_plugins = parser.get_used_vc_plugin_libraries()"]
    if context.gave("ignoreParsedPluginLibs"):
        return calls
    calls.append("load_plugins(builder.get_plugin_registry(), parser_plugins)")
    calls.append("load_plugins(runtime.get_plugin_registry(), parser_plugins)")
    if not context.gave("excludeLeanRuntime"):
        given = [path for path in context.values("setPluginsToSerialize") if path]
        calls.append(serialize_call(given))
    return calls


def serialize_call(given: Iterable[str]) -> str:
    """Plugin libraries for the engine: those given, and those that the parser named."""
    return f"serialize_plugins(config, [{', '.join(map(quoted, given))}], parser_plugins)"


@BUILD.building("excludeLeanRuntime")
def exclude_lean(value: bool, context: Context) -> Outcome:
    """Set even without --versionCompatible, as in trtexec."""
    return flag("EXCLUDE_LEAN_RUNTIME")


@BUILD.rule("useRuntime")
def use_runtime(kind: str, context: Context) -> Outcome:
    """Lean and dispatch are Python packages of their own, for loading only."""
    if kind == "full":
        return exact("import tensorrt as trt", "the default")
    return call(
        f"import tensorrt_{kind} as trt",
        "runtime.engine_host_code_allowed = True",
        because=f"needs the package tensorrt_{kind}; plugins and building need the full runtime",
    )


@BUILD.rule("leanDLLPath")
def lean_library(path: str, context: Context) -> Outcome:
    """None from load_runtime is an error."""
    return call(f"runtime = runtime.load_runtime({quoted(path)})") if path else ignored("an empty path names nothing")


@BUILD.rule("safe")
def safe(value: bool, context: Context) -> Outcome:
    """No Python API on any version."""
    return refused(NO_SAFETY)


@BUILD.building("buildDLAStandalone")
def dla_standalone(value: bool, context: Context) -> Outcome:
    """A loadable cannot be run here. Without a DLA core trtexec builds for the GPU all the same."""
    if not context.alone and all(core < 0 for core in context.values("useDLACore")):
        return ignored("without --useDLACore the engine is one for the GPU, as in trtexec; it is not run")
    text = "config.engine_capability = trt.EngineCapability.DLA_STANDALONE"
    return exact(text, "nothing is run afterwards", dla=(text,))


@BUILD.building("allowGPUFallback")
def gpu_fallback(value: bool, context: Context) -> Outcome:
    """Harmless and useless without a DLA core."""
    if not context.alone and all(core < 0 for core in context.values("useDLACore")):
        return ignored("without --useDLACore every layer is on the GPU")
    text = "config.set_flag(trt.BuilderFlag.GPU_FALLBACK)"
    return exact(text, dla=(text,))


@BUILD.rule("consistency")
def consistency(value: bool, context: Context) -> Outcome:
    """trtexec ignores it too without --safe, and --safe is refused."""
    return ignored("it checks safety engines only, and those are refused here")


@BUILD.building("restricted")
def restricted(value: bool, context: Context) -> Outcome:
    """trtexec 11 dropped the option; the builder flag is still there."""
    return flag("SAFETY_SCOPE")


@BUILD.rule("skipInference", "buildOnly")
def skip_inference(value: bool, context: Context) -> Outcome:
    """The engine is loaded all the same: that it loads is part of success."""
    return exact("no execution context", "the engine is still loaded once, and a broken one is an error")


@BUILD.rule("explicitBatch")
def explicit_batch(value: bool, context: Context) -> Outcome:
    """A network flag in 8.6 that ONNX needs anyway."""
    return implied("an ONNX network always has an explicit batch")


@BUILD.rule("explicitPrecision")
def explicit_precision(value: bool, context: Context) -> Outcome:
    """Without effect since 8.4 and gone later."""
    return ignored("it has had no effect since TensorRT 8; Q/DQ nodes are always honoured")


@BUILD.rule("saveEngine")
def save_engine(path: str, context: Context) -> Outcome:
    """Written under another name first, so that a failed build leaves the last good engine alone."""
    if not path:
        return refused("expected a file name, found an empty path")
    return call(f"write_engine({quoted(path)}, engine_bytes)")


@BUILD.rule("loadEngine")
def load_engine(path: str, context: Context) -> Outcome:
    """None from deserialize_cuda_engine is an error, also with --skipInference."""
    if not path:
        return refused("expected a file name, found an empty path")
    if context.gave("asyncFileReader") and context.at_least(READER_SINCE):
        return call(_read_by_reader(path))
    return call(f"engine = runtime.deserialize_cuda_engine(read_file({quoted(path)}))")


def _read_by_reader(path: str) -> str:
    return f"engine = runtime.deserialize_cuda_engine(engine_reader(trt, {quoted(path)}))"


@BUILD.rule("asyncFileReader")
def async_reader(value: bool, context: Context) -> Outcome:
    """How the file is read; the engine is the same."""
    if context.lacks("loadEngine"):
        return ignored("no engine is loaded from a file")
    if not context.at_least(READER_SINCE):
        return no_hint(context, "asynchronous reader", "the engine is read at once")
    return call(_read_by_reader(context.request.run.artifact), because="a trt.IStreamReaderV2 on the file")


@BUILD.rule("getPlanVersionOnly")
def plan_version(value: bool, context: Context) -> Outcome:
    """The header is read by ourselves, on every version."""
    if context.lacks("loadEngine"):
        return ignored("no engine is loaded whose version could be read")
    return exact("the version in the engine file's first 28 bytes is printed", "no TensorRT call is needed", head=True)
