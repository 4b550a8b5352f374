"""Running a .bin without a board, with doubles of the tools that come with hb_mapper."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.backends.horizon.backend import BACKEND
from ptqbridge.errors import InputError, LimitNotMet, ToolchainFailed, ToolchainMissing
from ptqbridge.measure.outcome import Outcome
from ptqbridge.measure.summary import summary_lines
from ptqbridge.plan import Plan

Run = Callable[..., Outcome]


@pytest.fixture
def run(plan_of: Callable[..., Plan]) -> Run:
    """``run(artifact, words)`` is the outcome of ``ptqbridge run --loadEngine=artifact words``."""

    def go(artifact: Path, words: str = "", target: str = "bayes") -> Outcome:
        plan = plan_of(f"--loadEngine={artifact} {words}", target, "run")
        assert not plan.refused, plan.refused
        return BACKEND.run(plan, str(artifact), say=lambda text: None)

    return go


def test_the_record_is_enough_for_the_figures(
    run: Run, bin5: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", "/none")
    outcome = run(bin5())
    assert outcome.performance is not None
    figures = outcome.performance.to_dict()
    assert figures["measured"] == "vendor estimate"
    assert figures["throughput_qps"] == 2000
    assert figures["latency"] == {"min": None, "max": None, "mean": 0.5, "median": None, "percentiles": {}, "cv": None}
    assert [figures[name] for name in ("enqueue", "h2d", "compute", "d2h", "host_walltime_s")] == [None] * 5
    assert "Latency: mean = 0.5 ms" in summary_lines(outcome.performance)
    json.dumps(outcome.to_dict(), allow_nan=False)


def test_several_subgraphs_and_frames_add_up(run: Run, bin5: Callable[..., Path]) -> None:
    parts = [
        {"subgraph": "a", "fps": 4000.0, "latency_us": 1000.0, "ddr_bytes": 1},
        {"subgraph": "b", "fps": 4000.0, "latency_us": 1000.0, "ddr_bytes": 2},
    ]
    outcome = run(bin5(estimate={"subgraphs": parts}))
    assert outcome.performance is not None
    assert outcome.performance.throughput_qps == pytest.approx(500)  # two runs of 1 ms, four frames each
    assert any("a query has 4 frames: 2000 frames per second" in note for note in outcome.performance.notes)
    assert any("3 bytes of DDR traffic per frame, in 2 BPU subgraphs" in note for note in outcome.performance.notes)


def test_without_a_record_the_compiler_is_asked(run: Run, bin5: Callable[..., Path], tools5: Path) -> None:
    outcome = run(bin5(record=False))
    assert outcome.performance is not None
    assert outcome.performance.throughput_qps == 1000


def test_neither_record_nor_tool(run: Run, bin5: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", "/none")
    with pytest.raises(ToolchainMissing, match=r"no record of its build.*hb_mapper was not found"):
        run(bin5(record=False))


def test_a_record_of_another_artifact_is_not_believed(run: Run, bin5: Callable[..., Path], tools5: Path) -> None:
    artifact = bin5()
    artifact.write_text(artifact.read_text() + " ")
    outcome = run(artifact)
    assert outcome.performance is not None
    assert outcome.performance.throughput_qps == 1000
    with pytest.raises(InputError, match="is the record of another artifact"):
        run(artifact, "--dumpOutput")


def test_outputs_of_the_quantized_model(run: Run, bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    x = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    np.save(tmp_path / "x.npy", x)
    outcome = run(bin5(), f"--loadInputs=x:{tmp_path}/x.npy --dumpOutput")
    np.testing.assert_array_equal(outcome.outputs["/out/y"], 2 * x + 1)
    np.testing.assert_array_equal(outcome.inputs["x"], x)


def test_wrong_inputs(run: Run, bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(InputError, match=r"expected x: float32\[1,2,3,3\]"):
        run(bin5(), f"--loadInputs=x:{tmp_path}/x.npy --dumpOutput")
    with pytest.raises(InputError, match=r"no input 'z'; its inputs are x"):
        run(bin5(), f"--loadInputs=z:{tmp_path}/x.npy --dumpOutput")


@pytest.mark.parametrize("kind", ["featuremap", "rgb"])
def test_verified_on_the_simulator(run: Run, bin5: Callable[..., Path], tools5: Path, kind: str) -> None:
    outcome = run(bin5(kind), "--verify=sim")
    assert any("bit by bit" in note for note in outcome.notes)
    assert outcome.outputs == {}


def test_several_frames_per_run_are_filled(run: Run, bin5: Callable[..., Path], tools5: Path) -> None:
    assert any("72 integers" in note for note in run(bin5(batch=4), "--verify=sim").notes)


def test_a_difference_is_an_error(run: Run, bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3))
    with pytest.raises(LimitNotMet, match=r"g_0: sum: 17 of 18 integers differ, by up to 17") as caught:
        run(bin5(factor=3), f"--verify=sim --loadInputs=x:{tmp_path}/x.npy")
    assert caught.value.exit_status == 6


def test_a_broken_bin(run: Run, bin5: Callable[..., Path], tools5: Path) -> None:
    artifact = bin5(record=False)
    artifact.write_text("nonsense")
    with pytest.raises(ToolchainFailed, match="hb_extract_hbm ended with status 1"):
        run(artifact)


def test_layers_come_from_the_record(run: Run, bin5: Callable[..., Path]) -> None:
    info = run(bin5(), "--dumpLayerInfo").layer_info
    assert info is not None
    assert info.layers == [{"name": "c"}]


def test_skipping_asks_nobody(run: Run, bin5: Callable[..., Path]) -> None:
    outcome = run(bin5(record=False), "--skipInference")
    assert outcome.skipped
    assert outcome.performance is None


@pytest.mark.parametrize(
    ("words", "target", "command"),
    [
        ("--loadEngine=m.hbm", "nash-m", "run"),
        ("--loadEngine=m.bin --board=local", "bayes", "run"),
        ("--onnx=m.onnx", "bayes", "build"),
    ],
)
def test_verify_is_refused_where_it_means_nothing(
    plan_of: Callable[..., Plan], words: str, target: str, command: str
) -> None:
    assert [row.option for row in plan_of(f"{words} --verify=sim", target, command).refused] == ["--verify=sim"]


def test_the_plan_says_what_is_done_here(plan_of: Callable[..., Plan]) -> None:
    titles = [step.title for step in plan_of("--loadEngine=m.bin --verify=sim --dumpOutput", "bayes", "run").steps]
    assert titles[:3] == [
        "report the compiler's static estimate, from the build or by hbdk-perf",
        "compare the compiled code on hbdk-sim with the quantized model, bit by bit",
        "compute the outputs with the quantized model in hb_mapper's own runtime",
    ]


def test_the_quantized_model_must_be_the_builds(run: Run, bin5: Callable[..., Path], tools5: Path) -> None:
    artifact = bin5()
    shutil.copy(artifact, artifact.with_name("m_quantized_model.onnx"))
    with pytest.raises(InputError, match="is not the one that was built with it"):
        run(artifact, "--dumpOutput")
