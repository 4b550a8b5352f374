"""Calibration samples: one inference's worth of data each, read when iterated, never all at once."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import pairwise

from ptqbridge.data import layout
from ptqbridge.data.arrays import ArrayReader, NpyRows, RawReader, Reader
from ptqbridge.data.generator import Generated
from ptqbridge.data.images import ImageReader, PixelReader
from ptqbridge.data.misread import looks_like
from ptqbridge.data.reading import Column, Plan, Sample, rows_per_sample
from ptqbridge.data.recipe import Recipe, recipe_beside
from ptqbridge.data.recorded import NumbersReader, Recorded, find_record
from ptqbridge.data.store import SKIP_HINT, BrokenData, Left
from ptqbridge.errors import InputError, OptionError
from ptqbridge.spec.tensor import TensorSpec
from ptqbridge.wording import counted


class Samples:
    """A re-iterable row of :class:`Sample`; every iteration reads the files again and yields the same.

    ``pictures``: the picture files, by input. ``notes``: one-line remarks for the user. ``recipes``: what is done to
    pictures, by input. ``left``: the samples left out by the latest iteration, ``skipped`` their messages.
    """

    def __init__(
        self,
        count: int,
        produce: Callable[[list[Left]], Iterator[Sample]],
        digest: Callable[[], str],
        *,
        pictures: Mapping[str, Sequence[layout.Ref]] | None = None,
        notes: tuple[str, ...] = (),
        recipes: dict[str, Recipe] | None = None,
        chosen: int | None = None,
        damaged: int = 0,
        named: Callable[[Container[str]], Iterator[Sample]] | None = None,
    ) -> None:
        self._chosen = damaged + (count if chosen is None else chosen)
        self._count, self._produce, self._digest, self._named = count, produce, digest, named
        self.pictures, self.notes, self.recipes = pictures or {}, notes, recipes or {}
        self.left: list[Left] = []
        self._fingerprint = ""
        self._progress: Callable[[int, int], None] | None = None

    def __len__(self) -> int:
        """Inferences that an iteration gives; fewer only by samples left out as broken."""
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        self.left = []
        made = self._produce(self.left)
        return self._telling(made, self._progress) if self._progress else made

    def tell(self, progress: Callable[[int, int], None] | None) -> None:
        """From now on let iterations call ``progress`` with the number of samples done with, and ``len(self)``."""
        self._progress = progress

    def _telling(self, made: Iterator[Sample], progress: Callable[[int, int], None]) -> Iterator[Sample]:
        for done, sample in enumerate(made, 1):
            yield sample
            progress(done, self._count)

    def named(self, names: Container[str]) -> Iterator[Sample]:
        """Those whose names an iteration gave; other files are not read where that can be."""
        return self._named(names) if self._named else (sample for sample in self if sample.name in names)

    @property
    def skipped(self) -> list[str]:
        """Why each sample of the latest iteration was left out, a line each."""
        return [left.message for left in self.left]

    @property
    def found(self) -> int:
        """Samples to read, with those that are damaged."""
        return self._chosen

    @property
    def used(self) -> int:
        """Samples that the latest iteration gave, however many of them one inference takes at a time."""
        return self._chosen - len(self.left)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over names, contents, selection and recipe; where the folder lies does not count."""
        if not self._fingerprint:
            self._fingerprint = self._digest()
        return self._fingerprint


