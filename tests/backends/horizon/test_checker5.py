"""The checker's answer and its memory, with the double of hb_mapper."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.horizon.checker5 import check_operators, told
from ptqbridge.backends.horizon.preflight import preflight
from ptqbridge.plan import Plan
from ptqbridge.toolchains.local import Local

Ask = Callable[..., tuple[dict[str, Any], list[str]]]
NET = "--onnx=examples/mynet/mynet.onnx"


@pytest.fixture
def ask(plan_of: Callable[..., Plan], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """``ask(line, march)`` gives the answer and what was said."""
    for name in ("hb_mapper", "hbdk-cc"):
        script = tmp_path / name
        script.write_text(
            f'#!/bin/sh\necho x >> {tmp_path}/runs\nexec "{sys.executable}" "{root}/tests/doubles/{name}" "$@"\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(tmp_path / "hb_mapper"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(line: str = f"{NET} --checkOperators", march: str = "bayes") -> tuple[dict[str, Any], list[str]]:
        plan, said = plan_of(line, march, "build"), list[str]()
        log = tmp_path / "p.hb_mapper.log"
        return check_operators(plan, preflight(plan), Local(), log=log, say=said.append), said

    return run


def runs(folder: Path) -> int:
    """How often a tool was started (the checker starts the compiler too)."""
    return len((folder / "runs").read_text().split()) if (folder / "runs").exists() else 0


def test_not_asked(ask: Ask, tmp_path: Path) -> None:
    assert ask(NET) == ({}, [])
    assert runs(tmp_path) == 0


def test_asked_once(ask: Ask, tmp_path: Path) -> None:
    answer, said = ask()
    assert answer["nodes"] == 4 and answer["cpu"] == []
    assert said == [
        "asking hb_mapper's checker which operators the BPU takes",
        "pre-flight: the checker puts all 4 nodes on the BPU",
    ]
    started = runs(tmp_path)
    again, said = ask()
    assert again == {**answer, "remembered": True}
    assert said == ["pre-flight: the checker puts all 4 nodes on the BPU"]
    assert ask(NET)[0]["remembered"]
    assert runs(tmp_path) == started
    assert not (tmp_path / "hb_mapper_checker.log").exists()


def test_another_march_model_or_tool_is_asked_anew(ask: Ask, tmp_path: Path) -> None:
    ask()
    before = runs(tmp_path)
    ask(march="bayes-e")
    assert runs(tmp_path) == 2 * before
    tool = tmp_path / "hb_mapper"
    tool.write_text(tool.read_text() + "# newer\n")
    ask()
    assert runs(tmp_path) == 3 * before
    assert len(list((tmp_path / "cache" / "ptqbridge" / "hb_mapper-checker").iterdir())) == 3


def test_a_broken_memory_is_no_memory(ask: Ask, tmp_path: Path) -> None:
    ask()
    (file,) = (tmp_path / "cache" / "ptqbridge" / "hb_mapper-checker").iterdir()
    for text in ("", "[]", '{"nodes": "4", "cpu": []}', '{"nodes": 4, "cpu": [1]}'):
        file.write_text(text)
        assert "remembered" not in ask()[0]
        assert json.loads(file.read_text())["nodes"] == 4


def test_a_memory_that_cannot_be_written(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert ask()[0]["nodes"] == 4


def test_a_checker_that_fails_is_told(ask: Ask, root: Path, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(root / NET.removeprefix("--onnx="))
    proto.opset_import[0].version = 13
    onnx.save(proto, tmp_path / "m.onnx")
    answer, said = ask(f"--onnx={tmp_path}/m.onnx --checkOperators")
    assert "opset 13" in answer["failed"]
    assert said[1].startswith("pre-flight: ") and "hb_mapper_checker.log" in said[1]
    assert (tmp_path / "hb_mapper_checker.log").is_file()


def test_told() -> None:
    cpu = [{"name": f"n{number}", "type": kind} for number, kind in enumerate("AABCA")]
    text = "the checker puts 5 of 9 nodes on the CPU: 3 A, B, C (n0, n1, n2, ...)"
    assert told({"nodes": 9, "cpu": cpu}) == text
