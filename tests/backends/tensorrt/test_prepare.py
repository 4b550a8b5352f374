"""The strong lowering on the example model: Q/DQ from samples and from a cache, half precision, types of the ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ptqbridge.backends.tensorrt.prepare import Prepared, prepare, write_edited
from ptqbridge.errors import InputError, OptionError
from ptqbridge.model.load import load_model
from ptqbridge.plan import Plan
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.formats.reading import read_ranges
from ptqbridge.quantize.formats.writing import write_ranges
from ptqbridge.quantize.verify import float_tensors

PlanOf = Callable[..., Plan]


@pytest.fixture
def mynet(root: Path) -> Path:
    return root / "examples" / "mynet"


def edited(plan: Plan, folder: Path) -> tuple[onnx.ModelProto, Prepared]:
    done = write_edited(plan, str(folder / "edited.onnx"), say=lambda text: None, progress=None)
    model = onnx.load(folder / "edited.onnx")
    onnx.checker.check_model(model)
    return model, done


def scales(model: onnx.ModelProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_scale")}


def test_int8_from_samples_stays_near_float(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = (f"--onnx={mynet}/mynet.onnx", "--int8", f"--calibData={mynet}/calib", "--calibAlgo=max")
    model, done = edited(plan_of("11", *words), tmp_path)
    assert done.facts["qdq"]["layers"] == 3 and done.facts["qdq"]["float"] == {}
    assert done.facts["cosine_to_float32"]["lowest"]["output1"] > 0.999
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 6


def test_ranges_and_the_cache_of_the_same_ranges_give_the_same_model(
    mynet: Path, tmp_path: Path, plan_of: PlanOf
) -> None:
    """An INT8 script written for 8.6 keeps its meaning: its cache holds the scales that the Q/DQ model gets."""
    data = (f"--calibData={mynet}/calib", "--calibAlgo=max", "--calibSamples=20")
    prepare(
        plan_of("8.6.1", f"--onnx={mynet}/mynet.onnx", "--int8", *data),
        str(tmp_path), say=lambda text: None, progress=None,
    )  # fmt: skip
    cache = tmp_path / "calibration.cache"
    assert cache.read_text().startswith("TRT-8601-EntropyCalibration2\n")
    from_samples, _ = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", "--int8", *data), tmp_path)
    from_cache, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", "--int8", f"--calib={cache}"), tmp_path)
    assert done.facts["qdq"]["layers"] == 3
    one, other = scales(from_samples), scales(from_cache)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=2.0**-22)
    sample = {"input1": np.random.default_rng(0).normal(size=(1, 3, 28, 28)).astype(np.float32)}
    outputs = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, sample)[0]
        for m in (from_samples, from_cache)
    ]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-3, atol=1e-3)


def test_a_layer_that_the_cache_lacks_is_named(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    proto = load_model(mynet / "mynet.onnx").proto
    data = [{"input1": np.random.default_rng(0).normal(size=(1, 3, 28, 28)).astype(np.float32)}]
    ranges = calibrate(proto, [name for name in float_tensors(proto) if name != "input1"], data, algorithm="max")
    write_ranges(ranges, str(tmp_path / "c.cache"), Form.TRT_CACHE)
    plan = plan_of("11", f"--onnx={mynet}/mynet.onnx", "--int8", f"--calib={tmp_path}/c.cache")
    _, done = edited(plan, tmp_path)
    assert any("no range is known for input1" in note for note in done.notes)
    assert done.facts["qdq"]["layers"] == 2


def test_best_writes_fp16_and_int8(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = (f"--onnx={mynet}/mynet.onnx", "--best", f"--calibData={mynet}/calib", "--calibAlgo=max")
    model, done = edited(plan_of("11", *words, "--calibSamples=20"), tmp_path)
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert types == {TensorProto.FLOAT16, TensorProto.INT8}
    assert done.facts["half"]["fp32"] == {}
    nearness = done.facts.get("cosine_to_float32")
    assert nearness is None or nearness["lowest"]["output1"] > 0.99
    assert nearness is not None or any("not compared" in note for note in done.notes)


def test_without_data_fp16_is_said_to_be_unchecked(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    _, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", "--fp16"), tmp_path)
    assert any("were not checked against fp16's range" in note for note in done.notes)
    assert done.facts["cosine_to_float32"]["lowest"]["output1"] > 0.9999


def test_single_layers_take_the_type_asked_for(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = ("--fp16", "--precisionConstraints=obey", "--layerPrecisions=/fc/*:fp32")
    _, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words), tmp_path)
    assert done.facts["half"]["fp32"] == {"/fc/Gemm": "asked for"}
    words = ("--int8", "--precisionConstraints=obey", "--layerPrecisions=/fc/*:fp32", f"--calibData={mynet}/calib")
    _, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words, "--calibSamples=4"), tmp_path)
    assert done.facts["qdq"]["float"] == {"/fc/Gemm": "asked for"}


def test_outputs_of_single_layers_are_rounded(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = ("--precisionConstraints=prefer", "--layerOutputTypes=/fc/Gemm:fp16,/features/features.0/Conv:fp32")
    model, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words), tmp_path)
    assert [node.op_type for node in model.graph.node][-3:] == ["Gemm", "Cast", "Cast"]
    assert any("features.0/Conv: output type fp32 follows" in note for note in done.notes)
    sample = {"input1": np.random.default_rng(1).normal(size=(1, 3, 28, 28)).astype(np.float32)}
    # ONNX Runtime 1.16 takes such a pair of Casts out, so ONNX's own evaluator tells.
    found = ReferenceEvaluator(model).run(None, sample)[0]
    assert (found == found.astype(np.float16)).all()


def test_int8_for_a_layer_without_int8_is_said(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = ("--fp16", "--precisionConstraints=obey", "--layerPrecisions=/fc/Gemm:int8")
    _, done = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words), tmp_path)
    assert "/fc/Gemm: int8 was asked for it, but --int8 was not given" in done.notes


def test_types_of_the_ends(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    words = ("--inputIOFormats=fp16:chw", "--outputIOFormats=fp16:chw")
    model, _ = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words), tmp_path)
    ends = (*model.graph.input, *model.graph.output)
    assert [value.type.tensor_type.elem_type for value in ends] == [TensorProto.FLOAT16] * 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"input1": np.zeros((1, 3, 28, 28), np.float16)})[0].dtype == np.float16


def test_an_end_that_a_branch_reads_gets_its_type_too(tmp_path: Path, plan_of: PlanOf) -> None:
    """x is read in the branches of an If only, by its name outside."""
    make = helper.make_node
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "a", "b")]
    branches = [
        helper.make_graph([make(kind, ["x"], [out])], out, [], [end])
        for kind, out, end in (("Relu", "a", ends[2]), ("Neg", "b", ends[3]))
    ]
    chosen = make("If", ["c"], ["y"], "if", then_branch=branches[0], else_branch=branches[1])
    flag = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph([chosen], "g", [flag, ends[0]], [ends[1]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "if.onnx")
    formats = "--inputIOFormats=bool:chw,fp16:chw"
    model, _ = edited(plan_of("11", f"--onnx={tmp_path}/if.onnx", formats), tmp_path)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([-1.5, 2], np.float16)
    assert session.run(None, {"c": np.array(False), "x": x})[0].tolist() == [1.5, -2]


def test_an_int8_end_needs_its_range(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    with pytest.raises(InputError, match="int8 needs its range"):
        edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", "--inputIOFormats=int8:chw"), tmp_path)
    words = ("--inputIOFormats=int8:chw", f"--calibData={mynet}/calib", "--calibSamples=4", "--int8")
    model, _ = edited(plan_of("11", f"--onnx={mynet}/mynet.onnx", *words), tmp_path)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT8
    assert model.graph.node[0].op_type == "DequantizeLinear"


def test_noise_is_the_last_resort(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    plan = plan_of("11", f"--onnx={mynet}/mynet.onnx", "--int8")
    assert "noise" in plan.performance_only
    _, done = edited(plan, tmp_path)
    assert done.facts["qdq"]["ranges"] == "noise"


def test_pruned_and_calibrated_at_once(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    """Both files are there: the pruned model that is built, and the ranges of that very model."""
    data = (f"--calibData={mynet}/calib", "--calibAlgo=max", "--calibSamples=4", "--int8")
    plan = plan_of("8.6.1", f"--onnx={mynet}/mynet.onnx", "--sparsity=force", *data)
    prepare(plan, str(tmp_path), say=lambda text: None, progress=None)
    cache = (tmp_path / "calibration.cache").read_text()
    plain = plan_of("8.6.1", f"--onnx={tmp_path}/model.edited.onnx", *data)
    (tmp_path / "again").mkdir()
    prepare(plain, str(tmp_path / "again"), say=lambda text: None, progress=None)
    assert cache.startswith("TRT-8601-") and cache == (tmp_path / "again" / "calibration.cache").read_text()


def test_int8_ends_get_the_ranges_of_our_calibration(mynet: Path, plan_of: PlanOf) -> None:
    words = (f"--onnx={mynet}/mynet.onnx", "--int8", "--inputIOFormats=int8:chw", f"--calibData={mynet}/calib")
    calls = plan_of("8.6.1", *words).settings["calls"]
    assert 'set_io_ranges(network, beside("calibration.cache"), [0], [])' in calls


def simulated(model: onnx.ModelProto, amax: dict[str, float]) -> onnx.ModelProto:
    """The Q/DQ pairs replaced by float arithmetic on our ranges: round(x / s) clipped, times s = amax / 127."""
    made, constants = onnx.ModelProto(), {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    made.CopyFrom(model)
    del made.graph.node[:]
    for node in model.graph.node:
        name, source = node.output[0], node.input[0]
        if node.op_type == "DequantizeLinear":
            made.graph.node.append(helper.make_node("Identity", [source], [name]))
        elif node.op_type != "QuantizeLinear":
            made.graph.node.append(node)
        elif source in constants:
            weight = constants[source]
            axes = tuple(range(1, weight.ndim))  # Conv, and Gemm with transB: output channels come first
            scale = np.abs(weight).max(axis=axes, keepdims=True) / np.float32(127)
            rounded = np.clip(np.rint(weight / scale), -127, 127) * scale
            made.graph.initializer.append(numpy_helper.from_array(rounded.astype(np.float32), name))
        else:
            numbers = {"s": amax[source] / 127, "low": -128, "high": 127}
            for part, number in numbers.items():
                tensor = numpy_helper.from_array(np.asarray(number, np.float32), f"{name}_{part}")
                made.graph.initializer.append(tensor)
            steps = (("Div", "s"), ("Round", ""), ("Clip", "low high"), ("Mul", "s"))
            for place, (kind, parts) in enumerate(steps):
                last = name if place == len(steps) - 1 else f"{name}_{place}"
                made.graph.node.append(
                    helper.make_node(kind, [source, *(f"{name}_{part}" for part in parts.split())], [last])
                )
                source = last
    return made


def test_outputs_are_those_of_our_simulated_ranges(mynet: Path, tmp_path: Path, plan_of: PlanOf) -> None:
    """The model for TensorRT 11, made from a cache for 8.6, computes what the cache's ranges say."""
    words = (f"--onnx={mynet}/mynet.onnx", "--int8")
    data = (f"--calibData={mynet}/calib", "--calibSamples=8")
    prepare(plan_of("8.6.1", *words, *data), str(tmp_path), say=lambda text: None, progress=None)
    cache = tmp_path / "calibration.cache"
    model, _ = edited(plan_of("11", *words, f"--calib={cache}"), tmp_path)
    amax = {name: found.amax for name, found in read_ranges(cache).ranges.tensors.items()}
    twin = simulated(model, amax)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    sessions = [
        onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for m in (model, twin)
    ]
    sample = {"input1": np.random.default_rng(3).normal(size=(1, 3, 28, 28)).astype(np.float32)}
    found, wanted = (session.run(None, sample)[0] for session in sessions)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(np.abs(wanted).max()))


