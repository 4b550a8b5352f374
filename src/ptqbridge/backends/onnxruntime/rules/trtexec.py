"""What trtexec's options become on the CPU, in the order of the option table."""

from __future__ import annotations

from ptqbridge.backends.onnxruntime.context import RULES, Context
from ptqbridge.backends.onnxruntime.defaults import DEFAULT_ALGORITHM
from ptqbridge.rulebook import Outcome, approximate, exact, ignored, implied, refused
from ptqbridge.spec import IOFormat

rule, always = RULES.rule, RULES.always

_NO_GPU = "there is no GPU here"
_NO_ENGINE = "the artifact is an .onnx file, not a TensorRT engine"
_NO_TUNING = "ONNX Runtime picks its CPU kernels by rule and times none"
_ALLOWED_ONLY = "the option allows it but does not demand it, and no CPU kernel here computes in it: float32 stays"

# Model, shapes and element types
always("onnx", outcome=exact("the model that is quantized and run"))
always(
    "uff", "model", "deploy", "output", "uffInput", "uffNHWC", outcome=refused("ONNX Runtime reads ONNX models only")
)
always(
    "minShapes",
    "maxShapes",
    outcome=approximate(
        "recorded in the artifact; a run outside the range is an error",
        "ONNX Runtime takes any shape that fits the model and builds nothing per range",
    ),
)
always(
    "optShapes",
    outcome=approximate(
        "the default shape of runs, and of noise where data is missing", "ONNX Runtime tunes nothing for one shape"
    ),
)


@rule("inputIOFormats", "outputIOFormats")
def io_formats(entries: tuple[IOFormat, ...], context: Context) -> Outcome:
    """fp32, fp16, int32 and int64 by a Cast, hwc by a Transpose; nothing vectorised."""
    for entry in entries:
        if entry.dtype not in ("fp32", "fp16", "int32", "int64"):
            return refused(f"{entry.dtype} at the border needs a scale that the caller would have to know")
        if len(entry.layouts) > 1 or not set(entry.layouts) <= {"chw", "hwc"}:
            return refused("ONNX tensors are plain chw or hwc; there are no vectorised layouts")
    return exact("a Cast and, for hwc, a Transpose at the border where the model differs")


@rule("sparsity")
def sparsity(mode: str, context: Context) -> Outcome:
    """Forcing would change weights for kernels that do not exist."""
    if mode == "force":
        return refused("pruning the weights would change the results, and there are no sparse CPU kernels to gain from")
    return ignored("ONNX Runtime has no sparse CPU kernels")


always("noTF32", outcome=implied("float32 is computed in full"))
always("fp16", "bf16", "fp8", "int4", outcome=ignored(_ALLOWED_ONLY))


@rule("int8")
def int8(value: bool, context: Context) -> Outcome:
    """Calibrated when there is data; otherwise made-up ranges, said aloud."""
    calibration = context.request.build.calibration
    if calibration.cache:
        return exact(
            "int8 weights per output channel, uint8 activations, Q/DQ where ONNX Runtime has integer kernels",
            f"ranges from {calibration.cache}",
        )
    if calibration.data:
        return exact(
            "int8 weights per output channel, uint8 activations, Q/DQ where ONNX Runtime has integer kernels",
            f"ranges by {calibration.algorithm or DEFAULT_ALGORITHM} over the samples of {calibration.data}",
        )
    return approximate(
        "the same integer model with ranges from one batch of noise",
        "no --calib and no --calibData: good for timing only, accuracy is meaningless",
    )


always(
    "best",
    outcome=exact(
        "float32 and int8 are both built and timed here; the faster one is kept",
        "half precision is not in the race: no CPU kernel computes in it",
    ),
)
always("stronglyTyped", outcome=approximate("float32 stays as the model has it", "ONNX models are typed already"))
always("directIO", outcome=implied("tensors are passed as they are"))
always("precisionConstraints", outcome=exact("prefer: differences are reported; obey: they fail the build"))


@rule("layerPrecisions", "layerOutputTypes")
def layer_types(layers: dict[str, tuple[str, ...]], context: Context) -> Outcome:
    """Float layers are left out of quantization; int8 is checked afterwards."""
    words = {word for types in layers.values() for word in types}
    if wrong := sorted(words - {"fp32", "fp16", "bf16", "int8"}):
        return refused(f"no CPU kernel computes a layer in {', '.join(wrong)}")
    if context.request.build.precision.constraints == "none":
        return ignored("--precisionConstraints is none, as in trtexec")
    if "int8" in words and not context.int8:
        return refused("int8 layers need --int8 (or --best)")
    if words - {"fp32", "int8"}:
        return approximate("fp16 layers stay float32", "no CPU kernel computes in half precision")
    return exact("float32 layers keep out of quantization; int8 layers are checked in the finished graph")


