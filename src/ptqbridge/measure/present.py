"""Prints what a run gave in trtexec's order and wording, and writes the files it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptqbridge.measure import export as files
from ptqbridge.measure import summary
from ptqbridge.measure.text import number
from ptqbridge.spec.run import Reports

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import Outcome
    from ptqbridge.measure.trtlog import TrtLog

SLOW_FIRST_LOAD = 2.0
"""trtexec fails if the first of the measured loads took more than this many times their average; here it is said."""


def present(outcome: Outcome, reports: Reports, log: TrtLog) -> None:
    """Log ``outcome`` as far as ``reports`` ask for it, and write the raw tensor files.

    The order is that of NVIDIA/TensorRT samples/trtexec/trtexec.cpp, v8.6.1: layers, figures, outputs, profile. The
    outcome's own warnings and notes come first, so that readers of the figures meet nothing in between.

    Raises:
        InputError: a raw tensor file cannot be written.
    """
    log.warning(*outcome.warnings)
    log.info(*(f"Note: {note}" for note in outcome.notes))
    if reports.dump_layers and outcome.layer_info:
        log.info(*files.layer_info_lines(outcome.layer_info.layers, outcome.layer_info.bindings))
    if outcome.skipped:
        log.info("Skipped inference phase since --skipInference is added.")
        return
    if outcome.load_times_s:
        log.info(*load_lines(outcome.load_times_s))
        log.warning(*load_warnings(outcome.load_times_s))
        return
    _figures(outcome, reports, log)
    log.info(*(loss.text() for loss in outcome.accuracy))
    if reports.dump_output:
        log.info(*files.output_lines(outcome.outputs))
    if reports.dump_raw:
        log.info(*files.dump_raw_bindings(outcome.inputs, outcome.outputs))
    if reports.dump_profile and outcome.layers is not None:
        log.info(*files.profile_lines(outcome.layers, outcome.profiled_runs))


def export(outcome: Outcome, reports: Reports) -> list[str]:
    """Write the ``--export...`` files that ``outcome`` has the content of; returns those asked for and not written.

    No times are written when the profiler was attached to the only run, as in trtexec, which does not say so.

    Raises:
        InputError: a file cannot be written.
    """
    left_out = []
    ran = not outcome.skipped and not outcome.load_times_s
    if reports.export_times and outcome.kept is not None:
        files.export_times(reports.export_times, outcome.kept)
    elif reports.export_times:
        left_out.append(reports.export_times)
    if reports.export_output and ran:
        files.export_output(reports.export_output, outcome.outputs)
    elif reports.export_output:
        left_out.append(reports.export_output)
    if reports.export_profile and outcome.layers is not None:
        files.export_profile(reports.export_profile, outcome.layers, outcome.profiled_runs)
    elif reports.export_profile:
        left_out.append(reports.export_profile)
    if reports.export_layers and outcome.layer_info is not None:
        files.export_layer_info(reports.export_layers, outcome.layer_info.layers, outcome.layer_info.bindings)
    elif reports.export_layers:
        left_out.append(reports.export_layers)
    return left_out


def load_lines(times_s: tuple[float, ...]) -> list[str]:
    """``--timeDeserialize``: the first load and the average of the others, in trtexec's wording."""
    first, total, count = times_s[0] * 1000, sum(times_s[1:]) * 1000, len(times_s) - 1
    lines = [f"First deserialization time = {number(first)} milliseconds"]
    if count:
        lines.append(
            f"Total deserialization time = {number(total)} milliseconds in {count} iterations, average time = "
            f"{number(total / count)} milliseconds, first time = {number(first)} milliseconds."
        )
    return lines


def load_warnings(times_s: tuple[float, ...]) -> list[str]:
    """What made trtexec fail: a first load much slower than the average."""
    first, others = times_s[0], times_s[1:]
    average = sum(others) / len(others) if others else 0.0
    if not average or first <= SLOW_FIRST_LOAD * average:
        return []
    return [
        f"First deserialization time divided by average time is {number(first / average)}. "
        f"Exceeds tolerance of {number(SLOW_FIRST_LOAD)}x."
    ]


def _figures(outcome: Outcome, reports: Reports, log: TrtLog) -> None:
    performance = outcome.performance
    if performance is None:
        if outcome.layers is not None:
            log.info(*summary.NO_TIMES_WHEN_PROFILED)
        return
    if performance.measured != "vendor estimate":  # nothing was run
        log.info(*summary.prolog_lines(performance))
    if outcome.kept is not None:
        log.info(*summary.average_lines(outcome.kept, reports.average_runs, performance.processor))
    log.info(*summary.summary_lines(performance))
    log.warning(*summary.warning_lines(performance))
    log.verbose(*summary.explanation_lines(performance))
