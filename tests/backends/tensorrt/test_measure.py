"""Running and timing on stand-ins for module and driver: data flow, copies, graphs, streams, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.tensorrt.measure import run
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed
from ptqbridge.measure.outcome import Outcome
from ptqbridge.plan import Plan

SHORT = ("--duration=0", "--warmUp=0", "--iterations=4")
PlanOf = Callable[..., Plan]


@pytest.fixture
def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> Callable[..., Outcome]:
    """Run the stand-in's engine (x, n times 4 floats, to y = 2 x) with these options."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.engine").write_bytes(b"ftrt" + bytes(20) + bytes((8, 6, 1, 6)))

    def go(*words: str, version: str = "8.6.1", fail: str = "") -> Outcome:
        api = tensorrt(version)
        api.FAIL.update([fail] if fail else [])
        go.api = api  # type: ignore[attr-defined]
        return run(plan_of(version, "--loadEngine=m.engine", *words), "m.engine", say=lambda text: None)

    return go


@pytest.mark.parametrize(
    "words",
    [(), ("--noDataTransfers",), ("--exposeDMA",), ("--useManagedMemory",), ("--useCudaGraph",), ("--useSpinWait",)],
)
@pytest.mark.parametrize("version", ["8.6.1", "10.13.3", "11.4.0"])
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


def test_a_graph_replaces_the_launches(measured: Callable[..., Outcome], driver: Any) -> None:
    measured("--shapes=x:1x4", *SHORT, "--useCudaGraph", "--noDataTransfers")
    assert driver.calls.count("cuGraphLaunch") == 4
    launches = [call for call in measured.api.CALLS if call[0] == "IExecutionContext.execute_async_v3"]  # type: ignore[attr-defined]
    assert len(launches) == 2  # the plain one before, and the captured one
    assert driver.calls.count("cuGraphExecDestroy") == 1


def test_an_engine_that_cannot_be_captured_runs_without(measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail["cuStreamEndCapture"] = 901
    found = measured("--shapes=x:1x4", *SHORT, "--useCudaGraph")
    assert any("cannot be captured as a CUDA graph" in warning for warning in found.warnings)
    assert "cuGraphLaunch" not in driver.calls
    np.testing.assert_array_equal(found.outputs["y"], 2 * found.inputs["x"])


def test_no_copies_in_the_loop_without_transfers(measured: Callable[..., Outcome], driver: Any) -> None:
    found = measured("--shapes=x:1x4", *SHORT, "--noDataTransfers")
    assert driver.calls.count("cuMemcpyHtoDAsync_v2") == 1 and driver.calls.count("cuMemcpyDtoHAsync_v2") == 1
    assert found.kept is not None
    assert not found.kept.durations("h2d").any() and not found.kept.durations("d2h").any()  # type: ignore[union-attr]
    driver.calls.clear()
    measured("--shapes=x:1x4", *SHORT)
    assert driver.calls.count("cuMemcpyHtoDAsync_v2") == 5


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


def test_too_little_memory(measured: Callable[..., Outcome], driver: Any) -> None:
    driver.fail["cuMemAlloc_v2"] = 2
    with pytest.raises(ToolchainFailed, match="CUDA_ERROR_OUT_OF_MEMORY") as caught:
        measured("--shapes=x:1x4", *SHORT)
    assert "too little free memory" in caught.value.hint


@pytest.mark.parametrize(("words", "limit_us"), [((), 600), (("--useCudaGraph", "--noDataTransfers"), 400)])
def test_host_cost_per_query_stays_small(
    words: tuple[str, ...], limit_us: float, measured: Callable[..., Outcome]
) -> None:
    """With the stand-in's own cost in it, so the limits are loose; benchmarks/gpu_loop.py has the real figures."""
    started = time.process_time()
    found = measured("--shapes=x:1x4", "--duration=0", "--warmUp=0", "--iterations=2000", *words)
    assert found.kept is not None and len(found.kept) == 2000
    assert (time.process_time() - started) / 2000 * 1e6 < limit_us
