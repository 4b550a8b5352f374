"""Find what ruins quantization in calibration data before the build: findings with sample and reason.

One streaming pass; per sample only a few numbers and a hash are kept. What the data alone cannot decide is looked up
in the model's first normalisation layer (lint_model.py) or reported as unsure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ptqbridge.data.arrays import Array
from ptqbridge.data.images import image_size
from ptqbridge.data.recipe import Recipe, parse_resize
from ptqbridge.data.samples import Samples
from ptqbridge.spec.tensor import TensorSpec

if TYPE_CHECKING:
    import onnx

FEW = 20
"""Fewer samples than this are reported: the vendors' manuals advise 20 to 500 (Horizon) or 500 (NVIDIA)."""
_HEADERS = 64
_ABSURD = 1e20
_TINY = 1e-30


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong.

    ``level``: ``error`` (the build would be worthless), ``warning`` (it probably loses accuracy), ``unsure`` (the data
    cannot tell). ``check`` is a short stable name, ``sample`` is empty when the finding is about all of them.
    """

    level: str
    check: str
    input: str
    sample: str
    reason: str

    def text(self) -> str:
        """One line."""
        where = ": ".join(filter(None, (self.sample, f"input '{self.input}'" if self.input else "")))
        return f"{self.level} [{self.check}] {where}{': ' if where else ''}{self.reason}"


@dataclass(frozen=True)
class _Facts:
    """What is remembered of one sample of one input."""

    sample: str
    low: float
    high: float
    whole: bool
    tiny: float
    digest: bytes
    interleaved: float
    borders: bool


def lint_data(
    samples: Samples,
    inputs: Sequence[TensorSpec],
    *,
    proto: onnx.ModelProto | None = None,
    nv12: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Check ``samples``; open them with a large ``skip_broken``, so that damaged ones become findings, not errors.

    ``proto`` is the float model, when at hand. ``nv12`` names the inputs that a board will feed as NV12.
    Raises InputError only when no sample at all is usable.
    """
    facts: dict[str, list[_Facts]] = {spec.name: [] for spec in inputs}
    for sample in samples:
        for spec in inputs:
            facts[spec.name].append(_look(sample.name, spec, sample.arrays[spec.name]))
    findings = [Finding("error", "broken", "", "", message) for message in samples.skipped]
    count = len(facts[inputs[0].name])
    if count < FEW:
        findings.append(Finding("warning", "few", "", "", f"{count} samples, at least {FEW} are advised"))
    for spec in inputs:
        for check in _CHECKS:
            findings += check(spec, facts[spec.name], samples.recipes.get(spec.name))
        findings += _distortion(spec, samples)
        if spec.name in nv12:
            findings += _odd_size(spec)
    findings += _duplicates(inputs, facts)
    if proto is not None:
        from ptqbridge.data.lint_model import against_model

        findings += against_model(proto, samples, inputs)
    elif any(is_image(spec) for spec in inputs):
        name = next(spec.name for spec in inputs if is_image(spec))
        findings.append(Finding("unsure", "color", name, "", "without the model, RGB and BGR cannot be told apart"))
    return findings


def _look(sample: str, spec: TensorSpec, array: Array) -> _Facts:
    flat = array.reshape(-1)
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    floating = array.dtype.kind == "f"
    return _Facts(
        sample=sample,
        low=low,
        high=high,
        whole=bool(np.array_equal(flat, np.rint(flat))) if floating else True,
        tiny=float(np.mean((np.abs(flat) < _TINY) & (flat != 0))) if floating and flat.size else 0.0,
        digest=hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest(),
        interleaved=_interleaved(array) if is_image(spec) and spec.shape[1] == 3 else 1.0,
        borders=_has_borders(array, spec) if is_image(spec) else False,
    )


def is_image(spec: TensorSpec) -> bool:
    """Whether an input looks like a picture: four axes, one of them of 1 or 3 channels."""
    return len(spec.shape) == 4 and (spec.shape[1] in (1, 3) or spec.shape[3] in (1, 3))


def _interleaved(array: Array) -> float:
    """How much nearer a value is to the third after it than to the next: below 1 where channels are interleaved."""
    flat = array.reshape(-1).astype(np.float32)
    if flat.size < 64:
        return 1.0
    near, third = (float(np.abs(flat[step:] - flat[:-step]).mean()) for step in (1, 3))
    return third / near if near else 1.0


