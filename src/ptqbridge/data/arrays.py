"""Readers of tensors in .npy files, .npz members and headerless binary files, a few rows at a time."""

from __future__ import annotations

import math
import threading
import zipfile
import zlib
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy

from ptqbridge.data.store import BrokenData, Misfit, Store, hold_open
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec

Array = np.ndarray[Any, Any]


class Reader(Protocol):
    """One file as a row of units: rows along the batch axis, or (``whole``) complete samples of their own shape."""

    shown: str
    units: int
    whole: bool
    note: str

    def read(self, start: int, count: int) -> Array:
        """Units ``start`` up to ``start + count``: rows stacked on axis 0, or the one whole sample (``count`` is 1)."""
        ...


def model_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The NumPy type of an input. Raises InputError for one that no data file can hold (bfloat16, strings, ...)."""
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise InputError(f"input {spec.text()}: data files cannot hold this type")
    return dtype


def fit_shape(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, bool]:
    """How many units an array of ``shape`` holds for input ``spec``, and whether they are whole samples.

    Axis 0 of the input is its batch axis. Accepted: the input's rank (rows), one axis less (one row), one axis more
    (a leading sample axis: whole samples). Raises ValueError, with nothing to say, where fixed dimensions differ.
    """
    rank = len(spec.shape)
    if len(shape) == rank + 1:
        return _checked(spec.shape, shape[1:], shape[0]), True
    if rank == 0 and shape == ():
        return 1, True
    if len(shape) == rank:
        batch = spec.shape[0]
        if isinstance(batch, int) and (batch == 0 or shape[0] % batch):
            raise ValueError
        return _checked(spec.shape[1:], shape[1:], shape[0]), False
    if len(shape) == rank - 1:
        return _checked(spec.shape[1:], shape, 1), False
    raise ValueError


def _checked(expected: tuple[int | str, ...], found: tuple[int, ...], units: int) -> int:
    if any(isinstance(want, int) and want != got for want, got in zip(expected, found, strict=True)):
        raise ValueError
    return units


class ArrayReader:
    """An array for an input; only the rows asked for are in memory. Raises InputError when it does not fit."""

    note = ""

    def __init__(self, rows: NpyRows, spec: TensorSpec) -> None:
        self.shown = rows.shown
        self._rows = rows
        self._dtype = model_dtype(spec)
        found = self._rows.dtype
        text = f"{self.shown}: expected {spec.text()}, found {found.name}{list(self._rows.shape)}"
        if found.newbyteorder("=") != self._dtype and (found.name, self._dtype.name) != ("float64", "float32"):
            raise Misfit(text, hint=_dtype_hint(found.name, self._dtype.name), check="type")
        if found.newbyteorder("=") != self._dtype:
            self.note = f"input '{spec.name}': float64 data is rounded to float32"
        try:
            self.units, self.whole = fit_shape(spec, self._rows.shape)
        except ValueError:
            hint = _shape_hint(spec, self._rows.shape)
            raise Misfit(text, hint=hint, check="layout" if hint else "shape") from None
        if self.units == 0:
            raise InputError(f"{self.shown}: holds no samples, its shape is {list(self._rows.shape)}")
        self._single = len(self._rows.shape) == len(spec.shape) - 1 or self._rows.shape == ()

    def read(self, start: int, count: int) -> Array:
        array = self._rows.all() if self._single else self._rows.read(start, start + count)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which the caller reports
            array = np.ascontiguousarray(array, self._dtype).reshape(array.shape)
        if self._single:
            return array if self.whole else array[None]
        return np.asarray(array[0]) if self.whole else array


def _dtype_hint(found: str, expected: str) -> str:
    if found == "uint8" and expected.startswith("float"):
        return "pixels need a preprocessing recipe (scale, mean, std) to become what the model wants"
    return f"convert with array.astype('{expected}') if the values are meant so"


def _shape_hint(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    def fits(moved: tuple[int, ...]) -> bool:
        try:
            return bool(fit_shape(spec, moved)[0])
        except ValueError:
            return False

    if len(shape) in (3, 4):
        *front, a, b, c = shape
        if fits((*front, c, a, b)) or fits((*front, b, c, a)):
            return "the axes look swapped (NCHW against NHWC)"
    return ""


class NpyRows:
    """Shape, type and rows of a .npy file or .npz member (NumPy Enhancement Proposal 1, versions 1.0 and 2.0).

    Raises BrokenData when it is damaged or cut short, InputError when it holds other things than numbers.
    """

    _stream: BinaryIO | None = None

    def __init__(self, store: Store, name: str) -> None:
        self.shown = store.shown(name)
        self._store, self._name = store, name
        size = store.size(name)
        with store.open(name) as file:
            try:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                self.shape, self.fortran, self.dtype = read(file)
                self._offset = file.tell()
            except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, TypeError, SyntaxError) as error:
                reason = first_line(error) if size else "the file is empty"
                raise BrokenData(f"{self.shown}: not a readable .npy array ({reason})") from None
        if self.dtype.kind not in "fiub":
            raise InputError(
                f"{self.shown}: holds {self.dtype}, expected plain numbers (pickled objects are never read)"
            )
        expected = self._offset + math.prod(self.shape) * self.dtype.itemsize
        if size != expected or any(dim < 0 for dim in self.shape):
            raise BrokenData(f"{self.shown}: the header tells of {expected} bytes in all, found {size}")
        self._lock = threading.Lock()
        self._position = 0

    def all(self) -> Array:
        """The whole array."""
        if not self.shape or self.fortran:
            with self._store.open(self._name) as file:
                _take(file, self._offset, self.shown)
                data = _take(file, math.prod(self.shape) * self.dtype.itemsize, self.shown)
            return np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return self.read(0, self.shape[0])

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` up to ``stop`` of axis 0 (a copy)."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        path = self._store.path(self._name)
        if path is not None and row:
            try:
                order = "F" if self.fortran else "C"
                mapped = np.memmap(path, self.dtype, "r", self._offset, self.shape, order)  # type: ignore[call-overload]
            except (OSError, ValueError) as error:
                raise BrokenData(f"{self.shown}: cannot be read ({error})") from None
            return np.array(mapped[start:stop])
        if self.fortran:
            return np.array(self.all()[start:stop])
        with self._lock:
            data = self._forward(self._offset + start * row, (stop - start) * row)
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])

    def _forward(self, begin: int, size: int) -> bytes:
        """Bytes out of a packed member: going forward unpacks only what follows, going back starts anew."""
        stream = self._stream
        if stream is None or begin < self._position:
            stream, self._position = self._store.open(self._name), 0
            self._stream = stream
            hold_open(self, "_stream")
        while self._position < begin:
            self._position += len(_take(stream, min(begin - self._position, 1 << 20), self.shown))
        data = _take(stream, size, self.shown)
        self._position += size
        return data


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _take(file: BinaryIO, size: int, shown: str) -> bytes:
    try:
        data = file.read(size)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BrokenData(f"{shown}: cannot be unpacked ({error})") from None
    if len(data) != size:
        raise BrokenData(f"{shown}: ends too early")
    return data


class RawReader:
    """A headerless file of the input's own type and shape, C order, native byte order; a dynamic batch counts as 1.

    ``several``: the file may hold any whole number of samples, else exactly one. Raises InputError.
    """

    note = ""

    def __init__(self, store: Store, name: str, spec: TensorSpec, *, several: bool) -> None:
        self.shown = store.shown(name)
        self._store, self._name = store, name
        self._dtype = model_dtype(spec)
        shape = (1 if isinstance(spec.shape[0], str) else spec.shape[0], *spec.shape[1:]) if spec.shape else ()
        fixed = tuple(dim for dim in shape if isinstance(dim, int))
        if len(fixed) != len(shape):
            raise InputError(f"{self.shown}: a raw file has no shape, and the model leaves it open: {spec.text()}")
        size, sample = store.size(name), math.prod(fixed) * self._dtype.itemsize
        if size == 0 or sample == 0 or size % sample or (size != sample and not several):
            many = "a whole number of samples of " if several else ""
            hint = _size_hint(size, sample, self._dtype.itemsize)
            raise Misfit(
                f"{self.shown}: expected {many}{sample} bytes ({self._dtype.name}{list(fixed)}), found {size}",
                hint=hint,
                check="type" if "type" in hint or "uint8" in hint else "shape",
            )
        self._row = fixed[1:]
        self.whole = not fixed
        self.units = size // sample * (fixed[0] if fixed else 1)

    def read(self, start: int, count: int) -> Array:
        row = math.prod(self._row) * self._dtype.itemsize
        with self._store.open(self._name) as file:
            if self._store.path(self._name) is not None:
                file.seek(start * row)
            else:
                _take(file, start * row, self.shown)
            data = _take(file, count * row, self.shown)
        array = np.frombuffer(data, self._dtype)
        return array.reshape(()) if self.whole else array.reshape(count, *self._row)


def _size_hint(size: int, sample: int, itemsize: int) -> str:
    if size == sample + 128:
        return "128 bytes more than one sample: a .npy file by another name?"
    if itemsize > 1 and size * itemsize == sample:
        return "one byte per element: the file seems to hold uint8 values"
    if size and size * 2 == sample:
        return "half the bytes: the file seems to hold a type of half the width"
    if size == sample * 2:
        return "twice the bytes: two samples, or a type of twice the width?"
    return ""


def check_finite(array: Array, shown: str, name: str) -> None:
    """Raise BrokenData naming file, input and place when ``array`` holds NaN or infinity."""
    if array.dtype.kind != "f" or array.size == 0:
        return
    flat = array.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if flat.dtype != np.float16 and math.isfinite(float(np.dot(flat, flat))):
            return  # one pass without a temporary; overflow of huge values falls through to the exact test
    bad = ~np.isfinite(array)
    if bad.any():
        from ptqbridge.data.misread import looks_like

        place = tuple(int(i) for i in np.argwhere(bad)[0])
        other = looks_like(array)
        raise BrokenData(
            f"{shown}: {array[place]} in the data of input '{name}' at {list(place)} ({int(bad.sum())} such)"
            + (f"; its bytes look like {other}" if other else "")
        )
