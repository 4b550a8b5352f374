"""What hb_mapper 1.24.3 was seen to round in a network made for the purpose."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.horizon import calibrates_in_batches, horizon_placement, ranged_by_reader
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.twin import rounded_tensors


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    model = parser.parse_model(
        """<ir_version: 7, opset_import: ["": 11]> net (float[1,3,32,32] x) => (float[1,10] out, float[1,16,8,8] out2) {
          c1 = Conv<pads=[1,1,1,1]>(x, w1)
          r1 = Relu(c1)
          c2 = Conv<pads=[1,1,1,1]>(r1, w2)
          s = Add(r1, c2)
          r2 = Relu(s)
          c3 = Conv(r2, w3)
          cl = Clip(c3, lo, hi)
          cat = Concat<axis=1>(r2, cl)
          ap = AveragePool<kernel_shape=[2,2],strides=[2,2]>(cat)
          c4 = Conv<pads=[1,1,1,1]>(ap, w4)
          sg = Sigmoid(c4)
          sw = Mul(c4, sg)
          mp = MaxPool<kernel_shape=[2,2],strides=[2,2]>(sw)
          c5 = Conv<pads=[1,1,1,1]>(mp, w5)
          out2 = Relu(c5)
          g = GlobalAveragePool(out2)
          f = Flatten(g)
          out = Gemm<transB=1>(f, w6)
        }"""
    )
    random = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 16, 1, 1), "w4": (24, 32, 3, 3)}
    shapes |= {"w5": (16, 24, 3, 3), "w6": (10, 16)}
    for name, shape in shapes.items():
        value = random.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    for name, bound in (("lo", 0.0), ("hi", 6.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(bound).reshape(()), name))
    return model


def test_placement(proto: onnx.ModelProto) -> None:
    placement = horizon_placement(prepare(proto).proto)
    rounded = ("x", "r1", "r2", "cl", "cat", "ap", "c4", "sw", "mp", "out2", "f")
    assert set(placement.quantized) - {"sg"} == set(rounded)
    assert {name: root for name, root in placement.root.items() if name != root} == {"cl": "cat", "mp": "sw", "f": "g"}
    assert placement.observed[:2] == ["x", "r1"]


def test_nodes_on_the_cpu_round_nothing(proto: onnx.ModelProto) -> None:
    prepared = prepare(proto).proto
    first = prepared.graph.node[0]
    assert "x" not in horizon_placement(prepared, {first.name}).quantized


def test_concatenated_tensors_share_a_range(proto: onnx.ModelProto) -> None:
    assert ranged_by_reader(proto) == {"cl": "cat"}
    samples = [{"x": np.random.default_rng(i).normal(size=(1, 3, 32, 32)).astype(np.float32)} for i in range(3)]
    ranges = calibrate(proto, ["r2", "cl", "cat", "sw", "mp"], samples, algorithm="max", scheme="horizon")
    assert ranges.tensors["cl"] == ranges.tensors["cat"] == ranges.tensors["r2"]
    assert ranges.tensors["mp"] == ranges.tensors["sw"]
    assert ranges.details["shared"] == {"cl": "cat", "mp": "sw"}
    plain = calibrate(proto, ["cl", "cat", "sw", "mp"], samples, algorithm="max", scheme="tensorrt")
    assert plain.tensors["cl"].max <= 6 < plain.tensors["cat"].max
    assert plain.tensors["mp"].min > plain.tensors["sw"].min


@pytest.mark.parametrize("scheme", ["onnxruntime", "tensorrt", "horizon"])
def test_every_scheme_says_what_it_observes(proto: onnx.ModelProto, scheme: str) -> None:
    proto = prepare(proto).proto
    roots = rounded_tensors(proto, scheme)
    assert set(observed_tensors(proto, scheme)) == set(roots.values())
    with pytest.raises(ValueError, match="unknown scheme"):
        observed_tensors(proto, "other")


@pytest.mark.parametrize(
    ("body", "batches"),
    [
        ("y = Relu(x)", True),
        ("f = Reshape(x, s) y = Gemm(f, w)", True),
        ("f = Reshape(x, s) y = Relu(f)", False),
        ("y = Reshape(x, s)", False),
    ],
)
def test_reshapes_end_batches(body: str, batches: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 11]> g (float[1,4,1,1] x) => (float[1,4] y)
      <int64[2] s = {{1, 4}}, float[4,4] w = {{1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}}> {{ {body} }}"""
    assert calibrates_in_batches(parser.parse_model(text)) is batches
    assert not calibrates_in_batches(parser.parse_model(text.replace("float[1,4,1,1] x", "float[2,4,1,1] x")))


def test_leaky_relu_rounds_its_input_with_the_range_of_its_output() -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 11]> g (float[1,1,2,2] x) => (float[1,2,2,2] y)
           <float[1,1,1,1] w = {1}> { c = Conv(x, w) l = LeakyRelu(c) r = Conv(l, w) q = Relu(r)
             k = Concat<axis=1>(q, x) y = Conv(k, w) }"""
    )
    assert ranged_by_reader(proto)["c"] == "l"
    assert horizon_placement(proto).root["c"] == "l"
