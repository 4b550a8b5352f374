"""Rules on build options that came with 10 and 11; what 8.6 does with each is said here."""

from __future__ import annotations

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, flag, no_hint, quoted, too_old
from ptqbridge.backends.tensorrt.rules.build import NO_SAFETY
from ptqbridge.rulebook import Outcome, ignored, implied, refused

LATER = Part("tensorrt")

TILING = ("NONE", "FAST", "MODERATE", "FULL")
WHOLE_ENGINE = "save the whole engine"
NO_SEARCH = "build routes are not searched here: let trtexec 11.1 search and pass its result with --setBuildRoute"


@LATER.building("stripWeights")
def strip_weights(value: bool, context: Context) -> Outcome:
    """Another engine file: 8.6 cannot make it."""
    if not context.at_least("9.3"):
        return too_old(context, "engines without weights", "9.3", WHOLE_ENGINE)
    return flag("STRIP_PLAN")


@LATER.building("stripAllWeights")
def strip_all_weights(value: bool, context: Context) -> Outcome:
    """--stripWeights and --refit in one word."""
    if not context.at_least("9.3"):
        return too_old(context, "engines without weights", "9.3", f"{WHOLE_ENGINE} with --refit")
    return call("config.set_flag(trt.BuilderFlag.STRIP_PLAN)", "config.set_flag(trt.BuilderFlag.REFIT)")


@LATER.building("weightless")
def weightless(value: bool, context: Context) -> Outcome:
    """The older name of --stripWeights."""
    return strip_weights(value, context)


@LATER.building("nativeInstanceNorm")
def native_instance_norm(value: bool, context: Context) -> Outcome:
    """Off by default up to 9, on since 10; the parser of 8.6.0 cannot be told."""
    if context.at_least("10.0"):
        return implied(f"{context.name} parses InstanceNormalization so by default")
    if not context.at_least("8.6.1"):
        return too_old(context, "native InstanceNormalization", "8.6.1", "leave it out")
    return call("parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)")


@LATER.building("pluginInstanceNorm")
def plugin_instance_norm(value: bool, context: Context) -> Outcome:
    """The other way round."""
    if not context.at_least("10.0"):
        return implied(f"{context.name} parses InstanceNormalization into the plugin by default")
    return call("parser.clear_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)")


@LATER.building("uint8AsymmetricQuantizationDLA")
def uint8_dla(value: bool, context: Context) -> Outcome:
    """Changes what the network computes."""
    if not context.at_least("10.11"):
        return too_old(context, "UINT8 and zero points for the DLA", "10.11", "quantize symmetrically to INT8")
    return call("parser.set_flag(trt.OnnxParserFlag.ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA)")


@LATER.building("reportCapabilityDLA")
def report_dla(value: bool, context: Context) -> Outcome:
    """The parser then has to know the builder's settings."""
    if not context.at_least("10.16"):
        return no_hint(context, "report of what the DLA can run", "the network is built all the same")
    return call("parser.set_flag(trt.OnnxParserFlag.REPORT_CAPABILITY_DLA)", "parser.set_builder_config(config)")


@LATER.building("adjustForDLA")
def adjust_for_dla(value: bool, context: Context) -> Outcome:
    """Changes the graph, so where layers run."""
    if not context.at_least("10.16"):
        return too_old(context, "graph adjustment for the DLA", "10.16", "use --allowGPUFallback")
    return call("parser.set_flag(trt.OnnxParserFlag.ADJUST_FOR_DLA)")


@LATER.building("enablePluginOverride")
def plugin_override(value: bool, context: Context) -> Outcome:
    """Changes who computes an operator."""
    if not context.at_least("10.15"):
        return too_old(context, "plugins in place of standard operators", "10.15", "rename the operator in the model")
    return call("parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)")


@LATER.building("monitorMemory")
def monitor_memory(value: bool, context: Context) -> Outcome:
    """A log."""
    if not context.at_least("10.6"):
        return no_hint(context, "memory report", "the engine is the same")
    return flag("MONITOR_MEMORY")


@LATER.building("distributiveIndependence")
def distributive_independence(value: bool, context: Context) -> Outcome:
    """A guarantee on numerics."""
    if not context.at_least("10.12"):
        return too_old(context, "distributive independence", "10.12", "leave it out")
    return flag("DISTRIBUTIVE_INDEPENDENCE")


