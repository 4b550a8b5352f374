"""The flat values after fill-in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import OptionError
from ptqbridge.options.effective import DEFAULTS, changed, effective
from ptqbridge.options.parse import parse
from ptqbridge.options.table import BY_NAME, OPTIONS

# The option that has each plain default; enumerations, fill-ins and flags are in the golden cases.
SAME_DEFAULT = {
    "build.maxBatch": "maxBatch",
    "build.workspace": "workspace",
    "build.minTiming": "minTiming",
    "build.avgTiming": "avgTiming",
    "build.calibration": "calib",
    "build.engine": "saveEngine",
    "build.builderOptimizationLevel": "builderOptimizationLevel",
    "build.maxAuxStreams": "maxAuxStreams",
    "build.timingCacheFile": "timingCacheFile",
    "build.tempdir": "tempdir",
    "build.leanDLLPath": "leanDLLPath",
    "build.layerPrecisions": "layerPrecisions",
    "build.layerOutputTypes": "layerOutputTypes",
    "build.layerDeviceTypes": "layerDeviceTypes",
    "system.device": "device",
    "system.DLACore": "useDLACore",
    "inference.batch": "batch",
    "inference.iterations": "iterations",
    "inference.infStreams": "infStreams",
    "inference.warmup": "warmUp",
    "inference.duration": "duration",
    "inference.sleep": "sleepTime",
    "inference.idle": "idleTime",
    "inference.persistentCacheRatio": "persistentCacheRatio",
    "inference.inputs": "loadInputs",
    "reporting.avgs": "avgRuns",
    "reporting.exportTimes": "exportTimes",
    "reporting.exportOutput": "exportOutput",
    "reporting.exportProfile": "exportProfile",
    "reporting.exportLayerInfo": "exportLayerInfo",
}


@pytest.mark.parametrize(("flat", "name"), SAME_DEFAULT.items())
def test_table_and_flat_defaults_are_the_same(flat: str, name: str) -> None:
    assert BY_NAME[name].default == DEFAULTS[flat]


def test_percentile_default() -> None:
    assert list(BY_NAME["percentile"].default) == DEFAULTS["reporting.percentiles"]


def test_model_alone_has_the_defaults() -> None:
    options = parse(["--onnx=m.onnx"])
    assert effective(options) == DEFAULTS
    assert changed(options) == {}


def test_explicit_defaults_change_nothing() -> None:
    argv = ["--onnx=m.onnx", "--iterations=10", "--warmUp=200", "--percentile=90,95,99", "--precisionConstraints=none"]
    assert changed(parse(argv)) == {}


def test_json_form() -> None:
    values = changed(
        parse(["--onnx=m", "--duration=1e2", "--warmUp=.5", "--memPoolSize=workspace:inf", "--shapes='a':"])
    )
    assert values == {
        "model.model": "m",
        "inference.duration": 100,
        "inference.warmup": 0.5,
        "build.workspace": "inf",
        "build.shapes": {"a": {"min": [], "opt": [], "max": []}},
        "inference.shapes": {"a": []},
    }
    assert isinstance(values["inference.duration"], int)


@given(st.lists(st.sampled_from([option.name for option in OPTIONS if not option.repeats]), unique=True, max_size=8))
def test_always_json_and_always_the_same_names(names: list[str]) -> None:
    argv = ["--onnx=m.onnx", *(f"--{name}={BY_NAME[name].examples[0]}" for name in names if name != "onnx")]
    try:
        options = parse(argv)
    except OptionError:
        return
    if not options.help:
        values = effective(options)
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        assert values.keys() == DEFAULTS.keys()
