"""Counted nouns."""

from __future__ import annotations

import pytest

from ptqbridge.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 samples"), (1, "1 sample"), (2, "2 samples"), ("0.5", "0.5 samples"), ("1", "1 sample")]
)
def test_counted(number: int | str, text: str) -> None:
    assert counted(number, "sample") == text