@pytest.fixture
def damaged(mynet: Path, tmp_path: Path) -> Path:
    """Five of the example's samples with their recipe, the second of them damaged."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    files = sorted((mynet / "calib").iterdir())
    for file in [*[file for file in files if file.suffix == ".png"][:5], mynet / "calib" / "recipe.yaml"]:
        shutil.copy(file, folder)
    sorted(folder.glob("*.png"))[1].write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("version", ["8.6.1", "11"])
def test_a_sample_that_is_left_out_is_told(
    mynet: Path, damaged: Path, tmp_path: Path, plan_of: PlanOf, version: str
) -> None:
    words = (f"--onnx={mynet}/mynet.onnx", "--int8", f"--calibData={damaged}", "--calibAlgo=max", "--skipBroken=1")
    done = prepare(plan_of(version, *words), str(tmp_path), say=lambda text: None, progress=None)
    (reason,) = done.facts["calibration"]["skipped"]
    assert done.facts["calibration"]["samples"] == 4
    assert f"left out: {reason}" in done.notes and sorted(damaged.glob("*.png"))[1].name in reason


def test_the_cap_and_the_checkpoint_reach_our_calibration(
    mynet: Path, tmp_path: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def spy(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return calibrate(*arguments, **options)

    monkeypatch.setattr("ptqbridge.backends.tensorrt.prepare.calibrate", spy)
    words = (f"--onnx={mynet}/mynet.onnx", "--int8", f"--calibData={mynet}/calib", "--calibSamples=4")
    more = ("--memCap=512", f"--calibCheckpoint={tmp_path}/c.npz")
    said: list[str] = []
    prepare(plan_of("8.6.1", *words, *more), str(tmp_path), say=said.append, progress=None)
    assert (given["memory_cap"], given["checkpoint"]) == (512 << 20, f"{tmp_path}/c.npz")
    assert any("memory" in line for line in said)
    with pytest.raises(OptionError, match="memory cap"):
        prepare(plan_of("8.6.1", *words, "--memCap=0.01"), str(tmp_path), say=said.append, progress=None)
