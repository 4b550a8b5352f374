"""The compiled counting loop gives NumPy's counts; skipped where there is no C compiler."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptqbridge.quantize.histogram import Histogram, Scratch, SteppedHistogram
from ptqbridge.quantize.kernel import Count, counting_kernel


@pytest.fixture(scope="module")
def hook(root: Path) -> ModuleType:
    """hatch_build.py as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kernel(hook: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Count:
    """The loop, compiled for this test."""
    library = tmp_path_factory.mktemp("kernel") / "_count.so"
    reason = hook.compile_kernel(library)
    if reason:
        pytest.skip(reason)
    found = counting_kernel(library)
    assert found is not None
    return found


FLOATS = st.floats(-(2.0**70), 2.0**70, width=32)


@given(values=hnp.arrays(np.float32, st.integers(1, 300), elements=FLOATS), zeros=st.integers(0, 3000))
def test_histograms_are_those_of_numpy(kernel: Count, values: np.ndarray, zeros: int) -> None:
    values = np.concatenate((values, np.zeros(zeros, np.float32)))
    low, high = float(values.min()), float(values.max())
    scratch = Scratch(kernel)
    for ours, theirs in (
        (Histogram(256, scratch), Histogram(256)),
        (Histogram(2048, scratch), Histogram(2048)),
        (SteppedHistogram(1.0, 128, 1000, scratch), SteppedHistogram(1.0, 128, 1000)),
        (SteppedHistogram(1e-3, 1024, 16384, scratch), SteppedHistogram(1e-3, 1024, 16384)),
    ):
        for _ in range(2):
            ours.add(values, low, high)
            theirs.add(values, low, high)
        assert ours.counts.tolist() == theirs.counts.tolist()


def test_many_values(kernel: Count) -> None:
    values = np.random.default_rng(0).normal(size=1_000_003).astype(np.float32)
    for view in (values, values[1:], values[:1024], values[:1023], values[:0]):
        counts = np.zeros(2048, np.int64)
        kernel(view, np.float32(100), np.zeros(4 * 2048, np.uint32), counts)
        assert counts.tolist() == np.bincount((np.abs(view) * np.float32(100)).astype(int), minlength=2048).tolist()


def test_what_is_not_finite_stays_in_the_table(kernel: Count) -> None:
    counts, tables = np.zeros(16, np.int64), np.zeros(64, np.uint32)
    kernel(np.array([np.nan, np.inf, -np.inf, 1e30], np.float32), np.float32(1), tables, counts)
    assert counts.tolist() == [0] * 15 + [4]
    assert not tables.any()


def test_no_library_is_no_kernel(tmp_path: Path) -> None:
    assert counting_kernel(tmp_path / "missing.so") is None
    (tmp_path / "text.so").write_text("not a library")
    assert counting_kernel(tmp_path / "text.so") is None


def test_reasons_for_no_library(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTQBRIDGE_PURE", "1")
    assert hook.compile_kernel(tmp_path / "x.so") == "PTQBRIDGE_PURE is set"
    monkeypatch.delenv("PTQBRIDGE_PURE")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.compile_kernel(tmp_path / "x.so") == "no C compiler found"
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", "cc")
    assert hook.compile_kernel(tmp_path / "x.so") == "cc: broken"
    assert not (tmp_path / "x.so").exists()
