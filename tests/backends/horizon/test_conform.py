"""Conversions, and when they are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ptqbridge.backends.horizon import conform as room
from ptqbridge.backends.horizon.conform import conform
from ptqbridge.data.reading import Sample
from ptqbridge.errors import InputError
from ptqbridge.model.load import Model, load_model

Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(op, shape, opset, ir)`` is a model of one operator over the last axis."""

    def make(op: str = "Softmax", shape: tuple[int | str, ...] = ("N", 3), opset: int = 13, ir: int = 8) -> Model:
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
        graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], name="n")], "g", [x], [y])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        onnx.save(proto, tmp_path / "m.onnx")
        return load_model(tmp_path / "m.onnx")

    return make


def test_both_conversions_on_noise(load: Load) -> None:
    model = load()
    before = model.path.read_bytes()
    made, notes = conform(model, fix_shapes=True, convert_opset=True, shapes={})
    assert notes == (
        "dynamic dimensions fixed: x:1x3",
        "opset 13 lowered to 11, 1 nodes rewritten",
        "outputs compared on 4 inputs of seeded noise: equal to the last bit",
    )
    assert (made.opset, made.inputs[0].shape, made.outputs[0].shape) == (11, (1, 3), (1, 3))
    assert model.path.read_bytes() == before
    assert model.opset == 13


def test_real_inputs_are_used(load: Load) -> None:
    samples = [Sample(f"s{number}", {"x": np.ones((1, 3), np.float32) * number}) for number in range(9)]
    _, notes = conform(load(), fix_shapes=False, convert_opset=True, shapes={}, samples=samples)
    assert notes[-1] == "outputs compared on 4 calibration samples: equal to the last bit"


def test_nothing_to_do(load: Load) -> None:
    model = load(shape=(1, 3), opset=11)
    assert conform(model, fix_shapes=True, convert_opset=True, shapes={}) == (model, ())


def test_outputs_that_change_are_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(proto: onnx.ModelProto) -> str:
        proto.opset_import[0].version = 11
        proto.graph.node[0].op_type = "LogSoftmax"
        return "opset lowered"

    monkeypatch.setattr(room, "lower_opset", wrong)
    with pytest.raises(InputError, match=r"m.onnx cannot be converted: output 'y' changes by .* on noise\[0\]"):
        conform(load(shape=(2, 3)), fix_shapes=False, convert_opset=True, shapes={})


@pytest.mark.parametrize(
    ("fix", "shape", "op", "opset", "words"),
    [
        (True, ("N", "W"), "Softmax", 13, "--fixShapes: model .*m.onnx: input 'x': nothing says how large"),
        (False, (2, 3), "Trilu", 14, "--convertOpset: model .*m.onnx: opset 11 has no Trilu"),
    ],
)
def test_what_cannot_be_converted(
    load: Load, fix: bool, shape: tuple[int | str, ...], op: str, opset: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        conform(load(op, shape, opset), fix_shapes=fix, convert_opset=True, shapes={})


def test_a_sample_of_another_shape(load: Load) -> None:
    samples = [Sample("s", {"x": np.ones((2, 3), np.float32)})]
    with pytest.raises(InputError, match="ONNX Runtime cannot run the converted model"):
        conform(load(), fix_shapes=True, convert_opset=False, shapes={}, samples=samples)


def test_nan_may_stay_where_it_is(load: Load) -> None:
    samples = [Sample("s", {"x": np.array([[np.nan, 1, 2]], np.float32)})]
    _, notes = conform(load("Relu"), fix_shapes=True, convert_opset=True, shapes={}, samples=samples)
    assert "equal" in notes[-1]
