"""Tensors at their Clip's bound are looked at no more, and the ranges are those of looking at everything."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from ptqbridge.errors import InputError
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.observe import observe
from ptqbridge.quantize.settled import settle
from ptqbridge.quantize.sources import GraphFacts

TENSORS = ["x", "a", "low", "high", "both"]


@pytest.fixture
def proto() -> onnx.ModelProto:
    """``low`` reaches its bound of 1 at once, ``high`` its bound of 6 late or never; ``both`` is made of the two."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> net (float[1,2,4,4] x) => (float[1,4,4,4] out)
          <float zero = {0}, float one = {1}, float six = {6}> {
          a = Neg(x)
          low = Clip(a, zero, one)
          high = Clip(a, zero, six)
          both = Concat<axis=1>(low, high)
          out = Neg(both)
        }"""
    )


def samples(count: int, late: int | None = None) -> list[dict[str, np.ndarray]]:
    found = [{"x": np.linspace(-3, 3, 32, dtype=np.float32).reshape(1, 2, 4, 4)} for _ in range(count)]
    if late is not None:
        found[late] = {"x": np.full((1, 2, 4, 4), -9, np.float32)}
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_what_has_settled_is_left_out(proto: onnx.ModelProto, workers: int) -> None:
    facts = GraphFacts(proto)
    whole = observe(proto, TENSORS, values=False, facts=facts)
    left, session, seen = settle(whole, samples(40), 40, facts, workers)
    assert [watch.name for watch in left.watches] == ["a", "high", "both"]
    assert left.inputs == ("x",)
    assert session is None
    assert seen.samples == workers
    assert seen.extremes["low"].high == 1.0


@pytest.mark.parametrize(
    ("count", "tensors", "seen"),
    [(31, TENSORS, 0), (40, ["a", "both"], 0), (40, ["a", "high"], 1), (40, ["x"], 0)],
    ids=["too few samples", "nothing has a bound", "none is reached", "no tensor inside"],
)
def test_where_it_does_not_pay_everything_stays(
    proto: onnx.ModelProto, count: int, tensors: list[str], seen: int
) -> None:
    facts = GraphFacts(proto)
    whole = observe(proto, tensors, values=False, facts=facts)
    left, session, found = settle(whole, samples(count), count, facts, 1)
    assert left is whole
    assert found.samples == seen
    assert (session is not None) == (seen > 0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("late", [None, 0, 39])
@pytest.mark.parametrize("tensors", [TENSORS, ["high", "a"], ["low"]])
def test_ranges_are_those_of_looking_at_everything(
    proto: onnx.ModelProto, workers: int, late: int | None, tensors: list[str]
) -> None:
    done: list[int] = []
    found = calibrate(
        proto, tensors, samples(40, late), algorithm="max", workers=workers, progress=lambda count: done.append(count)
    )
    assert found.samples == 40
    assert done[-1] == 40
    assert list(found.tensors) == tensors
    peak = 3.0 if late is None else 6.0
    expected = {"low": (0.0, 1.0), "high": (0.0, peak), "both": (0.0, peak)}
    for name in set(tensors) & set(expected):
        assert (found.tensors[name].min, found.tensors[name].max) == expected[name]
    if "a" in tensors:
        assert found.tensors["a"].max == (3.0 if late is None else 9.0)


@pytest.mark.parametrize("bad", [0, 1, 38])
def test_bad_sample_is_named_by_its_position(proto: onnx.ModelProto, bad: int) -> None:
    feeds = samples(40)
    feeds[bad]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=f"sample {bad}: tensor 'x'.*NaN"):
        calibrate(proto, TENSORS, feeds, algorithm="max", workers=2)


@pytest.mark.parametrize(("opset", "body"), [(6, "Clip<min=0.0, max=6.0>(x)"), (13, "Clip(x, zero, six)")])
def test_ceiling(opset: int, body: str) -> None:
    facts = GraphFacts(
        parser.parse_model(
            f'<ir_version: 8, opset_import: ["": {opset}]> net (float[2] x, float[] bound) => (float[2] y) '
            f"<float zero = {{0}}, float six = {{6}}> {{ a = {body} b = Relu(a) y = Neg(b) }}"
        )
    )
    assert facts.ceiling("a") == 6.0
    assert facts.ceiling("b") is facts.ceiling("x") is None


def test_no_ceiling_when_the_bound_is_computed_or_left_out() -> None:
    facts = GraphFacts(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["": 13]> net (float[2] x, float bound) => (float[2] y) '
            "<float zero = {0}> { a = Clip(x, zero, bound) y = Clip(a, zero) }"
        )
    )
    assert facts.ceiling("a") is facts.ceiling("y") is None
