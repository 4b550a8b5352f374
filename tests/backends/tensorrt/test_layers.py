"""Types asked for and got: the inspector's JSON read, and what obey makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.tensorrt.build import build
from ptqbridge.backends.tensorrt.layers import compare, unknown_layers
from ptqbridge.errors import InputError, LimitNotMet
from ptqbridge.plan import Plan
from ptqbridge.spec import Precision


def tensor(kind: str) -> dict[str, Any]:
    return {"Name": "t", "Dimensions": [1, 4], "Format/Datatype": kind}


LINEAR16 = tensor("Row major linear FP16 format")
ENGINE = {
    "Layers": [
        {"Name": "Reformatting CopyNode for Input Tensor 0 to conv", "LayerType": "Reformat", "Inputs": [LINEAR16]},
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [LINEAR16],
            "Outputs": [tensor("Row major linear FP32")],
            "Weights": {"Type": "Half", "Count": 108},
        },
        {"Name": "PWN(sigmoid, mul)", "Inputs": [tensor("Float")], "Outputs": [tensor("BFloat16")]},
        {"Name": "__myl_1", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]", "Inputs": [tensor("Int8")]},
    ]
}


@pytest.mark.parametrize(
    ("wish", "got", "met"),
    [
        (("conv", "precision", ("fp16",)), "fp16 (in conv + relu)", True),
        (("relu", "outputs", ("fp16",)), "fp32 (in conv + relu)", False),
        (("mul", "outputs", ("bf16",)), "bf16 (in PWN(sigmoid, mul))", True),
        (("b", "precision", ("int8",)), "int8 (in __myl_1)", True),
    ],
)
def test_a_layer_is_found_among_fused_ones(wish: Any, got: str, met: bool) -> None:
    (row,), notes = compare([wish], json.dumps(ENGINE))
    assert (row.layer, row.got, row.met, notes) == (wish[0], got, met, ())


def test_what_the_inspector_does_not_tell_is_said() -> None:
    rows, (note,) = compare([("gone", "precision", ("fp16",)), ("conv", "outputs", ("fp16",))], json.dumps(ENGINE))
    assert rows == () and "gone, conv" in note
    rows, (note,) = compare([("conv", "precision", ("fp16",))], '{"Layers": ["conv + relu"]}')
    assert rows == () and "--profilingVerbosity=detailed" in note
    assert compare([], json.dumps(ENGINE)) == ((), ())


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """x -> Conv -> Relu -> y."""
    monkeypatch.chdir(tmp_path)
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv"), helper.make_node("Relu", ["c"], ["y"], "relu")]
    entries = (("x", TensorProto.FLOAT, [1, 3, 8, 8]), ("y", TensorProto.FLOAT, [1, 4, 6, 6]))
    ends = [helper.make_tensor_value_info(*entry) for entry in entries]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "m.onnx")
    return tmp_path


def test_an_account_that_is_no_json_is_said() -> None:
    rows, notes = compare([("conv", "precision", ("fp16",))], '{"Layers": ["a " quoted" name"]}')
    assert rows == () and "no valid JSON" in notes[0]


@pytest.mark.parametrize("version", ["8.6.1", "10.13.3"])
def test_a_build_tells_and_obey_ends_it(
    version: str, model: Path, plan_of: Callable[..., Plan], tensorrt: Callable[..., Any]
) -> None:
    api = tensorrt(version)
    api.INSPECTED = json.dumps(ENGINE)
    (model / "e.engine").write_bytes(b"the last good one")
    words = ("--onnx=m.onnx", "--fp16", "--layerPrecisions=conv:fp16", "--layerOutputTypes=relu:fp16")

    def built(mode: str) -> Any:
        plan = plan_of(version, *words, f"--precisionConstraints={mode}", "--saveEngine=e.engine")
        return build(plan, say=lambda text: None, progress=None)

    with pytest.raises(LimitNotMet, match="'relu' was asked in outputs fp16, got fp32"):
        built("obey")
    assert (model / "e.engine").read_bytes() == b"the last good one"
    rows = built("prefer").asked_got
    assert [(row.layer, row.asked, row.met) for row in rows] == [
        ("conv", "fp16", True),
        ("relu", "outputs fp16", False),
    ]
    assert (model / "e.engine").read_bytes().startswith(b"ftrt")
    assert built("none").asked_got == ()


def test_requests_that_fit_no_layer_are_said_or_refused() -> None:
    names = ["conv1", "conv2", "fc"]
    wish = Precision(
        constraints="prefer", layers={"*": ("fp16",), "con*": ("fp16",), "cv1": ("fp32",)}, layer_devices={"x": "DLA"}
    )
    assert unknown_layers(wish, names, stars=True) == (
        "--layerDeviceTypes: 'x' matches no layer",
        "--layerPrecisions: 'cv1' matches no layer",
    )
    twice = replace(wish, layers={"c*n*1": ("fp16",)}, layer_devices={})
    assert unknown_layers(twice, names, stars=True) == ("--layerPrecisions: 'c*n*1' matches no layer",)  # one * only
    assert "reads no pattern but a * alone" in unknown_layers(wish, names, stars=False)[1]
    assert unknown_layers(replace(wish, constraints="none"), names, stars=True) == (
        "--layerDeviceTypes: 'x' matches no layer",
    )
    with pytest.raises(InputError, match="--layerPrecisions: 'cv1' matches no layer") as caught:
        unknown_layers(replace(wish, constraints="obey"), names, stars=True)
    assert caught.value.hint == "did you mean conv1?"
