"""What is checked on a real GPU with the real TensorRT: one function per check, each in a process of its own.

``python tests/gpu/checks.py NAME FOLDER`` makes one check in FOLDER and prints its figures as JSON; a failed check ends
with its reason on stderr. run.py makes them all; test_tensorrt.py makes each a test. Needs ptqbridge and what it needs,
tensorrt, a driver and a GPU; no pytest. PTQBRIDGE_GPU_WORDS holds options for every build, where a TensorRT without
some of its libraries needs them: "--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN".
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from ptqbridge.backends.tensorrt.device import CHOICE, LAYERS  # noqa: E402
from ptqbridge.backends.tensorrt.run import missing_device, missing_module  # noqa: E402
from ptqbridge.backends.tensorrt.version import detect, generation, key  # noqa: E402
from ptqbridge.cli import main  # noqa: E402

MODEL = ROOT / "examples" / "mynet" / "mynet.onnx"
DYNAMIC = MODEL.with_name("mynet_dynamic.onnx")
DATA = "--calibData=data.npz"
EXTRA = tuple(os.environ.get("PTQBRIDGE_GPU_WORDS", "").split())
SHORT = ("--duration=0.3", "--warmUp=50", "--iterations=20")
Figures = dict[str, Any]
CHECKS: dict[str, Callable[[], Figures]] = {}


class Skip(Exception):
    """This version or machine has not what the check is about."""


def check(function: Callable[[], Figures]) -> Callable[[], Figures]:
    """Enter a check."""
    CHECKS[function.__name__] = function
    return function


def version() -> str:
    """The installed TensorRT."""
    return detect().version


def since(release: str) -> None:
    """Raises Skip for an older TensorRT."""
    if key(version()) < key(release):
        raise Skip(f"came with TensorRT {release}, this is {version()}")


def weak() -> None:
    """Raises Skip where only strongly typed networks are built."""
    if generation(version()) == "11":
        raise Skip("TensorRT 11 has no such builder option")


def bridge(*words: str) -> Figures:
    """The JSON answer of a ptqbridge command; AssertionError with its own words when it fails."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*words, "--json"])
    assert status == 0, f"exit status {status}: {out.getvalue().strip()[-1000:] or err.getvalue().strip()[-1000:]}"
    record: Figures = json.loads(out.getvalue())
    record["said"] = err.getvalue().strip().splitlines()
    return record


def trtexec(*words: str, model: Path = MODEL) -> Figures:
    """Build and run; ``values`` of the record are the outputs."""
    loads = any(word.startswith("--loadEngine") for word in words)
    source = () if loads else (f"--onnx={model}", *EXTRA)
    record = bridge("trtexec", "--target=trt", *source, *SHORT, "--exportOutput=y.json", *words)
    record["values"] = [np.array(entry["values"], np.float64) for entry in json.loads(Path("y.json").read_text())]
    return record


def inputs(batch: int = 1) -> np.ndarray[Any, Any]:
    """Digits of the example's test set, the same for every check, in x.bin; others of them in data.npz to calibrate."""
    pixels = np.load(MODEL.with_name("test.npz"))["images"][: 100 + batch].astype(np.float32)
    prepared = np.ascontiguousarray((pixels / 255 - 0.3053).transpose(0, 3, 1, 2) / np.float32(0.3243))  # recipe.yaml
    if not Path("data.npz").is_file():
        np.savez("data.npz", input1=prepared[:100])
    prepared[100:].tofile("x.bin")
    return prepared[100:]


FED = "--loadInputs=input1:x.bin"


def expected(model: Path, **feeds: Any) -> Any:
    """ONNX Runtime's first output, flat."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0], np.float64).ravel()


def likeness(record: Figures, wanted: Any, least: float) -> Figures:
    """Cosine and largest difference to ONNX Runtime's output, and the figures of the run. AssertionError below."""
    values = record["values"][0]
    assert values.shape == wanted.shape, (values.shape, wanted.shape)
    cosine = float(values @ wanted / max(1e-30, float(np.linalg.norm(values) * np.linalg.norm(wanted))))
    assert cosine >= least, f"cosine to ONNX Runtime {cosine:.6f}, at least {least} was expected"
    return {"cosine": cosine, "largest_difference": float(np.abs(values - wanted).max()), **figures(record)}


