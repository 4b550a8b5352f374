"""The compiled inner loops, where the installation has them; everything works without, with the same results."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LIBRARY = Path(__file__).with_name("_count.so")
"""What hatch_build.py makes of count.c when a C compiler is there at installation."""

Values = npt.NDArray[np.float32]


class Kernel:
    """The functions of count.c. One for each thread that counts, since the tables are its own.

    All arrays must be contiguous. Extremes, ``(low, high)``, are both NaN when a value is NaN.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises ``AttributeError`` when a function is missing."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._extremes = _typed(library.ptqbridge_extremes, None, pointer, size, pointer)
        self._histogram = _typed(
            library.ptqbridge_histogram, ctypes.c_int,
            pointer, size, ctypes.c_float, ctypes.c_uint32, ctypes.c_int, pointer, pointer, pointer,
        )  # fmt: skip
        self._above = _typed(library.ptqbridge_above, size, pointer, size, ctypes.c_float, pointer, pointer)
        self._found = (ctypes.c_float * 2)()
        self._tables = np.zeros(0, np.uint32)
        self._tables_address = 0

    def extremes(self, values: Values) -> tuple[float, float]:
        """Least and greatest of ``values`` (at least one)."""
        self._extremes(_address(values), values.size, self._found)
        return self._found[0], self._found[1]

    def histogram(
        self, values: Values, scale: np.float32, counts: npt.NDArray[np.int64], *, clip: bool
    ) -> tuple[float, float, bool]:
        """Add to ``counts`` how many ``floor(|x| * scale)`` fall on each bin, and return extremes and ``True``.

        Where something lies beyond the last bin it is counted there with ``clip``; without, nothing is counted, and
        ``False`` is returned. Fewer than 2**32 values.
        """
        if self._tables.size < 4 * counts.size:
            self._tables = np.zeros(4 * counts.size, np.uint32)
            self._tables_address = _address(self._tables)
        counted = self._histogram(
            _address(values), values.size, float(scale), counts.size - 1, clip,
            self._tables_address, _address(counts), self._found,
        )  # fmt: skip
        return self._found[0], self._found[1], bool(counted)

    def above(self, values: Values, floor: np.float32, large: Values) -> tuple[float, float, int]:
        """Write the magnitudes above ``floor`` to ``large`` (of at least as many elements): extremes, and how many."""
        found = self._above(_address(values), values.size, float(floor), _address(large), self._found)
        return self._found[0], self._found[1], int(found)


def load_kernel(library: Path = LIBRARY) -> Kernel | None:
    """A kernel of ``library``; ``None`` where there is none, an outdated one, or one that this machine cannot load."""
    found = _open(library)
    try:
        return Kernel(found) if found is not None else None
    except AttributeError:
        return None


@cache
def _open(library: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(library))
    except OSError:
        return None


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.argtypes = arguments
    function.restype = result
    return function


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]  # half the time of array.ctypes.data
    return address
