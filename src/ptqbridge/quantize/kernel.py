"""The compiled counting loop, where the installation has one; everything works without it, with the same results."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

LIBRARY = Path(__file__).with_name("_count.so")
"""What hatch_build.py makes of count.c when a C compiler is there at installation."""

Count = Callable[[npt.NDArray[np.float32], np.float32, npt.NDArray[np.uint32], npt.NDArray[np.int64]], None]
"""Adds to ``counts`` how many ``floor(|x| * scale)`` of ``values`` fall on each bin, the last one taking what lies
beyond; called as ``(values, scale, tables, counts)`` with contiguous arrays, ``tables`` holding ``TABLES`` zeros per
bin, which it leaves as zeros."""

TABLES = 4


@cache
def counting_kernel(library: Path = LIBRARY) -> Count | None:
    """The loop of ``library``; ``None`` where there is none, or one that this machine cannot load."""
    try:
        function = ctypes.CDLL(str(library)).ptqbridge_count
    except (OSError, AttributeError):
        return None
    pointer = ctypes.c_void_p
    function.argtypes = (pointer, ctypes.c_size_t, ctypes.c_float, ctypes.c_uint32, pointer, pointer)
    function.restype = None

    def count(
        values: npt.NDArray[np.float32],
        scale: np.float32,
        tables: npt.NDArray[np.uint32],
        counts: npt.NDArray[np.int64],
    ) -> None:
        function(values.ctypes.data, values.size, float(scale), counts.size - 1, tables.ctypes.data, counts.ctypes.data)

    return count
