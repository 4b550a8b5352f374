"""What hb_mapper 1.24.3 was seen to round in a network made for the purpose."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.horizon import calibrates_in_batches, fixed_ranges, horizon_placement, shared_ranges
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
    assert shared_ranges(proto)["cl"] == "cat"
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
        ("f = Reshape(x, s) t = Transpose<perm=[0,2,1,3,4]>(f) y = Reshape(t, s)", True),
        ("f = Reshape(x, s) t = Transpose<perm=[0,2,1]>(f) y = Reshape(t, s)", False),
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
    assert shared_ranges(proto)["c"] == "l"
    assert horizon_placement(proto).root["c"] == "l"


def around(body: str) -> onnx.ModelProto:
    """``body`` between two convolutions: from ``c`` to ``y``."""
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 11]> g (float[1,2,8,8] x) => (float[1,2,?,?] out)
           <float[2,2,1,1] w = {{1, 2, 3, -4}}, float zero = {{0}}, float two = {{2}}, float minus = {{-2}},
            float six = {{6}}, float three = {{3}}, float[2] ones = {{1, 1}}>
           {{ c = Conv(x, w) d = Conv(x, w) {body} out = Conv(y, w) }}"""
    )


POOL = "<kernel_shape=[3,3], pads=[1,1,1,1]>"
# What hb_mapper 1.24.3 did: tensor -> the one whose threshold it has, and the tensors rounded beside x and y.
SEEN = {
    "a Relu of a convolution": ("y = Relu(c)", {}, set()),
    "a Relu of a pool": (f"p = MaxPool{POOL}(c) y = Relu(p)", {"p": "c", "y": "c"}, {"c", "p"}),
    "a Relu of a sum": ("y1 = Add(c, d) y = Relu(y1)", {}, {"c"}),
    "a Relu of a product": ("m = Mul(c, d) y = Relu(m)", {"y": "m"}, {"c", "d", "m"}),
    "a Relu of what others read": (
        f"r = Relu(c) p = MaxPool{POOL}(c) y = Add(r, p)", {"r": "c", "p": "c"}, {"c", "r", "p"}
    ),
    "ReLU6": ("y = Clip(c, zero, six)", {}, set()),
    "ReLU6 of a pool": ("p = GlobalAveragePool(c) y = Clip(p, zero, six)", {"y": "p"}, {"c", "p"}),
    "a Clip from below zero": ("y = Clip(c, minus, six)", {"y": "c"}, {"c"}),
    "a Clip to both sides": ("y = Clip(c, minus, two)", {"c": "y"}, {"c"}),
    "two Clips": ("k = Clip(c, minus, six) y = Clip(k, minus, three)", {"k": "c", "y": "c"}, {"c", "k"}),
    "an average by convolution": ("y1 = AveragePool<kernel_shape=[2,2]>(c) y = Relu(y1)", {}, {"c"}),
    "an average with a border": (f"y = AveragePool{POOL}(c)", {"y": "c"}, {"c"}),
    "an average of 8 by 8": ("y = AveragePool<kernel_shape=[8,8]>(c)", {"y": "c"}, {"c"}),
    "a Concat behind a pool": (
        f"p = MaxPool{POOL}(c) y1 = Concat<axis=2>(p, d) y = Relu(y1)",
        {"c": "y1", "d": "y1", "p": "y1", "y": "y1"}, {"c", "d", "p", "y1"},
    ),
    "a Concat of one pool after another": (
        f"p = MaxPool{POOL}(c) q = MaxPool{POOL}(p) y = Concat<axis=2>(c, p, q)",
        {"c": "y", "p": "y", "q": "y"}, {"c", "p", "q"},
    ),
    "a cut before a Concat": (
        f"p = MaxPool{POOL}(c) r = Relu(p) y = Concat<axis=2>(r, d)",
        {"p": "c", "r": "c", "d": "y"}, {"c", "p", "r", "d"},
    ),
    "halves before a Concat": (
        "a, b = Split<axis=1>(c) t = Tanh(b) y = Concat<axis=1>(a, t)",
        {"a": "c", "b": "c", "t": "y"}, {"c", "a", "b", "t"},
    ),
    "the larger one": ("y = Max(c, d)", {"c": "y", "d": "y"}, {"c", "d"}),
    "halves": (
        "a, b = Split<axis=1>(c) s = Tanh(a) y = Add(s, b)", {"a": "c", "b": "c"}, {"c", "a", "b", "s"}
    ),
    "BatchNormalization of a convolution": (
        "y = BatchNormalization(c, ones, ones, ones, ones)", {"c": "y"}, None
    ),
    "BatchNormalization of a pool": (
        f"p = MaxPool{POOL}(c) b = BatchNormalization(p, ones, ones, ones, ones) y = Relu(b)", {"p": "c"}, {"c", "p"}
    ),
    "BatchNormalization of an average": (
        "p = AveragePool<kernel_shape=[2,2]>(c) b = BatchNormalization(p, ones, ones, ones, ones) y = Relu(b)",
        {"p": "b"}, {"c"},
    ),
    "PRelu": ("y = PRelu(c, three)", {"c": "y"}, {"c"}),
    "a table": ("y = Abs(c)", {}, {"c"}),
    "SiLU": ("s = Sigmoid(c) y = Mul(c, s)", {}, {"c"}),
    "hard swish": ("s = HardSigmoid(c) y = Mul(c, s)", {}, {"c"}),
    "hard swish by a Clip": (
        "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)", {}, {"c"}
    ),
    "GELU": (
        "e = Div(c, two) f = Erf(e) a = Add(f, three) m = Mul(c, a) y = Div(m, two)", {}, {"c"}
    ),
    "Mish": ("s = Softplus(c) t = Tanh(s) y = Mul(c, t)", {}, {"c"}),
}  # fmt: skip


