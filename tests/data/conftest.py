"""Small data folders for the tests of ptqbridge.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.spec.tensor import TensorSpec


@pytest.fixture
def image_input() -> TensorSpec:
    return TensorSpec("input1", "float32", (1, 3, 8, 6))


@pytest.fixture
def dynamic_input() -> TensorSpec:
    return TensorSpec("input1", "float32", ("batch", 3, 8, 6))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def save_npy(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    def save(name: str, array: np.ndarray) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
        return path

    return save


@pytest.fixture
def save_picture(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    from PIL import Image

    def save(name: str, height: int = 8, width: int = 6, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path, **options)
        return path

    return save
