"""Samples from a user's Python function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import open_samples
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec

SPEC = TensorSpec("x", "float32", ("n", 2))


def script(tmp_path: Path, body: str) -> str:
    (tmp_path / "feed.py").write_text(f"import numpy as np\n{body}\n")
    return str(tmp_path / "feed.py")


GOOD = """
def load_data():
    for value in range(5):
        yield {"x": np.full((1, 2), value, np.float32)}
def wide():
    yield {"x": np.zeros((3, 2))}
"""


def test_items_are_samples(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    samples = open_samples(path, [SPEC])
    for _ in range(2):
        assert [sample.arrays["x"][0, 0] for sample in samples] == [0, 1, 2, 3, 4]
    assert len(samples) == 5
    assert len(list(open_samples(f"{path}:load_data", [SPEC], samples=2))) == 2
    (wide,) = open_samples(f"{path}:wide", [SPEC])
    assert (wide.arrays["x"].shape, wide.arrays["x"].dtype) == ((3, 2), np.dtype("float32"))
    assert samples.fingerprint != open_samples(f"{path}:wide", [SPEC]).fingerprint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("load_data = 3", "has no function 'load_data'"),
        ("1/0", "cannot be loaded, ZeroDivisionError"),
        ("def load_data(: pass", "cannot be loaded, SyntaxError"),
        ("def load_data(): return []", "yielded no samples"),
        ("def load_data(): yield 3", r"load_data\[0\]: expected a mapping of x, found int"),
        ("def load_data(): yield {'y': 3}", r"load_data\[0\]: expected inputs x, found y"),
        ("def load_data(): yield {'x': np.zeros((1, 3))}", r"expected x: float32\[n,2\], found float64\[1, 3\]"),
        ("def load_data(): yield {'x': np.zeros((1, 2), int)}", "found int64"),
        ("def load_data():\n yield {'x': np.zeros((1, 2))}\n raise KeyError('k')", "failed after item 0 with KeyError"),
    ],
)
def test_wrong_scripts(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_samples(script(tmp_path, body), [SPEC])
    assert "feed.py" in caught.value.message


def test_missing_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.py: no such Python file"):
        open_samples(tmp_path / "none.py:f", [SPEC])


def test_nan_items(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD.replace("full((1, 2), value,", "full((1, 2), np.nan if value == 2 else value,"))
    with pytest.raises(InputError, match=r"load_data\[2\]: nan"):
        list(open_samples(path, [SPEC]))
    samples = open_samples(path, [SPEC], skip_broken=1)
    assert len(list(samples)) == 4
    assert len(samples.skipped) == 1


def test_a_function_must_yield_the_same_again(tmp_path: Path) -> None:
    path = script(tmp_path, "def load_data():\n    yield {'x': np.random.rand(1, 2)}")
    with pytest.raises(InputError, match="yielded other data than the first time") as caught:
        list(open_samples(path, [SPEC]))
    assert "seed" in caught.value.hint


def test_a_function_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbridge.data.generator.MOST", 50)
    path = script(tmp_path, "def load_data():\n    while True:\n        yield {'x': np.zeros((1, 2))}")
    with pytest.raises(InputError, match="yielded more than 50 samples; does it ever end"):
        open_samples(path, [SPEC])