@rule("layerDeviceTypes")
def layer_devices(layers: dict[str, str], context: Context) -> Outcome:
    """Everything runs on the CPU."""
    if set(layers.values()) == {"CPU"}:
        return implied("everything runs on the CPU")
    return refused("there is no other device than the CPU")


# Calibration


@rule("calib")
def calib(path: str, context: Context) -> Outcome:
    """A TensorRT cache, ranges.json or ONNX Runtime's JSON."""
    if not (context.int8 or context.request.build.precision.best):
        return ignored("a calibration cache has no effect without --int8, as in trtexec")
    return approximate(
        f"the ranges of {path} for uint8 activations",
        "a layer whose tensors the file lacks stays float32; a TensorRT cache holds magnitudes, so [-a, a] or [0, a]",
    )


always("minShapesCalib", "maxShapesCalib", outcome=ignored("samples bring their own shape"))
always(
    "optShapesCalib", outcome=approximate("the shape of noise where data is missing", "samples bring their own shape")
)
always("calibProfile", outcome=ignored("there are no profiles to choose from"))

# How to build
always(
    "maxBatch", "batch", outcome=refused("ONNX models carry their batch in the shapes: use --optShapes and --shapes")
)
always("workspace", "memPoolSize", outcome=ignored("ONNX Runtime takes the memory it needs"))


@rule("profilingVerbosity", "nvtxMode")
def layer_detail(mode: str | None, context: Context) -> Outcome:
    """How much --dumpLayerInfo shows."""
    return exact(f"layer information: {(mode or 'layer_names_only').replace('_', ' ')}")


always("minTiming", "avgTiming", outcome=ignored(_NO_TUNING))
always("refit", outcome=refused("a loaded session cannot take other weights; building again takes seconds"))
always(
    "versionCompatible",
    outcome=approximate(
        "only standard ONNX operators in the artifact", "so that other versions of ONNX Runtime load it", level="basic"
    ),
)
always("excludeLeanRuntime", outcome=ignored(_NO_ENGINE))


@rule("useRuntime")
def use_runtime(runtime: str | None, context: Context) -> Outcome:
    """There is one runtime."""
    return implied("ONNX Runtime is the only one") if runtime in (None, "full") else refused(_NO_ENGINE)


always("leanDLLPath", outcome=refused(_NO_ENGINE))
always("safe", "buildDLAStandalone", outcome=refused("there is no safety or DLA build for a CPU"))
always("allowGPUFallback", "consistency", "restricted", outcome=ignored(_NO_GPU))
always("skipInference", "buildOnly", outcome=exact("stops after building or loading"))
always("explicitBatch", "explicitPrecision", outcome=ignored("no effect in trtexec either"))
always("saveEngine", outcome=exact("the path of the .onnx artifact"))
always("loadEngine", outcome=exact("an .onnx artifact to run"))
always("asyncFileReader", "getPlanVersionOnly", outcome=ignored(_NO_ENGINE))
always("tacticSources", outcome=ignored(_NO_TUNING))
always("noBuilderCache", outcome=implied("there is no timing cache"))
always("noCompilationCache", "errorOnTimingCacheMiss", "timingCacheFile", outcome=ignored(_NO_TUNING))
always("heuristic", outcome=implied(_NO_TUNING))


@rule("builderOptimizationLevel")
def effort(level: int, context: Context) -> Outcome:
    """Graph optimisation levels: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html"""
    word = "basic" if level == 0 else "extended" if 0 < level <= 2 else "all"
    return approximate(
        f"graph optimisation level {word}", "ONNX Runtime has three levels, and the highest takes seconds", level=word
    )


always("maxTactics", outcome=ignored(_NO_TUNING))


@rule("hardwareCompatibilityLevel")
def hardware(level: str | None, context: Context) -> Outcome:
    """The artifact holds no machine code."""
    return implied("the artifact is independent of the processor; kernels are chosen when it is loaded")


@rule("runtimePlatform")
def platform(name: str | None, context: Context) -> Outcome:
    """The artifact is the same on every system."""
    return implied("the artifact is the same on every operating system")


