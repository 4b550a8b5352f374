"""Which nodes become integer, and which tensors are observed for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from ptqbridge.quantize.placement import observed_tensors, place

Build = Callable[..., onnx.ModelProto]
W = {"w": (8, 8, 3, 3), "b": (8,)}
PAD = "<pads = [1, 1, 1, 1]>"


def test_conv_relu_conv(build: Build) -> None:
    proto = build(f"t = Conv{PAD}(x, w, b) r = Relu(t) y = Conv{PAD}(r, w, b)", **W)
    placement = place(proto)
    assert placement.integer == {"Conv_t", "Conv_y"}
    assert placement.quantized == ("x", "r", "y")
    assert observed_tensors(proto, "onnxruntime", frozenset()) == ["x", "r", "y"]


def test_relu_with_company_is_not_folded(build: Build) -> None:
    proto = build(f"t = Conv{PAD}(x, w, b) r = Relu(t) s = Add(r, t) y = Conv{PAD}(s, w, b)", **W)
    placement = place(proto)
    assert placement.integer == {"Conv_t", "Add_s", "Conv_y"}
    assert placement.quantized == ("x", "t", "r", "s", "y")


def test_residual(build: Build) -> None:
    proto = build(
        f"a = Conv{PAD}(x, w, b) r = Relu(a) c = Conv{PAD}(r, w, b) s = Add(c, r) z = Relu(s) y = Conv{PAD}(z, w, b)",
        **W,
    )
    placement = place(proto)
    assert placement.integer == {"Conv_a", "Conv_c", "Add_s", "Conv_y"}
    assert placement.quantized == ("x", "r", "c", "z", "y")


def test_moved_values_share_their_range(build: Build) -> None:
    proto = build(
        "t = Conv(x, w, b) p = MaxPool<kernel_shape = [2, 2]>(t) "
        "q = Transpose<perm = [0, 1, 3, 2]>(p) y = Conv(q, w, b)",
        **W,
    )
    placement = place(proto)
    assert placement.same_range == {"p": "t", "q": "p"}
    assert placement.root("q") == "t"
    assert placement.quantized == ("x", "t", "p", "q", "y")
    assert placement.observed == ["x", "t", "y"]


def test_relu_after_a_move_has_its_own_range(build: Build) -> None:
    proto = build("t = Conv(x, w, b) p = MaxPool<kernel_shape = [2, 2]>(t) q = Relu(p) y = Conv(q, w, b)", **W)
    assert place(proto).observed == ["x", "t", "q", "y"]


def test_tail_without_integer_reader_stays_float(build: Build) -> None:
    proto = build("t = Conv(x, w, b) s = Sigmoid(t) u = Mul(s, t) y = Transpose<perm = [0, 2, 3, 1]>(u)", **W)
    placement = place(proto)
    assert placement.integer == {"Conv_t"}
    assert placement.quantized == ("x", "t")


def test_silu_between_convs(build: Build) -> None:
    proto = build("t = Conv(x, w, b) s = Sigmoid(t) u = Mul(s, t) y = Conv(u, w, b)", **W)
    assert place(proto).integer == {"Conv_t", "Sigmoid_s", "Mul_u", "Conv_y"}


def test_unknown_neighbours_stay_float(build: Build) -> None:
    proto = build("t = Conv(x, w, b) s = Tanh(t) u = Add(s, t) y = Conv(u, w, b)", **W)
    placement = place(proto)
    assert placement.integer == {"Conv_t", "Conv_y"}
    assert placement.quantized == ("x", "t", "u", "y")


def test_constant_operands_stay_float(build: Build) -> None:
    proto = build("t = Conv(x, w, b) u = Add(t, k) y = Conv(u, w, b)", **W, k=(1, 8, 1, 1))
    assert "Add_u" not in place(proto).integer


def test_linear_resize_stays_float(build: Build) -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    for mode, integer in (("nearest", True), ("linear", False)):
        proto = build(f't = Conv(x, w, b) u = Resize<mode = "{mode}">(t, , s) y = Conv(u, w, b)', **W, s=scales)
        assert ("Resize_u" in place(proto).integer) is integer


def test_skipped_nodes(build: Build) -> None:
    proto = build(f"t = Conv{PAD}(x, w, b) r = Relu(t) u = Conv{PAD}(r, w, b) y = Conv{PAD}(u, w, b)", **W)
    placement = place(proto, "onnxruntime", ["Conv_u"])
    assert placement.integer == {"Conv_t", "Conv_y"}
    assert placement.quantized == ("x", "r", "u", "y")


def test_matmul_and_gemm(build: Build) -> None:
    proto = build(
        "t = MatMul(x, w) u = Add(t, b) v = Relu(u) y = Gemm<transB = 1>(v, w2, b2)",
        "float[n,16] x",
        "float[n,4] y",
        w=(16, 8),
        b=(8,),
        w2=(4, 8),
        b2=(4,),
    )
    placement = place(proto)
    assert placement.integer == {"MatMul_t", "Gemm_y"}
    assert placement.quantized == ("x", "v")  # the result of a Gemm or MatMul may stay float


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        ("y = Gemm<alpha = 0.5>(x, w, b)", {"w": (16, 8), "b": (8,)}),
        ("y = Gemm<beta = 0.5>(x, w, b)", {"w": (16, 8), "b": (8,)}),
        ("y = Gemm<transA = 1>(x, w, b)", {"w": (4, 8), "b": (8,)}),
        ("y = Gemm(x, w, b)", {"w": (16, 8), "b": (4, 8)}),
        ("y = MatMul(w, x)", {"w": (8, 4)}),
        ("b2 = Relu(b) q = Neg(x) y = Gemm(x, w, q)", {"w": (16, 16), "b": (8,)}),
        ("y = MatMul(x, w)", {"w": np.ones((16, 8), np.float64).astype(np.float16)}),
    ],
)
def test_what_the_kernels_do_not_take(build: Build, body: str, extra: dict[str, object]) -> None:
    proto = build(body, "float[4,16] x", "float[n,m] y", **extra)
    assert place(proto).integer == set()
    assert place(proto).quantized == ()


def test_attention(build: Build) -> None:
    proto = build(
        "q = MatMul(x, w) k = MatMul(x, w2) t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) "
        "p = Softmax<axis = 2>(s) v = MatMul(x, w3) y = MatMul(p, v)",
        "float[1,5,16] x",
        "float[1,5,8] y",
        w=(16, 8),
        w2=(16, 8),
        w3=(16, 8),
    )
    placement = place(proto)
    assert placement.integer == {"MatMul_q", "MatMul_k", "Transpose_t", "MatMul_s", "MatMul_v", "MatMul_y"}
    assert placement.observed == ["x", "k", "q", "p", "v"]


def test_wrong_use(build: Build) -> None:
    proto = build("y = Conv(x, w, b)", **W)
    with pytest.raises(ValueError, match="unknown scheme 'other'"):
        place(proto, "other")
    proto.graph.node[0].name = ""
    with pytest.raises(ValueError, match="prepare the model first"):
        place(proto)
