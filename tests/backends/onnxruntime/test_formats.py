"""Types and layouts at the border: outputs stay equal, errors name the option."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from ptqbridge.backends.onnxruntime.formats import apply_formats
from ptqbridge.errors import OptionError
from ptqbridge.spec import IOFormat


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, feed)[0]
    return result


def test_nothing_asked_changes_nothing(make_net: Callable[..., onnx.ModelProto]) -> None:
    proto = make_net()
    same, notes = apply_formats(proto, [IOFormat("fp32", ("chw",))], [])
    assert same is proto
    assert notes == ()


def test_half_precision_channels_last_input_and_half_output(make_net: Callable[..., onnx.ModelProto]) -> None:
    proto = make_net()
    changed, notes = apply_formats(proto, [IOFormat("fp16", ("hwc",))], [IOFormat("fp16", ("chw",))])
    onnx.checker.check_model(changed, full_check=True)
    x = np.random.default_rng(3).normal(0, 1, (1, 3, 8, 8)).astype(np.float16)
    expected = run(proto, {"x": x.astype(np.float32)})
    found = run(changed, {"x": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected.astype(np.float16))
    assert [d.dim_value for d in changed.graph.input[0].type.tensor_type.shape.dim] == [1, 8, 8, 3]
    assert len(notes) == 2
    assert [value.name for value in changed.graph.input] == ["x"]


def test_integer_input_is_cast(make_net: Callable[..., onnx.ModelProto]) -> None:
    changed, _ = apply_formats(make_net(), [IOFormat("int32", ())], [])
    x = np.arange(192, dtype=np.int32).reshape(1, 3, 8, 8) - 90
    np.testing.assert_array_equal(run(changed, {"x": x}), run(make_net(), {"x": x.astype(np.float32)}))


def test_one_format_stands_for_all_but_other_counts_do_not(make_net: Callable[..., onnx.ModelProto]) -> None:
    with pytest.raises(OptionError, match="--inputIOFormats: expected 1 format or one for each of 1 tensors, found 2"):
        apply_formats(make_net(), [IOFormat("fp16", ("chw",))] * 2, [])


def test_hwc_needs_four_dimensions(make_net: Callable[..., onnx.ModelProto]) -> None:
    with pytest.raises(OptionError, match="'y' has 2"):
        apply_formats(make_net(), [], [IOFormat("fp32", ("hwc",))])
