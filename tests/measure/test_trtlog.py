"""The log lines: format, streams, threshold, status."""

from __future__ import annotations

import io
import re
import time

import pytest

from ptqbridge.measure.trtlog import TrtLog

NOON = time.struct_time((2024, 3, 9, 12, 5, 7, 5, 69, 0))


def log(**given: object) -> tuple[TrtLog, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    made = TrtLog("TensorRT.trtexec", "TensorRT v8601", out=out, err=err, clock=lambda: NOON, **given)  # type: ignore[arg-type]
    return made, out, err


def test_info_lines_have_time_and_tag_on_stdout() -> None:
    made, out, err = log()
    made.info("", "=== Performance summary ===", "Throughput: 1 qps")
    assert out.getvalue() == (
        "[03/09/2024-12:05:07] [I] \n"
        "[03/09/2024-12:05:07] [I] === Performance summary ===\n"
        "[03/09/2024-12:05:07] [I] Throughput: 1 qps\n"
    )
    assert err.getvalue() == ""


def test_warnings_and_errors_go_to_stderr() -> None:
    made, out, err = log()
    made.warning("w")
    made.error("e")
    made.log("F", ["f"])
    head = "[03/09/2024-12:05:07] "
    assert err.getvalue() == f"{head}[W] w\n{head}[E] e\n{head}[F] f\n" and out.getvalue() == ""


def test_a_message_of_several_lines_has_one_prefix() -> None:
    made, out, _ = log()
    made.info("Layers:\na\nb")
    assert out.getvalue() == "[03/09/2024-12:05:07] [I] Layers:\na\nb\n"


def test_verbose_lines_appear_once_asked_for() -> None:
    made, out, _ = log()
    made.verbose("hidden")
    made.log("V", ["hidden too"])
    made.verbose_on = True
    made.verbose("shown")
    assert out.getvalue() == "[03/09/2024-12:05:07] [V] shown\n"


def test_status_line_has_neither_time_nor_tag() -> None:
    made, out, _ = log(verbose=True)
    made.status("RUNNING", ["trtexec", "--onnx=m.onnx"])
    made.status("PASSED", ["trtexec", "--onnx=m.onnx"])
    lines = out.getvalue().splitlines()
    assert lines[0] == "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=m.onnx"
    assert lines[1].startswith("&&&& PASSED ")


def test_no_message_writes_nothing() -> None:
    made, out, _ = log()
    made.info()
    assert out.getvalue() == ""


def test_defaults_follow_the_current_streams(capsys: pytest.CaptureFixture[str]) -> None:
    made = TrtLog("x", "y")
    made.info("to out")
    made.error("to err")
    seen = capsys.readouterr()
    assert re.fullmatch(r"\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[I\] to out\n", seen.out)
    assert seen.err.endswith("[E] to err\n")


def test_what_the_encoding_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    made = TrtLog("x", "y", out=io.TextIOWrapper(raw, encoding="ascii"), clock=lambda: NOON)
    made.info("Model: größe\udcff.onnx")
    assert raw.getvalue().endswith(rb"Model: gr\xf6\xdfe\udcff.onnx" + b"\n")


def test_order_holds_where_both_streams_end_in_one_file() -> None:
    raw = io.BytesIO()
    out, err = io.TextIOWrapper(raw), io.TextIOWrapper(raw)
    made = TrtLog("x", "y", out=out, err=err, clock=lambda: NOON)
    made.info("one")
    made.warning("two")
    made.info("three")
    assert [line[-5:].strip() for line in raw.getvalue().decode().splitlines()] == ["] one", "] two", "three"]
