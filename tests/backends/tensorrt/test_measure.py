"""Running and timing on stand-ins for module and driver: data flow, copies, graphs, streams, and what goes wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.tensorrt.measure import run
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.measure.outcome import Outcome
from ptqbridge.plan import Plan

VERSIONS = ["8.6.1", "10.13.3", "11.4.0"]
WAYS_AND_VERSIONS = [("8.6.1", "driver"), ("10.13.3", "pycuda"), ("11.4.0", "cuda-python")]
SHORT = ("--duration=0", "--warmUp=0", "--iterations=4")
PlanOf = Callable[..., Plan]


every_way = pytest.mark.parametrize("layer", ["driver", "pycuda", "cuda-python"])
"""The test is made on each way to the GPU."""


@pytest.fixture
def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> Callable[..., Outcome]:
    """Run the stand-in's engine (x, n times 4 floats, to y = 2 x) with these options."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.engine").write_bytes(b"ftrt" + bytes(20) + bytes((8, 6, 1, 6)))

    def go(*words: str, version: str = "8.6.1", fail: str = "", engine: str = "plain") -> Outcome:
        api = tensorrt(version)
        api.FAIL.update([fail] if fail else [])
        api.ENGINE = engine
        go.api, go.said = api, []  # type: ignore[attr-defined]
        return run(plan_of(version, "--loadEngine=m.engine", *words), "m.engine", say=go.said.append)  # type: ignore[attr-defined]

    return go


@pytest.mark.parametrize(
    "words",
    [(), ("--noDataTransfers",), ("--exposeDMA",), ("--useManagedMemory",), ("--useCudaGraph",), ("--useSpinWait",)],
)
@pytest.mark.parametrize(("version", "layer"), WAYS_AND_VERSIONS)
def test_outputs_are_those_of_the_engine(
    words: tuple[str, ...], version: str, measured: Callable[..., Outcome], driver: Any
) -> None:
    found = measured("--shapes=x:2x4", *SHORT, *words, version=version)
    assert found.inputs["x"].shape == (2, 4)
    np.testing.assert_array_equal(found.outputs["y"], 2 * found.inputs["x"])
    assert found.performance is not None and found.kept is not None
    assert len(found.kept) == 4
    for column in (found.kept.compute_start, found.kept.d2h_end, found.kept.enqueue_end):
        assert column is not None and (np.diff(column) >= 0).all()
    assert driver.memory == {}  # all memory was given back


@every_way
def test_a_graph_replaces_the_launches(measured: Callable[..., Outcome], driver: Any) -> None:
    measured("--shapes=x:1x4", *SHORT, "--useCudaGraph", "--noDataTransfers")
    assert driver.calls.count("cuGraphLaunch") == 4
    launches = [call for call in measured.api.CALLS if call[0] == "IExecutionContext.execute_async_v3"]  # type: ignore[attr-defined]
    assert len(launches) == 2  # the plain one before, and the captured one
    assert driver.calls.count("cuGraphExecDestroy") == 1


@every_way
def test_an_engine_that_cannot_be_captured_runs_without(measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail["cuStreamEndCapture"] = 901
    found = measured("--shapes=x:1x4", *SHORT, "--useCudaGraph")
    assert any("cannot be captured as a CUDA graph" in warning for warning in found.warnings)
    assert "cuGraphLaunch" not in driver.calls
    np.testing.assert_array_equal(found.outputs["y"], 2 * found.inputs["x"])


@every_way
def test_no_copies_in_the_loop_without_transfers(measured: Callable[..., Outcome], driver: Any) -> None:
    found = measured("--shapes=x:1x4", *SHORT, "--noDataTransfers")
    assert driver.calls.count("cuMemcpyHtoDAsync_v2") == 1 and driver.calls.count("cuMemcpyDtoHAsync_v2") == 1
    assert found.kept is not None
    assert not found.kept.durations("h2d").any() and not found.kept.durations("d2h").any()  # type: ignore[union-attr]
    driver.calls.clear()
    measured("--shapes=x:1x4", *SHORT)
    assert driver.calls.count("cuMemcpyHtoDAsync_v2") == 5


@every_way
@pytest.mark.parametrize("threads", [(), ("--threads",)])
def test_streams_have_contexts_of_their_own(threads: tuple[str, ...], measured: Callable[..., Outcome]) -> None:
    found = measured("--shapes=x:1x4", *SHORT, "--infStreams=3", *threads)
    made = [call for call in measured.api.CALLS if call[0] == "ICudaEngine.create_execution_context"]  # type: ignore[attr-defined]
    assert len(made) == 3
    assert found.kept is not None and len(found.kept) == 12
    assert found.performance is not None and found.policy["streams"] == 3


def test_files_and_shapes(measured: Callable[..., Outcome], tmp_path: Path) -> None:
    np.arange(8, dtype=np.float32).tofile(tmp_path / "x.bin")
    found = measured("--shapes=x:2x4", "--loadInputs=x:x.bin", *SHORT)
    assert found.outputs["y"].tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]
    assert measured(*SHORT).inputs["x"].shape == (1, 4)


