"""Rules and the rulebook."""

from __future__ import annotations

import pytest

from ptqbridge.rulebook import Rulebook, Verdict, approximate, exact, ignored, implied, refused


def test_the_five_verdicts() -> None:
    outcomes = [exact("a"), approximate("a", "b"), implied("b"), ignored("b"), refused("b")]
    assert [str(outcome.verdict) for outcome in outcomes] == ["exact", "approximate", "implied", "ignored", "refused"]
    assert exact("a", level="x").emits == {"level": "x"}


def test_rules_are_applied_by_name() -> None:
    book: Rulebook[int] = Rulebook("test")

    @book.rule("a", "b")
    def rule(value: int, context: int) -> object:
        return exact(str(value + context))

    book.always("c", outcome=ignored("why"))
    assert book.apply("b", 2, 40).becomes == "42"
    assert book.apply("c", None, 0).verdict is Verdict.IGNORED
    assert list(book) == ["a", "b", "c"]
    assert "a" in book and "d" not in book
    with pytest.raises(KeyError):
        book.apply("d", None, 0)


def test_two_rules_for_one_option_are_a_mistake() -> None:
    book: Rulebook[int] = Rulebook("test")
    book.always("a", outcome=ignored("why"))
    with pytest.raises(ValueError, match="test: two rules for --a"):
        book.always("a", outcome=ignored("why"))
