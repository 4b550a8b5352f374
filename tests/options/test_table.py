"""The option table: complete, unambiguous, and in itself consistent."""

from __future__ import annotations

from collections import Counter

import pytest

from ptqbridge.options.effective import DEFAULTS, effective
from ptqbridge.options.option import GROUPS, Option
from ptqbridge.options.parse import parse
from ptqbridge.options.table import BY_NAME, BY_SPELLING, OPTIONS, nearest

# Read from the parsers of the tags v8.6.1, v10.13.3 and v11.1 of NVIDIA/TensorRT.
SPELLINGS = {"8.6.1": 102, "10.13.3": 120, "11.1": 130}
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


@pytest.mark.parametrize(("version", "count"), SPELLINGS.items())
def test_number_of_spellings_per_generation(version: str, count: int) -> None:
    assert sum(len(option.spellings) for option in OPTIONS if option.in_trtexec(version)) == count


def test_every_trtexec_option_is_there() -> None:
    of_trtexec = [option for option in OPTIONS if option.since]
    assert (len(of_trtexec), sum(len(option.spellings) for option in of_trtexec)) == (159, 163)


def test_names_and_spellings_are_unique() -> None:
    assert len(BY_NAME) == len(OPTIONS)
    spellings = Counter(spelling for option in OPTIONS for spelling in option.spellings)
    assert spellings.most_common(1)[0][1] == 1
    assert len(BY_SPELLING) == len(spellings)


@each_option
def test_row_is_complete(option: Option) -> None:
    assert option.group in GROUPS
    assert option.examples
    for example in option.examples:
        option.value.parse(example)
    assert option.help.endswith(".")
    assert option.help[0].isupper() or option.help[0].isdigit()
    assert "\n" not in option.help
    assert bool(option.since) or option.ours
    assert not option.replaced_by or option.deprecated
    assert option.synopsis().startswith(f"--{option.name}")


@each_option
def test_default_is_what_its_own_text_means(option: Option) -> None:
    if option.is_flag or option.default in (None, "", (), {}):
        return
    default = option.default
    text = {
        tuple: lambda: ",".join(map(str, default)),
        dict: lambda: "in_memory:allow,temporary:allow",
    }.get(type(default), lambda: str(default))()
    value = option.value.parse(text)
    assert value == default or value == float(default)


def test_replacements_exist() -> None:
    for option in OPTIONS:
        if option.replaced_by:
            assert option.replaced_by.split("=")[0].split(" ")[0] in BY_SPELLING


def test_gaps_hide_a_version() -> None:
    consistency = BY_NAME["consistency"]
    assert consistency.in_trtexec("8.6.1")
    assert not consistency.in_trtexec("10.5.0")
    assert consistency.in_trtexec("10.13.3")
    assert not BY_NAME["bf16"].in_trtexec("8.6.1")
    assert not BY_NAME["fp16"].in_trtexec("11.1")
    assert not BY_NAME["target"].in_trtexec("11.1")


# A text that is not the default, for each option of 8.6.1 that takes part in ``effective``; flags need none.
CHANGES = {
    "maxBatch": "8", "workspace": "5", "memPoolSize": "dlaSRAM:1", "profilingVerbosity": "none", "nvtxMode": "detailed",
    "minTiming": "2", "avgTiming": "2", "useRuntime": "lean", "leanDLLPath": "x", "saveEngine": "x", "loadEngine": "x",
    "tacticSources": "-CUDNN", "timingCacheFile": "x", "builderOptimizationLevel": "3",
    "hardwareCompatibilityLevel": "ampere+", "maxAuxStreams": "2", "preview": "+profileSharing0806", "tempdir": "x",
    "tempfileControls": "in_memory:deny", "onnx": "x", "uff": "x", "model": "x", "deploy": "x", "output": "x",
    "uffInput": "in,1,2,3", "minShapes": "a:1", "optShapes": "a:1", "maxShapes": "a:1", "minShapesCalib": "a:1",
    "optShapesCalib": "a:1", "maxShapesCalib": "a:1", "inputIOFormats": "int8:chw32", "outputIOFormats": "int8:chw32",
    "sparsity": "force", "precisionConstraints": "obey", "layerPrecisions": "c:fp16", "layerOutputTypes": "c:fp16",
    "layerDeviceTypes": "c:DLA", "calib": "x", "batch": "4", "shapes": "a:1", "loadInputs": "a:f", "iterations": "5",
    "warmUp": "5", "duration": "5", "sleepTime": "5", "idleTime": "5", "infStreams": "5", "streams": "5",
    "persistentCacheRatio": "0.5", "avgRuns": "5", "percentile": "50", "exportTimes": "x", "exportOutput": "x",
    "exportProfile": "x", "exportLayerInfo": "x", "device": "1", "useDLACore": "1", "staticPlugins": "x",
    "plugins": "x", "dynamicPlugins": "x", "setPluginsToSerialize": "x",
}  # fmt: skip
UFF = ("--uff=u", "--uffInput=a,1,2,3", "--output=o")
CAFFE = ("--deploy=d", "--output=o")
FORMATS = ("--inputIOFormats=int8:chw32", "--outputIOFormats=int8:chw32")
CALIB = ("--minShapesCalib=b:1", "--optShapesCalib=b:1", "--maxShapesCalib=b:1")
COMPANIONS = {
    "uff": ("--uffInput=a,1,2,3", "--output=o"), "uffNHWC": UFF, "uffInput": ("--uff=u", "--output=o"),
    "model": ("--output=o",), "deploy": ("--output=o",), "output": ("--deploy=d",), "batch": CAFFE, "maxBatch": CAFFE,
    "loadEngine": (), "useRuntime": ("--loadEngine=e",), "buildDLAStandalone": ("--onnx=m", *FORMATS),
}  # fmt: skip
COMPANIONS |= {
    name: ("--onnx=m", *(word for word in CALIB if not word.startswith(f"--{name}=")))
    for name in ("minShapesCalib", "maxShapesCalib")
}
NO_EFFECT = {"explicitBatch", "explicitPrecision", "help"}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.in_trtexec("8.6.1")], ids=lambda o: o.name)
def test_every_option_of_861_shows_in_effective(option: Option) -> None:
    if option.name in NO_EFFECT:
        return
    companions = COMPANIONS.get(option.name, () if option.name == "onnx" else ("--onnx=m",))
    word = f"--{option.name}" if option.is_flag else f"--{option.name}={CHANGES[option.name]}"
    complete = {
        "uff",
        "uffInput",
        "model",
        "deploy",
        "output",
        "loadEngine",
        "onnx",
        "minShapesCalib",
        "maxShapesCalib",
    }
    without = dict(DEFAULTS) if option.name in complete else effective(parse(companions))
    assert effective(parse([*companions, word])) != without


def test_nearest() -> None:
    assert nearest("--fp61") == "--fp16"
    assert nearest("--Shapes") == "--shapes"
    assert nearest("-onnx") == "--onnx"
    assert nearest("--zzzzzzzz") == ""