def figures(record: Figures) -> Figures:
    """Throughput and medians of a run."""
    performance = record["run"]["performance"] or {}
    found = {"throughput_qps": performance.get("throughput_qps"), "built_s": (record.get("build") or {}).get("seconds")}
    for part in ("latency", "compute", "enqueue", "h2d", "d2h"):
        found[f"{part}_median_ms"] = (performance.get(part) or {}).get("median")
    return found


def engine() -> str:
    """An engine of the example model, built once for all checks."""
    if not Path("base.engine").is_file():
        bridge("build", "--target=trt", f"--onnx={MODEL}", "--saveEngine=base.engine", *EXTRA)
    return "--loadEngine=base.engine"


def runs(*words: str, least: float = 0.9999) -> Figures:
    """The base engine, run with these options, against ONNX Runtime."""
    wanted = expected(MODEL, input1=inputs())
    return likeness(trtexec(engine(), FED, *words), wanted, least)


@check
def machine() -> Figures:
    """What is here: GPU, clocks, versions, the ways to the GPU."""
    record = trtexec(engine())
    return {"device": record["run"]["device"], "policy": record["run"]["policy"], "versions": record["versions"]}


@check
def fp32() -> Figures:
    return likeness(trtexec(FED), expected(MODEL, input1=inputs()), 0.9999)


@check
def fp32_without_tf32() -> Figures:
    found = likeness(trtexec("--noTF32", FED), expected(MODEL, input1=inputs()), 0.99999)
    assert found["largest_difference"] < 1e-3
    return found


@check
def fp16() -> Figures:
    return likeness(trtexec("--fp16", FED), expected(MODEL, input1=inputs()), 0.999)


@check
def bf16() -> Figures:
    since("10.0")
    return likeness(trtexec("--bf16", FED), expected(MODEL, input1=inputs()), 0.99)


@check
def int8_from_our_ranges() -> Figures:
    """A cache up to 10 (the builder fails when it does not accept it), Q/DQ nodes from 11 on."""
    record = trtexec("--int8", "--calibAlgo=max", DATA, "--out=ours", FED)
    written = "model.edited.onnx" if generation(version()) == "11" else "calibration.cache"
    assert Path("ours", written).is_file()
    return likeness(record, expected(MODEL, input1=inputs()), 0.99)


@check
def int8_from_a_cache_file() -> Figures:
    """Written on the CPU by ``calibrate``; on 11 it becomes Q/DQ nodes."""
    bridge("calibrate", f"--onnx={MODEL}", DATA, "--calibAlgo=entropy2", "--out=entropy2.cache")
    record = trtexec("--int8", "--calib=entropy2.cache", FED)
    return likeness(record, expected(MODEL, input1=inputs()), 0.9)


@check
def int8_from_a_cache_of_another_version() -> Figures:
    """Its first line is rewritten; the builder takes it."""
    weak()
    bridge("calibrate", f"--onnx={MODEL}", DATA, "--calibAlgo=max", "--out=other.cache")
    text = Path("other.cache").read_text()
    Path("other.cache").write_text(re.sub(r"^TRT-\d+-", "TRT-7203-", text))
    record = trtexec("--int8", "--calib=other.cache", FED)
    assert any("first line rewritten from TRT-7203" in line for line in record["said"])
    return likeness(record, expected(MODEL, input1=inputs()), 0.97)


