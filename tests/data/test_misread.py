"""Bytes of another type of the same size are recognised; real data of many kinds are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from ptqbridge.data.misread import looks_like

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(3, 64, 64))
PIXELS = RNG.integers(0, 256, (3, 64, 64))


def reread(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.frombuffer(array.tobytes(), dtype)


@pytest.mark.parametrize(
    ("written", "read", "expected"),
    [
        (PIXELS.astype(np.int32), np.float32, "int32"),
        ((PIXELS - 128).astype(np.int32), np.float32, "int32"),
        (PIXELS.astype(np.int64), np.float32, "int64"),
        (PIXELS.astype(np.uint8), np.float32, "uint8"),
        (NORMAL.astype(np.float16), np.float32, "float16"),
        (NORMAL, np.float32, "float64"),
        (NORMAL.astype(np.float32).astype(np.float64), np.float32, "float64"),
        (NORMAL.astype(">f4"), np.float32, "float32 in the other byte order"),
        (PIXELS.astype(">f4"), np.float32, "float32 in the other byte order"),
        (NORMAL.astype(np.float32), np.int32, "float32"),
        (PIXELS.astype(np.float32), np.int32, "float32"),
        (NORMAL.astype(np.float32), np.int64, "float32"),
        (PIXELS.astype(np.int32), np.int64, "int32"),
        (NORMAL, np.int64, "float64"),
    ],
)
def test_another_type(written: np.ndarray, read: type, expected: str) -> None:
    assert looks_like(reread(written, read)) == expected


def softmax() -> np.ndarray:
    values = np.exp(NORMAL * 20)
    return values / values.sum()


@pytest.mark.parametrize(
    "array",
    [
        PIXELS.astype(np.float32),
        (PIXELS / 255).astype(np.float32),
        NORMAL.astype(np.float32),
        NORMAL.astype(np.float16),
        NORMAL,
        (NORMAL / 255).astype(np.float32),
        np.maximum(NORMAL, 0).astype(np.float32),
        RNG.gamma(1, 8, (999,)).astype(np.float32),
        np.exp(NORMAL * 3).astype(np.float32),
        softmax().astype(np.float32),
        softmax().astype(np.float16).astype(np.float32),
        NORMAL.astype(np.float16).astype(np.float32),
        np.zeros(9, np.float32),
        (NORMAL * 1e-8).astype(np.float32),
        (NORMAL[0, 0] * 1e-8).astype(np.float32),
        np.eye(99, dtype=np.float32),
        np.zeros(0, np.float32),
        RNG.integers(0, 30000, (9, 9)),
        RNG.integers(0, 1 << 20, (99,)).astype(np.int32),
        PIXELS.astype(np.uint8),
        NORMAL > 0,
    ],
)
def test_its_own_type(array: np.ndarray) -> None:
    assert looks_like(array) == ""
