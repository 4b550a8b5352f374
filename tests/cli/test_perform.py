"""``run`` and ``trtexec``: the log, the files, the exit status, JSON."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

Ptq = Callable[..., object]
QUICK = ("--duration=0", "--iterations=20", "--warmUp=0")


def test_the_articles_command_line_ends_in_a_summary(ptq: Ptq, article: list[str], mynet: Path, tmp_path: Path) -> None:
    given = [f"--onnx={mynet}/mynet.onnx", "--saveEngine=static.onnx", *article, "--iterations=100", "--duration=0"]
    answer = ptq("trtexec", "--target=cpu", *given)
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith("&&&& RUNNING ptqbridge.trtexec [ptqbridge v000100] # ptqbridge trtexec --target=cpu")
    assert lines[-1].startswith("&&&& PASSED")
    for section in ("Model Options", "Build Options", "System Options", "Inference Options", "Reporting Options"):
        assert any(line.endswith(f"[I] === {section} ===") for line in lines)
    assert re.search(r"\[I\] Throughput: [\d.e+]+ qps", answer.out)
    assert re.search(r"\[I\] Latency: min = [\d.]+ ms, max = [\d.]+ ms, mean = ", answer.out)
    assert "H2D" not in answer.out.partition("=== Performance summary ===")[2].partition("=== Explanations")[0]
    assert "=== Profile (" in answer.out
    assert (tmp_path / "static.onnx").exists()


def test_run_reports_and_exports(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    exports = [f"--export{kind}={kind}.json" for kind in ("Times", "Output", "Profile", "LayerInfo")]
    answer = ptq(
        "run", f"--loadEngine={mynet}/mynet.onnx", *QUICK, *exports, "--separateProfileRun", "--dumpOutput",
        f"--loadInputs=input1:{mynet}/test_small/sample.npy",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    times = json.loads((tmp_path / "Times.json").read_text())
    assert len(times) == 20
    assert times[0]["startH2dMs"] is None
    assert times[0]["latencyMs"] == times[0]["computeMs"]
    output = json.loads((tmp_path / "Output.json").read_text())
    assert output[0]["dimensions"] == "1x10"
    profile = json.loads((tmp_path / "Profile.json").read_text())
    assert profile[0]["count"] >= 20
    assert json.loads((tmp_path / "LayerInfo.json").read_text())["Bindings"] == ["input1", "output1"]


def test_raw_and_npy_inputs_give_the_same_output(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    for name in ("sample.npy", "sample.bin"):
        answer = ptq(
            "run", f"--loadEngine={mynet}/mynet.onnx", *QUICK, f"--exportOutput={name}.json",
            f"--loadInputs=input1:{mynet}/test_small/{name}",
        )  # fmt: skip
        assert answer.status == 0, answer.err
    assert (tmp_path / "sample.npy.json").read_text() == (tmp_path / "sample.bin.json").read_text()


def test_json_result(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("run", f"--onnx={mynet}/mynet.onnx", *QUICK, "--json", "--infStreams=2")
    record = json.loads(answer.out)
    performance = record["run"]["performance"]
    assert performance["h2d"] is None
    assert performance["queries"] == 40
    assert performance["measured"] == "measured here"
    assert record["versions"]["onnxruntime"]
    assert "&&&& PASSED" in answer.err


def test_a_failed_run_of_a_model_names_the_model(ptq: Ptq, tmp_path: Path) -> None:
    """Not the artifact that was built in passing: nobody has heard of it, and it is gone."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (int64[1] x) => (float[1] y) <float[3] w = {1, 2, 3}> '
        "{ y = Gather(w, x) }"
    )
    onnx.save(proto, tmp_path / "picks.onnx")
    answer = ptq("run", "--onnx=picks.onnx", *QUICK)
    assert answer.status == 3
    assert "[E] picks.onnx: the query failed: " in answer.err and "artifact.onnx" not in answer.err
    np.array([1]).tofile(tmp_path / "x.bin")
    report = json.loads(ptq("run", "--onnx=picks.onnx", "--loadInputs=x:x.bin", *QUICK, "--json").out)
    assert report["run"]["artifact"] == report["build"]["artifact"] == ""


def test_run_takes_the_stamp_of_the_artifact(ptq: Ptq, mynet: Path) -> None:
    assert ptq("build", f"--onnx={mynet}/mynet.onnx", "--int8", "--saveEngine=p.onnx").status == 0
    answer = ptq("run", "--loadEngine=p.onnx", *QUICK)
    assert answer.status == 0
    assert "performance only" in answer.out + answer.err