def test_a_profile_of_its_own(measured: Callable[..., Outcome]) -> None:
    found = measured("--shapes=x:1x4", *SHORT, "--dumpProfile", "--separateProfileRun")
    assert found.performance is not None
    assert [name for name, _ in found.layers or ()] == ["conv1", "prob"]
    assert all(len(times) == found.profiled_runs == 4 for _, times in found.layers or ())
    assert measured("--shapes=x:1x4", *SHORT, "--dumpProfile").performance is None


def test_layers_skipping_and_loading(measured: Callable[..., Outcome]) -> None:
    found = measured("--skipInference", "--dumpLayerInfo")
    assert found.skipped and found.layer_info is not None
    assert list(found.layer_info.layers) == ["conv1", "prob"]
    assert len(measured("--timeDeserialize").load_times_s) == 21


@pytest.mark.parametrize(
    ("words", "fail", "kind", "says"),
    [
        (("--shapes=z:1x4",), "", InputError, "no input 'z'"),
        (("--shapes=x:9x4",), "", InputError, "outside the engine's profile"),
        (("--loadInputs=z:f",), "", InputError, "no input 'z'"),
        (("--device=4",), "", ToolchainMissing, "--device=4: there is 1, counted from 0"),
        ((), "deserialize", InputError, r"cannot be used here (made by TensorRT 8.6.1.6, this is 8.6.1)"),
        ((), "execute", ToolchainFailed, "the query failed"),
    ],
)
def test_what_goes_wrong(
    words: tuple[str, ...], fail: str, kind: type[PtqbridgeError], says: str, measured: Callable[..., Outcome]
) -> None:
    with pytest.raises(kind) as caught:
        measured(*SHORT, *words, fail=fail)
    assert says in caught.value.message and "\n" not in caught.value.message


def test_the_version_in_the_head_needs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: PlanOf
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.engine").write_bytes(b"ftrt" + bytes(20) + bytes((10, 13, 3, 9)))
    said: list[str] = []
    found = run(plan_of("8.6", "--loadEngine=m.engine", "--getPlanVersionOnly"), "m.engine", say=said.append)
    assert said == ["Plan was created with TensorRT version 10.13.3.9"] and found.skipped


