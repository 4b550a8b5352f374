"""Rules for how to build: effort, caches, compatibility, the artifact."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ptqbridge.backends.horizon.context import PRODUCT_FOLDER, Context
from ptqbridge.backends.horizon.marches import L2M_TOP
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, EXACT, RULES, carry
from ptqbridge.rulebook import Outcome, ignored, implied, refused


@RULES.rule("maxBatch")
def max_batch(count: int, context: Context) -> Outcome:
    """Caffe models only: ONNX has an explicit batch."""
    if count <= 1:
        return implied("a model is built for the batch in its input shape")
    why = "the batch is fixed at this size instead of reaching up to it; the input shapes must start with 1"
    return carry(APPROXIMATE, why, yaml={"input_parameters.input_batch": count})


RULES.always("workspace", outcome=ignored("the BPU compiler manages its memory itself"))


@RULES.rule("memPoolSize")
def pools(sizes: Mapping[str, float], context: Context) -> Outcome:
    """Only the on-chip memory of the large Journey 6 chips has a limit to set."""
    if "dlaSRAM" not in sizes or not (context.march.l2m and context.recent):
        return ignored("the BPU compiler manages its memory itself")
    size = round(sizes["dlaSRAM"] * 2**20)
    if size > L2M_TOP:
        return refused(f"expected at most 24 MiB of on-chip memory for dlaSRAM, found {sizes['dlaSRAM']:g} MiB")
    others = "; the other pools are the compiler's own affair" if len(sizes) > 1 else ""
    why = f"the BPU's second-level memory stands for the DLA's; the board must grant it as well{others}"
    return carry(APPROXIMATE, why, yaml={"compiler_parameters.max_l2m_size": size})


@RULES.rule("profilingVerbosity", "nvtxMode")
def verbosity(word: str, context: Context) -> Outcome:
    """Per-layer figures are kept by default."""
    if word == "layer_names_only":
        return implied("per-layer figures are always kept")
    if word == "none":
        why = "leaves the per-layer table out of the compiler's estimate; it never changes the model"
        return carry(APPROXIMATE, why, yaml={"compiler_parameters.debug": False})
    if context.fast_perf:
        return implied("--fast-perf keeps the per-layer table")
    why = "the per-layer table and advice on slow operators come from the compiler's estimate, not from the engine"
    return carry(APPROXIMATE, why, yaml={"compiler_parameters.debug": True, "compiler_parameters.advice": 1})


RULES.always("minTiming", "avgTiming", outcome=ignored("the BPU compiler does not time candidates on a device"))
_NO_REFIT = refused("weights cannot be replaced in a built BPU model: build it anew from the new ONNX file")
RULES.always("refit", outcome=_NO_REFIT)
RULES.always("versionCompatible", outcome=implied("the board's runtime loads models of other versions and warns"))
RULES.always("excludeLeanRuntime", outcome=implied("the product never carries a runtime"))


@RULES.rule("useRuntime")
def runtime(word: str, context: Context) -> Outcome:
    """The board has one runtime."""
    if word == "full":
        return implied("the board has one runtime")
    return refused(f"the board has one runtime; there is no {word} one")


RULES.always("leanDLLPath", outcome=refused("the board has one runtime; there is no lean one"))
RULES.always("safe", outcome=refused("TensorRT's safety-certified path has no counterpart in the BPU tools"))


@RULES.rule("buildDLAStandalone")
def standalone(given: bool, context: Context) -> Outcome:
    """The nearest thing to a DLA loadable is the product itself."""
    why = "a BPU model stands for the DLA loadable: it always runs without a GPU; nothing is run after the build"
    return carry(APPROXIMATE, why, becomes=f"the {context.march.suffix} product, and no board command")


RULES.always("allowGPUFallback", outcome=implied("what the BPU does not take runs on the chip's CPU"))
RULES.always("consistency", "restricted", outcome=refused("TensorRT's safety scope cannot be checked by the BPU tools"))


@RULES.rule("skipInference", "buildOnly")
def skip_inference(given: bool, context: Context) -> Outcome:
    """Building and running are separate programs."""
    return carry(EXACT, becomes="no board command")


RULES.always("explicitBatch", outcome=implied("the batch is always explicit"))
RULES.always("explicitPrecision", outcome=ignored("it has no effect in trtexec either"))


@RULES.rule("saveEngine")
def save(path: str, context: Context) -> Outcome:
    """The tool fixes folder and suffix; the product is then moved to the name that was asked for."""
    moved = f"{context.product}, moved to {path}" if context.builds else f"the product, moved to {path}"
    if context.fast_perf:
        return carry(EXACT, becomes=moved)
    name = context.prefix if context.builds else "<name>"
    yaml = {"model_parameters.working_dir": f"./{PRODUCT_FOLDER}", "model_parameters.output_model_file_prefix": name}
    return carry(EXACT, becomes=f"model_parameters.output_model_file_prefix: {name}; {moved}", yaml=yaml)


@RULES.rule("loadEngine")
def load(path: str, context: Context) -> Outcome:
    """The board's tool runs ``.bin`` or ``.hbm`` files."""
    return carry(EXACT, perf={"model_file": path}, infer={"model_file": path})