def open_samples(
    path: str | os.PathLike[str],
    inputs: Sequence[TensorSpec],
    *,
    recipe: Recipe | None = None,
    samples: int | None = None,
    seed: int = 0,
    skip_broken: int | None = 0,
    batch: int = 1,
) -> Samples:
    """Open calibration data for a model with these ``inputs``; layout.py says how files are found and paired.

    Axis 0 of an input is its batch axis. A fixed batch N takes N rows a sample; a dynamic one takes ``batch`` samples
    of one row per inference (the last may be smaller). Arrays with one axis more than the input are whole samples
    along it. Other symbolic dimensions take what the data has. float64 data for a float32 input is rounded; any other
    difference of type is an error. ``samples`` takes that many, one seeded draw from each of as many equal stretches.
    ``skip_broken`` allows that many damaged files or samples with NaN/inf to be left out; None leaves out all of them,
    and those that do not fit the model too: for lint, which reports ``left``.
    ``recipe`` applies to pictures and uint8 arrays of pictures, never to float arrays. What it leaves empty comes from
    a ``recipe.yaml`` in the folder, then from the model (:class:`Recipe`), and ``notes`` says which.

    Raises InputError, OptionError or (Pillow) ToolchainMissing: one line naming file, expected and found.
    """
    text = os.fspath(path)
    _check_counts(inputs, samples, skip_broken, batch)
    if not inputs:
        raise InputError(f"{text}: the model has no inputs, so there is nothing to calibrate with")
    if re.search(r"\.py(:\w+)?$", text):
        return _open_generator(text, inputs, samples, seed, skip_broken)
    names = [spec.name for spec in inputs]
    record = find_record(text)
    table = record.table(names) if record else layout.find(text, names)
    origin = ""
    recipe = None if recipe == Recipe() else recipe
    beside = None if record else recipe_beside(*layout.home(text, names))
    if beside:
        place, written = beside
        origin = f" (from {place}{', where options say nothing else' if recipe else ''})"
        recipe = (recipe or Recipe()).over(written)
    rows, damaged = _open_rows(table, inputs, recipe, skip_broken, record)
    if not rows:
        return _nothing(damaged, table.notes)
    columns = [Column(spec, [row[spec.name] for row in rows]) for spec in inputs]
    total = min(column.samples for column in columns)
    chosen = spread(total, total if samples is None else samples, seed)
    plan = Plan(columns, chosen, batch=batch, skip_broken=skip_broken, damaged=damaged)
    notes = [*table.notes, *(column.note for column in columns if column.note)]
    recipes: dict[str, Recipe] = {}
    for column in columns:
        used = next(
            (r.recipe for _, r in column.readers if isinstance(r, (ImageReader, PixelReader, NumbersReader))), None
        )
        if used:
            recipes[column.spec.name] = used
            why = origin if recipe or record else " (default: no recipe was given)"
            notes.append(f"pictures of input '{column.spec.name}': {used.describe()}{why}")
        elif record and (known := record.forms[column.spec.name].recipe):
            recipes[column.spec.name] = known
        elif recipe and not origin:
            notes.append(f"input '{column.spec.name}': the recipe is for pictures; these arrays are taken as they are")
        notes += [reader.note for _, reader in column.readers if reader.note][:1]
        notes += _doubt(column)
    if samples is not None and samples > total:
        notes.append(f"{text}: {counted(samples, 'sample')} asked for, {total} found")
    return Samples(
        len(plan),
        plan.produce,
        lambda: plan.digest(record.root if record else layout.root(text), recipes),
        pictures={c.spec.name: [ref for ref, _ in c.readers if ref.kind == "pictures"] for c in columns},
        notes=tuple(dict.fromkeys(notes)),
        recipes=recipes,
        chosen=len(chosen),
        damaged=len(damaged),
        named=plan.named if batch == 1 else None,
    )


def _doubt(column: Column) -> list[str]:
    """A remark on the first file of a headerless kind whose bytes look like another type: nothing else would tell."""
    if not isinstance(column.readers[0][1], RawReader):
        return []
    try:
        name, array = column.read(0)
    except InputError:
        return []  # said when the sample's turn comes
    other = looks_like(array)
    return [f"{name}: its bytes look like {other}, not {column.spec.dtype}; lint-data looks at all"] if other else []


def _nothing(damaged: list[Left], notes: Sequence[str]) -> Samples:
    """Samples none of which can be used."""

    def produce(left: list[Left]) -> Iterator[Sample]:
        left += damaged
        return iter(())

    return Samples(0, produce, str, notes=tuple(notes), damaged=len(damaged))


