"""Small words of messages that many rooms share."""

from __future__ import annotations


def counted(number: float | str, noun: str) -> str:
    """``1 sample``, ``2 samples``, ``0.5 samples``: a regular noun with its number, or with a text of it."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"
