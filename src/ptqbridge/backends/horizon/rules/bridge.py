"""Rules for our own options: strictness, places, calibration data and preprocessing."""

from __future__ import annotations

from ptqbridge.backends.horizon.context import Context, data_types, normalisation, with_preset
from ptqbridge.backends.horizon.lookup import NEWEST_IR, NEWEST_OPSET
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, EXACT, RULES, carry, numbers
from ptqbridge.options.rows_bridge import WITHOUT_SAMPLES
from ptqbridge.rulebook import Outcome, ignored, refused
from ptqbridge.spec import Preprocess
from ptqbridge.wording import counted

RULES.always(
    "strict",
    outcome=carry(EXACT, becomes="refuses made-up ranges and options without effect"),
)


@RULES.rule("toolchain")
def toolchain(place: str, context: Context) -> Outcome:
    """Where the vendor's compiler runs."""
    if place == "local" or place.startswith(("docker:", "ssh://")):
        return carry(EXACT, becomes=f"{context.march.tool} from {'PATH' if place == 'local' else place}", place=place)
    return refused(f"expected local, docker:IMAGE or ssh://HOST, found {place!r}")


@RULES.rule("board")
def board(place: str, context: Context) -> Outcome:
    """Where the artifact runs."""
    if place == "local" or place.startswith("ssh://"):
        return carry(EXACT, becomes=f"hrt_model_exec on {'this machine' if place == 'local' else place}", at=place)
    return refused(f"expected local or ssh://USER@HOST, found {place!r}")


@RULES.rule("toolchainVersion")
def toolchain_version(generation: str, context: Context) -> Outcome:
    """hb_compile's generations differ in keys and defaults."""
    if not context.march.journey6:
        return ignored("hb_mapper has one generation only")
    if generation not in context.march.generations:
        known = " or ".join(context.march.generations)
        return refused(f"{context.march.tool} {generation} does not know {context.march.name}; {known} does")
    return carry(EXACT, becomes=f"keys and flags of {context.march.tool} {generation}")


@RULES.rule("horizonYaml")
def overlay_file(path: str, context: Context) -> Outcome:
    """The tool's own keys; the finished YAML is checked as a whole."""
    if not context.builds:
        return ignored("nothing is built")
    keys = [f"{section}.{key}" for section, content in context.overlay.items() for key in content]
    return carry(EXACT, "your file has the last word", becomes=f"laid over the YAML: {', '.join(keys) or 'nothing'}")


_EQUAL = "a copy is converted, and taken only if its outputs stay equal on real inputs"


@RULES.rule("fixShapes")
def fix_shapes(given: bool, context: Context) -> Outcome:
    """hb_mapper builds for one shape."""
    if context.march.journey6:
        return ignored("hb_compile fixes them itself, to the input_shape that --shapes gives")
    return carry(EXACT, _EQUAL, becomes="dynamic dimensions fixed to --shapes, a batch to 1", fix_shapes=True)


@RULES.rule("convertOpset")
def convert_opset(given: bool, context: Context) -> Outcome:
    """hb_mapper stops at opset 11 and IR version 9."""
    if context.march.journey6:
        return ignored("nothing is converted for hb_compile, whose limits are wider")
    return carry(EXACT, _EQUAL, becomes=f"opset {NEWEST_OPSET}, IR version {NEWEST_IR}", convert_opset=True)


@RULES.rule("checkOperators")
def check_operators(given: bool, context: Context) -> Outcome:
    """The checker compiles once at the lowest level, which is too dear to do unasked."""
    if context.march.journey6:
        return ignored("hb_compile lists the operators of the CPU in its own log")
    return carry(EXACT, "remembered by model, march and tool", becomes="hb_mapper checker", checker=True)


@RULES.rule("calibData")
def calibration_data(path: str, context: Context) -> Outcome:
    """The samples are written once more in the form the tool wants: raw files for hb_mapper, .npy for hb_compile."""
    word = context.request.build.calibration.algorithm
    if word in WITHOUT_SAMPLES:
        return ignored(f"--calibAlgo={word} chooses no ranges from samples")
    yaml = {"calibration_parameters.cal_data_dir": context.calibration_folders}
    if context.march.journey6:
        return carry(EXACT, "one .npy per sample and input, as the float model wants it", yaml=yaml)
    yaml["calibration_parameters.cal_data_type"] = data_types(context.network)
    what = "pixels before mean and scale, which the tool applies" if context.image else "as the float model wants it"
    return carry(EXACT, f"one raw file per sample and input, {what}", yaml=yaml)


_METHODS = {"max": "max", "minmax": "max", "percentile": "max", "entropy2": "kl", "entropy": "kl", "kl": "kl"}


