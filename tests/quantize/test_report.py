"""What ONNX Runtime really made of a quantized model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.qdq import quantize
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.report import KernelReport, integer_kernels, kernel_report

Build = Callable[..., onnx.ModelProto]
Measure = Callable[..., Ranges]
FEED = {"x": np.random.default_rng(0).standard_normal((1, 8, 16, 16)).astype(np.float32)}
PAD = "<pads = [1, 1, 1, 1]>"
NET = (
    f"a = Conv{PAD}(x, w, b) r = Relu(a) c = Conv{PAD}(r, w2, b) s = Add(c, r) z = Relu(s) "
    "p = MaxPool<kernel_shape = [2, 2]>(z) k = Concat<axis = 1>(p, p) g = GlobalAveragePool(k) "
    "f = Flatten(g) y = Gemm<transB = 1>(f, w3, b3)"
)
CONSTANTS = {"w": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "b": (8,), "w3": (5, 16), "b3": (5,)}


@pytest.fixture
def pair(build: Build, measure: Measure) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float model with one kept-float convolution at most, and its quantized twin."""
    proto = build(NET, outputs="float[n,5] y", **CONSTANTS)
    return proto, quantize(proto, measure(proto, observed_tensors(proto), FEED), reduce_range=True)


def test_every_layer_runs_on_integers(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    report = kernel_report(*pair)
    expected = {"Conv_a", "Conv_c", "Add_s", "Concat_k", "GlobalAveragePool_g", "Gemm_y"}
    assert expected <= report.integer
    assert report.kernels["Conv_a"] == report.kernels["Conv_c"] == "QLinearConv"
    assert report.kernels["Add_s"] == "QLinearAdd"
    assert report.summary() == ("2 of 2 Conv run as QLinearConv", "1 of 1 Gemm run as QGemm")


def test_kept_float_layer_shows(build: Build, measure: Measure) -> None:
    proto = build(NET, outputs="float[n,5] y", **CONSTANTS)
    keep = frozenset({"Conv_c"})
    ranges = measure(proto, observed_tensors(proto, "onnxruntime", keep), FEED)
    report = kernel_report(proto, quantize(proto, ranges, keep_float=keep))
    assert "Conv_c" not in report.integer
    assert "Conv_a" in report.integer
    assert report.summary()[0] == "1 of 2 Conv run as QLinearConv"


def test_float_model(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    report = kernel_report(pair[0], pair[0])
    assert report.integer == set()
    assert report.summary() == ("0 of 2 Conv run on integers", "0 of 1 Gemm run on integers")


def test_of_a_file(pair: tuple[onnx.ModelProto, onnx.ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    path.write_bytes(pair[1].SerializeToString())
    kernels = integer_kernels(path)
    assert kernels["Conv_c"] == "QLinearConv"
    assert kernels["Gemm_y"] == "QGemm"
    assert "Relu_r" not in kernels
    assert set(kernels) <= {node.name for node in pair[0].graph.node}


def test_float_result_of_gemm_is_not_taken_for_integers(build: Build, measure: Measure) -> None:
    feed = {"x": np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)}
    proto = build(
        "t = Gemm(x, w, b) y = Transpose<perm = [1, 0]>(t)", "float[3,16] x", "float[8,3] y", w=(16, 8), b=(8,)
    )
    report = kernel_report(proto, quantize(proto, measure(proto, observed_tensors(proto), feed)))
    assert report.integer == {"Gemm_t"}


def test_summary_of_mixed_kernels() -> None:
    report = KernelReport(
        {"a": "QLinearMatMul", "b": "MatMulIntegerToFloat", "c": "MatMul"},
        frozenset({"a", "b"}),
        {"a": "MatMul", "b": "MatMul", "c": "MatMul", "d": "Conv"},
    )
    assert report.summary() == (
        "1 of 3 MatMul run as MatMulIntegerToFloat",
        "1 of 3 MatMul run as QLinearMatMul",
        "0 of 1 Conv run on integers",
    )
