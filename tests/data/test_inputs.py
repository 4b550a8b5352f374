"""One input's data for a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import load_input
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec


@pytest.fixture
def array(rng: np.random.Generator) -> np.ndarray:
    return rng.random((2, 3, 8, 6), np.float32)


SPEC = TensorSpec("x", "float32", ("n", 3, 8, 6))
SHAPE = (2, 3, 8, 6)


@pytest.mark.parametrize("name", ["a.bin", "a.dat", "a", "a.tensor", "a.npy", "a.npz"])
def test_files(tmp_path: Path, array: np.ndarray, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, array)
    elif name.endswith("npz"):
        np.savez(path, x=array, y=array)
    else:
        array.tofile(path)
    got = load_input(path, SPEC, SHAPE)
    assert got.dtype == array.dtype
    assert np.array_equal(got, array)


def test_nan_is_allowed_here(tmp_path: Path) -> None:
    np.full(4, np.nan, np.float32).tofile(tmp_path / "a.bin")
    assert np.isnan(load_input(tmp_path / "a.bin", TensorSpec("x", "float32", (4,)))).all()


def test_pictures_fill_the_batch(save_picture: Callable[..., Path]) -> None:
    got = load_input(save_picture("a.png", 16, 16), SPEC, SHAPE)
    assert got.shape == SHAPE
    assert np.array_equal(got[0], got[1])


@pytest.mark.parametrize("size", [0, 4, 1151, 1156, 2304])
def test_raw_size_must_be_exact(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"a\.bin: expected 1152 bytes .*, found {size}$"):
        load_input(tmp_path / "a.bin", SPEC, SHAPE)


@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (3, 8, 6), (4, 3, 8, 6), (3, 2, 3, 8, 6), (2, 8, 6, 3)])
def test_npy_of_another_shape(save_npy: Callable[..., Path], shape: tuple[int, ...]) -> None:
    path = save_npy("a.npy", np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=r"a\.npy: expected (one )?x: float32\[2,3,8,6\], found"):
        load_input(path, SPEC, SHAPE)


def test_wrong_type_and_place(tmp_path: Path, save_npy: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="found int64"):
        load_input(save_npy("a.npy", np.zeros(SHAPE, np.int64)), SPEC, SHAPE)
    with pytest.raises(InputError, match="none: no such file"):
        load_input(tmp_path / "none", SPEC, SHAPE)
    with pytest.raises(InputError, match="expected a file, found a folder"):
        load_input(tmp_path, SPEC, SHAPE)
    with pytest.raises(InputError, match="is open; give it with --shapes"):
        load_input(tmp_path / "a.npy", SPEC)


def test_a_recipe_beside_a_picture_counts(save_picture: Callable[..., Path]) -> None:
    path = save_picture("d/a.png")
    plain = load_input(path, SPEC, SHAPE)
    (path.parent / "recipe.yaml").write_text("mean: 0.5\nstd: 0.5\n")
    assert np.allclose(load_input(path, SPEC, SHAPE), plain * 2 - 1, atol=1e-6)
