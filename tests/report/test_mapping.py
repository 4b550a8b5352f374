"""The mapping report as text and as data."""

from __future__ import annotations

import json
from types import MappingProxyType

from ptqbridge.plan import Filled, Plan, Row, Step, Target
from ptqbridge.report import mapping
from ptqbridge.rulebook import Verdict
from ptqbridge.spec import BuildSpec, RunSpec, ShapeRange


def plan(target: str, *rows: Row, **more: object) -> Plan:
    return Plan(Target(target, "none"), BuildSpec(), RunSpec(), rows, **more)  # type: ignore[arg-type]


def row(option: str, verdict: Verdict = Verdict.EXACT, becomes: str = "b", why: str = "") -> Row:
    return Row(option, verdict, becomes, why, "command line")


def test_equal_entries_are_said_once() -> None:
    same = row("--a", Verdict.IGNORED, "", "because")
    text = mapping.text([plan("x", same, row("--b")), plan("y", same, row("--b", becomes="other"))], width=60)
    assert text.splitlines()[2:5] == ["--b", "  x  exact        b", "  y  exact        other"]
    assert text.splitlines()[1].split() == ["all", "ignored", "because"]


def test_a_repeated_entry_names_the_first() -> None:
    text = mapping.text([plan("x", row("--a")), plan("y", row("--a", becomes="c")), plan("z", row("--a"))], width=60)
    assert text.splitlines()[3] == "  z  exact        as x"


def test_long_entries_are_wrapped_and_reasons_stand_below() -> None:
    long = "word " * 30
    text = mapping.text([plan("cpu", row("--a", Verdict.APPROXIMATE, long, "why " * 20))], width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("why") == 20


def test_sections_and_tally() -> None:
    report = mapping.text(
        [
            plan(
                "cpu",
                row("--a"),
                row("--b", Verdict.REFUSED, "", "no"),
                fills=(Filled("what", "value", "origin"),),
                steps=(Step("do it", ("tool", "a b"), ("out.bin",)),),
                notes=("a note",),
                performance_only="made up",
            )
        ],
        width=80,
    )
    assert "filled in where nothing was said:\n  - what: value (origin)\n" in report
    assert "what is done:\n  - do it: tool 'a b' -> out.bin\n" in report
    assert "note:\n  - a note\n" in report
    assert "performance only:\n  - made up\n" in report
    assert report.endswith("2 options: 1 exact, 1 refused\n")


def test_the_record_is_json() -> None:
    settings = MappingProxyType(
        {"shape": ShapeRange((1,), (2,), (3,)), "set": frozenset({"b", "a"}), "inf": float("inf")}
    )
    record = mapping.to_dict(plan("cpu", row("--a"), settings=settings))
    again = json.loads(json.dumps(record, allow_nan=False))
    assert again["settings"] == {"shape": {"min": [1], "opt": [2], "max": [3]}, "set": ["a", "b"], "inf": "inf"}
    assert again["verdicts"][0] == {
        "option": "--a",
        "verdict": "exact",
        "becomes": "b",
        "why": "",
        "source": "command line",
    }
    assert again["counts"] == {"exact": 1}
