"""The pre-flight check as a whole: everything at once, conversions on demand, dry runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from ptqbridge.backends.horizon.preflight import noted, preflight, refuse
from ptqbridge.errors import InputError, OptionError
from ptqbridge.plan import Plan

PlanOf = Callable[..., Plan]
NET = "examples/mynet/mynet.onnx"
DATA = "--int8 --calibData=examples/mynet/calib --calibSamples=3"


def changed(root: Path, path: Path, opset: int = 11, size: str = "", batch: str = "") -> str:
    proto = onnx.load(root / NET)
    proto.opset_import[0].version = opset
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    if size:
        dims[2].dim_param = size
    if batch:
        dims[0].dim_param = proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = batch
    onnx.save(proto, path)
    return f"--onnx={path}"


def test_the_example_is_good(plan_of: PlanOf) -> None:
    for line in (f"--onnx={NET}", f"--onnx={NET} {DATA}"):
        check = preflight(plan_of(line, "bayes", "build"), values=True)
        assert (check.faults, check.converted) == ((), False)
        refuse(check)
    assert check.samples is not None and len(check.samples) == 3


def test_everything_at_once(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 20, 20), np.float32))
    (tmp_path / "o.yaml").write_text("{compiler_parameters: {core_num: 1}}")
    model = changed(root, tmp_path / "m.onnx", opset=13, size="H")
    check = preflight(plan_of(f"{model} --int8 --calibData={tmp_path}/x.npy", "bayes", "build"))
    texts = "\n".join(check.faults)
    assert "has ONNX opset 13, and hb_mapper takes 7 to 11; --convertOpset converts a copy" in texts
    assert "has dynamic dimensions" in texts
    assert "--calibData: " in texts and "x.npy" in texts
    with pytest.raises(InputError, match=r"^\d things stop this build before hb_mapper starts:\n  .*\n  ") as caught:
        refuse(check)
    assert len(caught.value.message.splitlines()) == len(check.faults) + 1


def test_one_fault_is_one_line(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    check = preflight(plan_of(changed(root, tmp_path / "m.onnx", opset=13), "bayes", "build"))
    with pytest.raises(InputError, match=r"has ONNX opset 13, and hb_mapper takes 7 to 11$") as caught:
        refuse(check)
    assert caught.value.hint == "--convertOpset converts a copy of it"


def test_conversions(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    model = changed(root, tmp_path / "m.onnx", opset=13, batch="N")
    check = preflight(plan_of(f"{model} {DATA} --convertOpset --fixShapes", "bayes", "build"))
    assert check.faults == ()
    assert check.converted
    assert (check.model.opset, check.model.inputs[0].shape) == (11, (1, 3, 28, 28))
    assert check.remarks[0] == "a copy of the model was converted: dynamic dimensions fixed: input1:1x3x28x28"
    assert "compared on 3 calibration samples: equal" in check.remarks[2]


def test_shapes_fix_dimensions(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    model = changed(root, tmp_path / "m.onnx", size="H")
    assert "nothing says how large" in preflight(plan_of(f"{model} --fixShapes", "bayes", "build")).faults[0]
    check = preflight(plan_of(f"{model} --fixShapes --shapes=input1:1x3x28x28", "bayes", "build"))
    assert check.faults == () and check.converted


def test_why_it_was_not_converted_is_said_once(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    proto = onnx.load(root / NET)
    proto.opset_import[0].version = 14
    proto.graph.node.append(onnx.helper.make_node("Trilu", ["output1"], ["t"], name="late"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("t", 1, None))
    onnx.save(proto, tmp_path / "m.onnx")
    check = preflight(plan_of(f"--onnx={tmp_path}/m.onnx --convertOpset", "bayes", "build"))
    (only,) = check.faults
    assert "opset 11 has no Trilu (node 'late')" in only


def test_odd_nv12(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    proto = onnx.load(root / NET)
    for place in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[place].dim_value = 29
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "o.yaml").write_text("{input_parameters: {input_type_rt: nv12, input_type_train: rgb}}")
    check = preflight(plan_of(f"--onnx={tmp_path}/m.onnx --horizonYaml={tmp_path}/o.yaml", "bayes", "build"))
    assert any("expected even height and width for nv12, and the shape is 1x3x29x29" in text for text in check.faults)


def test_folders_of_two_inputs_hold_as_many_samples(plan_of: PlanOf, tmp_path: Path) -> None:
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in "aby"]
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    nodes = [onnx.helper.make_node("MatMul", ["a", "w"], ["m"]), onnx.helper.make_node("Add", ["m", "b"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", values[:2], values[2:], [weight])
    opsets = [onnx.helper.make_opsetid("", 11)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=7), tmp_path / "m.onnx")
    for name, count in (("a", 2), ("b", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            np.arange(4, dtype=np.float32).tofile(tmp_path / name / f"{number}.bin")
    (tmp_path / "o.yaml").write_text(
        "{calibration_parameters: {cal_data_dir: './a;./b', cal_data_type: 'float32;float32', calibration_type: max}}"
    )
    check = preflight(plan_of(f"--onnx={tmp_path}/m.onnx --int8 --horizonYaml={tmp_path}/o.yaml", "bayes", "build"))
    assert check.faults == (
        f"cal_data_dir: expected as many samples for every input, found {tmp_path}/a 2, {tmp_path}/b 3",
    )


def test_other_formats(plan_of: PlanOf) -> None:
    with pytest.raises(OptionError, match=r"--caffe|--uff"):
        preflight(plan_of("--model=a.caffemodel --deploy=b.prototxt --output=prob", "bayes", "build"))


def test_a_dry_run_tells(plan_of: PlanOf, root: Path, tmp_path: Path) -> None:
    model = changed(root, tmp_path / "m.onnx", opset=13)
    plan = plan_of(f"{model} --dryRun", "bayes", "build")
    assert len(plan.faults) == 1 and "opset 13" in plan.faults[0]
    good = plan_of(f"{model} --dryRun --convertOpset", "bayes", "build")
    assert good.faults == ()
    assert any("pre-flight: a copy of the model was converted: opset 13 lowered to 11" in note for note in good.notes)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    assert "bad.onnx" in plan_of(f"--onnx={tmp_path}/bad.onnx --dryRun", "bayes", "build").faults[0]
    missing = plan_of("--onnx=no.onnx --dryRun", "bayes", "build")
    assert missing.faults == () and noted(missing) is missing


def test_a_dry_run_with_faults_ends_with_3(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ptqbridge.cli import main

    model = changed(root, tmp_path / "m.onnx", opset=13)
    for command in ("build", "trtexec"):
        assert main([command, "--target=bayes", model, "--dryRun", f"--out={tmp_path}/{command}"]) == 3
        said = capsys.readouterr()
        assert "this build would fail: model" in said.err + said.out
        assert (tmp_path / command / "run.sh").is_file()
