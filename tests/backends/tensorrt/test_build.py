"""Building end to end on stand-ins for module and driver: artifact, checks of every result, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends import load, resolve
from ptqbridge.backends.tensorrt import cuda
from ptqbridge.backends.tensorrt.build import build
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.plan import Plan

PlanOf = Callable[..., Plan]
CACHE = "TRT-8600-EntropyCalibration2\nx: 3c010a14\nc: 3d000000\ny: 3d000000\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """x -> Conv -> Relu -> y, with a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv"), helper.make_node("Relu", ["c"], ["y"], "relu")]
    ends = [
        helper.make_tensor_value_info(*entry)
        for entry in (("x", TensorProto.FLOAT, ["n", 3, 8, 8]), ("y", TensorProto.FLOAT, ["n", 4, 6, 6]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "m.onnx")
    return tmp_path


def built(plan: Plan) -> tuple[Any, list[str]]:
    said: list[str] = []
    return build(plan, say=said.append, progress=None), said


@pytest.mark.parametrize("version", ["8.6.1", "10.13.3", "11.4.0"])
def test_an_engine_is_written_and_described(
    version: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any], driver: Any
) -> None:
    api = tensorrt(version)
    plan = plan_of(version, "--onnx=m.onnx", "--minShapes=x:1x3x8x8", "--maxShapes=x:4x3x8x8", command="build")
    result, _ = built(plan)
    assert result.artifact == "m.trt.engine"
    assert (model / "m.trt.engine").read_bytes().startswith(b"ftrt")
    assert result.facts["tensorrt"] == version
    assert result.facts["device"]["name"] == "Stand-in GPU"
    assert ("IOptimizationProfile.set_shape", "x", (1, 3, 8, 8), (4, 3, 8, 8), (4, 3, 8, 8)) in api.CALLS
    assert [path.name for path in model.iterdir() if "engine" in path.name] == ["m.trt.engine"]
    assert "cuDevicePrimaryCtxRetain" in driver.calls


def test_our_calibration_reaches_8_6_as_a_cache(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    api = tensorrt("8.6.1")
    (model / "calib").mkdir()
    for index in range(3):
        np.save(model / "calib" / f"{index}.npy", np.full((1, 3, 8, 8), index / 2, np.float32))
    words = ("--onnx=m.onnx", "--int8", "--calibData=calib", "--calibAlgo=max", "--out=o", "--saveEngine=e.engine")
    result, _ = built(plan_of("8.6.1", *words, "--optShapes=x:1x3x8x8"))
    lines = (model / "o" / "calibration.cache").read_text().splitlines()
    assert lines[0] == "TRT-8601-EntropyCalibration2"
    assert sorted(line.split(":")[0] for line in lines[1:]) == ["c", "x", "y"]
    assert lines[1:][[line[0] for line in lines[1:]].index("x")] == "x: 3c010204"  # the float32 1/127
    assert ("Calibrator.read_calibration_cache", (model / "o" / "calibration.cache").stat().st_size) in api.CALLS
    assert result.facts["calibration"]["samples"] == 3
    assert result.performance_only == ""


def test_a_cache_of_another_version_gets_this_ones_first_line(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    api = tensorrt("10.13.3")
    (model / "c.cache").write_text(CACHE)
    _, said = built(plan_of("10.13.3", "--onnx=m.onnx", "--int8", "--calib=c.cache", "--saveEngine=e.engine"))
    assert any("rewritten from TRT-8600 to TRT-101303" in line for line in said)
    assert (model / "c.cache").read_text() == CACHE
    assert ("Calibrator.read_calibration_cache", len(CACHE) + 2) in api.CALLS


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_ranges_of_a_cache_reach_every_version(
    version: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    tensorrt(version)
    (model / "c.cache").write_text(CACHE)
    words = ("--onnx=m.onnx", "--int8", "--calib=c.cache", "--saveEngine=e.engine", "--out=o")
    result, _ = built(plan_of(version, *words))
    if version == "8.6.1":
        assert "qdq" not in result.facts
        return
    assert result.facts["qdq"]["layers"] == 1
    edited = onnx.load(model / "o" / "model.edited.onnx")
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in edited.graph.initializer}
    assert scales["x_scale"].tobytes() == np.uint32(0x3C010A14).tobytes()


def test_int8_ends_take_their_ranges_from_the_cache(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    api = tensorrt("8.6.1")
    (model / "c.cache").write_text(CACHE)
    ends = ("--inputIOFormats=int8:chw", "--outputIOFormats=int8:chw")
    built(plan_of("8.6.1", "--onnx=m.onnx", "--int8", "--calib=c.cache", *ends, "--saveEngine=e.engine"))
    ranges = {call[1]: call[3] for call in api.CALLS if call[0] == "ITensor.set_dynamic_range"}
    assert ranges == {"x": 127 * float(np.uint32(0x3C010A14).view(np.float32)), "y": 127 * 2.0**-5}
    (model / "c.cache").write_text(CACHE.replace("y:", "z:"))
    with pytest.raises(InputError, match="holds no scale of the INT8 tensor y"):
        built(plan_of("8.6.1", "--onnx=m.onnx", "--int8", "--calib=c.cache", *ends, "--saveEngine=e.engine"))


FAILURES = [
    ("builder", ToolchainFailed, "CUDA initialization failure"),
    ("parse", InputError, "node conv3 (Conv): no importer registered for op 0; node conv3 (Conv): no importer"),
    ("build", ToolchainFailed, "Could not find any implementation for node conv1"),
    ("memory", ToolchainFailed, "could not be allocated"),
    ("deserialize", ToolchainFailed, "magicTag mismatch"),
]


@pytest.mark.parametrize(("what", "kind", "says"), FAILURES)
def test_a_failure_is_one_line_with_tensorrts_words_and_no_engine(
    what: str, kind: type[PtqbridgeError], says: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    tensorrt("10.13.3").FAIL.add(what)
    (model / "e.engine").write_bytes(b"the last good one")
    with pytest.raises(kind) as caught:
        built(plan_of("10", "--onnx=m.onnx", "--saveEngine=e.engine"))
    assert says in caught.value.message and "\n" not in caught.value.message
    if what != "deserialize":
        assert (model / "e.engine").read_bytes() == b"the last good one"
    if what == "memory":
        assert "memPoolSize" in caught.value.hint


def test_a_refused_cache_is_explained(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    tensorrt("8.6.1").FAIL.add("cache")
    (model / "c.cache").write_text(CACHE)
    with pytest.raises(ToolchainFailed, match="no scaling factors") as caught:
        built(plan_of("8.6", "--onnx=m.onnx", "--int8", "--calib=c.cache", "--saveEngine=e.engine"))
    assert "not this network's" in caught.value.hint


def test_nothing_of_tensorrt_is_made_before_the_device(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any], driver: Any
) -> None:
    api = tensorrt("8.6.1")
    with pytest.raises(ToolchainMissing, match="--device=3"):
        built(plan_of("8.6", "--onnx=m.onnx", "--device=3", "--saveEngine=e.engine"))
    assert api.CALLS == []
    driver.fail["cuInit"] = 100
    with pytest.raises(ToolchainMissing, match="CUDA_ERROR_NO_DEVICE"):
        built(plan_of("8.6", "--onnx=m.onnx", "--saveEngine=e.engine"))
    assert api.CALLS == []


def test_a_module_of_another_generation_is_refused(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    api = tensorrt("8.6.1")
    with pytest.raises(ToolchainMissing, match=r"for TensorRT 11, the module tensorrt is 8\.6\.1"):
        built(plan_of("11", "--onnx=m.onnx", "--saveEngine=e.engine"))
    assert api.CALLS == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--onnx=gone.onnx"], "gone.onnx was not found"),
        (["--onnx=m.onnx", "--optShapes=z:1x2"], "'z' is no input"),
        (["--onnx=m.onnx", "--int8", "--calib=gone.cache"], "gone.cache was not found"),
        (["--onnx=m.onnx", "--precisionConstraints=obey", "--layerPrecisions=cnv:fp16"], "'cnv' matches no layer"),
        (["--onnx=m.onnx", "--useDLACore=7"], "DLA core 7 was asked for, this machine has 2"),
    ],
)
def test_bad_input(words: list[str], says: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    tensorrt("8.6.1")
    with pytest.raises(PtqbridgeError) as caught:
        built(plan_of("8.6", *words, "--saveEngine=e.engine"))
    assert says in caught.value.message
    assert not (model / "e.engine").exists()


def test_a_broken_cache_file_is_refused(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    tensorrt("8.6.1")
    (model / "c.cache").write_text("hello\n")
    with pytest.raises(InputError, match=r"c\.cache"):
        built(plan_of("8.6", "--onnx=m.onnx", "--int8", "--calib=c.cache", "--saveEngine=e.engine"))


def test_timings_are_merged_with_what_the_file_holds(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    tensorrt("8.6.1")
    (model / "t.cache").write_bytes(b"old")
    built(plan_of("8.6", "--onnx=m.onnx", "--timingCacheFile=t.cache", "--saveEngine=e.engine"))
    assert (model / "t.cache").read_bytes() == b"oldold+timings"
    (model / "t.cache").write_bytes(b"broken")
    with pytest.raises(ToolchainFailed, match="create_timing_cache failed"):
        built(plan_of("8.6", "--onnx=m.onnx", "--timingCacheFile=t.cache", "--saveEngine=e.engine"))


def test_the_engine_of_a_run_without_a_name_goes_where_it_is_told(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    tensorrt("8.6.1")
    plan = plan_of("8.6", "--onnx=m.onnx")
    result, _ = built(replace(plan, build=replace(plan.build, artifact="here.engine")))
    assert (model / "here.engine").is_file() and result.artifact == "here.engine"


def test_the_log_shows_the_device(plan_of: PlanOf, driver: Any, tensorrt: Callable[..., Any]) -> None:
    tensorrt("8.6.1")
    shown = load(resolve("trt")).device_info(plan_of("8.6", "--fp16"))
    assert shown["Selected Device"] == "Stand-in GPU" and shown["Compute Capability"] == "9.0" and shown["SMs"] == 132
    driver.devices = 0
    with pytest.raises(cuda.CudaError, match="there are 0"):
        cuda.open_device(0)


def stand_in(root: Path, version: str) -> str:
    """A module ``tensorrt`` for another process: the doubles of module and driver; its calls go to calls.json."""
    return (
        f"import sys, json, atexit\nsys.path.insert(0, {str(root / 'tests' / 'doubles')!r})\n"
        f"import tensorrt_double, cuda_double, ctypes\nmade = tensorrt_double.make({version!r})\n"
        "real = ctypes.CDLL\ndriver = cuda_double.CudaDouble()\n"
        "ctypes.CDLL = lambda name, *rest, **more: driver if 'cuda' in str(name) else real(name, *rest, **more)\n"
        "atexit.register(lambda: open('calls.json', 'w').write(json.dumps(made.CALLS)))\n"
        "sys.modules['tensorrt'] = made\n"
    )


def test_the_emitted_script_makes_the_same_calls(
    root: Path, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    api = tensorrt("8.6.1")
    words = (
        "--onnx=m.onnx",
        "--fp16",
        "--layerPrecisions=*:fp16",
        "--precisionConstraints=obey",
        "--saveEngine=e.engine",
    )
    plan = plan_of("8.6", *words, "--emitScript=build.py")
    built(plan)
    text = plan.files["build.py"]
    assert "import ptqbridge" not in text and "from ptqbridge" not in text
    (model / "build.py").write_text(text)
    (model / "e.engine").unlink()
    (model / "tensorrt.py").write_text(stand_in(root, "8.6.1"))
    done = subprocess.run([sys.executable, "build.py"], cwd=model, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (model / "e.engine").read_bytes().startswith(b"ftrt")
    plain = json.loads(json.dumps(api.CALLS))
    handle = "IBuilderConfig.profile_stream="
    assert [call for call in json.loads((model / "calls.json").read_text()) if call[0] != handle] == [
        call for call in plain if call[0] != handle
    ]


def test_a_timing_cache_that_cannot_be_written_is_found_before_the_build(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    api = tensorrt("8.6.1")
    with pytest.raises(InputError, match=r"--timingCacheFile: cannot write gone/t\.cache: its folder does not exist"):
        built(plan_of("8.6.1", "--onnx=m.onnx", "--timingCacheFile=gone/t.cache", "--saveEngine=e.engine"))
    assert not api.CALLS


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbridge.backends.tensorrt.run.missing_module", lambda: "no module")


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_a_cache_named_like_our_own_is_the_users(
    version: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any], driver: Any
) -> None:
    tensorrt(version)
    (model / "calibration.cache").write_text(CACHE)
    words = ("--onnx=m.onnx", "--int8", "--calib=calibration.cache", "--out=o", "--saveEngine=e.engine")
    result, said = built(plan_of(version, *words, "--optShapes=x:1x3x8x8"))
    assert result.facts["cache"] == {"file": "calibration.cache", "tensors": 3, "covered": 3}
    assert not any("calibrating" in text for text in said)
    assert not (model / "o" / "calibration.cache").exists()
    assert (model / "calibration.cache").read_text() == CACHE


def test_what_was_prepared_without_a_gpu_is_told(model: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)
    said: list[str] = []
    with pytest.raises(ToolchainMissing) as raised:
        build(plan_of("11", "--onnx=m.onnx", "--fp16", "--out=o"), say=said.append, progress=None)
    assert "o holds what a machine with a GPU needs" in raised.value.hint
    assert any(text.startswith("note: activations were not checked") for text in said)
    assert said[-1].startswith("lowest cosine to the float model over 1 sample of noise: y ")
    (model / "kept").mkdir()
    (model / "kept" / "other.txt").write_text("not ours")
    with pytest.raises(ToolchainMissing) as raised:
        build(plan_of("8.6", "--onnx=m.onnx", "--fp16", "--out=kept"), say=said.append, progress=None)
    assert "kept" not in raised.value.hint  # nothing was made in it


@pytest.mark.parametrize("folder", ["o", "./o/", "deep/o"])
def test_an_emitted_script_finds_our_files_beside_it(folder: str, model: Path, plan_of: PlanOf) -> None:
    words = ("--onnx=m.onnx", "--int8", "--calibData=calib", "--emitScript=build.py")
    plan = plan_of("8.6", *words, f"--out={folder}", command="build")
    text = plan.files["build.py"]
    assert 'cached_ranges(trt, beside("calibration.cache"))' in text
    assert 'write_engine(beside("m.trt.engine"), engine_bytes)' in text
    assert 'parser.parse_from_file("m.onnx")' in text and "It reads calibration.cache in its own folder." in text
    assert not any("--out=FOLDER" in note for note in plan.notes)
    lost = plan_of("8.6", *words, command="build")
    assert (
        "build.py reads calibration.cache in its own folder: give --out=FOLDER, which keeps them together" in lost.notes
    )


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("", "failed: the Python module tensorrt 8.6 is needed: not here\n"),
        ("11.4.0", "failed: written for TensorRT 8.6, and the module here is another: "),
    ],
)
def test_an_emitted_script_ends_in_one_line(version: str, says: str, root: Path, model: Path, plan_of: PlanOf) -> None:
    (model / "build.py").write_text(
        plan_of("8.6", "--onnx=m.onnx", "--fp16", "--emitScript=build.py").files["build.py"]
    )
    (model / "tensorrt.py").write_text(stand_in(root, version) if version else "raise ImportError('not here')\n")
    done = subprocess.run([sys.executable, "build.py"], cwd=model, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(says) and done.stderr.count("\n") == 1
