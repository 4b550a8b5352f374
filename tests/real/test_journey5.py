"""The example on Journey 5, X5 and X3 from build to accuracy with the real tools, as docs/horizon.md tells it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.real
NET = "examples/mynet/mynet.onnx"
CALIBRATED = f"--onnx={NET} --int8 --calibData=examples/mynet/calib"
PIXELS = "--mean=0.3053 --std=0.3243 --scale=1/255"
Cli = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cli(root: Path, hb_mapper: Path) -> Cli:
    """``cli(line, status)`` is the JSON answer of a command that ends with that status."""
    env = {**os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": str(root / "src")}

    def run(line: str, status: int = 0) -> dict[str, Any]:
        words = [sys.executable, "-m", "ptqbridge", *shlex.split(line), "--json"]
        done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.mark.parametrize("march", ["bayes", "bayes-e", "bernoulli2"])
@pytest.mark.parametrize("data", ["", "--int8 --calibData=examples/mynet/calib --calibSamples=20"])
def test_build_run_and_verify(cli: Cli, tmp_path: Path, march: str, data: str) -> None:
    artifact = tmp_path / "m.bin"
    build = cli(f"build --onnx={NET} {data} --target={march} --saveEngine={artifact}")["targets"][march]["build"]
    answer = cli(f"run --loadEngine={artifact} --target={march} --verify=sim --exportOutput={tmp_path}/y.json")["run"]
    figures = answer["performance"]
    assert figures["measured"] == "vendor estimate"
    assert figures["throughput_qps"] == pytest.approx(build["facts"]["estimate"]["subgraphs"][0]["fps"], rel=1e-5)
    assert 20_000 < figures["throughput_qps"] < 200_000
    assert figures["latency"]["mean"] == pytest.approx(build["facts"]["estimate"]["latency_us"] / 1000, rel=1e-5)
    assert figures["compute"] is None
    assert any("10 integers, bit by bit" in note for note in answer["notes"])
    assert answer["outputs"] == {"output1": {"dtype": "float32", "shape": [1, 10]}}
    info = cli(f"info {artifact}")
    assert info["model"]["march"] == march
    assert info["model"]["versions"]["hb_mapper"] == "1.24.3"
    assert info["build"]["target"] == march
    assert info["model"]["inputs"][0]["kind"] == ("rgb" if data else "nv12")


def test_the_estimate_of_a_foreign_bin(cli: Cli, tmp_path: Path) -> None:
    build = cli(f"build --onnx={NET} --target=bayes --saveEngine={tmp_path}/m.bin")["targets"]["bayes"]["build"]
    (tmp_path / "m.bin").rename(tmp_path / "foreign.bin")
    figures = cli(f"run --loadEngine={tmp_path}/foreign.bin --target=j5")["run"]["performance"]
    assert figures["throughput_qps"] == pytest.approx(build["facts"]["estimate"]["subgraphs"][0]["fps"], rel=1e-5)
    error = cli(f"run --loadEngine={tmp_path}/foreign.bin --target=j5 --dumpOutput", 3)["error"]
    assert "there is no record of its build" in error
    (tmp_path / "foreign.bin").write_bytes(b"no .bin")
    assert "foreign.bin: no estimate" in cli(f"run --loadEngine={tmp_path}/foreign.bin --target=j5", 5)["error"]


def test_the_figures_of_the_documentation(root: Path, hb_mapper: Path, tmp_path: Path) -> None:
    """Top-1 on the test set of the really quantized model, for every method, beside float32's 596 of 600."""
    env = {**os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": str(root / "src")}
    words = [sys.executable, "examples/mynet/accuracy_bpu.py", f"--json={tmp_path}/figures.json"]
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads((tmp_path / "figures.json").read_text())["rows"]}
    assert rows["float32"]["correct"] == 596
    assert set(rows) == {"float32", "default", "mix", "kl", "max"}
    for method in ("default", "mix", "kl", "max"):
        row = rows[method]
        assert abs(row["correct"] - 596) <= 3, row
        assert row["cosine_mean"] > (0.998 if method == "kl" else 0.9999), row
        assert row["cosine_by_hb_mapper"] > 0.99, row
        assert row["latency_us"] == pytest.approx(14.4, abs=0.5), row