def native(kind: str) -> Figures:
    """TensorRT's own calibrator, fed by our readers."""
    weak()
    out = f"native_{kind}"
    record = trtexec("--int8", f"--trtCalibrator={kind}", DATA, f"--out={out}", FED)
    found = likeness(record, expected(MODEL, input1=inputs()), 0.9)
    lines = Path(out, "calibration.cache").read_text().splitlines()
    assert lines[0].startswith("TRT-") and len(lines) > 3
    ours = {"entropy2": "entropy2", "entropy": "entropy", "minmax": "max"}.get(kind)
    if ours:
        bridge("calibrate", f"--onnx={MODEL}", DATA, f"--calibAlgo={ours}", f"--out={kind}_ours.cache")
        found["scales_ours_over_native"] = compare_caches(f"{kind}_ours.cache", f"{out}/calibration.cache")
    return found


def compare_caches(ours: str, theirs: str) -> Figures:
    """Ratio of the scales that both caches hold."""
    from ptqbridge.backends.tensorrt.aids import cache_scales

    one, other = (cache_scales(Path(path).read_bytes()) for path in (ours, theirs))
    ratios = [one[name] / other[name] for name in one if other.get(name)]
    assert ratios, "the caches name no tensor in common"
    return {"tensors": len(ratios), "least": min(ratios), "median": float(np.median(ratios)), "most": max(ratios)}


@check
def int8_native_entropy2() -> Figures:
    return native("entropy2")


@check
def int8_native_entropy() -> Figures:
    return native("entropy")


@check
def int8_native_minmax() -> Figures:
    return native("minmax")


@check
def int8_native_legacy() -> Figures:
    return native("legacy")


@check
def int8_from_qdq() -> Figures:
    """The model of ``convert-precision``; the inspector says which layers compute in INT8."""
    model = Path("qdq.onnx")
    bridge("convert-precision", f"--onnx={MODEL}", "--int8", DATA, "--calibAlgo=max", f"--out={model}")
    words = () if generation(version()) == "11" else ("--int8",)
    record = trtexec(
        *words,
        FED,
        "--profilingVerbosity=detailed",
        "--dumpLayerInfo",
        "--exportLayerInfo=qdq_layers.json",
        model=model,
    )
    x = inputs()
    found = likeness(record, expected(MODEL, input1=x), 0.99)
    against_qdq = expected(model, input1=x)
    found["difference_to_onnx_runtime_qdq"] = float(np.abs(record["values"][0] - against_qdq).max())
    layers = record["run"]["layer_info"]["Layers"]
    found["layers"] = len(layers)
    found["reformats"] = sum("reformat" in json.dumps(layer).lower() for layer in layers)
    found["int8_outputs"] = sum("Int8" in json.dumps(layer) for layer in layers)
    assert found["int8_outputs"] > 0, "no layer of the engine has INT8 tensors"
    return found


@check
def dynamic_shapes() -> Figures:
    words = ("--minShapes=input1:1x3x28x28", "--optShapes=input1:4x3x28x28", "--maxShapes=input1:8x3x28x28")
    bridge("build", "--target=trt", f"--onnx={DYNAMIC}", *words, "--saveEngine=dynamic.engine", *EXTRA)
    found: Figures = {}
    for batch in (1, 5, 8):
        x = inputs(batch)
        shape = f"--shapes=input1:{batch}x3x28x28"
        record = trtexec("--loadEngine=dynamic.engine", shape, FED, "--dumpOptimizationProfile")
        found[f"batch_{batch}"] = likeness(record, expected(DYNAMIC, input1=x), 0.9999)
    assert any("(profile 0): min=1x3x28x28, opt=4x3x28x28, max=8x3x28x28" in line for line in record["said"])
    return found


@check
def timing_cache() -> Figures:
    first = trtexec("--timingCacheFile=t.cache", FED)
    size = Path("t.cache").stat().st_size
    second = trtexec("--timingCacheFile=t.cache", FED)
    assert size > 0
    return {
        "bytes": size,
        "first_s": first["build"]["seconds"],
        "second_s": second["build"]["seconds"],
        **likeness(second, expected(MODEL, input1=inputs()), 0.9999),
    }


