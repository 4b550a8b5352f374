"""Every row is used, every use has a row, and the table is well-formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ptqbridge.options.differences import BY_ROW, DIFFERENCES, PARSING, Difference, markdown

each_row = pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.row)


def test_rows_are_unique() -> None:
    assert len(BY_ROW) == len(DIFFERENCES)


@each_row
def test_row_fills_its_cells(row: Difference) -> None:
    cells = (row.row, row.option, row.trtexec, row.here, row.why)
    assert all(cells)
    assert not any("|" in cell or "\n" in cell for cell in cells)
    assert re.fullmatch(r"[a-z-]+", row.row)


def test_parsing_rows_are_those_the_parser_names(root: Path) -> None:
    sources = "".join(
        path.read_text() for path in (root / "src/ptqbridge/options").glob("*.py") if path.stem != "differences"
    )
    unused = {row.row for row in PARSING if f'"{row.row}"' not in sources}
    # Seen in the order of errors only: the message that comes first is the unknown option's.
    assert unused == {"several-errors"}
    named = set(re.findall(r'(?:difference=|Deviation\(|yield )"([a-z-]+)"', sources))
    assert named <= BY_ROW.keys()


@each_row
def test_markdown_has_the_row(row: Difference) -> None:
    line = f"| {row.row} | {row.option} |"
    assert sum(text.startswith(line) for text in markdown().splitlines()) == 1


def test_markdown_table_has_five_columns() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("|")]
    assert len(rows) == len(DIFFERENCES) + 4
    assert {line.count("|") for line in rows} == {6}
