"""Rules on how the builder searches for kernels, caches what it found, and for which machines it builds."""

from __future__ import annotations

from collections.abc import Iterable

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.book import Part, call, combine, flag, no_hint, quoted, too_old
from ptqbridge.rulebook import Outcome, approximate, ignored, implied

SEARCH = Part("tensorrt")

LIBRARIES = ("CUBLAS", "CUBLAS_LT", "CUDNN")
"""Tactic sources that 11 no longer knows."""
PREVIEWS = {
    "fasterDynamicShapes0805": ("FASTER_DYNAMIC_SHAPES_0805", "8.6", ("8.6",)),
    "disableExternalTacticSourcesForCore0805": (
        "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
        "8.6",
        ("8.6",),
    ),
    "profileSharing0806": ("PROFILE_SHARING_0806", "8.6", ("8.6",)),
    "aliasedPluginIO1003": ("ALIASED_PLUGIN_IO_10_03", "10.3", ("10", "11")),
    "runtimeActivationResize": ("RUNTIME_ACTIVATION_RESIZE_10_10", "10.10", ("10", "11")),
}
"""trtexec's word: the module's name, the first release with it, the generations where it does something."""
HARDWARE = {"none": "NONE", "ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
HEURISTIC_LEVEL = 2
"""From 10 on, optimization levels up to this one choose by heuristic, as --heuristic did."""


@SEARCH.building("tacticSources")
def tactic_sources(switches: dict[str, bool], context: Context) -> Outcome:
    """One call with all that the version knows; the libraries that 11 dropped are only said."""
    known = {name: on for name, on in switches.items() if context.generation != "11" or name not in LIBRARIES}
    unknown = [name for name in switches if name not in known]
    parts = [no_hint(context, f"tactic source {name}") for name in unknown]
    if known:
        plus, minus = (_bits(name for name in known if known[name] is on) for on in (True, False))
        now = "config.get_tactic_sources()"
        mask = f"({now} | {plus})" if plus else now
        parts.append(call(f"config.set_tactic_sources({mask}{f' & ~({minus})' if minus else ''})"))
    return combine(parts)


def _bits(names: Iterable[str]) -> str:
    return " | ".join(f"1 << int(trt.TacticSource.{name})" for name in names)


@SEARCH.building("noBuilderCache")
def no_builder_cache(value: bool, context: Context) -> Outcome:
    """Wins over --timingCacheFile."""
    return flag("DISABLE_TIMING_CACHE")


@SEARCH.building("noCompilationCache")
def no_compilation_cache(value: bool, context: Context) -> Outcome:
    """8.6 caches timings only."""
    if not context.at_least("9.1"):
        return implied(f"{context.name} keeps no compiled kernels in its timing cache")
    return flag("DISABLE_COMPILATION_CACHE")


@SEARCH.building("errorOnTimingCacheMiss")
def error_on_miss(value: bool, context: Context) -> Outcome:
    """A guarantee that 8.6 cannot give."""
    if not context.at_least("9.1"):
        return too_old(context, "error on a timing cache miss", "9.1", "leave it out and compare the cache files")
    return flag("ERROR_ON_TIMING_CACHE_MISS")


@SEARCH.building("timingCacheFile")
def timing_cache(path: str, context: Context) -> Outcome:
    """Merged under a lock with what others wrote meanwhile, then replaced at once."""
    if context.gave("noBuilderCache"):
        return ignored("--noBuilderCache was given too, and wins")
    if not path:
        return ignored("an empty path names no cache")
    return call(
        f"timing_cache = config.create_timing_cache(read_or_empty({quoted(path)}))",
        "config.set_timing_cache(timing_cache, False)",
        f"merge_timing_cache({quoted(path)}, config)",
    )


@SEARCH.building("heuristic")
def heuristic(value: bool, context: Context) -> Outcome:
    """A flag in 8.6; from 10 on low optimization levels do it."""
    if context.generation == "8.6":
        return flag("ENABLE_TACTIC_HEURISTIC")
    levels = [level for level in context.values("builderOptimizationLevel") if level >= 0]
    if levels and levels[-1] <= HEURISTIC_LEVEL:
        return implied(f"--builderOptimizationLevel={levels[-1]} chooses by heuristic")
    if levels:
        return ignored(f"--builderOptimizationLevel={levels[-1]} was given too, and times its kernels")
    text = f"config.builder_optimization_level = {HEURISTIC_LEVEL}"
    because = f"{context.name} has no heuristic flag; levels up to {HEURISTIC_LEVEL} choose by heuristic"
    return approximate(text, because, calls=(text,))


@SEARCH.building("builderOptimizationLevel")
def optimization_level(level: int, context: Context) -> Outcome:
    """Any number is passed on, as in trtexec."""
    if level == -1:
        return ignored("-1 keeps the default, 3")
    because = "" if 0 <= level <= 5 else "TensorRT documents levels 0 to 5; the number is passed on, as in trtexec"
    return call(f"config.builder_optimization_level = {level}", because=because)


@SEARCH.building("maxTactics")
def max_tactics(count: int, context: Context) -> Outcome:
    """Fewer candidates, quicker builds."""
    if count == -1:
        return ignored("-1 keeps the default: no limit")
    if not context.at_least("10.4"):
        return no_hint(context, "limit of candidate kernels")
    return call(f"config.max_num_tactics = {count}")


@SEARCH.building("hardwareCompatibilityLevel")
def hardware_compatibility(level: str, context: Context) -> Outcome:
    """8.6 wants native InstanceNorm with it, as --versionCompatible does."""
    if level == "sameComputeCapability" and not context.at_least("10.11"):
        return too_old(context, "level sameComputeCapability", "10.11", "use ampere+ or build on each GPU")
    text = f"config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.{HARDWARE[level]}"
    if level != "none" and context.generation == "8.6" and context.at_least("8.6.1"):
        return call("parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)", text)
    return call(text)


@SEARCH.building("runtimePlatform")
def runtime_platform(platform: str, context: Context) -> Outcome:
    """An engine for another system cannot be run here."""
    if not context.at_least("10.2"):
        if platform == "SameAsBuild":
            return implied(f"{context.name} builds for its own system only")
        return too_old(context, "engines for another operating system", "10.2", "build on Windows")
    name = {"SameAsBuild": "SAME_AS_BUILD", "WindowsAMD64": "WINDOWS_AMD64"}[platform]
    because = "" if platform == "SameAsBuild" else "nothing is run afterwards: the engine is for another system"
    return call(f"config.runtime_platform = trt.RuntimePlatform.{name}", because=because)


@SEARCH.building("maxAuxStreams")
def max_aux_streams(count: int, context: Context) -> Outcome:
    """0 is a number here, and means none."""
    if count == -1:
        return ignored("-1 leaves the choice to TensorRT")
    return call(f"config.max_aux_streams = {count}")


@SEARCH.building("preview")
def preview(switches: dict[str, bool], context: Context) -> Outcome:
    """Features of another version are said and left out. Set in trtexec's order, whatever the order given."""
    return combine(_preview(word, switches[word], context) for word in PREVIEWS if word in switches)


def _preview(word: str, on: bool, context: Context) -> Outcome:
    name, since, generations = PREVIEWS[word]
    if word == "profileSharing0806" and context.generation != "8.6":
        if on:
            return implied("profiles have shared their memory by default since TensorRT 10")
        return ignored("profiles always share their memory since TensorRT 10; it cannot be switched off")
    if context.generation not in generations or not context.at_least(since):
        return ignored(f"{context.name} has no preview feature {word}")
    return call(f"config.set_preview_feature(trt.PreviewFeature.{name}, {on})")


@SEARCH.rule("tempdir")
def tempdir(path: str, context: Context) -> Outcome:
    """For version-compatible engines, whose lean runtime is unpacked there."""
    return call(f"runtime.temporary_directory = {quoted(path)}") if path else ignored("an empty path names no folder")


@SEARCH.rule("tempfileControls")
def tempfile_controls(controls: dict[str, bool], context: Context) -> Outcome:
    """Both kinds are allowed where nothing is said."""
    kinds = {"in_memory": "ALLOW_IN_MEMORY_FILES", "temporary": "ALLOW_TEMPORARY_FILES"}
    allowed = [f"1 << int(trt.TempfileControlFlag.{name})" for kind, name in kinds.items() if controls.get(kind, True)]
    return call(f"runtime.tempfile_control_flags = {' | '.join(allowed) or '0'}")