@LATER.rule("dumpKernelText")
def dump_kernel_text(value: bool, context: Context) -> Outcome:
    """Safety builds only."""
    return refused(f"kernel text comes from safety builds only, and {NO_SAFETY}")


@LATER.rule("allowWeightStreaming")
def weight_streaming(value: bool, context: Context) -> Outcome:
    """Only strongly typed networks can stream; a loaded engine was built so or not."""
    if not context.at_least("10.0"):
        return too_old(context, "weight streaming", "10.0", "use a GPU that holds the weights")
    if context.loads:
        return implied("a loaded engine streams its weights if it was built so; --weightStreamingBudget says how many")
    if not context.strong and not context.alone:
        return refused(f"{context.name} streams the weights of strongly typed networks only; add --stronglyTyped")
    return flag("WEIGHT_STREAMING", "" if context.strong else "needs --stronglyTyped")


@LATER.building("markDebug")
def mark_debug(names: tuple[str, ...], context: Context) -> Outcome:
    """Tensors that --saveDebugTensors can write."""
    if not context.at_least("10.0"):
        return too_old(context, "debug tensors", "10.0", "make the tensors outputs of the model")
    listed = ", ".join(map(quoted, names))
    return call(f"mark_debug(network, [{listed}])") if names else ignored("the value names no tensor")


@LATER.building("markUnfusedTensorsAsDebugTensors")
def mark_unfused(value: bool, context: Context) -> Outcome:
    """All that fusion leaves."""
    if not context.at_least("10.12"):
        instead = "name them with --markDebug" if context.at_least("10.0") else "make them outputs of the model"
        return too_old(context, "marking of unfused tensors", "10.12", instead)
    return call("network.mark_unfused_tensors_as_debug_tensors()")


@LATER.building("tilingOptimizationLevel")
def tiling(level: int, context: Context) -> Outcome:
    """0 is none."""
    if not 0 <= level < len(TILING):
        return refused(f"expected a level from 0 to {len(TILING) - 1}, found {level}")
    if not context.at_least("10.8"):
        return no_hint(context, "tiling search") if level else implied(f"{context.name} searches for no tilings")
    return call(f"config.tiling_optimization_level = trt.TilingOptimizationLevel.{TILING[level]}")


@LATER.building("l2LimitForTiling")
def tiling_limit(size: int, context: Context) -> Outcome:
    """Bytes."""
    if size < 0:
        return ignored("a negative size keeps the default")
    if not context.at_least("10.8"):
        return no_hint(context, "tiling search")
    return call(f"config.l2_limit_for_tiling = {size}")


@LATER.rule("remoteAutoTuningConfig", "cpuOnly")
def remote_tuning(value: object, context: Context) -> Outcome:
    """Safety builds only."""
    return refused(f"building with remote tuning or without a GPU is for safety builds, and {NO_SAFETY}")


@LATER.building("decomposableAttentions")
def decomposable(names: tuple[str, ...], context: Context) -> Outcome:
    """The builder may take these apart when it has no fused kernel."""
    if not context.at_least("10.14"):
        return no_hint(context, "attention layers of its own", "attention is built from single layers anyway")
    listed = ", ".join(map(quoted, names))
    return call(f"make_decomposable(trt, network, [{listed}])") if names else ignored("the value names no layer")


@LATER.building("setBuildRoute")
def build_route(route: str, context: Context) -> Outcome:
    """Fixed builder choices."""
    if not context.at_least("11.1"):
        return no_hint(context, "build routes")
    return call(f"config.build_route = {quoted(route)}")


@LATER.rule("saveAllEngines", "tuneBuildRoutes", "tuneBuildRouteFile")
def route_search(value: object, context: Context) -> Outcome:
    """trtexec 11.1 starts a process per trial."""
    return refused(NO_SEARCH)


@LATER.rule("tuningSearch", "tuningTimeOut", "tuningCacheFile", "continue")
def route_search_details(value: object, context: Context) -> Outcome:
    """Companions of a search that is refused."""
    return ignored("it belongs to --tuneBuildRoutes, the search over build routes, which is not done here")


@LATER.rule("tuningResultFile")
def tuning_channel(value: object, context: Context) -> Outcome:
    """trtexec's own channel."""
    return ignored("it is trtexec's own channel between its tuning processes")
