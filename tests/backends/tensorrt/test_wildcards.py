"""Patterns in the input names of shape options, which trtexec reads from 9.1 on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ptqbridge.backends.tensorrt.wildcards import by_name, matches, resolve_calls
from ptqbridge.plan import Plan

LETTERS = st.text("ab_", max_size=4)


@given(LETTERS, LETTERS, LETTERS)
def test_a_star_stands_for_anything(head: str, middle: str, tail: str) -> None:
    assert matches(f"{head}*{tail}", head + middle + tail)
    assert not matches(f"{head}*{tail}!", head + middle + tail)


@given(LETTERS, LETTERS)
def test_without_a_star_names_are_equal(one: str, other: str) -> None:
    assert matches(one, other) == (one == other)


def test_a_name_beats_a_pattern_and_strangers_stay() -> None:
    found = by_name({"in*": 1, "input_b": 2, "out": 3, "no*": 4}, ["input_a", "input_b", "x"])
    assert found == {"input_a": 1, "input_b": 2, "out": 3, "no*": 4}


def test_calls_are_made_for_each_input() -> None:
    calls = ['context.set_input_shape("in*", (2, 4))', 'context.set_input_shape("in_b", (3, 4))', "other()"]
    found = resolve_calls(calls, ["in_a", "in_b", "x"])
    assert found == ['context.set_input_shape("in_a", (2, 4))', *calls[1:]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = in_a + in_b, both of shape [n, 4]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("in_a", "in_b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["in_a", "in_b"], ["y"], "add")], "g", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_from_9_1_on_patterns_name_inputs(model: Path, plan_of: Callable[..., Plan]) -> None:
    words = (f"--onnx={model}", "--minShapes=in_*:1x4", "--maxShapes=in_*:4x4", "--shapes=*_b:3x4,in_*:2x4")
    calls = plan_of("10.13.3", *words).settings["calls"]
    assert 'profile.set_shape("in_b", (1, 4), (4, 4), (4, 4))' in calls
    assert 'context.set_input_shape("in_a", (2, 4))' in calls
    assert 'context.set_input_shape("in_b", (3, 4))' in calls
    assert plan_of("10.13.3", *words).settings["wrong"] == ()
    assert "'in_*' is no input" in plan_of("8.6.1", *words[:3]).settings["wrong"][0]


def test_later_profiles_name_every_dynamic_input(model: Path, plan_of: Callable[..., Plan]) -> None:
    first = ("--profile=0", "--optShapes=in_a:2x4,in_b:2x4")
    made = plan_of("10.13.3", f"--onnx={model}", *first, "--profile=1", "--optShapes=in_*:8x4", "--profile=2")
    calls = [text for text in made.settings["calls"] if "profile1" in text or "profile2" in text]
    assert calls == [
        "profile1 = builder.create_optimization_profile()",
        "profile2 = builder.create_optimization_profile()",
        *(f'profile1.set_shape("{name}", (8, 4), (8, 4), (8, 4))' for name in ("in_a", "in_b")),
        "require_valid(profile1)",
        "config.add_optimization_profile(profile1)",
        *(f'profile2.set_shape("{name}", (1, 4), (1, 4), (1, 4))' for name in ("in_a", "in_b")),
        "require_valid(profile2)",
        "config.add_optimization_profile(profile2)",
    ]
