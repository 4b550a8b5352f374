"""Pairing by name, and by position only where that is certain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.quantize.formats.match import pair

LISTS = st.lists(st.sampled_from("abcdefghij"), unique=True)


def test_renamed_between_the_same_neighbours() -> None:
    found = pair(["in", "conv1", "relu", "out"], ["in", "conv1_fused", "relu", "out"])
    assert found.moved == {"conv1": "conv1_fused"}
    assert found.same == ("in", "relu", "out")
    assert found.only_left == found.only_right == ()


def test_runs_of_unequal_length_are_left_alone() -> None:
    found = pair(["in", "a", "b", "out"], ["in", "x", "out"])
    assert found.moved == {}
    assert (found.only_left, found.only_right) == (("a", "b"), ("x",))


def test_a_missing_name_is_no_renaming() -> None:
    found = pair(["in", "out"], ["in", "conv", "out"])
    assert (found.moved, found.only_right) == ({}, ("conv",))


def test_positions_of_a_sorted_list_say_nothing() -> None:
    found = pair(["a", "in", "out"], ["in", "conv", "out"])
    assert found.moved == {}


@given(LISTS, LISTS)
def test_every_name_is_accounted_for_once(left: list[str], right: list[str]) -> None:
    found = pair(left, right)
    assert sorted([*found.same, *found.moved, *found.only_left]) == sorted(left)
    assert sorted([*found.same, *found.moved.values(), *found.only_right]) == sorted(right)


@given(LISTS)
def test_equal_lists_pair_by_name(names: list[str]) -> None:
    assert pair(names, names).same == tuple(names)
