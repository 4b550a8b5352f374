"""Rules on reports, devices and plugins."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, quoted
from ptqbridge.backends.tensorrt.rules.build import NO_SAFETY, serialize_call
from ptqbridge.rulebook import Outcome, exact, ignored, refused

REPORTING = Part("tensorrt")

PROFILER = (
    "context.profiler = profiler",
    "context.enqueue_emits_profile = False",
    "context.report_to_profiler()",
)
DETAIL = "names only, unless the engine is built with --profilingVerbosity=detailed"


@REPORTING.running("avgRuns")
def average_runs(count: int, context: Context) -> Outcome:
    """A last partial window is dropped."""
    return exact(f"one line per {count} queries" if count > 0 else "no such line")


@REPORTING.running("percentile")
def percentile(values: tuple[float, ...], context: Context) -> Outcome:
    """trtexec's rule: no interpolation, 32-bit arithmetic."""
    return exact(f"percentiles {', '.join(f'{value:g}' for value in values)} by trtexec's rule")


@REPORTING.rule("dumpRefit")
def dump_refit(value: bool, context: Context) -> Outcome:
    """Acts only with --refit, as in trtexec."""
    if context.lacks("refit", "stripAllWeights"):
        return ignored("it acts only with --refit, as in trtexec")
    return call("trt.Refitter(engine, logger).get_all()")


@REPORTING.running("dumpOutput")
def dump_output(value: bool, context: Context) -> Outcome:
    """Of stream 0 after the last query."""
    return exact("outputs of stream 0 after the last query, in trtexec's form")


@REPORTING.running("dumpRawBindingsToFile")
def dump_raw(value: bool, context: Context) -> Outcome:
    """trtexec's file names."""
    return exact("one .raw file per input and output, named as trtexec names them")


@REPORTING.running("dumpProfile")
def dump_profile(value: bool, context: Context) -> Outcome:
    """Disturbs the times of the run it is taken in."""
    return _profile(context)


def _profile(context: Context) -> Outcome:
    if context.gave("separateProfileRun"):
        return call(*PROFILER)
    return call(*PROFILER, because="no summary of a profiled run, as in trtexec; --separateProfileRun adds one")


def _inspect(form: str, context: Context) -> Outcome:
    return call(
        "inspector = engine.create_engine_inspector()",
        f"inspector.get_engine_information(trt.LayerInformationFormat.{form})",
        because="" if "detailed" in context.values("profilingVerbosity") else DETAIL,
    )


@REPORTING.rule("dumpLayerInfo")
def dump_layers(value: bool, context: Context) -> Outcome:
    """TensorRT's own text."""
    return _inspect("ONELINE", context)


@REPORTING.rule("dumpOptimizationProfile")
def dump_profiles(value: bool, context: Context) -> Outcome:
    """The calls are there in 8.6 already."""
    return call("engine.get_tensor_profile_shape(name, profile_index)")


@REPORTING.running("exportTimes")
def export_times(path: str, context: Context) -> Outcome:
    """trtexec's JSON; not written when the profiler disturbs the measured run."""
    if context.gave("dumpProfile", "exportProfile") and not context.gave("separateProfileRun"):
        return ignored("the times of a profiled run are not written, as in trtexec; --separateProfileRun helps")
    return exact(f"{path}, in trtexec's JSON form")


@REPORTING.running("exportOutput")
def export_output(path: str, context: Context) -> Outcome:
    """Valid JSON, which trtexec's own is not for nan and inf."""
    return exact(f"{path}, in trtexec's JSON form")


@REPORTING.running("exportProfile")
def export_profile(path: str, context: Context) -> Outcome:
    """All layers, also those of zero time."""
    return _profile(context)


@REPORTING.rule("exportLayerInfo")
def export_layers(path: str, context: Context) -> Outcome:
    """TensorRT's own JSON."""
    return _inspect("JSON", context)


@REPORTING.rule("device")
def device(index: int, context: Context) -> Outcome:
    """Made current before anything of TensorRT exists."""
    return call(f"device = open_device({index})")


@REPORTING.rule("useDLACore")
def dla_core(core: int, context: Context) -> Outcome:
    """trtexec adds precision flags and, without GPU fallback, direct I/O."""
    if core < 0:
        return ignored("a negative number means no DLA")
    load = f"runtime.DLA_core = {core}"
    if context.loads:
        return call(load)
    calls = [
        f"require_dla_core(builder, {core})",
        "config.default_device_type = trt.DeviceType.DLA",
        f"config.DLA_core = {core}",
    ]
    flags = [] if context.strong else ["PREFER_PRECISION_CONSTRAINTS"]
    flags.append("GPU_FALLBACK" if context.gave("allowGPUFallback") else "DIRECT_IO")
    if not context.strong and not context.gave("int8", "best"):
        flags.append("FP16")
    calls += [f"config.set_flag(trt.BuilderFlag.{name})" for name in flags]
    because = "the DLA computes in FP16 or INT8"
    because += (
        ": those layers of the model run there" if context.strong else "; without --int8 it is FP16, as in trtexec"
    )
    return exact("; ".join((*calls, load)), because, calls=(load,), dla=tuple(calls))


@REPORTING.rule("staticPlugins", "plugins")
def static_plugins(path: str, context: Context) -> Outcome:
    """Loaded before the builder, in the order given."""
    return call(f"ctypes.CDLL({quoted(path)})") if path else ignored("an empty path names no library")


@REPORTING.rule("dynamicPlugins")
def dynamic_plugins(path: str, context: Context) -> Outcome:
    """Into both registries."""
    if not path:
        return ignored("an empty path names no library")
    build = () if context.loads else (f"builder.get_plugin_registry().load_library({quoted(path)})",)
    return call(*build, f"runtime.get_plugin_registry().load_library({quoted(path)})")


@REPORTING.building("setPluginsToSerialize")
def plugins_to_serialize(path: str, context: Context) -> Outcome:
    """One list with every library given."""
    paths = [given for given in context.values("setPluginsToSerialize") or (path,) if given]
    if not path:
        return ignored("an empty path names no library")
    if context.gave("versionCompatible") and not context.gave("ignoreParsedPluginLibs", "excludeLeanRuntime"):
        return call(serialize_call(paths), because="together with the libraries that the parser finds needed")
    return call(f"config.plugins_to_serialize = [{', '.join(map(quoted, paths))}]")


@REPORTING.building("ignoreParsedPluginLibs")
def ignore_parsed(value: bool, context: Context) -> Outcome:
    """Such libraries are looked for only when the engine is version compatible."""
    if context.lacks("versionCompatible"):
        return ignored("plugin libraries of the parser are looked at only with --versionCompatible")
    return exact("parser.get_used_vc_plugin_libraries() is not asked")


@REPORTING.rule("safetyPlugins")
def safety_plugins(value: str, context: Context) -> Outcome:
    """Safety builds only."""
    return refused(f"safety plugins are for safety builds, and {NO_SAFETY}")


@REPORTING.rule("helpBuildRoute")
def help_build_route(value: str, context: Context) -> Outcome:
    """trtexec's own database."""
    return refused("the list of builder choices is trtexec's own: trtexec 11.1 --helpBuildRoute prints it")
