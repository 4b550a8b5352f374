"""Where tensors are looked at, and that the observers give the tensors' own extremes on every opset."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, parser

from ptqbridge.errors import InputError
from ptqbridge.model.save import session_model
from ptqbridge.quantize import collect as collect_module
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.collect import open_session
from ptqbridge.quantize.observe import observe
from ptqbridge.quantize.ranges import TensorRange


def model(
    body: str, inputs: str = "float[1,4,8,8] x", output: str = "float[a,b,c,d] out", opset: int = 17
) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({output}) {{{body}}}')


def test_places() -> None:
    proto = model(
        "c = Constant<value_floats=[-1.0,2.0]>() s = Shape(x) a = Relu(x) b = Transpose(a) out = Transpose(b)"
    )
    seen = observe(proto, ["x", "c", "s", "a", "b", "out"], values=False)
    assert seen.inputs == ("x",)
    assert seen.constants == {"c": TensorRange(-1.0, 2.0, "constant")}
    assert seen.left_out == {"s": "int64, not a floating-point tensor"}
    assert [watch.name for watch in seen.watches] == ["a"]
    assert seen.watches[0].never_negative
    assert seen.watches[0].minimum == ""
    assert seen.sources == {"x": "x", "c": "c", "a": "a", "b": "a", "out": "a"}


def test_model_is_not_changed() -> None:
    proto = model("out = Relu(x)")
    before = proto.SerializeToString()
    observe(proto, ["out", "x"], values=False)
    assert proto.SerializeToString() == before


def test_unknown_tensor_is_named() -> None:
    with pytest.raises(InputError, match="tensor 'nope': asked for a range"):
        observe(model("out = Relu(x)"), ["nope"], values=False)


def test_broken_constant_is_named() -> None:
    proto = model("out = Relu(x)")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, np.nan], np.float32), "w"))
    with pytest.raises(InputError, match="tensor 'w': the model's constant holds NaN"):
        observe(proto, ["w"], values=False)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 15, 17, 18, 19])
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 3, 5, 7), (1, 17, 19), (6,), ()])
def test_observers_give_the_extremes(opset: int, shape: tuple[int, ...]) -> None:
    dims = ",".join(map(str, shape))
    proto = model("a = Neg(x) out = Tanh(a)", f"float[{dims}] x", f"float[{dims}] out", opset)
    seen = observe(proto, ["a", "out"], values=False)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = open_session(seen).run(seen.fetches, {"x": x})
    extremes = dict(zip(seen.fetches, values, strict=True))
    for watch, tensor in zip(seen.watches, (-x, None), strict=True):
        if tensor is not None:
            assert extremes[watch.maximum] == tensor.max()
            assert extremes[watch.minimum] == tensor.min()
        assert extremes[watch.minimum] <= extremes[watch.maximum]
    assert set(seen.health) == {"out"}


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(("elem_type", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)])
def test_other_float_types(elem_type: int, dtype: type, values: bool) -> None:
    nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Sub", ["z", "x"], ["y"]),
             helper.make_node("Identity", ["y"], ["out"])]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", elem_type, [1, 2, 3, 4])],
        [helper.make_tensor_value_info("out", elem_type, [1, 2, 3, 4])],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    seen = observe(proto, ["y"], values=values)
    x = np.linspace(-1, 3, 24, dtype=dtype).reshape(1, 2, 3, 4)
    results = open_session(seen).run(seen.fetches, {"x": x})
    if values:
        assert results[0].dtype == dtype
        np.testing.assert_array_equal(results[0], -x)
    else:
        assert [float(value) for value in results[:2]] == [1.0, -3.0]


def test_type_unknown_to_inference_still_runs() -> None:
    """The tensor behind a Reshape to a computed shape has no known rank: a plain ReduceMax serves any."""
    proto = model(
        "n = Shape(x) f = Flatten(x) m = Shape(f) r = Reshape(f, n) a = Neg(r) out = Reshape(a, m)", output="float out"
    )
    seen = observe(proto, ["a"], values=False)
    x = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    results = open_session(seen).run(seen.fetches, {"x": x})
    assert results[0] == (-x).max()
    assert results[1] == (-x).min()


def test_model_refused_by_the_runtime_is_one_line() -> None:
    proto = model("out = Relu(x)")
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match="cannot be run by ONNX Runtime") as caught:
        open_session(observe(proto, ["out"], values=True))
    assert "\n" not in caught.value.message
    assert onnxruntime.__version__


def test_model_with_external_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above protobuf's limit the model goes through a file, to which the observers are appended just the same."""
    proto = model("y = Mul(x, w) out = Relu(y)")
    weight = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    monkeypatch.setattr(collect_module, "session_model", partial(session_model, inline_limit=0))
    seen = observe(proto, ["y"], values=False)
    x = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    results = open_session(seen).run(seen.fetches, {"x": x})
    assert results[0] == (x * weight).max()
    assert results[1] == (x * weight).min()