@every_way
@pytest.mark.parametrize("call", ["cuMemAlloc_v2", "cuMemHostAlloc"])
def test_too_little_memory(call: str, measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail[call] = 2
    with pytest.raises(ToolchainFailed, match=r"(?i)out.of.memory") as caught:
        measured("--shapes=x:1x4", *SHORT)
    assert "too little free memory" in caught.value.hint
    assert driver.memory == {}


@pytest.mark.parametrize("fail", ["memory", "context"])
def test_too_little_memory_for_tensorrt(fail: str, measured: Callable[..., Outcome]) -> None:
    with pytest.raises(ToolchainFailed, match="could not be allocated") as caught:
        measured("--shapes=x:1x4", *SHORT, fail=fail)
    assert "too little free memory" in caught.value.hint


@every_way
def test_a_driver_that_fails_in_the_loop_is_named(measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail["cuEventSynchronize"] = 700
    with pytest.raises(ToolchainFailed, match=r"700|illegal access"):
        measured("--shapes=x:1x4", *SHORT)


@every_way
def test_a_graph_that_cannot_be_launched_is_an_error(measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail["cuGraphLaunch"] = 700
    with pytest.raises(ToolchainFailed, match="cuGraphLaunch"):
        measured("--shapes=x:1x4", *SHORT, "--useCudaGraph")


@pytest.mark.parametrize(
    "words", [(), ("--noDataTransfers",), ("--useManagedMemory",), ("--exposeDMA",), ("--infStreams=2", "--threads")]
)
@pytest.mark.parametrize(("version", "layer"), WAYS_AND_VERSIONS)
def test_an_output_of_a_length_that_the_data_decide(
    words: tuple[str, ...], version: str, measured: Callable[..., Outcome], driver: Any
) -> None:
    found = measured("--shapes=x:3x4", *SHORT, *words, version=version, engine="late")
    x = found.inputs["x"]
    assert 0 < (x > 0).sum() < x.size
    np.testing.assert_array_equal(found.outputs["y"], x[x > 0])
    assert driver.memory == {}


@every_way
def test_memory_that_ends_inside_a_callback_is_told(measured: Callable[..., Outcome], driver: Any) -> None:
    """The bindings swallow what the allocator raises; it still is the reason that is given."""
    api_take = type(driver)._take
    taken: list[int] = []

    def take(self: Any, pointer: Any, size: Any) -> Any:
        taken.append(size.value)
        return 2 if len(taken) > 2 else api_take(self, pointer, size)

    type(driver)._take = take
    with pytest.raises(ToolchainFailed, match=r"(?i)out.of.memory"):
        measured("--shapes=x:1x4", *SHORT, engine="late")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_input_that_holds_a_shape(version: str, measured: Callable[..., Outcome], tmp_path: Path) -> None:
    found = measured("--shapes=x:3x4,s:2x6", *SHORT, version=version, engine="shaped")
    assert found.outputs["y"].shape == (2, 6)
    np.testing.assert_array_equal(found.outputs["y"].ravel(), found.inputs["x"].ravel())
    kind = np.int32 if version == "8.6.1" else np.int64
    assert found.inputs["s"].dtype == kind and found.inputs["s"].tolist() == [2, 6]
    np.array([4, 3], kind).tofile(tmp_path / "s.bin")
    assert measured("--shapes=x:3x4", "--loadInputs=s:s.bin", *SHORT, version=version, engine="shaped").outputs[
        "y"
    ].shape == (4, 3)
    with pytest.raises(InputError, match="a shape of 2 values, found 3"):
        measured("--shapes=x:3x4,s:1x2x6", *SHORT, version=version, engine="shaped")


def test_values_that_nobody_gives_are_ones(measured: Callable[..., Outcome]) -> None:
    assert measured("--shapes=x:1x4", *SHORT, engine="shaped").inputs["s"].tolist() == [1, 1]
    assert any("Values missing for input shape tensor: s" in text for text in measured.said)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("strategy", "size"), [("profile", 5000), ("runtime", 3000), ("profile --useProfile=1", 5001), ("static", None)]
)
def test_device_memory_as_the_strategy_says(
    strategy: str, size: int | None, measured: Callable[..., Outcome], driver: Any
) -> None:
    words = f"--allocationStrategy={strategy}".split()
    found = measured("--shapes=x:3x4", *words, *SHORT, version="10.13.3")
    np.testing.assert_array_equal(found.outputs["y"], 2 * found.inputs["x"])
    given = [call[1] for call in measured.api.CALLS if call[0] == "IExecutionContext.set_device_memory"]  # type: ignore[attr-defined]
    assert given == ([size] if size else [])
    assert driver.memory == {}


@every_way
def test_debug_tensors_are_written_once(measured: Callable[..., Outcome], tmp_path: Path, driver: Any) -> None:
    forms = "--saveAllDebugTensors=summary,numpy,string,raw"
    found = measured("--shapes=x:1x4", "--saveDebugTensors=x:x.raw", forms, *SHORT, version="10.13.3")
    x, y = found.inputs["x"], found.outputs["y"]
    assert (tmp_path / "x.raw").read_bytes() == (tmp_path / "0000_x.raw").read_bytes() == x.tobytes()
    np.testing.assert_array_equal(np.load(tmp_path / "0001_y.npy"), y)
    assert f"{y[0, 0]:13.6e}" in (tmp_path / "0001_y.str").read_text()
    summary = json.loads((tmp_path / "tensor_summary.json").read_text())
    assert [row["name"] for row in summary["tensors"]] == ["x", "y"]
    assert summary["tensors"][1]["statistics"]["max"] == pytest.approx(float(y.max()))
    assert driver.calls.count("cuMemcpyDtoH_v2") == 2
    assert "2 debug tensors written, each once" in found.notes


def test_debug_tensors_that_never_come_are_named(measured: Callable[..., Outcome]) -> None:
    found = measured("--shapes=x:1x4", "--saveDebugTensors=z:z.raw", *SHORT, version="10.13.3")
    assert any("no debug tensor came for z: mark it with --markDebug" in note for note in found.notes)


def test_a_debug_file_that_cannot_be_written_ends_the_run(measured: Callable[..., Outcome]) -> None:
    with pytest.raises(InputError, match=r"gone/x\.raw"):
        measured("--shapes=x:1x4", "--saveDebugTensors=x:gone/x.raw", *SHORT, version="10.13.3")


@pytest.mark.parametrize("version", VERSIONS)
def test_optimization_profiles(version: str, measured: Callable[..., Outcome]) -> None:
    found = measured("--dumpOptimizationProfile", "--skipInference", version=version, engine="shaped")
    said = measured.said  # type: ignore[attr-defined]
    assert "Optimization Profile Information:" in said
    assert "Model input x (profile 1): min=1x4, opt=2x4, max=8x4" in said
    values = "Model input s (profile 0): min=2, opt=2, max=2; values min=[1, 4], opt=[2, 4], max=[8, 4]"
    assert values in said
    assert found.to_dict()["profiles"][0] == {
        "input": "x",
        "profile": 0,
        "min": [1, 4],
        "opt": [1, 4],
        "max": [8, 4],
    }


def test_a_profile_that_is_not_there(measured: Callable[..., Outcome]) -> None:
    with pytest.raises(PtqbridgeError, match="set_optimization_profile_async"):
        measured("--useProfile=7", "--shapes=x:1x4", *SHORT, version="10.13.3")


def test_weights_from_another_model(measured: Callable[..., Outcome]) -> None:
    measured("--refitFromOnnx=other.onnx", "--shapes=x:1x4", *SHORT, version="10.14")
    names = [call[0] for call in measured.api.CALLS]  # type: ignore[attr-defined]
    order = ["Refitter", "OnnxParserRefitter", "OnnxParserRefitter.refit_from_file", "Refitter.refit_cuda_engine"]
    assert [name for name in names if name in order] == order


@every_way
def test_the_way_to_the_gpu_and_its_state_are_in_the_result(
    layer: str, measured: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = measured("--shapes=x:1x4", *SHORT)
    ways = {"driver": "the driver itself (ctypes)", "pycuda": "pycuda 2026.1", "cuda-python": "cuda-python 13.0.1"}
    assert found.policy["gpu_calls"] == ways[layer]
    device = found.to_dict()["device"]
    assert device["name"] == "Stand-in GPU" and device["pci"] == "0000:17:00.0" and device["driver_cuda"] == "12.4"
    assert "nvidia-ml-py is not installed" in device["state"]["nvml"]


def test_patterns_name_inputs_from_10_on(measured: Callable[..., Outcome]) -> None:
    assert measured("--shapes=*:3x4", *SHORT, version="10.13.3").inputs["x"].shape == (3, 4)
    with pytest.raises(InputError, match="no input '\\*'"):
        measured("--shapes=*:3x4", *SHORT, version="8.6.1")


@pytest.mark.parametrize(("words", "limit_us"), [((), 600), (("--useCudaGraph", "--noDataTransfers"), 400)])
def test_host_cost_per_query_stays_small(
    words: tuple[str, ...], limit_us: float, measured: Callable[..., Outcome]
) -> None:
    """With the stand-in's own cost in it, so the limits are loose; benchmarks/gpu_loop.py has the real figures."""
    started = time.process_time()
    found = measured("--shapes=x:1x4", "--duration=0", "--warmUp=0", "--iterations=2000", *words)
    assert found.kept is not None and len(found.kept) == 2000
    assert (time.process_time() - started) / 2000 * 1e6 < limit_us


@pytest.mark.parametrize(("budget", "bytes_"), [("50%", 500), ("-1", 700), ("100B", 100)])
def test_weights_are_streamed_within_the_budget(budget: str, bytes_: int, measured: Callable[..., Outcome]) -> None:
    words = ("--allowWeightStreaming", f"--weightStreamingBudget={budget}", "--shapes=x:1x4", *SHORT)
    measured(*words, version="10.13.3")
    assert ("ICudaEngine.weight_streaming_budget_v2=", bytes_) in measured.api.CALLS  # type: ignore[attr-defined]
    with pytest.raises(ToolchainFailed, match=f"{bytes_} bytes were asked for, the engine takes 1000"):
        measured(*words, version="10.13.3", fail="streaming")
