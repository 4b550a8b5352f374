"""What is printed and written of a run, and in which order."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.measure.present import export, present
from ptqbridge.measure.summary import NO_TIMES_WHEN_PROFILED, summarize
from ptqbridge.measure.trace import Trace
from ptqbridge.measure.trtlog import TrtLog
from ptqbridge.spec.run import Reports

ALL = Reports(
    percentiles=(99.0,), average_runs=5, verbose=True, dump_output=True, dump_raw=True, dump_profile=True,
    dump_layers=True,
)  # fmt: skip


@pytest.fixture
def outcome(compute_trace: Callable[..., Trace]) -> Outcome:
    trace = compute_trace(range(0, 100, 5))
    return Outcome(
        "a.onnx",
        performance=summarize(trace, warmup_ms=10, percentiles=[99]),
        kept=trace.without_warmup(10)[1],
        inputs={"x": np.ones(3, np.float32)},
        outputs={"y": np.array([1.5, -2.0], np.float32)},
        layers=[("conv", [1.0, 3.0])],
        profiled_runs=2,
        layer_info=LayerInfo(["conv"], ["x", "y"]),
        warnings=("watch out",),
        notes=("by the way",),
    )


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw tensor files go to the working directory."""
    monkeypatch.chdir(tmp_path)


def printed(outcome: Outcome, reports: Reports) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    present(outcome, reports, TrtLog("name", "1", verbose=reports.verbose, out=out, err=err))
    return out.getvalue(), err.getvalue()


def test_the_order_is_trtexecs(outcome: Outcome, tmp_path: Path) -> None:
    out, err = printed(outcome, ALL)
    marks = [
        "Note: by the way",
        "Layer Information:",
        "Warmup completed 2 queries over 10 ms",
        "Timing trace has 18 queries",
        "=== Trace details ===",
        "=== Performance summary ===",
        "Throughput: ",
        "Latency: min = ",
        "=== Explanations of the performance metrics ===",
        "Output Tensors:",
        "1.5 -2",
        "Dumping I/O Bindings to RAW Files:",
        "=== Profile (2 iterations ) ===",
    ]
    places = [out.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "[W] watch out" in err
    assert np.fromfile(tmp_path / "y.output.2.Float.raw", np.float32).tolist() == [1.5, -2.0]
    assert (tmp_path / "x.input.3.Float.raw").exists()


def test_nothing_is_printed_that_was_not_asked(outcome: Outcome) -> None:
    out, _ = printed(outcome, Reports())
    assert "=== Performance summary ===" in out
    for word in ("Layer Information", "Output Tensors", "RAW", "=== Profile", "Explanations"):
        assert word not in out


def test_readers_find_the_summary(
    outcome: Outcome, read_section: Callable[[str, str], dict[str, str]], stats_of: Callable[[str], list[float]]
) -> None:
    section = read_section(printed(outcome, ALL)[0].replace("y.output", "y"), "Performance summary")
    assert stats_of(section["Latency"]) == [2.0, 2.0, 2.0, 2.0, 2.0]
    assert section["Throughput"].endswith(" qps")


def test_the_profiler_in_the_only_run(outcome: Outcome, tmp_path: Path) -> None:
    profiled = replace(outcome, performance=None, kept=None)
    out, _ = printed(profiled, Reports(dump_profile=True))
    assert "=== Performance summary ===" not in out
    assert all(line in out for line in NO_TIMES_WHEN_PROFILED)
    assert "=== Profile (2 iterations ) ===" in out
    times = str(tmp_path / "times.json")
    assert export(profiled, Reports(export_times=times)) == [times]
    assert not Path(times).exists()


def test_a_skipped_run(outcome: Outcome) -> None:
    out, _ = printed(Outcome("a.onnx", skipped=True, layer_info=outcome.layer_info), ALL)
    assert out.index("Layer Information:") < out.index("Skipped inference phase since --skipInference is added.")
    assert "===" not in out


@pytest.mark.parametrize(("first", "warned"), [(0.004, False), (0.005, True)])
def test_load_times(first: float, warned: bool) -> None:
    out, err = printed(Outcome("a.onnx", load_times_s=(first, *[0.002] * 20)), Reports())
    assert f"First deserialization time = {first * 1000:g} milliseconds\n" in out
    assert (
        "Total deserialization time = 40 milliseconds in 20 iterations, average time = 2 milliseconds, "
        f"first time = {first * 1000:g} milliseconds." in out
    )
    assert ("First deserialization time divided by average time is 2.5. Exceeds tolerance of 2x." in err) is warned
    assert "===" not in out


def test_export_writes_what_was_asked(outcome: Outcome, tmp_path: Path) -> None:
    def path(name: str) -> str:
        return str(tmp_path / f"{name}.json")

    reports = Reports(
        export_times=path("times"), export_output=path("output"), export_profile=path("profile"),
        export_layers=path("layers"),
    )  # fmt: skip
    assert export(outcome, reports) == []
    read = {name: json.loads(Path(path(name)).read_text()) for name in ("times", "output", "profile", "layers")}
    assert len(read["times"]) == 18
    assert read["output"][0]["values"] == [1.5, -2]
    assert read["profile"][0] == {"count": 2}
    assert read["layers"] == {"Layers": ["conv"], "Bindings": ["x", "y"]}
    assert export(outcome, Reports()) == []


def test_export_tells_what_a_skipped_run_cannot_give(tmp_path: Path) -> None:
    reports = Reports(export_times="t", export_output="o", export_profile="p", export_layers="l")
    assert export(Outcome("a.onnx", skipped=True), reports) == ["t", "o", "p", "l"]
    assert list(tmp_path.iterdir()) == []