@RULES.rule("calibAlgo")
def algorithm(word: str, context: Context) -> Outcome:
    """The tools know kl and max, max also with a percentile."""
    if word in WITHOUT_SAMPLES:
        return _unsampled(word, context)
    if context.builds and not context.calibrated:
        return ignored("there is no calibration data to choose ranges from")
    if word in ("default", "mix"):
        return _search(word, context)
    if word not in _METHODS:
        return refused(f"the tool has no {word} search; max, percentile and kl are its own")
    yaml: dict[str, object] = {"calibration_parameters.calibration_type": _METHODS[word]}
    if word in ("max", "kl"):
        return carry(EXACT, yaml=yaml)
    if word == "minmax":
        return carry(APPROXIMATE, "the tool's ranges are symmetric", yaml=yaml)
    if word in ("entropy2", "entropy"):
        why = "the tool's own Kullback-Leibler search, with other histograms than TensorRT's"
        return carry(APPROXIMATE, why, yaml=yaml)
    if context.value("calibPercentile") is None:
        yaml |= _percentile(context.request.build.calibration.percentile)
    return carry(EXACT, "max with a percentile is what the tool calls it", yaml=yaml)


def _unsampled(word: str, context: Context) -> Outcome:
    """Status 0 says nothing of either: hb_mapper sets every threshold to 1.0 where it finds no range."""
    yaml = {"calibration_parameters.calibration_type": word}
    if word == "skip":
        return carry(EXACT, "every range is made up: the result is good for timing only", yaml=yaml)
    if context.march.journey6:
        return refused("hb_compile has no load; the calibration of Journey 6 needs samples")
    if context.network and not context.network.qdq:
        return refused(
            "the model has no QuantizeLinear and DequantizeLinear nodes to take ranges from; hb_mapper would set every "
            "threshold to 1.0 without a word"
        )
    return carry(EXACT, "the ranges of the model's Q/DQ nodes; those of HzCalibration nodes are not read", yaml=yaml)


def _search(word: str, context: Context) -> Outcome:
    """hb_mapper's own words; hb_compile searches where no method is named, and has given up mix."""
    if not context.march.journey6:
        return carry(EXACT, yaml={"calibration_parameters.calibration_type": word})
    if word == "default":
        return carry(EXACT, becomes="no calibration_type", because="the tool then searches by itself")
    why = "the tool has given up its layer-wise search; it searches for the whole model"
    return carry(APPROXIMATE, why, becomes="no calibration_type")


def _percentile(percent: float) -> dict[str, object]:
    return {"calibration_parameters.max_percentile": float(f"{percent / 100:.9g}")}


@RULES.rule("calibSamples")
def samples(count: int, context: Context) -> Outcome:
    """The number of files written."""
    return carry(EXACT, becomes=f"{counted(count, 'sample')} written for the tool")


RULES.always("calibBatch", outcome=ignored("it never changes the ranges, and the tool makes its own batches"))


@RULES.rule("calibPercentile")
def percentile(percent: float, context: Context) -> Outcome:
    """A share between 0 and 1 in the YAML; hb_mapper looks at the topmost half percent only."""
    chosen = context.request.build.calibration.algorithm
    if context.request.gave("calibAlgo") and chosen != "percentile":
        return ignored(f"it belongs to --calibAlgo=percentile, and {chosen} was asked")
    if context.request.asked and not context.request.gave("calibAlgo"):
        return ignored("it belongs to --calibAlgo=percentile, which was not asked")
    least = 50.0 if context.march.journey6 else 99.5
    yaml = _percentile(max(percent, least) if context.march.journey6 else percent)
    if percent < least:
        why = f"the tool takes everything below {least:g} % as {least:g} %"
        return carry(APPROXIMATE, why, yaml=yaml)
    return carry(EXACT, "a share of 1 instead of 100", yaml=yaml)


RULES.always("calibCutoff", outcome=ignored("it is for TensorRT's own calibrators"))


RULES.always("calibSeed", outcome=ignored("without samples the tool makes up its ranges itself"))


@RULES.rule("skipBroken")
def skip_broken(count: int, context: Context) -> Outcome:
    """Done while the samples are written."""
    return carry(EXACT, becomes="used while the samples are written for the tool")


RULES.always("memCap", "calibCheckpoint", outcome=ignored("the vendor's tool calibrates, and has neither"))
RULES.always("scheme", outcome=ignored("it belongs to the calibrate command"))
RULES.always("trtVersion", "emitScript", outcome=ignored("TensorRT is not used on this target"))
RULES.always("trtCalibrator", outcome=ignored("it belongs to the calibrate command"))

_INSERTED = "the tool puts the normalisation into the model, which then takes pixels"


@RULES.rule("preset")
def preset(word: str, context: Context) -> Outcome:
    """Its numbers go where those of --mean, --std and --scale go; the rest is done while the samples are written."""
    known = context.preprocess if context.preprocess.preset else with_preset(Preprocess(preset=word))
    means, scales, stds = normalisation(known)
    if not (means or scales) or (not context.image and context.builds):
        return _beforehand()
    yaml = {"input_parameters.mean_value": numbers(means)} if any(means) else {}
    if context.march.journey6 and stds:
        yaml["input_parameters.std_value"] = numbers(stds)
    else:
        yaml["input_parameters.scale_value"] = numbers(scales)
    return carry(APPROXIMATE, _INSERTED, yaml=yaml)


