"""Pairs the tensor names of two lists: by name, and where a graph was optimised and names changed, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Pairing:
    """Which names of ``left`` and ``right`` belong together.

    ``same`` are in both; ``moved`` maps left names to differently spelt right ones at the same place; the rest is in
    ``only_left`` and ``only_right``. All keep their list's order.
    """

    same: tuple[str, ...]
    moved: dict[str, str]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]


def pair(left: Sequence[str], right: Sequence[str]) -> Pairing:
    """Pair equal names; then runs of other names that stand between the same neighbours, if they are equally long.

    Runs of unequal length are left alone, since nobody knows which name fell out of them, and so is everything when
    one list is sorted by name and the other is not: its positions say nothing of the graph.
    """
    common = set(left) & set(right)
    moved: dict[str, str] = {}
    if _is_sorted(left) == _is_sorted(right):
        for operation, start, end, first, last in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
            run = [name for name in left[start:end] if name not in common]
            other = [name for name in right[first:last] if name not in common]
            if operation == "replace" and len(run) == len(other):
                moved.update(zip(run, other, strict=True))
    taken = set(moved.values())
    return Pairing(
        same=tuple(name for name in left if name in common),
        moved=moved,
        only_left=tuple(name for name in left if name not in common and name not in moved),
        only_right=tuple(name for name in right if name not in common and name not in taken),
    )


def _is_sorted(names: Sequence[str]) -> bool:
    return len(names) > 2 and list(names) == sorted(names)
