"""Rules between options: what cannot stand together, what one demands of another, what deserves a warning.

The 8.6.1 rules are those of ``ModelOptions``, ``BuildOptions`` and ``AllOptions`` ``::parse`` in NVIDIA/TensorRT
samples/common/sampleOptions.cpp; rules of later options those of tags v10.13.3 and v11.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ptqbridge.errors import OptionError
from ptqbridge.options.given import GivenOptions
from ptqbridge.options.shapes import plan_shapes
from ptqbridge.spec import IOFormat

_DLA = {"int8": {"dla_linear", "chw32"}, "fp16": {"dla_linear", "chw16"}}
_DLA_INPUT = {"chw4", "dla_hwc4"}


def check(options: GivenOptions) -> GivenOptions:
    """Apply every rule; returns the options with warnings added. Raises OptionError for the first broken rule."""
    warnings: list[str] = []
    for rule in _RULES:
        rule(options, warnings)
    warnings.extend(plan_shapes(options).warnings)
    return replace(options, warnings=options.warnings + tuple(warnings))


def model_format(options: GivenOptions) -> str:
    """Which importer the model options select: onnx, uff, caffe, or none."""
    for name, kind in (("onnx", "onnx"), ("uff", "uff"), ("model", "caffe"), ("deploy", "caffe")):
        if name in options:
            return kind
    return "none"


def no_model() -> OptionError:
    """What to raise where neither a model nor an artifact is named."""
    return OptionError(
        "no model: expected --onnx=MODEL (or --loadEngine=ARTIFACT), found neither", hint="--help shows all options"
    )


def _model(options: GivenOptions, warnings: list[str]) -> None:
    kind = model_format(options)
    foreign = {
        "onnx": ("uff", "model", "deploy", "uffInput", "uffNHWC"),
        "uff": ("model", "deploy"),
        "caffe": ("uffInput", "uffNHWC"),
        "none": ("uffInput", "uffNHWC"),
    }[kind]
    for name in foreign:
        if name in options:
            raise OptionError(f"--{name} cannot stand beside {'--' + kind if kind != 'none' else 'no --uff'}")
    outputs = [name for names in options.value("output") for name in names]
    if kind == "onnx" and outputs:
        raise OptionError("--output is for Caffe and UFF models; an ONNX model names its own outputs")
    if kind == "uff" and not options.value("uffInput"):
        raise OptionError("--uff needs at least one --uffInput")
    if kind in ("uff", "caffe") and not outputs:
        raise OptionError(f"a {kind.upper()} model needs at least one --output")
    if kind == "none" and "loadEngine" not in options:
        raise no_model()


def _precision(options: GivenOptions, warnings: list[str]) -> None:
    if "fp8" in options and options.has("int8", "best"):
        raise OptionError("--fp8 cannot stand beside --int8 or --best")
    if options.has("stronglyTyped") and "best" in options:
        raise OptionError("--best cannot stand beside --stronglyTyped: the model's own types are used")
    per_layer = bool(options.value("layerPrecisions") or options.value("layerOutputTypes"))
    asked = options.value("precisionConstraints")
    if per_layer and asked == "none":
        warnings.append(
            "--layerPrecisions and --layerOutputTypes have no effect without --precisionConstraints=prefer or obey"
        )
    if not per_layer and asked != "none":
        warnings.append(f"--precisionConstraints={asked} has nothing to apply to: no --layerPrecisions was given")
    if "calib" in options and not options.has("int8", "best"):
        warnings.append("--calib has no effect without --int8")


def _calibration_shapes(options: GivenOptions, warnings: list[str]) -> None:
    if options.has("minShapesCalib", "maxShapesCalib"):
        for name in ("minShapesCalib", "optShapesCalib", "maxShapesCalib"):
            if name not in options:
                raise OptionError(
                    f"--{name} is missing: give --optShapesCalib alone, or all of min, opt and maxShapesCalib"
                )


def _shape_order(options: GivenOptions, warnings: list[str]) -> None:
    for name, shape in plan_shapes(options).build.items():
        if len({len(shape.min), len(shape.opt), len(shape.max)}) != 1:
            continue  # trtexec leaves this to the library; so do we: the model tells which rank is right
        for low, tuned, high in zip(shape.min, shape.opt, shape.max, strict=True):
            if not low <= tuned <= high:
                raise OptionError(
                    f"shapes of {name!r}: expected min <= opt <= max, found {shape.text()}", difference="shape-order"
                )


def _engine(options: GivenOptions, warnings: list[str]) -> None:
    if "loadEngine" in options and "saveEngine" in options:
        raise OptionError("--saveEngine cannot stand beside --loadEngine")
    runtime = options.value("useRuntime")
    if runtime != "full":
        if "loadEngine" not in options:
            raise OptionError(f"--useRuntime={runtime} needs --loadEngine: building takes the full runtime")
        if "timeRefit" in options:
            raise OptionError("--timeRefit needs --useRuntime=full")
        if "versionCompatible" not in options:
            warnings.append(f"--useRuntime={runtime} switches --versionCompatible on")


def _batch(options: GivenOptions, warnings: list[str]) -> None:
    shapes = plan_shapes(options)
    batch, largest = options.value("batch"), options.value("maxBatch")
    if model_format(options) == "onnx" or shapes.build:
        if batch or largest:
            raise OptionError("--batch and --maxBatch are for implicit-batch models; use --optShapes and --shapes")
        return
    if (largest or batch or 1) < (batch or 1):
        raise OptionError(f"--maxBatch={largest} is below --batch={batch}")


def _dla(options: GivenOptions, warnings: list[str]) -> None:
    core = options.value("useDLACore")
    if not (options.has("buildDLAStandalone") or (options.has("safe") and core >= 0)):
        return
    if not (
        _dla_formats(options.value("inputIOFormats"), extra=_DLA_INPUT)
        and _dla_formats(options.value("outputIOFormats"), extra=set())
    ):
        raise OptionError(
            "a DLA loadable needs --inputIOFormats and --outputIOFormats of int8 or fp16 with one of dla_linear, "
            "chw32 (int8), chw16 (fp16), or for inputs chw4, dla_hwc4"
        )
    if options.has("allowGPUFallback"):
        raise OptionError("--allowGPUFallback cannot stand beside a DLA loadable")


def _dla_formats(formats: tuple[IOFormat, ...], extra: set[str]) -> bool:
    return bool(formats) and all(
        len(entry.layouts) == 1
        and entry.layouts[0] in _DLA.get(entry.dtype, set()) | (extra if entry.dtype in _DLA else set())
        for entry in formats
    )


def _measuring(options: GivenOptions, warnings: list[str]) -> None:
    nothing = (options.value("iterations"), options.value("duration"), options.value("warmUp")) == (0, 0, 0)
    if nothing and not options.has("skipInference", "buildOnly"):
        raise OptionError(
            "--iterations=0 --duration=0 --warmUp=0 leaves nothing to measure", difference="nothing-to-measure"
        )


_NEEDS: tuple[tuple[str, str, str], ...] = (
    ("uint8AsymmetricQuantizationDLA", "useDLACore", "--useDLACore"),
    ("reportCapabilityDLA", "useDLACore", "--useDLACore"),
    ("dumpKernelText", "safe", "--safe"),
    ("remoteAutoTuningConfig", "safe", "--safe"),
    ("cpuOnly", "safe", "--safe and --remoteAutoTuningConfig"),
    ("cpuOnly", "remoteAutoTuningConfig", "--safe and --remoteAutoTuningConfig"),
    ("weightStreamingBudget", "allowWeightStreaming", "--allowWeightStreaming"),
    ("saveAllEngines", "saveEngine", "--saveEngine"),
    ("loadRefOutputs", "loadInputs", "--loadInputs"),
    ("loadRefOutputs", "accuracyThreshold", "a positive --accuracyThreshold"),
)
_EXCLUDES: tuple[tuple[str, str], ...] = (
    ("pluginInstanceNorm", "versionCompatible"),
    ("loadRefOutputs", "skipInference"),
    ("tuneBuildRoutes", "tuneBuildRouteFile"),
)


def _later(options: GivenOptions, warnings: list[str]) -> None:
    for name, needed, words in _NEEDS:
        if name in options and needed not in options:
            raise OptionError(f"--{name} needs {words}")
    for name, other in _EXCLUDES:
        if name in options and other in options:
            raise OptionError(f"--{name} cannot stand beside --{other}")
    if options.has("atol", "rtol") and options.value("accuracyAlgorithm") != "l0":
        raise OptionError("--atol and --rtol belong to --accuracyAlgorithm=l0")


def _old_words(options: GivenOptions, warnings: list[str]) -> None:
    for given in options:
        if given.option.deprecated and given.option.replaced_by:
            warnings.append(f"--{given.option.name} is an older spelling of {given.option.replaced_by}")


_RULES: tuple[Callable[[GivenOptions, list[str]], None], ...] = (
    _model,
    _precision,
    _calibration_shapes,
    _shape_order,
    _engine,
    _batch,
    _dla,
    _measuring,
    _later,
    _old_words,
)