RULES.always("asyncFileReader", outcome=ignored("how the board's tool reads the file cannot be chosen"))


@RULES.rule("getPlanVersionOnly")
def plan_version(given: bool, context: Context) -> Outcome:
    """Which tool versions made the product is part of the model information."""
    why = "prints the versions of the compiler that made the product"
    return carry(APPROXIMATE, why, becomes="hrt_model_exec model_info", model_info=True)


RULES.always("tacticSources", outcome=ignored("cuBLAS, cuDNN and the like are libraries of NVIDIA GPUs"))
RULES.always("noBuilderCache", outcome=implied("every build starts in an empty folder, without a cache"))
RULES.always("noCompilationCache", outcome=implied("every build starts in an empty folder, without a cache"))
RULES.always("errorOnTimingCacheMiss", outcome=refused("the BPU tools cannot tell whether a cache was enough"))


@RULES.rule("timingCacheFile")
def cache(path: str, context: Context) -> Outcome:
    """Journey 5 keeps its cache beside the product; recent Journey 6 tools take a folder."""
    if context.recent:
        if os.path.isfile(path):
            return refused(f"hb_compile's cache is a folder, and {path} is a file: name a folder, new or its own")
        why = "the tool's own compile cache: a folder, not a file; it is made when it is not there"
        return carry(
            APPROXIMATE,
            why,
            yaml={"compiler_parameters.cache_mode": "enable", "compiler_parameters.cache_path": path},
        )
    if context.march.journey6:
        return ignored("hb_compile 3.0 has no cache to name")
    return ignored("hb_mapper keeps its cache (cache.json, at O3) in its own working folder")


RULES.always("heuristic", outcome=ignored("the BPU compiler does not time candidates on a device"))


@RULES.rule("builderOptimizationLevel")
def optimize_level(level: int, context: Context) -> Outcome:
    """O0..O3 on Journey 5, O0..O2 on Journey 6 (its compiler refuses O3)."""
    top = context.march.top_level
    if level < 0:
        why = "the default effort, which is the highest level here: timing means nothing at a lower one"
    else:
        why = f"the BPU compilers have fewer levels: O{top} stands for {top} and all above"
    chosen = top if level < 0 else min(level, top)
    return carry(APPROXIMATE, why, yaml={"compiler_parameters.optimize_level": f"O{chosen}"})


RULES.always("maxTactics", outcome=ignored("the BPU compiler does not time candidates on a device"))


@RULES.rule("hardwareCompatibilityLevel")
def hardware_compatibility(word: str, context: Context) -> Outcome:
    """One march per product."""
    if word == "none":
        return implied("a product runs on one march")
    return refused(f"a product runs on one march ({context.march.name}): build once per chip")