def _extremes(proto: onnx.ModelProto, tensors: list[str], x: np.ndarray) -> tuple[dict[str, tuple[float, float]], str]:
    """What the observed model says of each tensor, and the operators of its observers."""
    seen = observe(proto, tensors, values=False)
    found = dict(zip(seen.fetches, open_session(seen).run(seen.fetches, {"x": x}), strict=True))
    extremes = {
        watch.name: (float(found[watch.minimum]) if watch.minimum else 0.0, float(found[watch.maximum]))
        for watch in seen.watches
    }
    return extremes, " ".join(node.op_type for node in onnx.ModelProto.FromString(seen.patch).graph.node)


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_concat_and_sigmoid_follow_from_what_they_are_made_of(opset: int) -> None:
    proto = model(
        "a = Neg(x) s = Sigmoid(a) b = Mul(a, s) t = Transpose<perm=[0,1,3,2]>(b) "
        "c = Concat<axis=1>(a, t) d = Concat<axis=1>(c, c) out = Tanh(d)",
        opset=opset,
    )
    x = np.random.default_rng(3).normal(size=(1, 4, 8, 8)).astype(np.float32)
    found, operators = _extremes(proto, ["a", "s", "b", "c", "d"], x)
    assert operators == (
        "GlobalMaxPool ReduceMax ReduceMin Sigmoid GlobalMaxPool ReduceMax ReduceMin Max Min Max Min ReduceSum"
    )
    b = -x / (1 + np.exp(x))
    assert found["a"] == (-x.max(), -x.min())
    assert found["s"] == (0.0, pytest.approx(1 / (1 + np.exp(x.min())), rel=1e-6))
    assert found["b"] == (pytest.approx(b.min(), rel=1e-5), pytest.approx(b.max(), rel=1e-5))
    assert found["c"] == found["d"] == (found["a"][0], max(found["a"][1], found["b"][1]))


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        ("a = Neg(x) c = Concat<axis=1>(a, x) out = Tanh(c)", ["x", "a", "c"]),  # inputs are seen on the host
        (
            "a = Neg(x) r = Relu(x) c = Concat<axis=1>(a, r) out = Tanh(c)",
            ["a", "r", "c"],
        ),  # r has no minimum
        ("a = Neg(x) b = Relu(x) c = Concat<axis=1>(a, b) out = Tanh(c)", ["a", "c"]),  # nobody looks at b
        ("a = Neg(x) c = Tanh(a) out = Tanh(c)", ["a", "c"]),
    ],
)
def test_others_are_looked_at(body: str, tensors: list[str]) -> None:
    x = np.random.default_rng(4).uniform(-3, -1, size=(1, 4, 8, 8)).astype(np.float32)
    proto = model(body)
    found, operators = _extremes(proto, tensors, x)
    assert not {"Max", "Min", "Sigmoid"} & set(operators.split())
    session = onnxruntime.InferenceSession(_with_output(proto, "c"), providers=["CPUExecutionProvider"])
    (c,) = session.run(["c"], {"x": x})
    assert found["c"] == (c.min(), c.max())


def _with_output(proto: onnx.ModelProto, name: str) -> bytes:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy.SerializeToString()


def test_concat_of_half_precision_and_of_relus() -> None:
    x = np.linspace(-1, 3, 24, dtype=np.float16).reshape(1, 2, 3, 4)
    proto = model(
        "a = Neg(x) b = Neg(a) c = Concat<axis=1>(a, b) out = Neg(c)", "float16[1,2,3,4] x", "float16[a,b,c,d] out"
    )
    found, operators = _extremes(proto, ["a", "b", "c"], x)
    assert found["c"] == (-3.0, 3.0)
    assert "Max" in operators.split()
    proto = model("a = Relu(x) n = Neg(x) b = Relu(n) c = Concat<axis=1>(a, b) out = Neg(c)")
    found, operators = _extremes(proto, ["a", "b", "c"], np.linspace(-1, 3, 256, dtype=np.float32).reshape(1, 4, 8, 8))
    assert found["c"] == (0.0, 3.0)
    assert "Min" not in operators.split()


@pytest.mark.parametrize("algorithm", ["entropy2", "entropy", "mse", "legacy"])
@pytest.mark.parametrize("workers", [1, 2])
def test_joined_tensors_have_the_ranges_of_counted_ones(algorithm: str, workers: int) -> None:
    """A Concat's histogram is the sum of its parts', whose limits differ and grow; with a cap everything is counted."""
    proto = model(
        """a = Neg(x) b = Mul(a, x) f = Flatten(b) g = Reshape(f, s) c = Concat<axis=1>(a, g, a) e = Tanh(c)
           out = Concat<axis=1>(c, x, e)"""
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4, 8, 8], np.int64), "s"))
    tensors = ["out", "c", "x", "a", "b", "e"]
    draw = np.random.default_rng(0)
    samples = [{"x": draw.normal(0, 2.0**scale, (1, 4, 8, 8)).astype(np.float32)} for scale in (-3, 0, 4)]
    assert list(observe(proto, tensors, values=True, joins=True).joined) == ["c", "out"]
    assert observe(proto, ["c", "a"], values=True, joins=True).joined == {}
    run = partial(calibrate, proto, tensors, samples, algorithm=algorithm, percentile=99, regression_cutoff=0.5)
    assert run(workers=workers).tensors == run(workers=workers, memory_cap=2**30).tensors
