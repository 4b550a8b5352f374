"""What is kept of a tensor's values while samples stream by: extremes, a histogram of magnitudes, or the largest ones.

Each of these can be fed in any order and merged across workers with the same result, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ptqbridge.quantize.kernel import Kernel, Values

_CHUNK = 32_768
"""Elements handled at a time: 128 KiB of float32, so that the passes over one chunk stay in the L2 cache."""

_LARGE_CHUNK = 8 * _CHUNK
"""The same for the compiled loop, which passes once."""


class Collector(Protocol):
    """Keeps what one method needs of one tensor."""

    def add(self, values: Values, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Take in one sample's ``values`` (flat, contiguous, float32, at least one), and return their extremes.

        ``low`` and ``high``: the extremes, as far as they are known. Where what is returned is not finite, some value
        was not, and the collector is of no use any more.
        """

    def state(self) -> tuple[npt.NDArray[Any], list[int]]:
        """Everything kept, for a checkpoint."""

    def restore(self, array: npt.NDArray[Any], numbers: list[int]) -> None:
        """Take over a ``state`` of a collector made with the same arguments."""


class Scratch:
    """Working memory for one worker, so that no chunk allocates; and how values are looked at.

    ``kernel``: the compiled loops, ``None`` to do the same with NumPy.
    """

    _SPREAD = 4  # as many tables are counted into by turns: neighbours are often equal, and then wait for each other
    _SPREAD_BINS = 4096  # with more bins the tables leave the L2 cache

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel
        self.real = np.empty(_CHUNK if kernel is None else _LARGE_CHUNK, np.float32)
        if kernel is None:
            self._index = np.empty(_CHUNK, np.int32)  # processors convert float32 to this at once, to int64 one by one
            self._place = np.empty(_CHUNK, np.intp)
            self._turns = np.arange(_CHUNK, dtype=np.intp) % self._SPREAD

    def extremes(self, values: Values, low: float | None = None) -> tuple[float, float]:
        """Least (unless it is known already) and greatest value; both NaN when a value is."""
        if self.kernel is not None:
            found = self.kernel.extremes(values)
            return found if low is None or math.isnan(found[0]) else (low, found[1])
        high = float(values.max())
        return (high if math.isnan(high) else float(values.min()) if low is None else low), high

    def count(
        self,
        values: Values,
        scale: np.float32,
        counts: npt.NDArray[np.int64],
        low: float | None = None,
        high: float | None = None,
        *,
        clip: bool = False,
    ) -> tuple[float, float, bool]:
        """Add to ``counts`` how many ``floor(|x| * scale)`` fall on each of its bins; extremes, and ``True``.

        What lies beyond the bins counts in the last one if ``clip``. Without, nothing is counted then, and ``False``
        returned. ``low`` and ``high`` as in ``Collector.add``.
        """
        if self.kernel is not None and values.size < 2**32:
            least, most, counted = self.kernel.histogram(values, scale, counts, clip=clip)
            return least if low is None or math.isnan(least) else low, most, counted
        if high is None:
            low, high = self.extremes(values, low)
        elif low is None:
            low = float(values.min())
        with np.errstate(over="ignore"):
            beyond = not np.float32(max(-low, high)) * scale < counts.size
        if beyond and not clip:
            return low, high, False
        if math.isfinite(low) and math.isfinite(high):
            self._count_by_numpy(values, low, scale, counts, clip=clip)
        return low, high, True

    def _count_by_numpy(
        self, values: Values, low: float, scale: np.float32, counts: npt.NDArray[np.int64], *, clip: bool
    ) -> None:
        bins = counts.size
        spread = self._SPREAD if bins <= self._SPREAD_BINS else 1
        offsets = self._turns[: values.size] * bins
        for start in range(0, values.size, _CHUNK):
            chunk = values[start : start + _CHUNK]
            real, index, place = self.real[: chunk.size], self._index[: chunk.size], self._place[: chunk.size]
            np.multiply(chunk, scale, out=real)
            if low < 0.0:
                np.abs(real, out=real)
            if clip:
                np.minimum(real, np.float32(bins - 1), out=real)
            np.copyto(index, real, casting="unsafe")  # truncates, as floor does for what is not negative
            if spread == 1:
                counts += np.bincount(index, minlength=bins)
            else:
                np.add(index, offsets[: chunk.size], out=place)
                counts += np.bincount(place, minlength=spread * bins).reshape(spread, bins).sum(axis=0)


