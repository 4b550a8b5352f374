"""A build from the plan to the product, with the double of hb_mapper."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from ptqbridge.backends.horizon.build5 import build, write_bundle
from ptqbridge.errors import InputError, LimitNotMet, OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult

Make = Callable[..., BuildResult]
NET = "examples/mynet/mynet.onnx"
CALIB = f"--onnx={NET} --int8 --calibData=examples/mynet/calib --calibSamples=3"


@pytest.fixture
def make(plan_of: Callable[..., object], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make(line, target)`` builds with the double; the product is ``tmp_path/p.bin``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("hb_mapper", "hbdk-cc"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{root}/tests/doubles/{name}" "$@"\n')
        script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(folder / "hb_mapper"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(line: str, target: str = "bayes", **more: object) -> BuildResult:
        plan = plan_of(f"{line} --saveEngine={tmp_path}/p.bin", target, "build")
        return build(plan, say=lambda _: None, **more)  # type: ignore[arg-type]

    return run


def test_the_main_use_is_a_performance_build(make: Make, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    result = make(f"--onnx={NET}", progress=lambda done, total, what="": told.append((done, total, what)))
    assert (tmp_path / "p.bin").read_bytes()
    assert result.artifact == f"{tmp_path}/p.bin"
    assert result.precision == "int8"
    assert "made up" in result.performance_only
    assert result.facts["estimate"]["subgraphs"][0]["fps"] == 65061.81
    assert "static estimate" in result.facts["estimate"]["how"]
    assert any("65061.81 FPS" in note for note in result.notes)
    assert told[0] == (0, 100, "hb_mapper: prepare")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert "End Model Convert" in (tmp_path / "p.hb_mapper.log").read_text()
    json.dumps(result.to_dict(), allow_nan=False)


def test_load_that_found_no_range_is_good_for_timing_only(make: Make, root: Path, tmp_path: Path) -> None:
    """The tool ends with status 0 and every threshold at 1.0."""
    proto = onnx.load(root / NET)
    weights = {"s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    first = proto.graph.node[0]
    ends = [
        onnx.helper.make_node("QuantizeLinear", [first.input[0], "s", "z"], ["q"], "q"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
    ]
    first.input[0] = "d"
    kept = [*ends, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    onnx.save(proto, tmp_path / "q.onnx")
    result = make(f"--onnx={tmp_path}/q.onnx --calibAlgo=load")
    assert result.performance_only == "every threshold is 1.0: the ranges are made up, not calibrated"
    assert "calibration" not in result.facts


@pytest.mark.parametrize("target", ["bayes", "bayes-e", "bernoulli2"])
def test_calibrated(make: Make, tmp_path: Path, target: str) -> None:
    result = make(f"{CALIB} --calibAlgo=max --out={tmp_path}/out", target)
    assert result.performance_only == ""
    calibration = result.facts["calibration"]
    assert (calibration["asked"], calibration["method"], calibration["samples_used"]) == ("max", "max", 3)
    assert calibration["data_sha256"]
    assert result.facts["outputs"][0]["cosine"] == 0.999913
    assert result.facts["nodes"][0]["threshold"] > 0
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {"hb_mapper.log", "hb_mapper.yaml", "calibration_data", "model_output"}
    assert len(list((tmp_path / "out" / "calibration_data" / "input1").iterdir())) == 3
    assert (tmp_path / "out" / "model_output" / "p_quantized_model.onnx").is_file()


def test_nothing_is_left_but_product_and_what_belongs_to_it(make: Make, tmp_path: Path) -> None:
    make(f"--onnx={NET}")
    assert {path.name for path in tmp_path.iterdir()} == {
        "bin",
        "p.bin",
        "p.bin.json",
        "p.hb_mapper.log",
        "p_quantized_model.onnx",
    }


@pytest.mark.parametrize("fault", ["quiet", "empty", "none", "status"])
def test_a_failed_build_leaves_the_last_good_product_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (tmp_path / "p.bin").write_text("good")
    monkeypatch.setenv("DOUBLE_FAULT", fault)
    with pytest.raises(ToolchainFailed) as caught:
        make(f"--onnx={NET}")
    assert f"log: {tmp_path}/p.hb_mapper.log" in caught.value.hint
    assert (tmp_path / "p.bin").read_text() == "good"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "p.bin", "p.hb_mapper.log"}


def test_a_missing_tool_is_said_before_samples_are_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", "/no/tool")
    monkeypatch.setattr("ptqbridge.backends.horizon.build5.write_samples", lambda *_: pytest.fail("samples written"))
    with pytest.raises(ToolchainMissing, match="is no program"):
        make(CALIB)
    assert {path.name for path in tmp_path.iterdir()} == {"bin"}


def test_obey(make: Make, tmp_path: Path) -> None:
    relu = "--layerPrecisions=/features/features.2/Relu:int16"
    with pytest.raises(LimitNotMet, match=r"Relu' was asked input int16, got not a node of the built model"):
        make(f"{CALIB} --precisionConstraints=obey {relu}")
    assert not (tmp_path / "p.bin").exists()
    result = make(f"{CALIB} --precisionConstraints=prefer {relu}")
    assert [(row.layer, row.met) for row in result.asked_got] == [("/features/features.2/Relu", False)]
    device = make(f"{CALIB} --precisionConstraints=obey --layerDeviceTypes=/fc/Gemm:CPU")
    assert [(row.got, row.met) for row in device.asked_got] == [("CPU", True)]


def test_names_that_a_shell_would_run(make: Make, root: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a b;$(touch pwned).onnx"
    odd.write_bytes((root / NET).read_bytes())
    make(f"'--onnx={odd}'")
    assert (tmp_path / "p.bin").exists()
    assert not [path for path in (*tmp_path.rglob("pwned"), *Path(os.getcwd()).glob("pwned"))]


def changed(path: Path, root: Path, **attributes: int) -> str:
    proto = onnx.load(root / NET)
    if "opset" in attributes:
        proto.opset_import[0].version = attributes["opset"]
    if "ir" in attributes:
        proto.ir_version = attributes["ir"]
    if "size" in attributes:
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    onnx.save(proto, path)
    return f"--onnx={path}"


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"opset": 13}, "ONNX opset 13, and hb_mapper takes 7 to 11"),
        ({"size": 1}, "a BPU model has one shape"),
    ],
)
def test_models_that_do_not_fit_are_found_before_the_tool_starts(
    make: Make, root: Path, tmp_path: Path, attributes: dict[str, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        make(changed(tmp_path / "m.onnx", root, **attributes))
    assert not (tmp_path / "p.hb_mapper.log").exists()


def test_no_model(make: Make) -> None:
    with pytest.raises(InputError, match="does not exist"):
        make("--onnx=no.onnx")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 3, 28, 28), np.float32), "every value of every sample is 0"),
        (np.full((4, 3, 28, 28), np.nan, np.float32), "nan in the data"),
        (np.ones((4, 3, 20, 20), np.float32), "20"),
    ],
)
def test_data_that_would_ruin_the_build(
    make: Make, tmp_path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]], words: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(PtqbridgeError, match=words) as caught:
        make(f"--onnx={NET} --int8 --calibData={tmp_path}/x.npy")
    assert caught.value.exit_status == 3
    assert not (tmp_path / "p.bin").exists()


def test_other_places_than_toolchains_are_refused(make: Make) -> None:
    with pytest.raises(OptionError, match="--toolchain: expected local"):
        make(f"--onnx={NET} '--toolchain=ssh://a b'")


def test_a_dry_run_leaves_all_that_the_tool_needs(
    plan_of: Callable[..., Plan], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out" / "calibration_data" / "input1"
    old.mkdir(parents=True)
    (old / "99.bin").write_bytes(b"of an earlier bundle")
    plan = plan_of(f"{CALIB} --calibAlgo=max --dryRun --out={tmp_path}/out", "bayes", "build")
    written = write_bundle(plan, f"{tmp_path}/out", lambda _: None)
    assert [Path(name).name for name in written] == ["calibration_data", "hb_mapper.yaml"]
    assert (tmp_path / "out" / "hb_mapper.yaml").read_text() == plan.files["hb_mapper.yaml"]
    assert len(list(old.iterdir())) == 3
    monkeypatch.chdir(tmp_path / "out")
    words = next(step.argv for step in plan.steps if step.argv)
    tool = Path(os.environ["PTQBRIDGE_HB_MAPPER"])
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    assert subprocess.run([tool, *words[1:]], capture_output=True).returncode == 0


@pytest.mark.parametrize("data", ["", "--int8 --calibData=examples/mynet/calib --calibSamples=3"])
def test_a_converted_model_goes_into_the_bundle(
    plan_of: Callable[..., Plan], root: Path, tmp_path: Path, data: str
) -> None:
    model = onnx.load(root / NET)
    model.opset_import[0].version = 13
    onnx.save(model, tmp_path / "new.onnx")
    line = f"--onnx={tmp_path}/new.onnx {data} --convertOpset --dryRun --out={tmp_path}/out"
    plan = plan_of(line, "bayes", "build")
    assert plan.faults == ()
    write_bundle(plan, f"{tmp_path}/out", lambda _: None)
    assert onnx.load(tmp_path / "out" / "new.onnx").opset_import[0].version == 11
    script = (tmp_path / "out" / "run.sh").read_text()
    assert str(tmp_path / "new.onnx") not in script
    if data:
        assert "onnx_model: ./new.onnx" in (tmp_path / "out" / "hb_mapper.yaml").read_text()
    else:
        assert "--model new.onnx" in script


def test_a_plan_with_faults_leaves_no_bundle(plan_of: Callable[..., Plan], root: Path, tmp_path: Path) -> None:
    model = onnx.load(root / NET)
    model.opset_import[0].version = 13
    onnx.save(model, tmp_path / "new.onnx")
    plan = plan_of(f"--onnx={tmp_path}/new.onnx --dryRun --out={tmp_path}/out", "bayes", "build")
    assert plan.faults
    assert write_bundle(plan, f"{tmp_path}/out", lambda _: None) == []
    assert not (tmp_path / "out").exists()


def test_the_samples_written_are_counted(make: Make) -> None:
    told: list[tuple[int, int, str]] = []
    make(CALIB, progress=lambda done, total, what="": told.append((done, total, what)))
    assert told[:3] == [(done, 3, f"writing calibration samples {done}/3") for done in (1, 2, 3)]
    assert told[3][2] == "hb_mapper: prepare"


def test_a_file_holds_one_sample_whatever_calib_batch_says(
    plan_of: Callable[..., object], root: Path, tmp_path: Path
) -> None:
    words = CALIB.replace(NET, str(root / "examples" / "mynet" / "mynet_dynamic.onnx"))
    plan = plan_of(f"{words} --calibBatch=2 --out={tmp_path}/out", "bayes", "build")
    write_bundle(plan, str(tmp_path / "out"), say=lambda text: None)  # type: ignore[arg-type]
    files = sorted((tmp_path / "out" / "calibration_data").rglob("*.bin"))
    assert [file.stat().st_size for file in files] == [3 * 28 * 28 * 4] * 3
