"""Observers that read ONNX Runtime's blocked layout see what those of the plain one see."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.quantize import layout
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.collect import open_session
from ptqbridge.quantize.observe import observe

ALWAYS = (0, 0)
NEVER = (999, 0)


def network(channels: tuple[int, ...]) -> onnx.ModelProto:
    """Convolutions of so many channels in a row, each with a SiLU, the last two joined; blocked by ONNX Runtime."""
    random = np.random.default_rng(0)
    nodes, weights, made, before = [], [], [], 3
    name = "x"
    for index, count in enumerate(channels):
        weight = random.normal(0, (before * 9) ** -0.5, (count, before, 3, 3)).astype(np.float32)
        bias = random.normal(0, 1, count).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{index}"), numpy_helper.from_array(bias, f"b{index}")]
        nodes += [
            helper.make_node("Conv", [name, f"w{index}", f"b{index}"], [f"c{index}"], name=f"c{index}", pads=[1] * 4),
            helper.make_node("Sigmoid", [f"c{index}"], [f"s{index}"], name=f"s{index}"),
            helper.make_node("Mul", [f"c{index}", f"s{index}"], [f"m{index}"], name=f"m{index}"),
        ]
        made += [f"c{index}", f"s{index}", f"m{index}"]
        name, before = f"m{index}", count
    nodes.append(helper.make_node("Concat", made[-1::-3][:2], ["out"], name="out", axis=1))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 13, 11])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("out", "c0")], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def tensors(proto: onnx.ModelProto) -> list[str]:
    return [name for node in proto.graph.node for name in node.output]


def samples(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(seed).normal(0, 2, (1, 3, 13, 11)).astype(np.float32)} for seed in range(count)]


@pytest.fixture(params=[(32, 64), (16, 24, 32), (20, 16, 7)], ids=str)
def proto(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """Channels that fill blocks of 8 and 16, of 8 alone, and that do not."""
    return network(request.param)


@pytest.mark.parametrize("algorithm", ["max", "percentile", "entropy2", "kl"])
def test_ranges_are_those_of_the_plain_layout(
    proto: onnx.ModelProto, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for since in (NEVER, ALWAYS):
        monkeypatch.setattr(layout, "_SAVES_FAST", since)
        found.append(calibrate(proto, tensors(proto), samples(3), algorithm=algorithm, percentile=99.0))
    assert found[0] == found[1]


@pytest.mark.parametrize("values", [True, False])
def test_every_tensor_holds_the_same_elements(
    proto: onnx.ModelProto, values: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = observe(proto, tensors(proto), values=values)
    found = []
    for since in (NEVER, ALWAYS):
        monkeypatch.setattr(layout, "_SAVES_FAST", since)
        found.append(open_session(seen).run(seen.fetches, samples(1)[0]))
    sums = set(seen.health.values())
    for name, plain, blocked in zip(seen.fetches, *found, strict=True):
        if name in sums:
            assert blocked == pytest.approx(plain, rel=1e-4, abs=1e-3)
        else:
            np.testing.assert_array_equal(np.sort(plain, axis=None), np.sort(blocked, axis=None))


def test_full_blocks_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else this file would compare the plain layout with itself: on a CPU that blocks, all six tensors are bridged."""
    monkeypatch.setattr(layout, "_SAVES_FAST", ALWAYS)
    proto = network((32, 64))
    names = open_session(observe(proto, tensors(proto), values=True))._names
    if not names:
        pytest.skip("ONNX Runtime uses no blocked layout on this CPU")
    assert set(names) >= {"c0", "s0", "m0", "c1", "s1", "m1"}
    assert not open_session(observe(network((20, 7)), ["c0", "c1"], values=True))._names.keys() & {"c1"}


def test_where_nothing_can_be_written_the_plain_layout_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(layout, "_SAVES_FAST", ALWAYS)
    monkeypatch.setattr(layout, "_optimise", refuse)
    proto = network((32,) * 2)
    seen = observe(proto, ["c0"], values=True)
    (found, *_) = open_session(seen).run(seen.fetches, samples(1)[0])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(found, session.run(["c0"], samples(1)[0])[0])


class TestLane:
    """Sample after sample through one lane, against a run of its own for each."""

    @pytest.fixture
    def observer(self) -> layout.Observer:
        nodes = [
            helper.make_node("Neg", ["x"], ["a"]),
            helper.make_node("NonZero", ["x"], ["n"]),
            helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "f")]
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], ends)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return open_session(observe(proto, ["a", "f"], values=True))

    def check(self, observer: layout.Observer, fetches: list[str], arrays: list[np.ndarray]) -> None:
        lane = observer.lane(fetches)
        for array in arrays:
            found = lane.run({"x": array})
            assert list(found) == fetches
            for name, expected in zip(fetches, observer.run(fetches, {"x": array}), strict=True):
                np.testing.assert_array_equal(found[name], expected)

    def test_equal_shapes_share_their_arrays(self, observer: layout.Observer) -> None:
        self.check(observer, ["a"], [np.full((3, 2), value, np.float32) for value in range(4)])
        lane = observer.lane(["a"])
        first, second = (lane.run({"x": np.full((3, 2), value, np.float32)})["a"] for value in (1, 2))
        assert np.shares_memory(first, second)
        assert (second == -2).all()

    def test_shapes_may_change_and_change_back(self, observer: layout.Observer) -> None:
        self.check(observer, ["a"], [np.full((size, 2), size, np.float32) for size in (3, 5, 3, 1, 0, 3)])

    def test_first_one_may_be_empty(self, observer: layout.Observer) -> None:
        self.check(observer, ["a"], [np.full((size, 2), size, np.float32) for size in (0, 0, 3, 0)])

    def test_shapes_of_results_may_depend_on_values(self, observer: layout.Observer) -> None:
        self.check(
            observer,
            ["a", "f"],
            [np.arange(first, first + 4, dtype=np.float32).reshape(2, 2) for first in (1, 0, 1, -2)],
        )

    def test_inputs_need_not_be_contiguous(self, observer: layout.Observer) -> None:
        self.check(observer, ["a"], [np.arange(8, dtype=np.float32).reshape(2, 4).T * sign for sign in (1, -1, 2)])

    def test_what_the_model_does_not_take_is_refused(self, observer: layout.Observer) -> None:
        lane = observer.lane(["a"])
        good = {"x": np.ones((3, 2), np.float32)}
        lane.run(good)
        with pytest.raises(Exception, match="x"):
            lane.run({"x": np.ones((3, 2), np.float64)})
        with pytest.raises(Exception, match="y"):
            lane.run({**good, "y": np.ones(1, np.float32)})
        assert (lane.run(good)["a"] == -1).all()