@RULES.rule("mean")
def mean(values: tuple[float, ...], context: Context) -> Outcome:
    """The tools subtract before they multiply, on pixels of 0 to 255."""
    if not context.image and context.builds:
        return _beforehand()
    if _misfit(values, context):
        return refused(_misfit(values, context))
    means, _, _ = normalisation(context.preprocess)
    why = _INSERTED + "; mean / scale, since it subtracts first"
    return carry(APPROXIMATE, why, yaml={"input_parameters.mean_value": numbers(means or values)})


@RULES.rule("std")
def std(values: tuple[float, ...], context: Context) -> Outcome:
    """hb_mapper multiplies only; hb_compile can divide."""
    if not context.image and context.builds:
        return _beforehand()
    if _misfit(values, context):
        return refused(_misfit(values, context))
    _, scales, stds = normalisation(context.preprocess)
    why = f"{_INSERTED}; "
    if context.march.journey6:
        yaml = {"input_parameters.std_value": numbers(stds or values)}
        return carry(APPROXIMATE, why + "std / scale, since it subtracts first", yaml=yaml)
    yaml = {"input_parameters.scale_value": numbers(scales or tuple(1 / value for value in values))}
    return carry(APPROXIMATE, why + "scale / std, since it multiplies last and has no division", yaml=yaml)


@RULES.rule("scale")
def scale(values: tuple[float, ...], context: Context) -> Outcome:
    """Given with ``--std`` the two make one factor."""
    if not context.image and context.builds:
        return _beforehand()
    if _misfit(values, context):
        return refused(_misfit(values, context))
    if context.preprocess.std and context.march.journey6:
        why = "one factor together with --std: hb_compile takes std_value or scale_value, not both"
        return carry(APPROXIMATE, why, becomes="part of std_value and mean_value")
    _, scales, _ = normalisation(context.preprocess)
    return carry(APPROXIMATE, _INSERTED, yaml={"input_parameters.scale_value": numbers(scales or values)})


def _misfit(values: tuple[float, ...], context: Context) -> str:
    """Why so many numbers cannot be those of the channels; "" when they can."""
    channels = 1 if context.color == "gray" else 3
    if context.network is None or len(values) in (1, channels):
        return ""
    many = "1 number, since the input has one channel" if channels == 1 else "1 or 3 numbers, one per channel"
    return f"expected {many}, found {len(values)}"


def _beforehand() -> Outcome:
    return carry(EXACT, "the model keeps its float input", becomes="used while the samples are written for the tool")


@RULES.rule("resize", "resizeFilter")
def resize(rule: str, context: Context) -> Outcome:
    """Done while the samples are written."""
    return carry(EXACT, becomes="used while the samples are written for the tool")


@RULES.rule("color")
def color(word: str, context: Context) -> Outcome:
    """The training colour order matters to the tool only when it takes pixels."""
    if context.builds and not context.image:
        return carry(EXACT, becomes="used while the samples are written for the tool")
    yaml = {"input_parameters.input_type_train": word, "input_parameters.input_type_rt": word}
    return carry(EXACT, yaml=yaml)


@RULES.rule("layout")
def layout(word: str, context: Context) -> Outcome:
    """Axis order of the model's input."""
    return carry(EXACT, yaml={"input_parameters.input_layout_train": word.upper()})


RULES.always("intraOpThreads", outcome=ignored("it is for the cpu target"))


@RULES.rule("verify")
def verify(how: str, context: Context) -> Outcome:
    """hbdk-sim comes with Journey 5's compiler."""
    if context.march.journey6:
        return refused("only the compiler of Journey 5, X5 and X3 comes with a simulator that runs by itself")
    if context.value("board"):
        return refused("the simulator takes the place of a board: leave --board out")
    if context.request.command == "build":
        return refused("build runs nothing: run --loadEngine=FILE --verify=sim compares what was built")
    return carry(EXACT, "a difference is an error", becomes="hbdk-sim against the quantized model", verify=how)


@RULES.rule("sweepThreads")
def sweep_threads(counts: tuple[float, ...], context: Context) -> Outcome:
    """One perf run for each."""
    most = 32 if context.march.journey6 else 8
    if max(counts) > most:
        return refused(f"expected at most {most} on {context.march.name}, found {max(counts):g}")
    words = ", ".join(f"{count:g}" for count in counts)
    return carry(EXACT, becomes=f"hrt_model_exec perf with --thread_num {words}, and a table", sweepThreads=counts)


@RULES.rule("sweepCores")
def sweep_cores(cores: tuple[float, ...], context: Context) -> Outcome:
    """One perf run for each; counted from 0 as --device does."""
    if max(cores) >= context.march.cores:
        return refused(f"{context.march.label} has cores 0 to {context.march.cores - 1}, found {max(cores):g}")
    words = ", ".join(f"{core + 1:g}" for core in cores)
    text = f"hrt_model_exec perf with --core_id {words}, and a table"
    return carry(EXACT, "core_id counts from 1", becomes=text, sweepCores=cores)
