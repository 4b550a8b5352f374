"""``lint-data``: findings as text and JSON, and the exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Ptq = Callable[..., object]


@pytest.fixture
def pictures(mynet: Path, tmp_path: Path) -> Path:
    """Some of the example's pictures, without their recipe."""
    (tmp_path / "pictures").mkdir()
    for path in sorted((mynet / "calib").glob("*.png"))[:30]:
        shutil.copy(path, tmp_path / "pictures")
    return tmp_path / "pictures"


def test_good_data_have_no_errors(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={mynet}/calib")
    assert answer.status == 0, answer.err
    assert "error [" not in answer.out and "warning [" not in answer.out
    assert "100 of 100 samples could be read" in answer.out


def test_a_missing_recipe_is_an_error(ptq: Ptq, mynet: Path, pictures: Path) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}")
    assert answer.status == 6
    assert "error [statistics] input 'input1'" in answer.out
    mean, std = "--mean=0.3053,0.3053,0.3053", "--std=0.3243,0.3243,0.3243"
    right = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}", mean, std, "--scale=1/255")
    assert right.status == 0, right.out


def test_broken_and_repeated_samples_are_named(ptq: Ptq, mynet: Path, pictures: Path) -> None:
    names = sorted(path.name for path in pictures.iterdir())
    (pictures / names[3]).write_bytes(b"no picture")
    shutil.copy(pictures / names[0], pictures / "zz_again.png")
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}", "--json")
    record = json.loads(answer.out)
    assert answer.status == record["exit_status"] == 6 and not record["ok"]
    assert record["readable"] == record["samples"] - 1
    broken = next(finding for finding in record["findings"] if finding["check"] == "broken")
    assert names[3] in broken["sample"] + broken["reason"]
    twice = next(finding for finding in record["findings"] if finding["check"] == "duplicate")
    assert "zz_again.png" in twice["sample"] and names[0] in twice["reason"]
    assert record["counts"]["error"] == sum(finding["level"] == "error" for finding in record["findings"])


def test_constant_and_few_samples_warn(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", input1=np.zeros((4, 3, 28, 28), np.float32))
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", "--calibData=flat.npz")
    assert "warning [constant]" in answer.out and "warning [few]" in answer.out


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "--calibData"),
        (["--calibData=missing"], 3, "missing: no such"),
        (["--calibData=.", "--int8"], 2, "--int8: lint-data has no use for it"),
        (["--calibData=.", "--skipBroken=3"], 2, "--skipBroken"),
        (["--calibData=.", "--target=cpu", "--target=trt"], 2, "one target"),
    ],
)
def test_wrong_options_are_one_line(ptq: Ptq, mynet: Path, words: list[str], status: int, text: str) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", *words)
    assert answer.status == status
    assert text in answer.err
    assert len([line for line in answer.err.splitlines() if not line.startswith("  hint")]) == 1


def test_help_lists_its_options_only(ptq: Ptq) -> None:
    answer = ptq("lint-data", "--help")
    assert answer.status == 0
    assert "--preset" in answer.out and "--saveEngine" not in answer.out and "--skipBroken" not in answer.out


def test_sizes_for_nv12_follow_the_target(ptq: Ptq, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 31, 24]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "odd.onnx"
    )
    np.save(tmp_path / "d.npy", np.random.default_rng(0).random((20, 3, 31, 24), np.float32))
    (tmp_path / "nv12.yaml").write_text("input_parameters:\n  input_name: x\n  input_type_rt: nv12\n")
    (tmp_path / "map.yaml").write_text("input_parameters:\n  input_type_rt: featuremap\n")
    words = (f"--onnx={tmp_path}/odd.onnx", f"--calibData={tmp_path}/d.npy")
    found = "[nv12] input 'x': nv12 needs even height and width, found 31x24"
    assert "nv12" not in ptq("lint-data", *words).out
    assert f"unsure {found}" in ptq("lint-data", *words, "--target=j5").out
    sure = ptq("lint-data", *words, "--target=j6m", f"--horizonYaml={tmp_path}/nv12.yaml")
    assert f"error {found}" in sure.out and sure.status == 6
    assert "nv12" not in ptq("lint-data", *words, "--target=j5", f"--horizonYaml={tmp_path}/map.yaml").out
    refused = ptq("lint-data", *words, f"--horizonYaml={tmp_path}/map.yaml")
    assert refused.status == 2 and "--horizonYaml" in refused.err


def test_a_broken_sample_is_named_in_its_own_field(ptq: Ptq, mynet: Path, pictures: Path) -> None:
    victim = sorted(pictures.iterdir())[3]
    victim.write_bytes(b"no picture")
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}", "--json")
    (broken,) = [finding for finding in json.loads(answer.out)["findings"] if finding["check"] == "broken"]
    assert broken["sample"] == str(victim)
    assert broken["reason"] == "not a readable picture (cannot identify image file of unknown format)"


def test_many_findings_of_a_kind_are_counted(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for index in range(25):
        np.save(tmp_path / "d" / f"{index:02d}.npy", np.zeros((28, 28, 3), np.float32))
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={tmp_path}/d")
    assert answer.status == 6
    assert answer.out.count("error [layout]") == 21 and "and 5 more samples; --json names them all" in answer.out
    assert "0 of 25 samples could be read: 25 errors, 1 warning" in answer.out
    record = json.loads(ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={tmp_path}/d", "--json").out)
    assert sum(finding["check"] == "layout" for finding in record["findings"]) == 25


def test_batches_are_looked_at_one_by_one(ptq: Ptq, mynet: Path) -> None:
    words = (f"--onnx={mynet}/mynet_dynamic.onnx", f"--calibData={mynet}/calib", "--calibSamples=40")
    assert ptq("lint-data", *words, "--calibBatch=16").out == ptq("lint-data", *words).out
