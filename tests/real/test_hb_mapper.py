"""The real hb_mapper, driven as users drive it; and the double of the other tests held against it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.horizon.hb_mapper import run_hb_mapper
from ptqbridge.backends.horizon.workspace import workspace
from ptqbridge.errors import PtqbridgeError
from ptqbridge.toolchains.local import Local

pytestmark = pytest.mark.real
NET = "examples/mynet/mynet.onnx"
CALIBRATED = f"--onnx={NET} --int8 --calibData=examples/mynet/calib --calibSamples=20"
MARCHES = ("bayes", "bayes-e", "bernoulli2")


@pytest.fixture
def cli(root: Path, hb_mapper: Path, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """``cli(line)`` is exit status and JSON answer of a build whose product is ``tmp_path/p.bin``."""
    env = {**os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": str(root / "src")}

    def run(line: str) -> tuple[int, dict[str, Any]]:
        words = [sys.executable, "-m", "ptqbridge", *shlex.split(line), f"--saveEngine={tmp_path}/p.bin", "--json"]
        done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.mark.parametrize("march", MARCHES)
def test_performance_build(cli: Callable[..., Any], tmp_path: Path, march: str) -> None:
    status, answer = cli(f"build --onnx={NET} --target={march}")
    assert status == 0
    build = answer["targets"][march]["build"]
    assert build["performance_only"]
    assert build["facts"]["estimate"]["subgraphs"][0]["fps"] > 1000
    assert build["facts"]["versions"]["hb_mapper"] == "1.24.3"
    assert {node["threshold"] for node in build["facts"]["nodes"]} <= {1.0, None}
    assert (tmp_path / "p.bin").stat().st_size > 10_000
    assert not list(tmp_path.glob("ptqbridge-*"))


@pytest.mark.parametrize("march", MARCHES)
def test_calibrated_build(cli: Callable[..., Any], march: str) -> None:
    status, answer = cli(f"build {CALIBRATED} --calibAlgo=max --target={march}")
    assert status == 0
    build = answer["targets"][march]["build"]
    assert build["performance_only"] is None
    assert build["facts"]["outputs"][0]["cosine"] > 0.999
    assert build["facts"]["calibration"]["samples_used"] == 20
    thresholds = [node["threshold"] for node in build["facts"]["nodes"] if node["threshold"]]
    assert len(thresholds) >= 4
    assert 1.0 not in thresholds


@pytest.mark.parametrize(
    ("method", "run"), [("default", "modelwise search"), ("mix", "layerwise search"), ("kl", "kl:num_bin=1024")]
)
def test_methods(cli: Callable[..., Any], tmp_path: Path, method: str, run: str) -> None:
    (tmp_path / "more.yaml").write_text(f"calibration_parameters: {{calibration_type: {method}}}\n")
    status, answer = cli(f"build {CALIBRATED} --target=bayes --horizonYaml={tmp_path}/more.yaml")
    assert status == 0, answer
    facts = answer["targets"]["bayes"]["build"]["facts"]
    assert facts["calibration"]["asked"] == method
    assert f"Run calibration model with {run}" in Path(facts["log"]).read_text()
    # A search names the method that it chose.
    assert facts["calibration"]["method"].partition(":")[0] in ("max", "max-percentile", "kl")


def test_dynamic_batch_becomes_one(cli: Callable[..., Any]) -> None:
    status, answer = cli("build --onnx=examples/mynet/mynet_dynamic.onnx --target=bayes")
    assert status == 0, answer


def two_inputs(path: Path) -> Path:
    """Two pictures, a convolution each, their sum."""
    rng = np.random.default_rng(0)
    nodes, initializers = [], []
    for name in ("a", "b"):
        weights = rng.normal(size=(8, 4, 3, 3)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weights, f"w_{name}"))
        nodes.append(
            helper.make_node("Conv", [name, f"w_{name}"], [f"c_{name}"], name=f"conv_{name}", pads=[1, 1, 1, 1])
        )
    nodes.append(helper.make_node("Add", ["c_a", "c_b"], ["y"], name="sum"))
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 16, 16]) for name in ("a", "b")]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 16])]
    graph = helper.make_graph(nodes, "two", made, out, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    np.savez(path.with_suffix(".npz"), **{n: rng.normal(size=(5, 4, 16, 16)).astype(np.float32) for n in ("a", "b")})
    return path


def test_two_inputs(cli: Callable[..., Any], tmp_path: Path) -> None:
    model = two_inputs(tmp_path / "two.onnx")
    line = f"build --onnx={model} --int8 --calibData={model.with_suffix('.npz')} --calibAlgo=max --target=bayes"
    status, answer = cli(line)
    assert status == 0, answer
    facts = answer["targets"]["bayes"]["build"]["facts"]
    assert facts["outputs"][0]["cosine"] > 0.999
    assert facts["calibration"]["samples_used"] == 5


def test_pixels_when_the_tool_normalises(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The model's own normalisation, given as options, moves into the product and changes no range behind it."""
    status, plain = cli(f"build {CALIBRATED} --calibAlgo=max --target=bayes")
    assert status == 0
    numbers = "--scale=1/255 --mean=0.3053,0.3053,0.3053 --std=0.3243,0.3243,0.3243"
    status, moved = cli(f"build {CALIBRATED} --calibAlgo=max --target=bayes {numbers}")
    assert status == 0, moved
    found = [answer["targets"]["bayes"]["build"]["facts"] for answer in (plain, moved)]
    last = [{node["name"]: node["threshold"] for node in facts["nodes"]}["/fc/Gemm"] for facts in found]
    assert last[1] == pytest.approx(last[0], rel=0.02)
    assert found[1]["outputs"][0]["cosine"] > 0.999


