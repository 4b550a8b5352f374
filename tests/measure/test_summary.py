"""The performance summary: record, text as trtexec's readers want it, warnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ptqbridge.measure.summary import (
    Performance,
    average_lines,
    explanation_lines,
    prolog_lines,
    summarize,
    summary_lines,
    warning_lines,
)
from ptqbridge.measure.trace import Trace

MakeTrace = Callable[..., Trace]
PERCENTILES = (90, 95, 99)


def summary_of(trace: Trace, **given: Any) -> Performance:
    return summarize(trace, **{"warmup_ms": 0, "percentiles": PERCENTILES, **given})


def with_head(lines: list[str]) -> str:
    return "".join(f"[01/02/2024-03:04:05] [I] {line}\n" for line in lines)


def test_gpu_summary_has_every_line_in_trtexecs_words_and_order(full_trace: MakeTrace) -> None:
    performance = summary_of(full_trace([0, 4, 8, 12], compute=[2, 2, 2, 4]), processor="GPU", percentiles=[90])
    assert summary_lines(performance)[:-2] == [
        "",
        "=== Performance summary ===",
        "Throughput: 238.806 qps",
        "Latency: min = 2.75 ms, max = 4.75 ms, mean = 3.25 ms, median = 2.75 ms, percentile(90%) = 4.75 ms",
        "Enqueue Time: min = 0.125 ms, max = 0.125 ms, mean = 0.125 ms, median = 0.125 ms, percentile(90%) = 0.125 ms",
        "H2D Latency: min = 0.5 ms, max = 0.5 ms, mean = 0.5 ms, median = 0.5 ms, percentile(90%) = 0.5 ms",
        "GPU Compute Time: min = 2 ms, max = 4 ms, mean = 2.5 ms, median = 2 ms, percentile(90%) = 4 ms",
        "D2H Latency: min = 0.25 ms, max = 0.25 ms, mean = 0.25 ms, median = 0.25 ms, percentile(90%) = 0.25 ms",
        "Total Host Walltime: 0.01675 s",
        "Total GPU Compute Time: 0.01 s",
    ]


def test_figures_that_do_not_exist_are_left_out_and_null(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace(range(0, 3000, 4)))
    text = summary_lines(performance)
    assert [line.split(":")[0] for line in text[2:-1]] == [
        "Throughput",
        "Latency",
        "Compute Time",
        "Total Host Walltime",
        "Total Compute Time",
    ]
    record = performance.to_dict()
    assert record["h2d"] is None and record["d2h"] is None and record["enqueue"] is None
    assert record["latency"] == record["compute"] and record["queries"] == 750
    assert record["measured"] == "measured here" and record["unsure_percentiles"] == []
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_readers_of_trtexec_logs_find_their_figures(
    full_trace: MakeTrace,
    compute_trace: MakeTrace,
    read_section: Callable[[str, str], dict[str, str]],
    stats_of: Callable[[str], list[float]],
) -> None:
    """Every figure comes before the mark and the notes, each alone on a ``key: value`` line."""
    for trace, processor in ((full_trace(range(0, 40, 4)), "GPU"), (compute_trace(range(0, 40, 4)), "CPU")):
        performance = summary_of(trace, processor=processor, notes=["clock was not fixed"])
        log = with_head(
            [*average_lines(trace, 5, processor), *summary_lines(performance), *explanation_lines(performance)]
        )
        section = read_section(log, "Performance summary")
        assert performance.latency is not None
        assert stats_of(section["Latency"])[2] == pytest.approx(performance.latency.mean, rel=1e-5)
        assert float(section["Throughput"].split()[0]) == pytest.approx(performance.throughput_qps, rel=1e-5)
        assert float(section["Total Host Walltime"].split()[0]) == pytest.approx(performance.host_walltime_s, rel=1e-5)
        first = next(line for line in log.splitlines() if "Latency:" in line)  # as Polygraphy's runner searches
        assert stats_of(first.split("Latency:")[1])[3] == performance.latency.median
        assert list(section)[-1] == "Note" and list(section).index("Note") >= 5


def test_mark_of_unsure_percentiles_is_a_line_of_its_own(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace(range(100)))
    marks = [line for line in summary_lines(performance) if "too few samples" in line]
    assert marks == [
        "Note: too few samples (100) to be sure of all percentiles: percentile(95%) wants 130, "
        "percentile(99%) wants 662"
    ]
    assert performance.to_dict()["unsure_percentiles"] == [95, 99]


def test_nothing_measured_is_said_and_does_not_crash(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace([1, 2]), warmup_ms=50)
    assert performance.queries == 0 and performance.warmup_queries == 2
    assert performance.throughput_qps is None and performance.latency is None
    text = "\n".join([*prolog_lines(performance), *summary_lines(performance)])
    assert "Throughput" not in text and "nothing was measured" in text
    assert warning_lines(performance) == []
    assert summary_of(compute_trace([])).to_dict()["compute"] is None


def test_a_query_of_no_time_gives_no_made_up_throughput(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace([1], compute=0))
    assert performance.throughput_qps is None and performance.host_walltime_s == 0


def test_batch_multiplies_queries_and_throughput(compute_trace: MakeTrace) -> None:
    trace = compute_trace(range(0, 40, 4))
    one, four = summary_of(trace), summary_of(trace, batch=4)
    assert one.throughput_qps is not None
    assert four.throughput_qps == pytest.approx(4 * one.throughput_qps) and four.queries == 40
    assert four.total_compute_s == one.total_compute_s


def test_prolog_prints_the_options_warmup(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace(range(0, 40, 4)), warmup_ms=-50.5)
    assert prolog_lines(performance) == [
        "Warmup completed 0 queries over -50.5 ms",
        "Timing trace has 10 queries over 0.038 s",
    ]


def test_averages_cover_full_windows_only(full_trace: MakeTrace, compute_trace: MakeTrace) -> None:
    gpu = full_trace([0, 10, 20, 30, 40], compute=[1, 3, 5, 7, 100])
    assert average_lines(gpu, 2, "GPU") == [
        "",
        "=== Trace details ===",
        "Trace averages of 2 runs:",
        "Average on 2 runs - GPU latency: 2 ms - Host latency: 2.75 ms (enqueue 0.125 ms)",
        "Average on 2 runs - GPU latency: 6 ms - Host latency: 6.75 ms (enqueue 0.125 ms)",
    ]
    assert average_lines(compute_trace([0, 1]), 2)[3:] == ["Average on 2 runs - Compute latency: 2 ms"]
    for runs in (0, -1, 6):
        assert len(average_lines(gpu, runs)) == 3


def test_no_warning_for_a_steady_device(full_trace: MakeTrace) -> None:
    assert warning_lines(summary_of(full_trace([0, 4, 8]), processor="GPU")) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"enqueue": 1.75}, "bound by Enqueue Time"),
        ({"copy_in": 2.0}, "bound by host-to-device"),
        ({"copy_out": 2.0}, "bound by device-to-host"),
        ({"compute": [2, 2, 3]}, "coefficient of variance = 20.2031%"),
    ],
)
def test_warnings(full_trace: MakeTrace, made: dict[str, Any], said: str) -> None:
    warnings = warning_lines(summary_of(full_trace([0, 10, 20], **made), processor="GPU"))
    assert len(warnings) == 2 and said in warnings[0]
    assert warnings[0].startswith("* ") and warnings[1].startswith("  ")


def test_warning_of_several_streams(compute_trace: MakeTrace) -> None:
    (warning,) = warning_lines(summary_of(compute_trace([0, 4]), streams=2))
    assert "Multiple inference streams" in warning


def test_origin_of_figures_is_said(compute_trace: MakeTrace) -> None:
    performance = summary_of(compute_trace([0, 4]), measured="vendor estimate", policy={"warmup_ms": 0})
    assert "Note: figures are not measured here: vendor estimate" in summary_lines(performance)
    assert performance.to_dict()["policy"] == {"warmup_ms": 0}


def test_explanations_name_only_what_exists(full_trace: MakeTrace, compute_trace: MakeTrace) -> None:
    gpu = "\n".join(explanation_lines(summary_of(full_trace([0]), processor="GPU")))
    cpu = "\n".join(explanation_lines(summary_of(compute_trace([0]))))
    assert "H2D Latency" in gpu and "GPU Compute Time" in gpu
    assert "H2D Latency" not in cpu and "Enqueue Time" not in cpu and "GPU Compute Time" not in cpu
