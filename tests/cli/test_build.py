"""``build``: the artifact, the records, dry runs, and everything that can be wrong with the input."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

Ptq = Callable[..., object]


def test_calibrated_build_of_the_example(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8", f"--calibData={mynet}/calib", "--out=o")
    assert answer.status == 0, answer.err
    assert "2 of 2 Conv run as QLinearConv" in answer.out
    assert "performance only" not in answer.out + answer.err
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == ["mynet.cpu-int8.onnx", "plan.json", "result.json"]
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert result["build"]["facts"]["calibration"]["samples"] == 100
    assert result["build"]["facts"]["cosine_to_float32"]["lowest"]["output1"] > 0.999


def test_json_is_the_only_thing_on_standard_output(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--json", "--int8")
    record = json.loads(answer.out)
    assert record["targets"]["cpu"]["build"]["precision"] == "int8"
    assert "accuracy is not" in record["targets"]["cpu"]["performance_only"]


def test_performance_only_is_said_and_strict_refuses_it(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    said = ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8")
    assert said.err.startswith("warning: performance only:")
    assert said.out.rstrip().endswith("[performance only]")
    (tmp_path / "mynet.cpu-int8.onnx").unlink()
    refused = ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8", "--strict")
    assert refused.status == 2
    assert list(tmp_path.iterdir()) == []


def test_strict_refuses_options_without_effect(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--fp16", "--strict")
    assert answer.status == 2
    assert "--strict: target cpu ignores --fp16" in answer.err


def test_refused_options_are_all_named(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--refit", "--sparsity=force")
    assert answer.status == 2
    assert "--refit:" in answer.err
    assert "--sparsity=force:" in answer.err


@pytest.mark.parametrize("target", ["cpu", "trt", "bayes", "nash-m"])
def test_dry_run_writes_the_plan_and_runs_nothing(ptq: Ptq, mynet: Path, tmp_path: Path, target: str) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", f"--target={target}", "--dryRun", "--out=o")
    assert answer.status == 0, answer.err
    plan = json.loads((tmp_path / "o" / "plan.json").read_text())
    assert plan["sha256"][f"{mynet}/mynet.onnx"]
    assert plan["versions"]["onnx"]
    assert plan["plan"]["verdicts"]
    assert plan["spec"]["build"]["model"]["format"] == "onnx"
    made = [path.name for path in (tmp_path / "o").glob("*.onnx")]
    assert made == (["mynet.onnx"] if target == "nash-m" else [])  # a copy of the model, for whoever runs run.sh


def test_several_targets_get_a_folder_each(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--target=cpu", "--target=j6m", "--dryRun", "--out=o", "--json")
    assert set(json.loads(answer.out)["targets"]) == {"cpu", "nash-m"}
    assert (tmp_path / "o" / "cpu" / "plan.json").exists()
    assert (tmp_path / "o" / "nash-m" / "plan.json").exists()
    both = ptq("build", f"--onnx={mynet}/mynet.onnx", "--target=cpu", "--target=j6m", "--saveEngine=x")
    assert both.status == 2


@pytest.mark.parametrize("target", ["trt", "bayes", "nash-m"])
def test_missing_vendor_software_is_exit_4_with_the_way_out(
    ptq: Ptq, mynet: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", f"--target={target}")
    assert answer.status == 4
    assert "hint:" in answer.err


def test_job_file(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"onnx: {mynet}/mynet.onnx\nint8: true\ncalibAlgo: max\ncalibSamples: 7\n")
    answer = ptq("build", "--config=job.yaml", f"--calibData={mynet}/calib", "--calibSamples=9", "--out=o", "--json")
    record = json.loads(answer.out)["targets"]["cpu"]
    assert record["build"]["facts"]["calibration"]["samples"] == 9
    sources = {row["option"].partition("=")[0]: row["source"] for row in record["verdicts"]}
    assert sources["--calibAlgo"] == "job file job.yaml"
    assert sources["--calibSamples"] == "command line"


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ("- a\n", 3, "expected a mapping of options in job.yaml, found list"),
        ("a: [\n", 3, "job.yaml is not YAML"),
        ("clibAlgo: max\n", 2, "unknown option 'clibAlgo' in job file job.yaml"),
        ("int8: maybe\n", 2, "int8 in job file job.yaml is a flag"),
    ],
)
def test_broken_job_files(ptq: Ptq, tmp_path: Path, content: str, status: int, message: str) -> None:
    (tmp_path / "job.yaml").write_text(content)
    answer = ptq("build", "--config=job.yaml", "--onnx=m.onnx")
    assert answer.status == status
    assert message in answer.err


def test_missing_job_file(ptq: Ptq) -> None:
    answer = ptq("build", "--config=no.yaml")
    assert answer.status == 3
    assert answer.err == "ptqbridge: error: --config: cannot read no.yaml: No such file or directory\n"


def _truncated(path: Path, mynet: Path) -> None:
    path.write_bytes((mynet / "mynet.onnx").read_bytes()[:-1000])


def _future(path: Path, mynet: Path) -> None:
    proto = onnx.load(mynet / "mynet.onnx")
    proto.opset_import[0].version = 99
    path.write_bytes(proto.SerializeToString())


def _custom(path: Path, mynet: Path) -> None:
    proto = onnx.load(mynet / "mynet.onnx")
    proto.graph.node[0].op_type = "Frobnicate"
    path.write_bytes(proto.SerializeToString())


def _external(path: Path, mynet: Path) -> None:
    proto = onnx.load(mynet / "mynet.onnx")
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, mynet: path.write_bytes(b""), "is empty"),
        (lambda path, mynet: path.write_bytes(b"\x00garbage" * 100), "not an ONNX"),
        (_truncated, "truncated"),
        (_future, "opset 99"),
        (_custom, "Frobnicate"),
        (_external, "outside"),
        (lambda path, mynet: path.mkdir(), "folder"),
        (lambda path, mynet: None, "--onnx: m.onnx does not exist"),
    ],
    ids=["empty", "garbage", "truncated", "future opset", "custom operator", "external data", "folder", "missing"],
)
def test_broken_models(ptq: Ptq, tmp_path: Path, mynet: Path, make: Callable[..., None], message: str) -> None:
    make(tmp_path / "m.onnx", mynet)
    answer = ptq("build", "--onnx=m.onnx")
    assert answer.status == 3
    lines = [line for line in answer.err.splitlines() if not line.startswith("  hint:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.glob("*cpu*"))


def _samples(shape: tuple[int, ...], dtype: str = "float32") -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "a.npy", np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "empty"),
        (_samples((1, 3, 28, 27)), "a.npy"),
        (_samples((1, 3, 28, 28), "int64"), "a.npy"),
        (lambda folder: (folder / "a.bin").write_bytes(b"123"), "a.bin"),
        (lambda folder: np.save(folder / "a.npy", np.full((1, 3, 28, 28), np.inf, np.float32)), "a.npy"),
    ],
    ids=["empty folder", "wrong shape", "wrong type", "wrong length", "infinite"],
)
def test_broken_calibration_data(
    ptq: Ptq, tmp_path: Path, mynet: Path, make: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8", "--calibData=data")
    assert answer.status == 3
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("*.onnx"))


def test_missing_calibration_folder(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8", "--calibData=nowhere")
    assert answer.status == 3
    assert "nowhere" in answer.err


def test_output_folder_that_is_not_there(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--saveEngine=no/such/m.onnx")
    assert answer.status == 3
    assert "--saveEngine: cannot write no/such/m.onnx: its folder does not exist" in answer.err
    assert "loading" not in answer.out


def test_a_folder_that_comes_with_out_need_not_be_there(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--out=new/deep", "--saveEngine=new/deep/m.onnx")
    assert answer.status == 0, answer.err
    assert (tmp_path / "new/deep/m.onnx").is_file()
    answer = ptq("build", f"--onnx={mynet}/mynet.onnx", "--out=new/deep", "--saveEngine=new/de/m.onnx")
    assert answer.status == 3
    assert "--saveEngine: cannot write new/de/m.onnx: its folder does not exist" in answer.err


def test_a_report_without_a_folder_is_told_before_the_run(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = ptq("run", f"--onnx={mynet}/mynet.onnx", "--exportTimes=file/times.json")
    assert answer.status == 3
    assert "--exportTimes: cannot write file/times.json: its folder is a file" in answer.err
    assert "Starting inference" not in answer.out


def test_full_disk_leaves_the_last_good_artifact(program: Callable[..., object], tmp_path: Path, mynet: Path) -> None:
    good = tmp_path / "good.onnx"
    good.write_bytes(b"the last good one")
    child = program(
        "build",
        f"--onnx={mynet}/mynet.onnx",
        "--saveEngine=good.onnx",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    _, err = child.communicate(timeout=60)
    assert child.returncode == 3
    assert "the disk may be full" in err
    assert good.read_bytes() == b"the last good one"
    assert [path.name for path in tmp_path.iterdir() if path.name != "tmp"] == ["good.onnx"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_interrupted_build_leaves_nothing(program: Callable[..., object], tmp_path: Path, mynet: Path) -> None:
    child: subprocess.Popen[str] = program(
        "build", f"--onnx={mynet}/mynet_dynamic.onnx", "--best", "--optShapes=input1:64x3x28x28", "--saveEngine=x.onnx"
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("timing"):
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("command", ["build", "trtexec"])
def test_a_misspelt_cache_is_an_error_before_anything_else(ptq: Ptq, mynet: Path, command: str) -> None:
    answer = ptq(command, f"--onnx={mynet}/mynet.onnx", "--target=trt", "--int8", "--calib=typo.cache")
    assert answer.status == 3
    assert "--calib: typo.cache does not exist" in answer.err


def test_products_of_several_targets_do_not_meet(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    words = (f"--onnx={mynet}/mynet.onnx", "--int8", f"--calibData={mynet}/calib", "--calibSamples=3")
    answer = ptq("build", *words, "--target=cpu", "--target=j6m", "--out=o")
    assert answer.status == 4  # no hb_compile here
    assert list((tmp_path / "o" / "cpu").glob("*.onnx"))
    assert not list((tmp_path / "o").glob("*.onnx"))


def test_a_sample_that_is_left_out_is_told(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    for file in [*sorted((mynet / "calib").glob("*.png"))[:5], mynet / "calib" / "recipe.yaml"]:
        shutil.copy(file, tmp_path / "damaged")
    broken = min((tmp_path / "damaged").glob("*.png"))
    broken.write_bytes(b"no picture")
    given = ("build", f"--onnx={mynet}/mynet.onnx", "--int8", "--calibData=damaged", "--saveEngine=m.onnx")
    assert ptq(*given).status == 3
    answer = ptq(*given, "--skipBroken=1")
    assert answer.status == 0, answer.err
    assert re.search(rf"^note: left out: .*{broken.name}", answer.out, re.MULTILINE)