def test_skip_inference_builds_and_stops(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    answer = ptq("trtexec", "--target=cpu", f"--onnx={mynet}/mynet.onnx", "--saveEngine=s.onnx", "--skipInference")
    assert answer.status == 0
    assert "Skipped inference phase since --skipInference is added." in answer.out
    assert "Throughput" not in answer.out
    assert (tmp_path / "s.onnx").exists()


def test_skip_inference_of_a_broken_artifact_fails(ptq: Ptq, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"garbage" * 50)
    answer = ptq("run", "--loadEngine=bad.onnx", "--skipInference")
    assert answer.status == 3
    assert answer.out.splitlines()[-1].startswith("&&&& FAILED")


def test_time_deserialize(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("run", f"--loadEngine={mynet}/mynet.onnx", "--timeDeserialize")
    assert answer.status == 0
    assert "Throughput" not in answer.out
    assert re.search(r"deserializ\w+.*[\d.]+", answer.out, re.IGNORECASE)


def test_trtexec_without_a_gpu_is_exit_4_with_the_way_out(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("trtexec", f"--onnx={mynet}/mynet.onnx")
    assert answer.status == 4
    assert "--target" in answer.err
    assert answer.out.splitlines()[-1].startswith("&&&& FAILED")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--shapes=nope:1x3x28x28"], "nope"),
        (["--shapes=input1:1x3x28"], "input1"),
        (["--loadInputs=nope:x.bin"], "nope"),
        (["--loadInputs=input1:absent.bin"], "absent.bin"),
        (["--exportTimes=no/such/t.json"], "no/such/t.json"),
    ],
)
def test_bad_run_input(ptq: Ptq, mynet: Path, argv: list[str], message: str) -> None:
    answer = ptq("run", f"--loadEngine={mynet}/mynet.onnx", *QUICK, *argv)
    assert answer.status == 3
    assert message in answer.err
    assert answer.out.splitlines()[-1].startswith("&&&& FAILED")


def test_interrupted_run_is_130_and_leaves_nothing(program: Callable[..., object], tmp_path: Path, mynet: Path) -> None:
    child: subprocess.Popen[str] = program("run", f"--onnx={mynet}/mynet.onnx", "--duration=30")
    assert child.stdout is not None
    for line in child.stdout:
        if "Starting inference" in line:
            child.send_signal(signal.SIGINT)
            break
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert "&&&& FAILED" in out
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_endless_run_reports_when_interrupted(program: Callable[..., object], tmp_path: Path, mynet: Path) -> None:
    child: subprocess.Popen[str] = program("run", f"--onnx={mynet}/mynet.onnx", "--duration=-1", "--warmUp=0")
    assert child.stdout is not None
    for line in child.stdout:
        if "Starting inference" in line:
            break
    import time

    time.sleep(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "Throughput:" in out


def test_expected_outputs_pass_or_fail_the_run(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    asked = ("run", f"--loadEngine={mynet}/mynet.onnx", *QUICK, f"--loadInputs=input1:{mynet}/test_small/sample.npy")
    first = json.loads(ptq(*asked, "--json", "--exportOutput=out.json").out)
    name, entry = next(iter(first["run"]["outputs"].items()))
    values = [float(value) for value in json.loads((tmp_path / "out.json").read_text())[0]["values"]]
    np.array(values, np.float32).reshape(entry["shape"]).tofile(tmp_path / "good.bin")
    np.array(values, np.float32)[::-1].reshape(entry["shape"]).tofile(tmp_path / "bad.bin")
    limit = ("--accuracyAlgorithm=cos", "--accuracyThreshold=0.01")

    good = ptq(*asked, *limit, f"--loadRefOutputs={name}:good.bin")
    assert good.status == 0, good.err
    assert re.search(rf"Accuracy loss for tensor {name} \(Cosine\): 0\.000000\n", good.out)
    bad = ptq(*asked, *limit, f"--loadRefOutputs={name}:bad.bin", "--json")
    record = json.loads(bad.out)
    assert (bad.status, record["ok"], record["exit_status"]) == (6, False, 6)
    assert record["error"].startswith(f"--accuracyThreshold: output {name}: Cosine loss ")
    assert record["run"]["accuracy"][name]["met"] is False and record["run"]["performance"]
    missing = ptq(*asked, *limit, f"--loadRefOutputs={name}:none.bin")
    assert missing.status == 3
    assert "--loadRefOutputs: none.bin does not exist" in missing.err