def test_obey_is_checked_against_the_node_table(cli: Callable[..., Any], tmp_path: Path) -> None:
    int16 = "--layerPrecisions=/features/features.3/Conv:int16"
    status, answer = cli(f"build {CALIBRATED} --precisionConstraints=obey {int16} --target=bayes")
    assert status == 0, answer
    rows = answer["targets"]["bayes"]["build"]["asked_got"]
    assert [(row["layer"], row["got"], row["met"]) for row in rows] == [("/features/features.3/Conv", "int16", True)]
    # What reads its output leaves the BPU, and the tool takes the int16 back with status 0.
    both = f"{int16} --layerDeviceTypes=/fc/Gemm:CPU"
    status, answer = cli(f"build {CALIBRATED} --precisionConstraints=prefer {both} --target=bayes")
    assert status == 0, answer
    build = answer["targets"]["bayes"]["build"]
    met = {row["layer"]: row["met"] for row in build["asked_got"]}
    assert met == {"/features/features.3/Conv": False, "/fc/Gemm": True}
    assert any("set back to int8" in note for note in build["notes"])
    (tmp_path / "p.bin").unlink()
    relu = "--layerPrecisions=/features/features.2/Relu:int16"
    status, answer = cli(f"build {CALIBRATED} --precisionConstraints=obey {relu} --target=bayes")
    assert status == 6
    assert "not a node of the built model" in answer["error"]
    assert not (tmp_path / "p.bin").exists()


def test_the_bundle_runs_by_hand(cli: Callable[..., Any], hb_mapper: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, answer = cli(f"build {CALIBRATED} --calibAlgo=max --target=bayes --out={out}")
    assert status == 0, answer
    kept = (out / "model_output" / "p_quant_info.json").read_text()
    for path in (out / "model_output").iterdir():
        path.unlink()
    env = {"PATH": f"{hb_mapper.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", str(out / "run.sh")], env=env, check=True, capture_output=True)
    assert (out / "model_output" / "p.bin").stat().st_size > 10_000
    assert (out / "model_output" / "p_quant_info.json").read_text() == kept


