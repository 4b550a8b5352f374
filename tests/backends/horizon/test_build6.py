"""Building with the double of hb_compile: products, judgement, failures, and the bundle when it is not there."""

from __future__ import annotations

import json
import os
import shutil
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


def test_the_table_of_nodes_is_written(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    words = f"{MYNET} --saveEngine={tmp_path}/a.hbm --exportLayerInfo={tmp_path}/layers.json"
    build(plan_of(words, "nash-m", "build"), say=lambda text: None)
    table = json.loads((tmp_path / "layers.json").read_text())
    assert table["Layers"][0]["name"] == "/features/features.0/Conv" and table["Layers"][0]["on"] == "BPU"
    assert table["Bindings"] == ["input1_y", "input1_uv"]


def test_calibrated(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    out, counted = tmp_path / "out", []
    line = f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --out={out} --precisionConstraints=obey"
    line += " --layerPrecisions=/fc/Gemm:int16 --layerDeviceTypes=/features/features.0/Conv:CPU"
    result = build(
        plan_of(line, "nash-e", "build"),
        say=lambda text: None,
        progress=lambda done, total, what="": counted.append((done, total, what)),
    )
    assert not result.performance_only
    writing = "writing calibration samples as .npy, normalised as the float model wants them"
    assert counted[:3] == [(done, 3, f"{writing} {done}/3") for done in (1, 2, 3)]
    assert counted[3:] == [(1, 3, ""), (2, 3, ""), (3, 3, "")]
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


def test_a_quantized_model_is_compiled_anew(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    (tmp_path / "q_quantized_model.bc").write_text("double")
    line = f"--onnx={tmp_path}/q_quantized_model.bc --builderOptimizationLevel=1 --saveEngine={tmp_path}/a.hbm"
    plan = plan_of(f"{line} --out={tmp_path}/out --outputIOFormats=int32:chw", "nash-m", "build")
    config = yaml.safe_load(plan.files["hb_compile.yaml"])
    assert set(config) == {"model_parameters", "compiler_parameters"} and "onnx_model" not in config["model_parameters"]
    assert not plan.faults and not plan.performance_only
    result = build(plan, say=lambda text: None)
    assert result.precision == "as quantized" and not result.performance_only
    desc = json.loads((tmp_path / "a.hbm").read_text())["desc"]
    assert (desc["MARCH"], desc["OPTIMIZE_LEVEL"]) == ("nash-m", "O1")
    assert (tmp_path / "out" / "run.sh").read_text().endswith("hb_compile --config hb_compile.yaml --model a.bc\n")


def test_what_a_quantized_model_cannot_take_is_refused(plan_of: Make, tmp_path: Path) -> None:
    words = "--int8 --calibData=c --mean=1 --shapes=x:1x3x4x4 --layerDeviceTypes=a:CPU --memPoolSize=dlaSRAM:1"
    plan = plan_of(f"--onnx=q.bc {words}", "nash-p", "build")
    assert [row.option for row in plan.refused] == [
        "--calibData=c",
        "--mean=1",
        "--shapes=x:1x3x4x4",
        "--layerDeviceTypes=a:CPU",
    ]
    assert all("a .bc is quantized already" in row.why for row in plan.refused)
    over = tmp_path / "o.yaml"
    over.write_text("calibration_parameters: {per_channel: true}\ncompiler_parameters: {jobs: 4}\n")
    (row,) = plan_of(f"--onnx=q.bc --horizonYaml={over}", "nash-p", "build").refused
    assert "calibration_parameters.per_channel would be passed over" in row.why


def test_the_record_of_a_build(tool: Path, plan_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqbridge.backends.horizon.beside5 import look_beside

    said: list[str] = []
    result = build(plan_of(f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm", "nash-m", "build"), say=said.append)
    assert result.facts["estimate"]["latency_us"] == 810.0
    assert any(text.startswith("the compiler estimates 0.81 ms a frame, 1234.5 frames per second") for text in said)
    assert [entry["type"] for entry in result.facts["inputs"]] == ["rgb"]  # the recipe beside the samples
    assert look_beside(f"{tmp_path}/a.hbm").facts["generation"] == "3.5"
    monkeypatch.setenv("DOUBLE_GENERATION", "3.0")
    line = f"{MYNET} --saveEngine={tmp_path}/b.hbm"
    notes = build(plan_of(line, "nash-m", "build"), say=lambda text: None).notes
    said_so = "the plan was made for hb_compile 3.5, and 3.0.17 ran: --toolchainVersion=3.0 writes for it"
    assert said_so in notes


def test_the_compile_cache_is_the_users_folder(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    line = f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --timingCacheFile={tmp_path}/cache --out={tmp_path}/out"
    build(plan_of(line, "nash-m", "build"), say=lambda text: None)
    kept = yaml.safe_load((tmp_path / "out" / "hb_compile.yaml").read_text())["compiler_parameters"]
    assert (kept["cache_mode"], kept["cache_path"]) == ("enable", f"{tmp_path}/cache") and (tmp_path / "cache").is_dir()
    write_bundle(plan_of(line, "nash-m", "build"), str(tmp_path / "b"), print)
    assert validate_file(str(tmp_path / "b" / "hb_compile.yaml"), target="nash-m", strict=True).ok
    assert (tmp_path / "b" / "compile_cache").is_dir()


def test_paths_mean_something_elsewhere(
    plan_of: Make, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container only the workspace is there: model, samples, cache, operators and quant_config lie in it."""
    seen = tmp_path / "seen.yaml"
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    double = f"{sys.executable} {root}/tests/doubles/hb_compile"
    docker.write_text(
        f"""#!{sys.executable}
import os, re, subprocess, sys
words = sys.argv[1:]
if words[0] != "run":
    sys.exit(0)
place = next(re.search("source=([^,]*)", word)[1] for word in words if "source=" in word)
job = os.path.join(place, "job")
program = words.index("hb_compile")
if os.path.isdir(job):
    open({str(seen)!r}, "w").write(open(job + "/hb_compile.yaml").read())
    os.makedirs(job + "/compile_cache", exist_ok=True)
    open(job + "/compile_cache/entry", "w").write("cached")
sys.exit(subprocess.call({double.split()!r} + words[program + 1:], cwd=job if os.path.isdir(job) else "/tmp"))
"""
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    (tmp_path / "q.json").write_text('{"node_config": {"/fc/Gemm": {"qtype": "int16"}}} // a comment')
    (tmp_path / "cache").mkdir()
    (tmp_path / "o.yaml").write_text("calibration_parameters: {quant_config: q.json}\n")
    line = f"{CALIBRATED} --saveEngine={tmp_path}/a.hbm --toolchain=docker:openexplorer --horizonYaml={tmp_path}/o.yaml"
    result = build(plan_of(f"{line} --timingCacheFile={tmp_path}/cache", "nash-m", "build"), say=lambda text: None)
    config = yaml.safe_load(seen.read_text())
    texts = [str(value) for section in config.values() for value in section.values()]
    assert not [text for text in texts if str(tmp_path) in text or str(root) in text]
    assert config["compiler_parameters"]["cache_path"] == "./compile_cache"
    assert (tmp_path / "cache" / "entry").read_text() == "cached"
    assert config["calibration_parameters"]["quant_config"]["node_config"] == {"/fc/Gemm": {"qtype": "int16"}}
    assert [(row.layer, row.got) for row in result.asked_got] == [("/fc/Gemm", "int16")]


def test_a_sample_that_is_left_out_is_told(tool: Path, plan_of: Make, tmp_path: Path, root: Path) -> None:
    calib, damaged = root / "examples" / "mynet" / "calib", tmp_path / "damaged"
    damaged.mkdir()
    for file in [*sorted(calib.glob("*.png"))[:3], calib / "recipe.yaml"]:
        shutil.copy(file, damaged)
    broken = min(damaged.glob("*.png"))
    broken.write_bytes(b"no picture")
    said: list[str] = []
    words = f"{MYNET} --int8 --calibData={damaged} --skipBroken=1 --saveEngine={tmp_path}/a.hbm"
    result = build(plan_of(words, "nash-e", "build"), say=said.append)
    assert result.facts["calibration"]["samples"] == 2
    assert any(line.startswith("note: left out: ") and broken.name in line for line in said)


def test_a_file_holds_one_sample_whatever_calib_batch_says(tool: Path, plan_of: Make, tmp_path: Path) -> None:
    words = f"{CALIBRATED.replace('mynet.onnx', 'mynet_dynamic.onnx')} --calibBatch=2 --out={tmp_path}/out"
    build(plan_of(f"{words} --saveEngine={tmp_path}/a.hbm", "nash-e", "build"), say=lambda text: None)
    files = sorted((tmp_path / "out" / "calibration_data").rglob("*.npy"))
    assert [np.load(file, allow_pickle=False).shape for file in files] == [(1, 3, 28, 28)] * 3