@check
def graph() -> Figures:
    found = {"plain": runs("--noDataTransfers", "--useSpinWait")}
    record = trtexec(engine(), FED, "--useCudaGraph", "--noDataTransfers", "--useSpinWait")
    assert not any("cannot be captured" in text for text in record["run"]["warnings"]), record["run"]["warnings"]
    found["graph"] = likeness(record, expected(MODEL, input1=inputs()), 0.9999)
    return found


@check
def streams_and_threads() -> Figures:
    return {
        "one": runs("--noDataTransfers"),
        "two": runs("--infStreams=2", "--noDataTransfers"),
        "two_threads": runs("--infStreams=2", "--threads", "--noDataTransfers"),
        "four_threads_graph": runs("--infStreams=4", "--threads", "--useCudaGraph", "--noDataTransfers"),
    }


@check
def transfers() -> Figures:
    return {
        "overlapped": runs(),
        "exposed": runs("--exposeDMA"),
        "managed": runs("--useManagedMemory"),
        "idle": runs("--idleTime=1", "--sleepTime=10", "--persistentCacheRatio=0.5"),
    }


@check
def ways_to_the_gpu() -> Figures:
    """The same engine through pycuda, cuda-python and the driver itself, as far as they are installed."""
    found: Figures = {}
    for way in LAYERS:
        os.environ[CHOICE] = way
        try:
            record = trtexec(engine(), FED, "--useCudaGraph")
            found[way] = likeness(record, expected(MODEL, input1=inputs()), 0.9999)
            found[way]["made_by"] = record["run"]["policy"]["gpu_calls"]
        except AssertionError as error:
            if "cannot be imported" not in str(error):
                raise
            found[way] = "not installed"
        finally:
            del os.environ[CHOICE]
    assert isinstance(found["driver"], dict)
    return found


@check
def version_compatible() -> Figures:
    words = ("--versionCompatible", "--excludeLeanRuntime")
    bridge("build", "--target=trt", f"--onnx={MODEL}", *words, "--saveEngine=vc.engine", *EXTRA)
    return likeness(
        trtexec("--loadEngine=vc.engine", "--versionCompatible", FED), expected(MODEL, input1=inputs()), 0.9999
    )


@check
def profile_and_layers() -> Figures:
    words = ("--dumpProfile", "--separateProfileRun", "--dumpLayerInfo", "--profilingVerbosity=detailed")
    record = trtexec(*words, FED)
    layers = record["run"]["profile"]["layers"]
    assert layers and record["run"]["layer_info"]["Layers"] and record["run"]["performance"]
    total, median = sum(layer["averageMs"] for layer in layers), record["run"]["performance"]["compute"]["median"]
    return {"layers": len(layers), "sum_of_layers_ms": total, "compute_median_ms": median}


@check
def layer_precisions() -> Figures:
    """Asked for, and told by the inspector."""
    weak()
    name = first_convolution()
    record = trtexec(
        *(
            "--fp16",
            "--precisionConstraints=obey",
            f"--layerPrecisions={name}:fp32",
            "--profilingVerbosity=detailed",
            FED,
        )
    )
    rows = record["build"]["asked_got"]
    assert rows, record["build"]["notes"]
    return {"asked_got": rows}


def first_convolution() -> str:
    """The name of the example's first Conv."""
    import onnx

    return next(node.name for node in onnx.load(str(MODEL)).graph.node if node.op_type == "Conv")


@check
def refit() -> Figures:
    record = bridge(
        *("build", "--target=trt", f"--onnx={MODEL}", "--refit", "--timeRefit", "--saveEngine=refit.engine"), *EXTRA
    )
    return {"refit_ms": record["targets"]["trt"]["build"]["facts"]["refit_ms"]}


@check
def load_times() -> Figures:
    record = bridge("run", "--target=trt", engine(), "--timeDeserialize")
    times = record["run"]["load_times_s"]
    assert len(times) == 21
    return {"first_s": times[0], "mean_s": sum(times[1:]) / 20}


