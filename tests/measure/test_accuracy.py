"""Distances to expected outputs, against plain loops; files that do not fit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import InputError
from ptqbridge.measure.accuracy import AccuracyLoss, accuracy_losses, distance, failures
from ptqbridge.spec import Expected

floats = st.floats(-1e3, 1e3, width=32)


def plain(algorithm: str, found: list[float], wanted: list[float], atol: float, rtol: float) -> float:
    pairs = list(zip(found, wanted, strict=True))
    if algorithm == "l0":
        return sum(abs(a - b) > atol + rtol * abs(b) for a, b in pairs) / len(pairs)
    if algorithm == "l1":
        return sum(abs(a - b) for a, b in pairs) / len(pairs)
    if algorithm == "l2":
        return sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    if algorithm == "lInf":
        return max(abs(a - b) for a, b in pairs)
    dot = sum(a * b for a, b in pairs)
    norms = math.sqrt(sum(a * a for a, _ in pairs)) * math.sqrt(sum(b * b for _, b in pairs))
    return 1 - dot / norms


@pytest.mark.parametrize("algorithm", ["l0", "l1", "l2", "lInf", "cos"])
@given(pairs=st.lists(st.tuples(floats, floats), min_size=1, max_size=20))
def test_distances_equal_the_plain_loops(algorithm: str, pairs: list[tuple[float, float]]) -> None:
    found, wanted = [a for a, _ in pairs], [b for _, b in pairs]
    if algorithm == "cos" and not (math.hypot(*found) > 1e-3 and math.hypot(*wanted) > 1e-3):
        return
    got = distance(algorithm, np.array(found), np.array(wanted), atol=1e-3, rtol=1e-2)
    assert got == pytest.approx(plain(algorithm, found, wanted, 1e-3, 1e-2), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("algorithm", ["l1", "l2", "lInf", "cos"])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_is_never_near(algorithm: str, broken: float) -> None:
    loss = distance(algorithm, np.array([1.0, broken]), np.array([1.0, 2.0]))
    assert math.isnan(loss)
    assert not AccuracyLoss("y", algorithm, loss, 1e9).met


def test_l0_counts_what_is_not_finite_as_different_unless_both_are() -> None:
    wanted = np.array([math.nan, math.inf, 1.0, 1.0])
    assert distance("l0", np.array([math.nan, math.inf, math.nan, 1.0]), wanted) == 0.25


def test_equal_infinities_do_not_spoil_the_rest() -> None:
    assert distance("lInf", np.array([math.inf, 1.5]), np.array([math.inf, 1.0])) == 0.5


def test_losses_of_files_and_their_text(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([[1.0, 2.0]], dtype=np.float32))
    np.array([3, 4], dtype=np.int32).tofile(tmp_path / "n.bin")
    outputs = {"y": np.array([[1.0, 2.5]], dtype=np.float32), "n": np.array([3, 4], dtype=np.int32)}
    files = {"y": str(tmp_path / "y.npy"), "n": str(tmp_path / "n.bin")}
    y, n = accuracy_losses(outputs, Expected(files, "lInf", 0.5))
    assert y.text() == "Accuracy loss for tensor y (LInf): 0.500000 [FAIL: >= threshold 0.5]"
    assert n.text() == "Accuracy loss for tensor n (LInf): 0.000000"
    assert failures([y, n]) == "output y: LInf loss 0.5, accepted below 0.5"
    assert y.to_dict() == {"algorithm": "lInf", "loss": 0.5, "limit": 0.5, "met": False}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("z", b"", "there is no output 'z'; outputs: y"),
        ("y", b"123", "y.bin"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "y.bin").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        accuracy_losses({"y": np.zeros(2, np.float32)}, Expected({name: str(tmp_path / "y.bin")}, "l0", 0.1))
    assert caught.value.message.startswith("--loadRefOutputs: ")


def test_a_run_without_outputs_says_so() -> None:
    with pytest.raises(InputError, match="none was brought back"):
        accuracy_losses({}, Expected({"y": "y.bin"}, "l0", 0.1))
