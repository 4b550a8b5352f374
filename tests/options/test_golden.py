"""The golden cases: one file of tests/cases/options per behaviour.

``argv``, then either ``error`` (part of the message), ``exit``, ``hint`` (part) and ``difference``, or ``effective``
(all that differs from the defaults), ``deviations`` (rows) and ``warnings`` (each part of one).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ptqbridge.errors import OptionError
from ptqbridge.options.differences import BY_ROW
from ptqbridge.options.effective import changed
from ptqbridge.options.parse import parse

CASES = sorted((Path(__file__).parent.parent / "cases" / "options").glob("*.yaml"))


def test_cases_are_there() -> None:
    assert len(CASES) > 150


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    if "error" in case:
        assert case.keys() <= {"argv", "error", "exit", "hint", "difference"}
        with pytest.raises(OptionError) as caught:
            parse(case["argv"])
        assert case["error"] in caught.value.message
        assert caught.value.exit_status == case["exit"]
        assert case.get("hint", "") in caught.value.hint
        assert caught.value.difference == case.get("difference", "")
        assert not caught.value.difference or caught.value.difference in BY_ROW
    else:
        assert case.keys() <= {"argv", "effective", "deviations", "warnings"}
        options = parse(case["argv"])
        assert changed(options) == case["effective"]
        assert sorted({deviation.row for deviation in options.deviations}) == case.get("deviations", [])
        for part in case.get("warnings", []):
            assert any(part in warning for warning in options.warnings), options.warnings