def slow_model(path: Path) -> Path:
    """Convolutions enough to keep the BPU compiler busy for a while."""
    rng = np.random.default_rng(0)
    nodes, initializers, channels = [], [], 3
    for number in range(8):
        weights = rng.normal(size=(96, channels, 3, 3)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weights, f"w{number}"))
        source = f"t{number}" if number else "x"
        nodes.append(
            helper.make_node(
                "Conv", [source, f"w{number}"], [f"t{number + 1}"], name=f"conv{number}", pads=[1, 1, 1, 1]
            )
        )
        channels = 96
    made = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])]
    out = [helper.make_tensor_value_info("t8", TensorProto.FLOAT, [1, 96, 224, 224])]
    graph = helper.make_graph(nodes, "slow", made, out, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def compilers(folder: str) -> list[str]:
    """Processes of the real compiler that work for a workspace below ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if b"hbdk-cc" in words and folder.encode() in words:
            found.append(entry.parent.name)
    return found


def test_ctrl_c_ends_the_compiler_too(root: Path, hb_mapper: Path, tmp_path: Path) -> None:
    model = slow_model(tmp_path / "slow.onnx")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {
        **os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": str(root / "src"), "TMPDIR": str(temporary)
    }  # fmt: skip
    words = [sys.executable, "-m", "ptqbridge", "build", f"--onnx={model}", "--target=bayes"]
    words.append(f"--saveEngine={tmp_path}/p.bin")
    with (tmp_path / "said").open("w") as said:
        ours = subprocess.Popen(words, env=env, stdout=said, stderr=said)
        deadline = time.monotonic() + 90
        seen = 0  # in a row: short runs of the compiler's helpers come before the long one
        while seen < 5 and ours.poll() is None and time.monotonic() < deadline:
            seen = seen + 1 if compilers(str(temporary)) else 0
            time.sleep(0.1)
        assert seen == 5, (tmp_path / "said").read_text()
        ours.send_signal(signal.SIGINT)
        assert ours.wait(30) == 130
    assert not compilers(str(temporary))
    assert list(temporary.iterdir()) == []
    assert "Compile submodel" in (tmp_path / "p.hb_mapper.log").read_text()
    assert not (tmp_path / "p.bin").exists()


# The double against the real one: the same cases on both.

BASE: dict[str, dict[str, Any]] = {
    "model_parameters": {
        "onnx_model": "./mynet.onnx", "march": "bayes", "working_dir": "./out", "output_model_file_prefix": "m",
    },
    "input_parameters": {
        "input_type_rt": "featuremap", "input_type_train": "featuremap", "input_layout_train": "NCHW",
        "input_layout_rt": "NCHW", "norm_type": "no_preprocess",
    },
    "calibration_parameters": {"cal_data_dir": "./cal", "cal_data_type": "float32", "calibration_type": "max"},
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "good": {},
    "kl": {"calibration_parameters.calibration_type": "kl"},
    "skip": {"calibration_parameters.calibration_type": "skip"},
    "load without ranges": {"calibration_parameters.calibration_type": "load"},
    "bad key": {"calibration_parameters.calib_type": "max"},
    "bad section": {"foo.x": 1},
    "bad march": {"model_parameters.march": "nash-e"},
    "bad method": {"calibration_parameters.calibration_type": "entropy"},
    "no model": {"model_parameters.onnx_model": "no.onnx"},
    "broken model": {"file mynet.onnx": b"\xff" * 500},
    "wrong size": {"file cal/0.bin": b"\0" * 400},
    "subfolder": {"file cal/sub/x": b"x"},
    "empty folder": {"calibration_parameters.cal_data_dir": "./empty", "folder empty": True},
    "no folder": {"calibration_parameters.cal_data_dir": "./nowhere"},
    "nan": {"file cal/0.bin": np.full((1, 3, 28, 28), np.nan, np.float32).tobytes()},
    "nan with kl": {
        "file cal/0.bin": np.full((1, 3, 28, 28), np.nan, np.float32).tobytes(),
        "calibration_parameters.calibration_type": "kl",
    },
    "unknown cpu node": {"calibration_parameters.run_on_cpu": "nosuchnode"},
    "cpu node": {"calibration_parameters.run_on_cpu": "/fc/Gemm"},
    "shadowing": {"file yaml.py": b"raise RuntimeError('shadowed')"},
    "stale": {"file out/m.bin": b"old", "calibration_parameters.cal_data_dir": "./nowhere"},
}


def outcome(case: dict[str, Any], root: Path, tmp_path: Path) -> dict[str, Any]:
    """What a run comes to, as far as the double promises it."""
    config = {section: dict(entries) for section, entries in BASE.items()}
    with workspace(tmp_path) as place:
        place.copy(root / NET, "mynet.onnx")
        rng = np.random.default_rng(0)
        (place.job / "cal").mkdir()
        for number in range(3):
            rng.normal(size=(1, 3, 28, 28)).astype(np.float32).tofile(place.job / "cal" / f"{number}.bin")
        for name, value in case.items():
            kind, _, path = name.partition(" ")
            if kind == "file":
                (place.job / path).parent.mkdir(parents=True, exist_ok=True)
                (place.job / path).write_bytes(value)
            elif kind == "folder":
                (place.job / path).mkdir()
            else:
                section, key = name.split(".")
                config.setdefault(section, {})[key] = value
        place.write("c.yaml", yaml.safe_dump(config))
        argv = ("hb_mapper", "makertbin", "--config", "c.yaml", "--model-type", "onnx")
        found: dict[str, Any] = {}
        try:
            record = run_hb_mapper(place, argv, Local(), log=tmp_path / "log", product="out/m.bin").record
        except PtqbridgeError as error:
            message = error.message.replace(str(place.job), "JOB").replace(str(place.root), "ROOT")
            # Which node with NaN the tool comes upon first differs from run to run.
            message = re.sub(r"at \S+_HzCalibration", "at NODE", message)
            found = {"error": (type(error).__name__, message)}
        else:
            nodes = [node for node in record.nodes if node.type != "Reshape"]
            found = {
                "processors": {node.name: node.processor for node in nodes if node.name == "/fc/Gemm"},
                "made up": all(node.threshold in (1.0, None) for node in nodes),
                "nan": any(node.cosine != node.cosine for node in nodes if node.cosine is not None),
                "outputs": [output.name for output in record.outputs],
                "method": record.method,
            }
        product = place.job / "out" / "m.bin"
        found["product"] = None if not product.exists() else product.read_bytes() == b"old" or "new"
        return found


@pytest.mark.parametrize("name", CASES)
def test_the_double_does_as_the_real_one(
    name: str, root: Path, hb_mapper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = tmp_path / "double"
    double.mkdir()
    for program in ("hb_mapper", "hbdk-cc"):
        script = double / program
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{root}/tests/doubles/{program}" "$@"\n')
        script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(hb_mapper))
    real = outcome(CASES[name], root, tmp_path)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(double / "hb_mapper"))
    assert outcome(CASES[name], root, tmp_path) == real