class Histogram:
    """Counts of ``|x|`` in ``bins`` equal bins over ``[0, limit)``, where ``limit`` is a power of two.

    When a larger value comes, ``limit`` doubles as often as needed and neighbouring bins are added in pairs. Scaling by
    a power of two is exact in floating point, so the counts are those of binning everything with the final limit.
    """

    _LEAST_EXPONENT = -100  # below 2**-100 the scale would leave float32; such values share the lowest bins

    def __init__(self, bins: int, scratch: Scratch | None = None) -> None:
        if bins < 2 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two, not {bins}")
        self.counts = np.zeros(bins, np.int64)
        self.exponent: int | None = None  # limit == 2 ** exponent; None until a value other than zero came
        self._scale = np.float32(0.0)
        self._scratch = scratch or Scratch()

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.counts)

    @property
    def width(self) -> float:
        """Width of one bin, in the tensor's unit; 0.0 while only zeros came."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent) / self.bins

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """The counts up to the last bin that holds anything (at least one bin)."""
        filled = np.flatnonzero(self.counts)
        return self.counts[: int(filled[-1]) + 1 if len(filled) else 1]

    def add(self, values: Values, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Count one sample's values; see ``Collector``."""
        if self.exponent is None or high is not None:
            if low is None or high is None:
                low, high = self._scratch.extremes(values, low)
        else:  # mostly the limit holds, and one look is enough
            low, high, counted = self._scratch.count(values, self._scale, self.counts, low)
            if counted:
                return low, high
        if not (math.isfinite(low) and math.isfinite(high)):
            return low, high
        peak = max(-low, high)
        if peak == 0.0:
            self.counts[0] += values.size
            return low, high
        self._reach(max(math.frexp(peak)[1], self._LEAST_EXPONENT))
        self._scratch.count(values, self._scale, self.counts, low, high)
        return low, high

    def merge(self, other: Histogram) -> None:
        """Add the counts of ``other``, a histogram of as many bins."""
        if other.exponent is None:
            self.counts[0] += other.counts[0]
            return
        self._reach(other.exponent)
        assert self.exponent is not None
        counts = other.counts
        for _ in range(other.exponent, self.exponent):
            counts = _in_pairs(counts)
        self.counts += counts

    def state(self) -> tuple[npt.NDArray[np.int64], list[int]]:
        """See ``Collector``."""
        return self.counts, [] if self.exponent is None else [self.exponent]

    def restore(self, array: npt.NDArray[np.int64], numbers: list[int]) -> None:
        """See ``Collector``."""
        self.counts, self.exponent = array, None
        if numbers:
            self._reach(numbers[0])

    def _reach(self, exponent: int) -> None:
        """Make the limit at least ``2 ** exponent``. A magnitude m has ``m < 2 ** frexp(m)[1]``."""
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            self.counts = _in_pairs(self.counts)
            self.exponent += 1
        self._scale = np.float32(math.ldexp(float(self.bins), -self.exponent))


