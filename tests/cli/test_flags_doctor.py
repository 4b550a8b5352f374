"""``flags`` and ``doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ptqbridge.backends import TARGETS
from ptqbridge.options.table import OPTIONS

Ptq = Callable[..., object]


def test_the_whole_table_as_json(ptq: Ptq) -> None:
    rows = json.loads(ptq("flags", "--json").out)
    assert [row["name"] for row in rows] == [option.name for option in OPTIONS]
    for row in rows:
        assert set(row["targets"]) == {"cpu", "trt", "bayes", "nash-m"}
        assert all(row["targets"].values())


@pytest.mark.parametrize("target", TARGETS)
def test_one_option_on_every_target(ptq: Ptq, target: str) -> None:
    answer = ptq("flags", "--target", target, "builderOptimizationLevel", "--json")
    assert json.loads(answer.out)[0]["targets"][target]


def test_text_and_unknown_option(ptq: Ptq) -> None:
    assert "Allow half precision." in ptq("flags", "--fp16").out or ptq("flags", "fp16").out
    answer = ptq("flags", "fp17")
    assert answer.status == 2
    assert "did you mean --fp16?" in answer.err


def test_markdown_has_a_row_per_option(ptq: Ptq) -> None:
    text = ptq("flags", "--format=markdown").out
    for option in OPTIONS:
        assert f"| `{option.synopsis()}`".replace("|", "\\|")[2:] in text or f"`{option.synopsis()}`" in text.replace(
            "\\|", "|"
        )


def test_doctor_names_what_is_missing_and_the_command(ptq: Ptq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    answer = ptq("doctor")
    assert answer.status == 0
    assert "cpu: ready" in answer.out
    assert "needs hb_compile" in answer.out
    record = json.loads(ptq("doctor", "--json").out)
    assert record["ready"]["cpu"] is True
    assert record["ready"]["nash-m"] is False
    assert ptq("doctor", "--target=j6m").status == 4
    assert ptq("doctor", "--target=cpu").status == 0


def test_doctor_finds_tools_by_variable(ptq: Ptq, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "hb_compile"  # type: ignore[operator]
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", str(tool))
    assert ptq("doctor", "--target=nash-m").status == 0