@pytest.mark.parametrize("case", SEEN)
def test_as_seen(case: str) -> None:
    body, shared, rounded = SEEN[case]
    proto = around(body)
    quantized = set(horizon_placement(proto).quantized)
    assert {name: root for name, root in shared_ranges(proto).items() if name in quantized | shared.keys()} == shared
    if rounded is not None:
        assert quantized == {"x", "y"} | rounded


SIGMOID = {"before": 5.498970031738281, "after": 0.9959256649017334}


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        ("y = Sigmoid(c)", SIGMOID["before"], SIGMOID["after"]),
        ("y = HardSigmoid(c)", 3.0, 1.0),
        ("s = Sigmoid(c) y = Mul(d, s)", SIGMOID["before"], None),
        ("s = Sigmoid(c) y = Mul(c, s)", None, None),  # one table
        (f"p = MaxPool{POOL}(c) y = Sigmoid(p)", None, None),  # the range of c is kept
        ("s = Sigmoid(c) m = Mul(d, s) y = Add(m, c)", None, None),  # c is read by others
    ],
)
def test_fixed_ranges(body: str, before: float | None, after: float | None) -> None:
    found = fixed_ranges(around(body))
    assert [found[name].amax if name in found else None for name in ("c", "y")] == [before, after]


def test_fixed_ranges_go_into_the_results_of_all_methods() -> None:
    proto = around("s = Sigmoid(c) y = Mul(d, s)")
    samples = [{"x": np.random.default_rng(seed).normal(size=(1, 2, 8, 8)).astype(np.float32)} for seed in range(3)]
    for algorithm in ("max", "percentile", "kl", "default", "mix"):
        ranges = calibrate(proto, ["c", "d", "s", "y"], samples, algorithm=algorithm, scheme="horizon").tensors
        assert [ranges[name].amax for name in ("c", "s")] == list(SIGMOID.values())
        assert ranges["c"].method == "fixed"
        assert ranges["d"].method != "fixed"
    other = calibrate(proto, ["c", "s"], samples, algorithm="max", scheme="tensorrt").tensors
    assert other["c"].method == "max"
