"""Building with the double of hb_compile: products, judgement, failures, and the bundle when it is not there."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from ptqbridge.backends.horizon.build6 import build, write_bundle
from ptqbridge.backends.horizon.validate import validate_file
from ptqbridge.errors import InputError, LimitNotMet, OptionError, ToolchainFailed, ToolchainMissing
from ptqbridge.plan import Plan


@pytest.fixture
def tool(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The double as PTQBRIDGE_HB_COMPILE."""
    path = tmp_path / "bin" / "hb_compile"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {root}/tests/doubles/hb_compile "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", str(path))
    return path


Make = Callable[..., Plan]
MYNET = "--onnx=examples/mynet/mynet.onnx"
CALIBRATED = f"{MYNET} --int8 --calibData=examples/mynet/calib --calibSamples=3"


def test_fast_perf(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    said: list[str] = []
    result = build(plan_of(f"{MYNET} --saveEngine={tmp_path}/a.hbm", "nash-m", "build"), say=said.append)
    desc = json.loads((tmp_path / "a.hbm").read_text())["desc"]
    assert (desc["MARCH"], desc["INPUT_TYPE_RT"]) == ("nash-m", ["nv12"])
    assert result.performance_only and result.precision == "int8"
    assert result.facts["versions"] == {"hbdk": "4.11.2", "hmct": "2.8.3", "hb_compile": "3.5.16"}
    assert "hb_compile: compile" in said
    assert Path(result.facts["log"]).is_file()


def test_calibrated(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    out, counted = tmp_path / "out", []
    line = f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --out={out} --precisionConstraints=obey"
    line += " --layerPrecisions=/fc/Gemm:int16 --layerDeviceTypes=/features/features.0/Conv:CPU"
    result = build(
        plan_of(line, "nash-e", "build"),
        say=lambda text: None,
        progress=lambda done, total: counted.append((done, total)),
    )
    assert not result.performance_only
    assert counted == [(1, 3), (2, 3), (3, 3)]
    assert [(row.layer, row.asked, row.got, row.met) for row in result.asked_got] == [
        ("/features/features.0/Conv", "CPU", "CPU", True),
        ("/fc/Gemm", "int16", "int16", True),
    ]
    assert result.facts["calibration"]["samples_used"] == 3
    assert any("run on the chip's CPU" in note for note in result.notes)
    sample = np.load(out / "calibration_data" / "input1" / "00000.npy", allow_pickle=False)
    assert sample.shape == (1, 3, 28, 28) and sample.dtype == np.float32
    assert abs(float(sample.mean())) < 3  # normalised, not pixels
    assert validate_file(str(out / "hb_compile.yaml"), target="nash-e").ok
    assert (out / "model_output" / "a.hbm").is_file() and (out / "run.sh").read_text().startswith("#!/bin/sh")


def test_it_is_not_installed(plan_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", "/nowhere/hb_compile")
    out = tmp_path / "bundle"
    with pytest.raises(ToolchainMissing) as caught:
        build(plan_of(f"{CALIBRATED} --out={out}", "nash-m", "build"), say=lambda text: None)
    assert f"the complete bundle is in {out}" in caught.value.message and "run.sh" in caught.value.hint
    assert "--toolchain=docker:IMAGE" in caught.value.hint
    assert len(list((out / "calibration_data" / "input1").glob("*.npy"))) == 3
    config = yaml.safe_load((out / "hb_compile.yaml").read_text())
    assert config["model_parameters"]["onnx_model"] == "./mynet.onnx" and (out / "mynet.onnx").is_file()
    assert validate_file(str(out / "hb_compile.yaml"), target="nash-m", strict=True).ok


def test_a_bundle_builds_by_hand(tool: Path, plan_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    write_bundle(plan_of(f"{CALIBRATED} --out={tmp_path}/b", "nash-p", "build"), str(tmp_path / "b"), print)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(tmp_path / "b" / "run.sh")], capture_output=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "model_output" / "mynet.hbm").is_file()
    write_bundle(plan_of(f"{CALIBRATED} --out={tmp_path}/b", "nash-p", "build"), str(tmp_path / "b"), print)  # again


@pytest.mark.parametrize(
    ("variable", "value", "kind", "words"),
    [
        ("DOUBLE_FAIL_AT", "hbdk.compile", ToolchainFailed, "made to fail (while hbdk.compile)"),
        ("DOUBLE_FAIL_AT", "hmct.api.build_model", ToolchainFailed, "made to fail (while hmct.api.build_model)"),
        ("DOUBLE_NO_PRODUCT", "1", ToolchainFailed, "says it wrote a.hbm, but made none"),
        ("DOUBLE_STUBBORN", "1", LimitNotMet, "layer '/fc/Gemm' was asked int16, got int8"),
        ("DOUBLE_GENERATION", "3.0", ToolchainFailed, "does not know the key cache_mode"),
    ],
)
def test_failures_leave_an_earlier_artifact_alone(
    tool: Path,
    plan_of: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    kind: type[Exception],
    words: str,
) -> None:
    (tmp_path / "a.hbm").write_text("earlier")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv(variable, value)
    line = f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --precisionConstraints=obey --layerPrecisions=/fc/Gemm:int16"
    line += f" --timingCacheFile={tmp_path}"
    with pytest.raises(kind) as caught:
        build(plan_of(line, "nash-m", "build"), say=lambda text: None)
    assert words in str(caught.value)
    assert (tmp_path / "a.hbm").read_text() == "earlier"
    assert (tmp_path / "a.hb_compile.log").is_file()
    assert not list((tmp_path / "temporary").iterdir())


def test_the_checker_is_asked_first(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    said: list[str] = []
    line = f"{MYNET} --saveEngine={tmp_path}/a.hbm --reportCapabilityDLA --useDLACore=0"
    result = build(plan_of(line, "nash-m", "build"), say=said.append)
    assert "checker: 9 of 9 nodes on the BPU" in said
    assert {"node": "/fc/Gemm", "type": "Gemm", "on": "BPU"} in result.facts["checker"]


def test_the_log_of_a_passing_artifact_is_kept(
    tool: Path, plan_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    line = f"--onnx={Path('examples/mynet/mynet.onnx').resolve()}"
    with pytest.raises(ToolchainMissing, match="no board was named"):
        build(plan_of(line, "nash-m", "trtexec"), say=print)  # not after an hour of building
    plan = plan_of(f"{line} --board=local", "nash-m", "trtexec")
    passing = replace(plan, build=replace(plan.build, artifact=str(tmp_path / "gone" / "artifact")))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path)
    assert build(passing, say=lambda text: None).facts["log"] == "mynet-nash-m.hb_compile.log"
    assert (tmp_path / "mynet-nash-m.hb_compile.log").is_file()


def test_the_older_generation_is_written_for(
    tool: Path, plan_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_GENERATION", "3.0")
    plan = plan_of(f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --toolchainVersion=3.0", "nash-m", "build")
    assert build(plan, say=lambda text: None).facts["versions"]["hb_compile"] == "3.0.17"


def test_models_that_cannot_be_built(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx"):
        build(plan_of(f"--onnx={tmp_path}/none.onnx", "nash-m", "build"), say=print)
    with pytest.raises(OptionError, match="this version builds ONNX models"):
        build(plan_of("--model=a.caffemodel --deploy=a.prototxt --output=x", "nash-m", "build"), say=print)