@check
def memory_strategies() -> Figures:
    since("10.0")
    return {name: runs(f"--allocationStrategy={name}") for name in ("static", "profile", "runtime")}


@check
def debug_tensors() -> Figures:
    since("10.0")
    tensor = first_output()
    words = (f"--markDebug={tensor}", f"--saveDebugTensors={tensor}:debug.raw")
    record = trtexec(*words, FED)
    assert Path("debug.raw").stat().st_size > 0
    return {"bytes": Path("debug.raw").stat().st_size, "notes": record["run"]["notes"]}


def first_output() -> str:
    """The name of what the example's first Conv gives."""
    import onnx

    return next(node.output[0] for node in onnx.load(str(MODEL)).graph.node if node.op_type == "Conv")


@check
def weight_streaming() -> Figures:
    since("10.0")
    words = ("--stronglyTyped", "--allowWeightStreaming", "--saveEngine=stream.engine")
    bridge("build", "--target=trt", f"--onnx={MODEL}", *words, *EXTRA)
    record = trtexec("--loadEngine=stream.engine", "--allowWeightStreaming", "--weightStreamingBudget=50%", FED)
    return likeness(record, expected(MODEL, input1=inputs()), 0.9999)


def small_model(nodes: Any, ends: Any, weights: Any = ()) -> Path:
    """A model of a few nodes."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "g", [ends[0], *ends[2:]], [ends[1]], list(weights))
    path = Path(f"{nodes[0].op_type}.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@check
def late_output() -> Figures:
    """An output whose length the data decide: NonZero."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["n"]),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "count"]),
    ]
    model = small_model(nodes, ends)
    x = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    x.tofile("late.bin")
    found = {}
    for words in ((), ("--noDataTransfers",), ("--infStreams=2", "--threads"), ("--useCudaGraph",)):
        record = trtexec("--loadInputs=x:late.bin", *words, model=model)
        found[" ".join(words) or "plain"] = {
            **likeness(record, expected(model, x=x), 0.999999),
            "warnings": record["run"]["warnings"],
        }
    return found