@pytest.mark.parametrize("kind", ["rgb", "bgr", "yuv444", "nv12"])
def test_models_that_take_pixels(cli: Cli, root: Path, tmp_path: Path, kind: str) -> None:
    """Mean and scale inside the .bin: the same pictures, the same accuracy, and the compiled code agrees."""
    sys.path.insert(0, str(root / "examples" / "mynet"))
    try:
        import accuracy
    finally:
        sys.path.pop(0)
    images, labels = accuracy.load_test()
    images, labels = images[:200], labels[:200]
    np.save(tmp_path / "x.npy", accuracy.preprocess(images, accuracy.load_recipe()))
    (tmp_path / "more.yaml").write_text(f"input_parameters: {{input_type_rt: {kind}}}\n")
    artifact = tmp_path / "m.bin"
    options = f"{CALIBRATED} --calibSamples=40 --calibAlgo=max --target=bayes {PIXELS}"
    cli(f"build {options} --horizonYaml={tmp_path}/more.yaml --saveEngine={artifact}")
    cli(f"infer --loadEngine={artifact} --calibData={tmp_path}/x.npy {PIXELS} --out={tmp_path}/y.npy")
    assert accuracy.top1(np.load(tmp_path / "y.npy"), labels) >= 0.98
    answer = cli(f"run --loadEngine={artifact} --target=bayes --verify=sim")["run"]
    assert any("bit by bit" in note for note in answer["notes"])


def test_nodes_on_the_cpu_make_two_subgraphs(cli: Cli, tmp_path: Path) -> None:
    wish = "--precisionConstraints=obey --layerDeviceTypes=/features/features.3/Conv:CPU"
    answer = cli(f"run {CALIBRATED} --calibSamples=20 --calibAlgo=max --target=bayes {wish} --verify=sim")
    parts = answer["build"]["facts"]["estimate"]["subgraphs"]
    assert len(parts) == 2
    assert any("25098 integers" in note for note in answer["run"]["notes"])
    seconds = sum(1 / part["fps"] for part in parts)
    assert answer["run"]["performance"]["throughput_qps"] == pytest.approx(1 / seconds, rel=1e-5)


def test_several_frames_per_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("input_parameters: {input_batch: 4}\n")
    options = f"{CALIBRATED} --calibSamples=20 --calibAlgo=max --target=bayes --horizonYaml={tmp_path}/more.yaml"
    answer = cli(f"run {options} --verify=sim")
    fps = answer["build"]["facts"]["estimate"]["subgraphs"][0]["fps"]
    assert answer["run"]["performance"]["throughput_qps"] == pytest.approx(fps / 4, rel=1e-5)
    assert any("40 integers" in note for note in answer["run"]["notes"])


def test_dynamic_batch(cli: Cli, tmp_path: Path) -> None:
    artifact = tmp_path / "m.bin"
    net = "examples/mynet/mynet_dynamic.onnx"
    data = "--int8 --calibData=examples/mynet/calib --calibSamples=20 --calibAlgo=max"
    cli(f"build --onnx={net} {data} --target=bayes --saveEngine={artifact}")
    answer = cli(f"infer --loadEngine={artifact} --calibData=examples/mynet/calib --out={tmp_path}/y.npz")
    assert answer["outputs"]["output1"]["shape"] == [100, 10]
    classes = [int(path.name[5]) for path in sorted(Path("examples/mynet/calib").glob("*.png"))]
    with np.load(tmp_path / "y.npz") as outputs:
        found = outputs["output1"].argmax(axis=1)
    assert np.mean(found == classes) >= 0.98


def test_two_inputs(cli: Cli, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["a", "w"], ["p"], "conv_a", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "w"], ["q"], "conv_b", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["p", "q"], ["y"], "add"),
    ]
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "m.onnx")
    draw = np.random.default_rng(1)
    data = {name: draw.standard_normal((12, *shape[1:])).astype(np.float32) for name in "ab"}
    np.savez(tmp_path / "data.npz", **data)
    artifact = tmp_path / "m.bin"
    options = f"--int8 --calibData={tmp_path}/data.npz --calibAlgo=max --target=bayes"
    cli(f"build --onnx={tmp_path}/m.onnx {options} --saveEngine={artifact}")
    cli(f"infer --loadEngine={artifact} --calibData={tmp_path}/data.npz --out={tmp_path}/y.npy")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    rows = [session.run(None, {name: data[name][i : i + 1] for name in "ab"})[0] for i in range(12)]
    want, got = np.concatenate(rows).ravel(), np.load(tmp_path / "y.npy").ravel()
    assert float(want @ got / np.linalg.norm(want) / np.linalg.norm(got)) > 0.999
    np.save(tmp_path / "a.npy", data["a"][:1])
    np.save(tmp_path / "b.npy", data["b"][:1])
    given = f"--loadInputs=a:{tmp_path}/a.npy,b:{tmp_path}/b.npy"
    cli(f"run --loadEngine={artifact} --target=bayes --verify=sim {given} --exportOutput={tmp_path}/y.json")
    exported = json.loads((tmp_path / "y.json").read_text())
    np.testing.assert_allclose(exported[0]["values"], np.load(tmp_path / "y.npy")[0].ravel(), rtol=2e-5)