def _in_pairs(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """As many bins of twice the width."""
    wide = np.zeros_like(counts)
    wide[: len(counts) // 2] = counts.reshape(-1, 2).sum(axis=1)
    return wide


class SteppedHistogram:
    """Counts of ``|x|`` in bins of a width fixed beforehand: ``bins`` of them up to ``peak``, and more as needed.

    ``peak`` itself counts in the last of the first ``bins``. At most ``most`` bins are made; what lies beyond counts in
    the last. With a ``peak`` of zero there is no width, and nothing is counted. ``merged``: how many such bins are one.
    """

    def __init__(self, peak: float, bins: int, most: int, scratch: Scratch | None = None, merged: int = 1) -> None:
        self.width = peak / bins * merged
        self.counts = np.zeros(-(-bins // merged), np.int64)
        self._most = most
        self._scratch = scratch or Scratch()
        self._scale = np.float32(bins / peak) if peak else np.float32(0.0)
        while np.float32(peak) * self._scale >= bins:
            self._scale = np.nextafter(self._scale, np.float32(0.0))
        self._scale /= np.float32(merged)

    def add(self, values: Values, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Count one sample's values; see ``Collector``."""
        if self.width == 0.0:
            return (low, high) if low is not None and high is not None else self._scratch.extremes(values, low)
        clip = len(self.counts) == self._most
        low, high, counted = self._scratch.count(values, self._scale, self.counts, low, high, clip=clip)
        if counted or not (math.isfinite(low) and math.isfinite(high)):
            return low, high
        with np.errstate(over="ignore"):
            place = float(np.float32(max(-low, high)) * self._scale)
        self._reach(int(min(place, self._most - 1)) + 1)
        self._scratch.count(values, self._scale, self.counts, low, high, clip=len(self.counts) == self._most)
        return low, high

    def merge(self, other: SteppedHistogram) -> None:
        """Add the counts of ``other``, made with the same arguments."""
        self._reach(len(other.counts))
        self.counts[: len(other.counts)] += other.counts

    def state(self) -> tuple[npt.NDArray[np.int64], list[int]]:
        """See ``Collector``."""
        return self.counts, []

    def restore(self, array: npt.NDArray[np.int64], numbers: list[int]) -> None:
        """See ``Collector``."""
        self.counts = array

    def _reach(self, bins: int) -> None:
        if bins > len(self.counts):
            self.counts = np.concatenate((self.counts, np.zeros(bins - len(self.counts), np.int64)))


class Tail:
    """The ``keep`` largest ``|x|`` of everything seen, and how many values there were in all."""

    def __init__(self, keep: int, scratch: Scratch | None = None) -> None:
        self.keep = max(1, keep)
        self.count = 0
        self._floor = np.float32(0.0)  # at least ``keep`` kept values are >= this, so nothing below it matters
        self._kept = np.empty(0, np.float32)
        self._filled = 0
        self._scratch = scratch or Scratch()

    def add(self, values: Values, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Look at one sample's values; see ``Collector``."""
        self.count += values.size
        if self._scratch.kernel is None:
            return self._add_by_numpy(values, low, high)
        least, most = math.inf, -math.inf
        large = self._scratch.real
        for start in range(0, values.size, large.size):
            chunk = values[start : start + large.size]
            chunk_low, chunk_high, found = self._scratch.kernel.above(chunk, self._floor, large)
            if math.isnan(chunk_low):
                return math.nan, math.nan
            least, most = min(least, chunk_low), max(most, chunk_high)
            self._keep(large[:found])
        return least if low is None else low, most

    def merge(self, other: Tail) -> None:
        """Take over what ``other``, a tail of the same ``keep``, has kept."""
        self.count += other.count
        self.keep = min(self.keep, other.keep)
        self._keep(other._kept[: other._filled])

    def largest(self) -> Values:
        """The kept magnitudes in descending order: all that are not zero, or the ``keep`` largest."""
        return np.sort(self._kept[: self._filled])[::-1][: self.keep]

    def state(self) -> tuple[Values, list[int]]:
        """See ``Collector``."""
        return self.largest(), [self.count, self.keep]

    def restore(self, array: Values, numbers: list[int]) -> None:
        """See ``Collector``."""
        self.count, self.keep = numbers
        self._kept, self._filled = array, array.size

    def _add_by_numpy(self, values: Values, low: float | None, high: float | None) -> tuple[float, float]:
        if low is None or high is None:
            low, high = self._scratch.extremes(values, low)
        if max(-low, high) > self._floor:
            for start in range(0, values.size, _CHUNK):
                chunk = values[start : start + _CHUNK]
                if low < 0.0:
                    chunk = np.abs(chunk)
                self._keep(chunk[chunk > self._floor])
        return low, high

    def _keep(self, large: Values) -> None:
        """Put ``large`` to what is kept; of too much the largest stay."""
        needed = self._filled + large.size
        most = self.keep + self.keep // 4 + 1024
        if needed > most:
            both = np.concatenate((self._kept[: self._filled], large))
            self._kept = np.partition(both, needed - self.keep)[needed - self.keep :].copy()
            self._filled = self.keep
            self._floor = np.float32(self._kept.min())
        elif large.size:
            if needed > self._kept.size:  # one array that grows: many small ones would take more than what they hold
                room = np.empty(max(needed, min(self._kept.size * 3 // 2, most)), np.float32)
                room[: self._filled] = self._kept[: self._filled]
                self._kept = room
            self._kept[self._filled : needed] = large
            self._filled = needed


class Both:
    """Two collectors fed as one."""

    def __init__(self, first: Tail, second: SteppedHistogram) -> None:
        self.first, self.second = first, second

    def add(self, values: Values, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """See ``Collector``."""
        return self.second.add(values, *self.first.add(values, low, high))

    def merge(self, other: Both) -> None:
        """Merge each with its like."""
        self.first.merge(other.first)
        self.second.merge(other.second)

    def state(self) -> tuple[npt.NDArray[np.uint8], list[int]]:
        """The bytes of both, and the number of the first's."""
        (values, numbers), (counts, _) = self.first.state(), self.second.state()
        start = np.frombuffer(values.tobytes(), np.uint8)
        return np.concatenate((start, np.frombuffer(counts.tobytes(), np.uint8))), [start.size, *numbers]

    def restore(self, array: npt.NDArray[np.uint8], numbers: list[int]) -> None:
        """See ``Collector``."""
        split, *rest = numbers
        self.first.restore(np.frombuffer(array[:split].tobytes(), np.float32).copy(), rest)
        self.second.restore(np.frombuffer(array[split:].tobytes(), np.int64).copy(), [])
