"""``explain``: every target, no vendor tool, no model file."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ptqbridge.backends import CHIPS, TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_articles_command_on_every_target(ptq: Callable[..., object], article: list[str], target: str) -> None:
    given = ["--onnx=static.onnx", "--saveEngine=static.engine", *article, "--iterations=1000"]
    answer = ptq("explain", "--json", "--target", target, "--", *given)
    assert answer.status == 0, answer.err
    report = json.loads(answer.out)
    assert report["ok"] is True
    rows = report["verdicts"][target]
    assert [row["option"] for row in rows if row["option"] not in ("--json", f"--target={target}")] == given
    assert all(row["why"] or row["verdict"] == "exact" for row in rows)
    assert {"option", "verdict", "becomes", "why"} <= set(rows[0])


def test_effective_and_spec(ptq: Callable[..., object]) -> None:
    report = json.loads(ptq("explain", "--json", "--target", "cpu", "--", "--onnx=m.onnx", "--best", "--warmUp=1").out)
    assert report["effective"] == {"build.fp16": True, "build.int8": True, "inference.warmup": 1}
    assert report["spec"]["build"]["precision"]["allowed"] == ["fp16", "int8"]
    assert report["spec"]["run"]["warmup_ms"] == 1


def test_several_targets_side_by_side(ptq: Callable[..., object]) -> None:
    answer = ptq("explain", "--target=trt", "--target=j5", "--target=j6m", "--onnx=m.onnx", "--fp16")
    assert answer.status == 0
    block = answer.out[answer.out.index("--fp16") :]
    assert [line.split()[0] for line in block.splitlines() if line.startswith("  ") and line[2] != " "][:3] == [
        "trt",
        "bayes",
        "nash-m",
    ]
    assert max(map(len, answer.out.splitlines())) <= 120


@pytest.mark.parametrize("chip", CHIPS)
def test_chip_names_are_targets(ptq: Callable[..., object], chip: str) -> None:
    report = json.loads(ptq("explain", "--json", f"--target={chip}", "--onnx=m.onnx").out)
    assert list(report["verdicts"]) == [CHIPS[chip]]


def test_bad_command_line_is_json_too(ptq: Callable[..., object]) -> None:
    answer = ptq("explain", "--json", "--target", "cpu", "--", "--onnx=m.onnx", "--")
    assert answer.status == 2
    assert json.loads(answer.out)["ok"] is False


def test_help_behind_the_dashes_is_trtexecs(ptq: Callable[..., object]) -> None:
    for argv in (["--help"], []):
        answer = ptq("explain", "--json", "--target", "cpu", "--", *argv)
        assert answer.status == 0
        assert json.loads(answer.out) == {"ok": True, "help": True}


def test_it_says_what_it_could_not_look_up(ptq: Callable[..., object]) -> None:
    assert "m.onnx was not found" in ptq("explain", "--onnx=m.onnx").out


def test_differences_are_named(ptq: Callable[..., object]) -> None:
    answer = ptq("explain", "--onnx=m.onnx", "--memPoolSize=workspace:4G")
    assert "differs from trtexec 8.6.1: pool-unit" in answer.out


def test_unknown_target(ptq: Callable[..., object]) -> None:
    answer = ptq("explain", "--target=nash-x", "--onnx=m.onnx")
    assert answer.status == 2
    assert "did you mean nash-" in answer.err
