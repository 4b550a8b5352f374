"""Ranges as calibration leaves them."""

from __future__ import annotations

import pytest

from ptqbridge.quantize.ranges import Ranges, TensorRange


@pytest.fixture
def ranges() -> Ranges:
    """Three tensors by percentile, one of them constant, with all of the origin filled in."""
    tensors = {
        "input": TensorRange(-0.9414, 2.125, "percentile"),
        "relu:0": TensorRange(0.0, 6.0, "percentile"),
        "dead": TensorRange(0.0, 0.0, "constant"),
    }
    return Ranges(
        method="percentile",
        scheme="tensorrt",
        samples=100,
        data_fingerprint="d" * 64,
        model_fingerprint="m" * 64,
        versions={"onnxruntime": "1.16.0"},
        tensors=tensors,
        details={"percentile": 99.99},
    )