always(
    "maxAuxStreams", outcome=ignored("there are no streams inside one query; --intraOpThreads says how many threads")
)
always("preview", outcome=ignored(_NO_ENGINE))
always("tempdir", "tempfileControls", outcome=ignored("no temporary executable files are made"))
always(
    "profile",
    "useProfile",
    "dumpOptimizationProfile",
    outcome=ignored("ONNX Runtime needs no profiles; the shapes of profile 0 are used"),
)
always(
    "stripWeights",
    "stripAllWeights",
    "weightless",
    outcome=refused("an .onnx artifact without its weights cannot be run or refitted"),
)
always("nativeInstanceNorm", "pluginInstanceNorm", outcome=ignored("ONNX Runtime has one InstanceNormalization"))
always("uint8AsymmetricQuantizationDLA", "reportCapabilityDLA", "adjustForDLA", outcome=refused("there is no DLA here"))
always("enablePluginOverride", outcome=refused("TensorRT plugins do not run in ONNX Runtime"))
always("monitorMemory", "distributiveIndependence", "dumpKernelText", outcome=ignored(_NO_ENGINE))
always("allowWeightStreaming", "weightStreamingBudget", outcome=ignored("weights are in host memory already"))
always(
    "markDebug",
    "markUnfusedTensorsAsDebugTensors",
    "saveDebugTensors",
    "saveAllDebugTensors",
    outcome=refused("tensors inside the model cannot be dumped on this target yet"),
)
always("tilingOptimizationLevel", "l2LimitForTiling", outcome=ignored(_NO_TUNING))
always("remoteAutoTuningConfig", "cpuOnly", outcome=refused("this belongs to TensorRT safety builds"))
always("decomposableAttentions", outcome=ignored(_NO_ENGINE))
always(
    "setBuildRoute",
    "saveAllEngines",
    "tuneBuildRoutes",
    "tuneBuildRouteFile",
    "tuningSearch",
    "tuningTimeOut",
    "tuningCacheFile",
    "continue",
    "helpBuildRoute",
    "tuningResultFile",
    outcome=refused("searching builder routes is TensorRT 11's own; there are none here"),
)

# Running
always("shapes", outcome=exact("the shapes of the run"))
always("loadInputs", outcome=exact("input tensors from raw files, .npy or .npz"))
always("iterations", "warmUp", "duration", "sleepTime", "idleTime", outcome=exact("the same timing loop"))
always(
    "infStreams",
    "streams",
    outcome=exact("as many threads querying one session", "the cores are shared out between them (--intraOpThreads)"),
)
always("exposeDMA", "useManagedMemory", outcome=ignored("nothing is copied to a device"))
always("noDataTransfers", outcome=implied("nothing is copied to a device"))
always("includeDataTransfers", outcome=ignored("nothing is copied to a device"))
always("useSpinWait", outcome=implied("ONNX Runtime's threads spin by default"))
always("noSpinWait", outcome=exact("session.intra_op.allow_spinning = 0"))
always("threads", outcome=implied("every stream has a thread of its own"))
always("useCudaGraph", outcome=ignored(_NO_GPU))
always("noCudaGraph", outcome=implied(_NO_GPU))
always("separateProfileRun", outcome=exact("per-layer times come from a second run"))
always("timeDeserialize", outcome=exact("times making the session from the artifact"))
always("timeRefit", "dumpRefit", outcome=ignored("nothing can be refitted, as in trtexec without --refit"))
always("persistentCacheRatio", outcome=ignored(_NO_GPU))
always("allocationStrategy", outcome=ignored(_NO_GPU))
always("refitFromOnnx", outcome=refused("a loaded session cannot take other weights; build from that model"))
always("loadRefOutputs", outcome=exact("the outputs of the last query are held against these files"))
always(
    "refPair",
    outcome=refused("several reference pairs are not compared in one run; run once per pair with --loadRefOutputs"),
)


@rule("accuracyAlgorithm", "accuracyThreshold", "atol", "rtol")
def accuracy(value: object, context: Context) -> Outcome:
    """What is accepted of the distance to the expected outputs."""
    if not context.request.run.expected.files:
        return ignored("no --loadRefOutputs to compare with")
    return exact("the distance to the expected outputs; exit status 6 from the threshold on")


# Reporting
always("avgRuns", "percentile", outcome=exact("the same statistics"))
always("dumpOutput", "dumpRawBindingsToFile", "exportOutput", outcome=exact("the outputs of the last query"))
always("dumpProfile", "exportProfile", outcome=exact("kernel times from ONNX Runtime's profiler, per graph node"))
always("dumpLayerInfo", "exportLayerInfo", outcome=exact("the nodes of the optimised graph"))
always("exportTimes", outcome=exact("the same JSON", "there are no copies on a CPU: their fields are null"))


# Devices
@rule("device")
def device(number: int, context: Context) -> Outcome:
    """One CPU."""
    return implied("the CPU is device 0") if number == 0 else refused("the CPU is device 0, there is no other")


@rule("useDLACore")
def dla_core(core: int, context: Context) -> Outcome:
    """No DLA."""
    return implied("no DLA is used") if core < 0 else refused("there is no DLA here")


always(
    "staticPlugins",
    "plugins",
    "dynamicPlugins",
    "setPluginsToSerialize",
    "safetyPlugins",
    outcome=refused("TensorRT plugins do not run in ONNX Runtime"),
)
always("ignoreParsedPluginLibs", outcome=implied("no plugin is ever added"))
