"""The compiled loops give what NumPy gives; skipped where there is no C compiler."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptqbridge.quantize.histogram import Both, Collector, Histogram, Scratch, SteppedHistogram, Tail
from ptqbridge.quantize.kernel import Kernel, load_kernel


@pytest.fixture(scope="module")
def hook(root: Path) -> ModuleType:
    """hatch_build.py as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kernel(hook: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """The loops, compiled for this test."""
    library = tmp_path_factory.mktemp("kernel") / "_count.so"
    reason = hook.compile_kernel(library)
    if reason:
        pytest.skip(reason)
    found = load_kernel(library)
    assert found is not None
    return found


FLOATS = st.floats(-(2.0**70), 2.0**70, width=32)


@given(
    parts=st.lists(hnp.arrays(np.float32, st.integers(1, 300), elements=FLOATS), min_size=1, max_size=4),
    zeros=st.integers(0, 3000),
    hints=st.booleans(),
)
def test_collectors_keep_what_they_keep_with_numpy(
    kernel: Kernel, parts: list[np.ndarray], zeros: int, hints: bool
) -> None:
    makes: list[Callable[[Scratch], Collector]] = [
        lambda scratch: Histogram(256, scratch),
        lambda scratch: Histogram(2048, scratch),
        lambda scratch: SteppedHistogram(1.0, 128, 1000, scratch),
        lambda scratch: SteppedHistogram(1e-3, 1024, 16384, scratch),
        lambda scratch: SteppedHistogram(0.0, 1024, 16384, scratch),
        lambda scratch: Tail(3, scratch),
        lambda scratch: Tail(400, scratch),
        lambda scratch: Both(Tail(20, scratch), SteppedHistogram(1.0, 128, 1000, scratch)),
    ]
    parts = [*parts, np.concatenate((parts[0], np.zeros(zeros, np.float32)))]
    for make in makes:
        ours, theirs = make(Scratch(kernel)), make(Scratch())
        for part in parts:
            extremes = float(part.min()), float(part.max())
            given = extremes if hints else ()
            assert ours.add(part, *given) == theirs.add(part, *given) == extremes
        for one, other in zip(ours.state(), theirs.state(), strict=True):
            assert list(one) == list(other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 5, 1030, 2062])
def test_what_is_not_finite_is_told(kernel: Kernel, bad: float, position: int) -> None:
    good = np.random.default_rng(0).normal(size=2063).astype(np.float32)
    values = good.copy()
    values[position] = bad
    for scratch in (Scratch(kernel), Scratch()):
        assert not np.isfinite(scratch.extremes(values)).all()
        assert np.isnan(scratch.extremes(values, 0.0)).all() == np.isnan(bad)
        for make in (lambda s: Histogram(256, s), lambda s: SteppedHistogram(3.0, 64, 128, s), lambda s: Tail(9, s)):
            for first in ([], [good]):
                collector: Collector = make(scratch)
                for part in first:
                    collector.add(part)
                found = collector.add(values)
                assert not np.isfinite(found).all()
                assert np.isnan(found).any() == np.isnan(bad)


def test_many_values(kernel: Kernel) -> None:
    values = np.random.default_rng(0).normal(size=1_000_003).astype(np.float32)
    for view in (values, values[1:], values[:1024], values[:1023], values[:1]):
        counts = np.zeros(2048, np.int64)
        assert kernel.histogram(view, np.float32(100), counts, clip=False) == (view.min(), view.max(), True)
        assert counts.tolist() == np.bincount((np.abs(view) * np.float32(100)).astype(int), minlength=2048).tolist()
        assert kernel.extremes(view) == (view.min(), view.max())
        ours, theirs = Tail(1000, Scratch(kernel)), Tail(1000)
        assert ours.add(view) == theirs.add(view)
        assert ours.largest().tolist() == theirs.largest().tolist()


def test_what_lies_beyond_the_bins(kernel: Kernel) -> None:
    counts, values = np.zeros(16, np.int64), np.array([-16.0, 1.0, 15.9], np.float32)
    assert kernel.histogram(values, np.float32(1), counts, clip=False) == (-16.0, np.float32(15.9), False)
    assert not counts.any()
    assert kernel.histogram(values, np.float32(1), counts, clip=True) == (-16.0, np.float32(15.9), True)
    assert counts.tolist() == [0, 1, *[0] * 13, 2]
    extreme = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    for _ in range(2):  # the tables were left clean
        counts[:] = 0
        kernel.histogram(extreme, np.float32(1), counts, clip=True)
        assert counts.tolist() == [0] * 15 + [4]


def test_no_library_is_no_kernel(tmp_path: Path) -> None:
    assert load_kernel(tmp_path / "missing.so") is None
    (tmp_path / "text.so").write_text("not a library")
    assert load_kernel(tmp_path / "text.so") is None


def test_a_library_without_the_loops_is_no_kernel(hook: ModuleType, tmp_path: Path) -> None:
    hook.SOURCE = tmp_path / "other.c"
    hook.SOURCE.write_text("int ptqbridge_count(void) { return 0; }\n")
    if not hook.compile_kernel(tmp_path / "old.so"):
        assert load_kernel(tmp_path / "old.so") is None


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