def _has_borders(array: Array, spec: TensorSpec) -> bool:
    """Whether two opposite edges of all pictures are of one and the same value per channel."""
    planes = array if spec.shape[1] in (1, 3) else array.transpose(0, 3, 1, 2)
    if min(planes.shape[2:]) < 8 or not planes.size:
        return False

    def flat(edges: Array) -> bool:
        return bool((edges.max(axis=(2, 3)) == edges.min(axis=(2, 3))).all())

    inside = planes[:, :, planes.shape[2] // 2, :]
    if inside.max() == inside.min():
        return False
    rows, columns = planes[:, :, [0, 1, -2, -1], :], planes[:, :, :, [0, 1, -2, -1]]
    return flat(rows) != flat(columns)


def _constant(spec: TensorSpec, facts: Sequence[_Facts], recipe: Recipe | None) -> Iterator[Finding]:
    if not any(isinstance(dim, str) or dim > 1 for dim in spec.shape):
        return
    for fact in facts:
        if fact.low == fact.high:
            yield Finding("warning", "constant", spec.name, fact.sample, f"every value is {fact.low:g}")


def _wrong_type(spec: TensorSpec, facts: Sequence[_Facts], recipe: Recipe | None) -> Iterator[Finding]:
    for fact in facts:
        if fact.tiny > 0.2:
            reason = f"{fact.tiny:.0%} of the values are below {_TINY:g} but not 0: integers read as {spec.dtype}?"
            yield Finding("error", "type", spec.name, fact.sample, reason)
        elif spec.dtype.startswith("float") and max(abs(fact.low), abs(fact.high)) > _ABSURD:
            reason = f"values {fact.low:.3g}..{fact.high:.3g}: another type of the same width read as {spec.dtype}?"
            yield Finding("error", "type", spec.name, fact.sample, reason)


def _scale(spec: TensorSpec, facts: Sequence[_Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """0..255 against 0..1, and values scaled twice; for pictures the recipe is known, so only tensors are looked at."""
    if not is_image(spec) or not spec.dtype.startswith("float") or recipe is not None or not facts:
        return
    pixels = [fact for fact in facts if fact.whole and fact.low >= 0 and 16 < fact.high <= 255]
    rest = [fact for fact in facts if fact not in pixels and abs(fact.high) < 16 and fact.low != fact.high]
    if pixels and rest:
        few, many = sorted((pixels, rest), key=len)
        for fact in few:
            reason = f"values {fact.low:.4g}..{fact.high:.4g} where {len(many)} others are on another scale"
            yield Finding("error", "scale", spec.name, fact.sample, reason)
    elif pixels:
        reason = "all values are whole numbers 0..255: right only for a model that normalises inside"
        yield Finding("unsure", "scale", spec.name, "", reason)
    spread = max(fact.high for fact in facts) - min(fact.low for fact in facts)
    if 0 < spread <= 1.01 / 64:
        reason = f"all values lie within {spread:.2g} of each other: divided by 255 twice, or normalised twice?"
        yield Finding("error", "scaled-twice", spec.name, "", reason)


def _layout(spec: TensorSpec, facts: Sequence[_Facts], recipe: Recipe | None) -> Iterator[Finding]:
    if recipe is not None or not is_image(spec) or spec.shape[1] != 3:
        return
    for fact in facts:
        if fact.interleaved < 0.75:
            reason = "every third value is alike, as in NHWC data, but the model wants NCHW"
            yield Finding("error", "layout", spec.name, fact.sample, reason)


def _resize(spec: TensorSpec, facts: Sequence[_Facts], recipe: Recipe | None) -> Iterator[Finding]:
    rule = parse_resize(recipe.resize) if recipe and recipe.resize else None
    bordered = sum(fact.borders for fact in facts)
    if bordered * 2 > len(facts) and (rule is None or rule.mode != "letterbox"):
        reason = f"{bordered} of {len(facts)} samples have plain edges, as of letterbox borders"
        reason += f", but the recipe says {rule.text()}" if rule else "; the board must be fed the same way"
        yield Finding("unsure", "letterbox", spec.name, "", reason)


def _distortion(spec: TensorSpec, samples: Samples) -> Iterator[Finding]:
    """Stretching pictures of another shape: right only if the model was trained so."""
    recipe = samples.recipes.get(spec.name)
    rule = parse_resize(recipe.resize) if recipe else None
    if rule is None or rule.mode != "stretch" or rule.size is None:
        return
    ratios = []
    for file in samples.files[:_HEADERS]:
        size = image_size(file)
        if size:
            ratio = size[0] / size[1] * rule.size[0] / rule.size[1]
            ratios.append(max(ratio, 1 / ratio))
    if ratios and (middle := float(np.median(ratios))) > 1.25:
        reason = (
            f"stretching distorts the pictures {middle:.2g} times; letterbox or crop, unless the training did so too"
        )
        yield Finding("unsure", "stretch", spec.name, "", reason)


def _odd_size(spec: TensorSpec) -> Iterator[Finding]:
    height, width = spec.shape[2:4] if spec.shape[1:2] in ((1,), (3,)) else spec.shape[1:3]
    if any(isinstance(size, int) and size % 2 for size in (height, width)):
        yield Finding("error", "nv12", spec.name, "", f"nv12 needs even height and width, found {height}x{width}")


def _duplicates(inputs: Sequence[TensorSpec], facts: dict[str, list[_Facts]]) -> Iterator[Finding]:
    """Samples equal in all inputs."""
    first: dict[tuple[bytes, ...], str] = {}
    for row in zip(*(facts[spec.name] for spec in inputs), strict=True):
        earlier = first.setdefault(tuple(fact.digest for fact in row), row[0].sample)
        if earlier != row[0].sample:
            yield Finding("warning", "duplicate", "", row[0].sample, f"the same as {earlier}")


_CHECKS: tuple[Callable[[TensorSpec, Sequence[_Facts], Recipe | None], Iterator[Finding]], ...] = (
    _constant,
    _wrong_type,
    _scale,
    _layout,
    _resize,
)