def _open_generator(
    text: str, inputs: Sequence[TensorSpec], samples: int | None, seed: int, skip_broken: int | None
) -> Samples:
    generated = Generated(text, inputs)
    chosen = spread(generated.count, generated.count if samples is None else samples, seed)
    notes = (
        [f"{text}: {samples} samples asked for, {generated.count} found"] if (samples or 0) > generated.count else []
    )
    return Samples(
        len(chosen),
        lambda left: generated.produce(frozenset(chosen), left, skip_broken),
        lambda: hashlib.sha256(f"{generated.digest} {chosen}".encode()).hexdigest(),
        notes=tuple(notes),
    )


def spread(total: int, wanted: int, seed: int) -> list[int]:
    """``wanted`` ascending indices below ``total``: one drawn from each of ``wanted`` equal stretches."""
    if wanted >= total:
        return list(range(total))
    draw = random.Random(seed)
    bounds = [index * total // wanted for index in range(wanted + 1)]
    return [draw.randrange(low, high) for low, high in pairwise(bounds)]


def _check_counts(inputs: Sequence[TensorSpec], samples: int | None, skip_broken: int | None, batch: int) -> None:
    if samples is not None and samples < 1:
        raise OptionError(f"--calibSamples: expected at least 1, found {samples}")
    if skip_broken is not None and skip_broken < 0:
        raise OptionError(f"--skipBroken: expected at least 0, found {skip_broken}")
    if batch < 1:
        raise OptionError(f"--calibBatch: expected at least 1, found {batch}")
    fixed = next((spec for spec in inputs if not spec.shape or isinstance(spec.shape[0], int)), None)
    if batch > 1 and fixed:
        raise OptionError(f"--calibBatch: {batch} samples at once asked for, but the batch is fixed in {fixed.text()}")


def _open_rows(
    table: layout.Table,
    inputs: Sequence[TensorSpec],
    recipe: Recipe | None,
    skip_broken: int | None,
    record: Recorded | None,
) -> tuple[list[dict[str, tuple[layout.Ref, Reader]]], list[Left]]:
    """Readers of every row, and the damaged ones left out. Raises InputError."""
    rows = []
    damaged: list[Left] = []
    tolerated = InputError if skip_broken is None else BrokenData
    for refs in table.rows.values():
        try:
            row = {
                spec.name: (
                    ref := refs[spec.name],
                    record.reader(ref, spec, recipe) if record else open_reader(ref, spec, recipe),
                )
                for spec in inputs
            }
            _same_count(row, inputs)
        except tolerated as error:
            name = ", ".join(refs[spec.name].store.shown(refs[spec.name].name) for spec in inputs)
            damaged.append(Left.because(name, error))
            if skip_broken is not None and len(damaged) > skip_broken:
                error.hint = error.hint or SKIP_HINT
                raise
            continue
        rows.append(row)
    if not rows and skip_broken is not None:
        raise InputError(f"{damaged[0].message}; no other sample is left")
    return rows, damaged


def _same_count(row: dict[str, tuple[layout.Ref, Reader]], inputs: Sequence[TensorSpec]) -> None:
    counts = {}
    for spec in inputs:
        reader = row[spec.name][1]
        counts[reader.shown] = reader.units / (1 if reader.whole else rows_per_sample(spec))
    if len(set(counts.values())) > 1:
        (name, count), (other, against) = sorted(counts.items(), key=lambda item: item[1])[:: len(counts) - 1]
        raise InputError(f"{name} holds {counted(f'{count:g}', 'sample')}, its partner {other} holds {against:g}")


def open_reader(ref: layout.Ref, spec: TensorSpec, recipe: Recipe | None) -> Reader:
    """The reader of one data file for one input. Raises InputError, BrokenData or OptionError."""
    if ref.kind == "pictures":
        return ImageReader(ref.store, ref.name, spec, (recipe or Recipe()).resolve(spec))
    if ref.kind == "raw files":
        return RawReader(ref.store, ref.name, spec, several=ref.alone)
    rows = NpyRows(ref.store, ref.name)
    if recipe and rows.dtype.name == "uint8" and spec.dtype.startswith("float"):
        return PixelReader(rows, spec, recipe.resolve(spec))
    return ArrayReader(rows, spec)
