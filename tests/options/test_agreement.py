"""Agreement with the real trtexec 8.6.1 on recorded command lines: same verdict, same option values.

The records come from ``$PTQBRIDGE_CASES``, else from ``shared/cases`` beside the checkout.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.errors import OptionError
from ptqbridge.options.differences import BY_ROW
from ptqbridge.options.effective import DEFAULTS, changed
from ptqbridge.options.parse import parse

RECORDS, RECORDED_DEFAULTS = "trtexec-8.6.1.jsonl", "trtexec-8.6.1-defaults.json"
POOLS = {"build.workspace", "build.dlaSRAM", "build.dlaLocalDRAM", "build.dlaGlobalDRAM"}
LISTS = {"system.plugins", "system.dynamicPlugins", "system.setPluginsToSerialize", "model.outputs", "model.uffInputs"}
MAY_CHANGE = {"pool-unit": POOLS, "repeated-order": LISTS}
"""The rows under which trtexec accepts the same line with other values, and which values those are."""


@pytest.fixture(scope="module")
def cases(root: Path) -> Path:
    given = os.environ.get("PTQBRIDGE_CASES")
    folder = Path(given) if given else root.parent / "shared" / "cases"
    if not (folder / RECORDS).is_file():
        pytest.skip(f"no {RECORDS}: neither PTQBRIDGE_CASES nor shared/cases beside the checkout has it")
    return folder


def same(ours: Any, theirs: Any) -> bool:
    """Equality, with decimals compared as the 32-bit numbers they are in trtexec."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        return {type(ours), type(theirs)} <= {int, float} and math.isclose(ours, theirs, rel_tol=1e-6)
    return bool(ours == theirs) and type(ours) is type(theirs)


def disagreement(case: dict[str, Any]) -> str:
    """What differs without a row that explains it, or ``""``."""
    try:
        options = parse(case["argv"])
    except OptionError as error:
        unexplained = case["accepted"] and error.difference not in BY_ROW
        return f"refused: {error.message}" if unexplained else ""
    rows = {deviation.row for deviation in options.deviations}
    if not rows <= BY_ROW.keys():
        return f"unknown rows: {rows - BY_ROW.keys()}"
    if not case["accepted"]:
        return "" if rows else f"accepted, trtexec says {case['error']!r}"
    if options.help or case["help"]:
        return "" if options.help == case["help"] else f"help is {options.help}"
    ours, theirs = changed(options), case["effective"]
    excused = set().union(*(MAY_CHANGE.get(row, set()) for row in rows))
    names = {name for name in ours.keys() | theirs.keys() if not same(ours.get(name), theirs.get(name))} - excused
    return "; ".join(f"{name}: {ours.get(name)} for {theirs.get(name)}" for name in sorted(names))


def test_every_recorded_line_agrees_or_names_its_row(cases: Path) -> None:
    records = [json.loads(line) for line in (cases / RECORDS).read_text().splitlines()]
    assert records
    found = {" ".join(case["argv"]): disagreement(case) for case in records}
    assert {line: text for line, text in found.items() if text} == {}


def test_defaults_are_the_recorded_ones(cases: Path) -> None:
    recorded = cases / RECORDED_DEFAULTS
    if not recorded.is_file():
        pytest.skip(f"no {RECORDED_DEFAULTS} beside the records")
    assert json.loads(recorded.read_text()) == DEFAULTS


def test_a_wrong_value_would_be_seen() -> None:
    case = {"argv": ["--onnx=m.onnx", "--avgRuns=5"], "accepted": True, "help": False, "effective": {}}
    assert disagreement(case) == "reporting.avgs: 5 for None"
    assert disagreement({**case, "accepted": False, "error": "stoi"}) == "accepted, trtexec says 'stoi'"
    assert disagreement({**case, "argv": ["--onnx=m", "--shapes=a:b"]}).startswith("refused: --shapes")
    pools = {**case, "argv": ["--onnx=m.onnx", "--memPoolSize=workspace:4G"], "effective": {"build.workspace": 4}}
    assert disagreement(pools) == ""
    decimals = {**case, "argv": ["--onnx=m.onnx", "--percentile=99.9"]}
    assert disagreement({**decimals, "effective": {"reporting.percentiles": [99.9000015]}}) == ""
    assert disagreement({**decimals, "effective": {"reporting.percentiles": [99.91]}})