@check
def shape_input() -> Figures:
    """An input whose values are a shape."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Reshape", ["r", "s"], ["y"])]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 6]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"]),
        helper.make_tensor_value_info("s", TensorProto.INT64, [2]),
    ]
    model = small_model(nodes, ends)
    x = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    x.tofile("shape.bin")
    words = ("--minShapes=s:1x1", "--optShapes=s:4x6", "--maxShapes=s:24x24", "--shapes=s:8x3")
    record = trtexec(*words, "--loadInputs=x:shape.bin", model=model)
    assert record["run"]["outputs"]["y"]["shape"] == [8, 3]
    return likeness(record, expected(model, x=x, s=np.array([8, 3])), 0.999999)


@check
def engine_info() -> Figures:
    engine()
    record = bridge("info", "base.engine")
    assert [row["name"] for row in record["engine"]["tensors"]] == ["input1", "output1"], record.get("notes")
    return {"tensorrt": record["tensorrt"], "engine": {**record["engine"], "layers": len(record["engine"]["layers"])}}


@check
def emitted_script() -> Figures:
    """The program of --emitScript builds an engine of its own, which runs."""
    words = ("--saveEngine=script.engine", "--emitScript=build.py", "--dryRun")
    bridge("build", "--target=trt", f"--onnx={MODEL}", *words, *EXTRA)
    done = subprocess.run([sys.executable, "build.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return likeness(trtexec("--loadEngine=script.engine", FED), expected(MODEL, input1=inputs()), 0.9999)


@check
def broken_engines() -> Figures:
    """An error of one line and exit status 3, never a crash."""
    engine()
    whole = Path("base.engine").read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    found = {}
    cases = {"empty": b"", "short": whole[:100], "half": whole[: len(whole) // 2], "no engine": b"\x08\x07onnx" * 50}
    other = bytes(whole[:24]) + bytes((7, 0, 0, 0)) + bytes(whole[28:])
    for name, content in {**cases, "other version": other, "changed inside": bytes(middle)}.items():
        Path("broken.engine").write_bytes(content)
        words = [sys.executable, "-m", "ptqbridge", "run", "--target=trt", "--loadEngine=broken.engine", *SHORT]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        found[name] = {"status": done.returncode, "said": [line for line in done.stderr.splitlines() if "[E]" in line]}
        # TensorRT has no checksum over the whole file: what is changed inside may go unseen.
        assert done.returncode in ((0, 3, 5) if name == "changed inside" else (3,)), found
    return found


@check
def wrong_device() -> Figures:
    engine()
    try:
        bridge("run", "--target=trt", "--loadEngine=base.engine", "--device=63")
    except AssertionError as error:
        assert "exit status 4" in str(error) and "--device=63" in str(error), error
        return {"said": str(error)}
    raise AssertionError("--device=63 was accepted")


@check
def against_trtexec() -> Figures:
    """The real trtexec on the same engine, by turns: throughput within 2 % for kernels over 0.2 ms."""
    tool = os.environ.get("PTQBRIDGE_TRTEXEC") or shutil.which("trtexec")
    if not tool:
        raise Skip("no trtexec: PTQBRIDGE_TRTEXEC is not set and it is not on PATH")
    model = heavy_model()
    bridge("build", "--target=trt", f"--onnx={model}", "--fp16", "--saveEngine=heavy.engine", *EXTRA)
    words = ("--duration=2", "--warmUp=300", "--noDataTransfers", "--useSpinWait")
    ratios, found = [], {}
    for _ in range(3):
        done = subprocess.run([tool, "--loadEngine=heavy.engine", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-500:]
        theirs = float(re.findall(r"Throughput: ([\d.]+) qps", done.stdout)[-1])
        record = bridge("run", "--target=trt", "--loadEngine=heavy.engine", *words)
        ours = record["run"]["performance"]["throughput_qps"]
        ratios.append(ours / theirs)
        found = {"ours_qps": ours, "trtexec_qps": theirs, **figures(record)}
    found["ratio"] = sorted(ratios)[1]
    if found["compute_median_ms"] > 0.2:
        assert found["ratio"] > 0.98, found
    return found


def heavy_model() -> Path:
    """Convolutions that take a GPU some tenths of a millisecond and more."""
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, weights, last = np.random.default_rng(1), [], [], "x"
    for index in range(12):
        weight = random.normal(scale=0.03, size=(128, 128, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        last = f"r{index}"
    nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 128, 56, 56]) for name in ("x", "y")]
    return small_model(nodes, ends, weights)


@check
def heavy_figures() -> Figures:
    """A model of real work: fp32, fp16, int8 (performance only), with and without a graph."""
    model, found = heavy_model(), {}
    for name, words in (("fp32", ()), ("fp16", ("--fp16",)), ("int8", ("--int8", "--fp16"))):
        engine_file = f"{name}.engine"
        bridge("build", "--target=trt", f"--onnx={model}", *words, f"--saveEngine={engine_file}", *EXTRA)
        for mode, more in (("plain", ()), ("graph", ("--useCudaGraph", "--noDataTransfers", "--useSpinWait"))):
            record = bridge("run", "--target=trt", f"--loadEngine={engine_file}", "--duration=1", *more)
            found[f"{name} {mode}"] = {**figures(record), "state": record["run"]["device"].get("state")}
    return found


def missing() -> str:
    """Why nothing can be checked here; "" when it can."""
    return "; ".join(text for text in (missing_module(), missing_device()) if text)


def one(name: str, folder: str) -> int:
    """Make one check and print what it found: exit status 0 done, 1 failed, 3 skipped."""
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    inputs()
    started = time.perf_counter()
    try:
        found = CHECKS[name]()
    except Skip as reason:
        print(json.dumps({"skipped": str(reason)}))
        return 3
    print(json.dumps({"seconds": round(time.perf_counter() - started, 2), "found": found}, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(one(*sys.argv[1:3]))
