"""Patterns of names, bfloat16, and outputs that come late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.tensorrt.device import open_device
from ptqbridge.backends.tensorrt.tensors import (
    LateOutput,
    Tensor,
    from_bf16,
    input_values,
    matches,
    plausible,
    to_bf16,
)
from ptqbridge.errors import InputError
from ptqbridge.spec import TensorSpec


def test_patterns() -> None:
    given_shapes = {"in*": 1, "input1": 2, "*ids": 3}
    assert plausible(given_shapes, "input1", stars=True) == 2
    assert plausible(given_shapes, "input7", stars=True) == 1
    assert plausible(given_shapes, "token_ids", stars=True) == 3
    assert plausible(given_shapes, "input7", stars=False) is None
    assert not matches("ab*ba", "aba") and matches("ab*ba", "abba") and matches("x", "x")


@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100),
        min_size=1,
    )
)
def test_bfloat16_is_the_nearest(values: list[float]) -> None:
    found = np.array(values, np.float32)
    back = from_bf16(to_bf16(found))
    assert (np.abs(back - found) <= np.abs(found) * 2.0**-8 + 1e-38).all()
    np.testing.assert_array_equal(from_bf16(to_bf16(back)), back)


def test_ties_go_to_even() -> None:
    halfway = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    assert to_bf16(halfway).tolist() == [0x3F80, 0x3F82]


def test_noise_of_small_types() -> None:
    spec = TensorSpec("x", "uint16", (3,))
    values = from_bf16(input_values(Tensor(spec, True, 6, "BF16"), ""))
    np.testing.assert_allclose(values, [-0.9999843, -0.7369244, 0.5112107], rtol=2**-8)
    with pytest.raises(InputError, match="FP8"):
        input_values(Tensor(TensorSpec("x", "uint8", (3,)), True, 3, "FP8"), "")


def test_memory_of_a_late_output_grows_and_is_kept(driver: Any) -> None:
    device = open_device(0)
    late = LateOutput(device, managed=False)
    stream = device.stream()
    late.copy(stream)  # nothing yet
    assert late.values("float32").size == 0
    first = late.take(10, 256)
    assert late.buffers[0].size == 256 and late.take(200, 256) == first
    second = late.take(300, 256)
    assert second != first and late.buffers[-1].size == 512
    assert late.take(0, 256) == second  # TensorRT wants an address even for nothing
    late.buffers[-1].host[:8] = np.array([1, 2], np.float32).view(np.uint8)
    late.shape = (2, 1)
    assert late.values("float32").tolist() == [[1], [2]]
    late.copy(stream)
    late.copy(stream)
    assert driver.calls.count("cuMemcpyDtoHAsync_v2") == 2
    late.close()
    assert driver.memory == {}
