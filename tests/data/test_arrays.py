"""Readers of .npy, .npz members and raw files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.data.arrays import ArrayReader, NpyRows, RawReader, check_finite, fit_shape, model_dtype
from ptqbridge.data.store import Archive, BrokenData, Folder, Store
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec

SaveNpy = Callable[[str, np.ndarray], Path]
SPEC = TensorSpec("x", "float32", (2, 3, 4))


def at(path: Path) -> tuple[Store, str]:
    return Folder(str(path.parent)), path.name


@pytest.mark.parametrize(
    ("shape", "found", "expected"),
    [
        ((1, 3, 8, 8), (1, 3, 8, 8), (1, False)),
        ((1, 3, 8, 8), (100, 3, 8, 8), (100, False)),
        ((1, 3, 8, 8), (3, 8, 8), (1, False)),
        ((1, 3, 8, 8), (5, 1, 3, 8, 8), (5, True)),
        ((2, 3), (6, 3), (6, False)),
        (("n", "len"), (4, 77), (4, False)),
        (("n",), (), (1, False)),
        ((), (), (1, True)),
        ((), (9,), (9, True)),
    ],
)
def test_shapes_that_fit(shape: tuple[int | str, ...], found: tuple[int, ...], expected: tuple[int, bool]) -> None:
    assert fit_shape(TensorSpec("x", "float32", shape), found) == expected


@pytest.mark.parametrize(
    ("shape", "found"),
    [((1, 3, 8, 8), (1, 8, 8, 3)), ((2, 3), (5, 3)), ((1, 3, 8, 8), (8, 8)), ((2, 3), (4, 1, 3)), ((1,), (1, 2, 3))],
)
def test_shapes_that_do_not_fit(shape: tuple[int | str, ...], found: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        fit_shape(TensorSpec("x", "float32", shape), found)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5))
def test_a_stack_counts_its_rows(shape: list[int], count: int) -> None:
    spec = TensorSpec("x", "float32", tuple(shape))
    assert fit_shape(spec, (shape[0] * count, *shape[1:])) == (shape[0] * count, False)
    assert fit_shape(spec, (count, *shape)) == (count, True)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [None, np.savez, np.savez_compressed])
def test_rows_equal_the_array(tmp_path: Path, rng: np.random.Generator, order: str, packed: object) -> None:
    array = np.asarray(rng.random((7, 3, 4)), np.float32, order=order)  # type: ignore[call-overload]
    if packed is None:
        np.save(tmp_path / "a.npy", array)
        rows = NpyRows(Folder(str(tmp_path)), "a.npy")
    else:
        packed(tmp_path / "a.npz", x=array)  # type: ignore[operator]
        rows = NpyRows(Archive(str(tmp_path / "a.npz")), "x.npy")
    for start, stop in ((0, 2), (5, 7), (1, 3), (6, 7), (0, 7)):  # forward and back again
        assert np.array_equal(rows.read(start, stop), array[start:stop])
    assert np.array_equal(rows.all(), array)


def test_big_endian_and_float64_become_the_model_type(save_npy: SaveNpy) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    big = ArrayReader(NpyRows(*at(save_npy("big.npy", array.astype(">f4")))), SPEC)
    wide = ArrayReader(NpyRows(*at(save_npy("wide.npy", array.astype(np.float64)))), SPEC)
    for reader in (big, wide):
        got = reader.read(0, 2)
        assert got.dtype == np.dtype("float32")
        assert got.dtype.isnative
        assert np.array_equal(got, array)
    assert big.note == ""
    assert wide.note == "input 'x': float64 data is rounded to float32"


@pytest.mark.parametrize(
    ("array", "message", "hint"),
    [
        (np.zeros((2, 3, 4), np.float16), r"expected x: float32\[2,3,4\], found float16\[2, 3, 4\]", "astype"),
        (np.zeros((2, 3, 4), np.uint8), "found uint8", "preprocessing recipe"),
        (np.zeros((2, 3, 4), np.int64), "found int64", "astype"),
        (np.zeros((2, 3, 5), np.float32), r"found float32\[2, 3, 5\]", ""),
        (np.zeros((0, 3, 4), np.float32), "holds no samples", ""),
    ],
)
def test_misfits_name_expected_and_found(save_npy: SaveNpy, array: np.ndarray, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ArrayReader(NpyRows(*at(save_npy("bad.npy", array))), SPEC)
    assert "bad.npy: " in caught.value.message
    assert hint in caught.value.hint


def test_swapped_layout_is_hinted_at(save_npy: SaveNpy) -> None:
    spec = TensorSpec("x", "float32", (1, 3, 8, 6))
    with pytest.raises(InputError) as caught:
        ArrayReader(NpyRows(*at(save_npy("a.npy", np.zeros((1, 8, 6, 3), np.float32)))), spec)
    assert "NCHW against NHWC" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "not a readable .npy array"),
        (b"\x93NUMPY\x01\x00\xff\xff", "not a readable .npy array"),
        (b"\x93NUMPY\x01\x00\x04\x00{}{}", "not a readable .npy array"),
        (b"\x93NUMPY\x09\x00\x04\x00", "not a readable .npy array"),
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(BrokenData, match=rf"a\.npy: .*{message}") as caught:
        NpyRows(Folder(str(tmp_path)), "a.npy")
    assert "\n" not in caught.value.message


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + content)
    with pytest.raises(InputError):
        NpyRows(*at(path))


def test_cut_short_and_too_long(save_npy: SaveNpy) -> None:
    path = save_npy("a.npy", np.zeros((2, 3, 4), np.float32))
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(BrokenData, match=rf"tells of {len(whole)} bytes in all, found {len(content)}"):
            NpyRows(*at(path))


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="expected plain numbers"):
        NpyRows(Folder(str(tmp_path)), "a.npy")


def test_raw_file(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.random((4, 3, 4), np.float32)
    array.tofile(tmp_path / "a.bin")
    reader = RawReader(Folder(str(tmp_path)), "a.bin", SPEC, several=True)
    assert (reader.units, reader.whole) == (4, False)
    assert np.array_equal(reader.read(2, 2), array[2:])
    scalar = RawReader(Folder(str(tmp_path)), "a.bin", TensorSpec("x", "float32", ("n", 3, 16)), several=False)
    assert scalar.read(0, 1).shape == (1, 3, 16)


@pytest.mark.parametrize(
    ("size", "hint"), [(96 + 128, "npy"), (24, "uint8"), (48, "half the width"), (192, "two samples"), (0, ""), (7, "")]
)
def test_raw_file_of_wrong_size(tmp_path: Path, size: int, hint: str) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"a\.bin: expected 96 bytes \(float32\[2, 3, 4\]\), found {size}") as caught:
        RawReader(Folder(str(tmp_path)), "a.bin", SPEC, several=False)
    assert hint in caught.value.hint


def test_raw_file_needs_a_fixed_shape(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(8))
    with pytest.raises(InputError, match=r"a raw file has no shape.*float32\[1,len\]"):
        RawReader(Folder(str(tmp_path)), "a.bin", TensorSpec("x", "float32", (1, "len")), several=True)


@pytest.mark.parametrize("dtype", ["bfloat16x", "object", "str", "complex64", "float8e4m3fn"])
def test_types_without_files(dtype: str) -> None:
    with pytest.raises(InputError, match="data files cannot hold this type"):
        model_dtype(TensorSpec("x", dtype, (1,)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_placed(dtype: str, value: float) -> None:
    array = np.zeros((2, 3), dtype)
    array[1, 2] = value
    with pytest.raises(BrokenData, match=rf"f\.npy: {value} in the data of input 'x' at \[1, 2\] \(1 such\)"):
        check_finite(array, "f.npy", "x")


def test_huge_but_finite_values_pass() -> None:
    with np.errstate(over="raise"):
        check_finite(np.full((4,), np.float32(3e38)), "f", "x")
    check_finite(np.arange(3), "f", "x")
    check_finite(np.empty((0,), np.float32), "f", "x")
