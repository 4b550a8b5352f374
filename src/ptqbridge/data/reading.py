"""From readers to samples: which rows make up each inference, read in order, checked, fingerprinted."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ptqbridge.data.arrays import Array, Reader, check_finite
from ptqbridge.data.layout import Ref
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.store import SKIP_HINT, BrokenData, Left, chunks
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec


@dataclass(frozen=True)
class Sample:
    """One inference's worth of input: ``arrays`` by input name, as the float model wants them."""

    name: str
    arrays: dict[str, Array]


def rows_per_sample(spec: TensorSpec) -> int:
    """Rows along axis 0 that one inference takes: the fixed batch, 1 for a dynamic one."""
    return spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 1


class Column:
    """All data of one input, as samples numbered from 0. Raises InputError where the files do not go together."""

    def __init__(self, spec: TensorSpec, readers: Sequence[tuple[Ref, Reader]]) -> None:
        self.spec, self.readers = spec, readers
        whole = {reader.whole: reader.shown for _, reader in readers}
        if len(whole) > 1:
            raise InputError(f"{whole[True]} has a leading sample axis, {whole[False]} has none")
        self._per = 1 if True in whole else rows_per_sample(spec)
        self._ends = list(accumulate(reader.units for _, reader in readers))
        self.samples, rest = divmod(self._ends[-1], self._per)
        if not self.samples:
            raise InputError(f"{readers[0][1].shown}: {rest} rows found, one sample of {spec.text()} takes {self._per}")
        self.note = f"input '{spec.name}': {rest} rows left over, {self._per} make a sample" if rest else ""

    def pieces(self, index: int) -> Iterator[tuple[Ref, Reader, int, int]]:
        """The parts of files that make up one sample: (file, reader, first unit, units)."""
        unit, stop = index * self._per, (index + 1) * self._per
        while unit < stop:
            place = bisect.bisect_right(self._ends, unit)
            ref, reader = self.readers[place]
            start = unit - (self._ends[place] - reader.units)
            count = min(reader.units - start, stop - unit)
            yield ref, reader, start, count
            unit += count

    def read(self, index: int) -> tuple[str, Array]:
        """Name and checked array of one sample. Raises BrokenData for damage and NaN/inf."""
        parts, names = [], []
        for _, reader, start, count in self.pieces(index):
            name = _piece(reader, start, count)
            array = reader.read(start, count)
            check_finite(array, name, self.spec.name)
            parts.append(array)
            names.append(name)
        return _several(names), joined(self.spec, parts, names)

    def name(self, index: int) -> str:
        """What ``read`` calls that sample."""
        return _several([_piece(reader, start, count) for _, reader, start, count in self.pieces(index)])


def _piece(reader: Reader, start: int, count: int) -> str:
    return reader.shown if reader.units == count else f"{reader.shown}[{start}]"


def _several(names: Sequence[str]) -> str:
    return names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")


def joined(spec: TensorSpec, parts: Sequence[Array], names: Sequence[str]) -> Array:
    """Arrays one after the other along the batch axis. Raises InputError naming the two that differ in shape."""
    if len(parts) == 1:
        return parts[0]
    for part, name in zip(parts, names, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise InputError(
                f"input '{spec.name}': {names[0]} {list(parts[0].shape)} and {name} {list(part.shape)} "
                "do not go into one batch"
            )
    return np.concatenate(parts)


class Plan:
    """The samples chosen, grouped into inferences."""

    def __init__(
        self,
        columns: Sequence[Column],
        chosen: Sequence[int],
        *,
        batch: int,
        skip_broken: int | None,
        damaged: Sequence[Left],
    ) -> None:
        self._columns, self._chosen, self._batch = columns, chosen, batch
        self._skip_broken, self._damaged = skip_broken, damaged

    def __len__(self) -> int:
        return -(-len(self._chosen) // self._batch)

    def produce(self, left: list[Left]) -> Iterator[Sample]:
        """Read and yield; broken samples within the allowance go to ``left``. Raises InputError.

        Without a limit (``skip_broken=None``) samples that do not fit the model go there too, and all may.
        """
        left += self._damaged
        tolerated = InputError if self._skip_broken is None else BrokenData
        group: list[Sample] = []
        some = False
        for index in self._chosen:
            try:
                group.append(self._sample(index))
            except tolerated as error:
                left.append(Left.because(self._name(index), error))
                if self._skip_broken is not None and len(left) > self._skip_broken:
                    error.hint = error.hint or SKIP_HINT
                    raise
            if len(group) == self._batch:
                yield self._inference(group)
                group, some = [], True
        if group:
            yield self._inference(group)
        elif not some and self._skip_broken is not None:
            raise InputError(f"{left[-1].message}; no other sample is left")

    def named(self, names: Container[str]) -> Iterator[Sample]:
        """The samples of these names alone, for inferences of one sample each. Raises InputError."""
        return (self._sample(index) for index in self._chosen if self._name(index) in names)

    def _name(self, index: int) -> str:
        """The files of one sample, told without reading it."""
        return ", ".join(column.name(index) for column in self._columns)

    def _sample(self, index: int) -> Sample:
        names, arrays = [], {}
        sizes: dict[str, tuple[int, str]] = {}
        for column in self._columns:
            name, array = column.read(index)
            for dim, size in zip(column.spec.shape, array.shape, strict=True):
                if isinstance(dim, str) and dim and sizes.setdefault(dim, (size, name))[0] != size:
                    raise InputError(f"dimension '{dim}' is {sizes[dim][0]} in {sizes[dim][1]} but {size} in {name}")
            names.append(name)
            arrays[column.spec.name] = array
        return Sample(", ".join(names), arrays)

    def _inference(self, group: Sequence[Sample]) -> Sample:
        if len(group) == 1:
            return group[0]
        names = [sample.name for sample in group]
        arrays = {
            column.spec.name: joined(column.spec, [s.arrays[column.spec.name] for s in group], names)
            for column in self._columns
        }
        return Sample(f"{names[0]} to {names[-1]}", arrays)

    def digest(self, root: str, recipes: Mapping[str, Recipe]) -> str:
        """sha256 over what the chosen samples read: sorted file names below ``root`` with contents, units, recipes."""
        units: dict[tuple[str, str], list[tuple[int, int]]] = {}
        files: dict[tuple[str, str], Ref] = {}
        for column in self._columns:
            for index in self._chosen:
                for ref, _, start, count in column.pieces(index):
                    key = (column.spec.name, os.path.relpath(ref.store.shown(ref.name), root or "."))
                    files[key] = ref
                    units.setdefault(key, []).append((start, count))
        total = hashlib.sha256()
        for key in sorted(files):
            content = hashlib.sha256()
            size = 0
            with contextlib.suppress(BrokenData):  # what cannot be read is no data either
                for chunk in chunks(files[key].store, files[key].name):
                    content.update(chunk)
                    size += len(chunk)
            total.update(json.dumps([*key, size, content.hexdigest(), units[key]]).encode())
        used = {name: recipe.to_dict() for name, recipe in recipes.items()}
        total.update(json.dumps([self._batch, used], sort_keys=True).encode())
        return total.hexdigest()