@RULES.rule("runtimePlatform")
def platform(word: str, context: Context) -> Outcome:
    """The product runs on the chip, whatever the host."""
    if word == "SameAsBuild":
        return ignored("the product runs on the chip, whatever machine builds it")
    return refused(f"the product runs on the chip, not on {word}")


RULES.always(
    "maxAuxStreams",
    outcome=ignored("a BPU model has no auxiliary streams; parallel work inside a frame is a matter of cores"),
)
RULES.always("preview", outcome=ignored("preview features are TensorRT's own"))
RULES.always("tempdir", "tempfileControls", outcome=ignored("the tools get a private working folder"))
_STRIPPED = refused("a BPU model always holds its weights")
RULES.always("stripWeights", "stripAllWeights", "weightless", outcome=_STRIPPED)
RULES.always(
    "nativeInstanceNorm",
    "pluginInstanceNorm",
    outcome=ignored("it chooses between two forms inside TensorRT; the BPU tools have their own"),
)
RULES.always(
    "uint8AsymmetricQuantizationDLA",
    outcome=refused("the BPU quantizes symmetrically: zero points of a model's own Q/DQ nodes cannot be kept"),
)


@RULES.rule("reportCapabilityDLA")
def capability(given: bool, context: Context) -> Outcome:
    """The checker tells which operators the BPU takes."""
    tool = "hb_compile -m MODEL --march" if context.march.journey6 else "hb_mapper checker --march"
    why = "the tool's checker lists for each operator whether the BPU takes it"
    return carry(APPROXIMATE, why, becomes=f"{tool} {context.march.name}", checker=True)


RULES.always("adjustForDLA", outcome=implied("the tools always adapt the graph to the BPU"))
RULES.always("enablePluginOverride", outcome=ignored("TensorRT's plugins do not exist here"))
RULES.always("monitorMemory", outcome=ignored("the tools do not report their memory use"))
RULES.always("distributiveIndependence", outcome=ignored("the flag chooses among GPU kernels"))
RULES.always("dumpKernelText", outcome=ignored("the BPU compiler has no kernel sources to write"))
RULES.always("allowWeightStreaming", outcome=ignored("weights and activations share the chip's memory already"))


@RULES.rule("markDebug", "markUnfusedTensorsAsDebugTensors")
def debug_tensors(names: object, context: Context) -> Outcome:
    """The tool can only give out all convolutions' outputs."""
    why = "adds the outputs of all convolutions to the model's own, not only the tensors named; it slows the model down"
    return carry(APPROXIMATE, why, yaml={"model_parameters.layer_out_dump": True})


RULES.always("tilingOptimizationLevel", outcome=ignored("the BPU compiler chooses its tilings by the effort alone"))


@RULES.rule("l2LimitForTiling")
def tiling_limit(size: int, context: Context) -> Outcome:
    """Second-level memory can be limited on the large Journey 6 chips."""
    if size < 0 or not (context.march.l2m and context.recent):
        return ignored("the BPU compiler manages its memory itself")
    if size > L2M_TOP:
        return refused(f"expected at most {L2M_TOP} bytes of second-level memory, found {size}")
    why = "the limit holds for the whole model, and the board must grant it as well"
    return carry(APPROXIMATE, why, yaml={"compiler_parameters.max_l2m_size": size})


RULES.always("remoteAutoTuningConfig", outcome=ignored("the BPU compiler does not time candidates on a device"))
RULES.always("cpuOnly", outcome=implied("the BPU tools always build on a CPU"))
RULES.always("decomposableAttentions", outcome=ignored("the tools always take attention layers apart"))
RULES.always(
    "setBuildRoute",
    "saveAllEngines",
    "tuneBuildRoutes",
    "tuneBuildRouteFile",
    "tuningSearch",
    "tuningTimeOut",
    "tuningCacheFile",
    "continue",
    "tuningResultFile",
    outcome=ignored("the search over builder choices is TensorRT's own; the BPU compiler has none"),
)
