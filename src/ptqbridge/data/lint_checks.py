"""The single checks of lint: from what is remembered of the samples of one input to findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ptqbridge.data.facts import TINY, Facts, Finding, is_image
from ptqbridge.data.images import image_size
from ptqbridge.data.recipe import Recipe, parse_resize
from ptqbridge.data.samples import Samples
from ptqbridge.spec.tensor import TensorSpec

_HEADERS = 64
_ABSURD = 1e20
_FAINT = 64
"""A sample whose values spread this many times less than those of most others stands out."""
_NORMALISED = 3.2
"""Normalised pixels stay within this: ImageNet's mean and std give -2.2 to 2.7, MNIST's 2.9."""

Check = Callable[[TensorSpec, Sequence[Facts], "Recipe | None"], Iterator[Finding]]


def constant(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """Samples of one value. Masks and states may well be: integers and flags are not looked at."""
    if spec.dtype.startswith(("int", "bool")):
        return
    flat = [fact for fact in facts if fact.low == fact.high and math.prod(fact.shape) > 1]
    if len(flat) == len(facts) > 1 and not is_image(spec) and len({fact.low for fact in flat}) == 1:
        reason = f"every value of every sample is {flat[0].low:g}: right for a state that starts so"
        yield Finding("unsure", "constant", spec.name, "", reason)
        return
    for fact in flat:
        yield Finding("warning", "constant", spec.name, fact.sample, f"every value is {fact.low:g}")


def wrong_type(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """Bytes of another type of the same size."""
    for fact in facts:
        if fact.misread:
            reason = (
                f"its bytes look like {fact.misread}, read as {spec.dtype} they give {fact.low:.3g}..{fact.high:.3g}"
            )
            yield Finding("error", "type", spec.name, fact.sample, reason)
        elif fact.tiny > 0.2:
            reason = f"{fact.tiny:.0%} of the values are below {TINY:g} but not 0: integers read as {spec.dtype}?"
            yield Finding("error", "type", spec.name, fact.sample, reason)
        elif spec.dtype.startswith("float") and max(abs(fact.low), abs(fact.high)) > _ABSURD:
            reason = f"values {fact.low:.3g}..{fact.high:.3g}: another type of the same width read as {spec.dtype}?"
            yield Finding("error", "type", spec.name, fact.sample, reason)


def scale(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """0..255 against 0..1, and values scaled twice; for pictures the recipe is known, so only tensors are looked at."""
    if not is_image(spec) or not spec.dtype.startswith("float") or recipe is not None or not facts:
        return
    pixels = [fact for fact in facts if fact.whole and fact.low >= 0 and 16 < fact.high <= 255]
    rest = [fact for fact in facts if abs(fact.high) < 16 and fact.low != fact.high]
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
    else:
        usual = float(np.median([fact.spread for fact in facts]))
        for fact in facts:
            if 0 < fact.spread < usual / _FAINT:
                reason = (
                    f"its values spread {usual / fact.spread:.3g} times less than those of most others: scaled twice?"
                )
                yield Finding("warning", "scale", spec.name, fact.sample, reason)


def normalised_twice(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """Colour pictures beyond what normalising pixels once can give."""
    if recipe is not None or not facts or 3 not in spec.shape[1:] or not is_image(spec):
        return
    low, high = (float(np.median([getattr(fact, end) for fact in facts])) for end in ("low", "high"))
    if low < 0 and _NORMALISED < max(-low, high) < 16 and not facts[0].whole:
        reason = f"most samples reach {low:.3g}..{high:.3g}, beyond pixels normalised once (about -2.2..2.7): twice?"
        yield Finding("unsure", "normalised-twice", spec.name, "", reason)


def layout(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """NHWC data in an NCHW input, or the other way round."""
    if recipe is not None or not is_image(spec) or 3 not in (spec.shape[1], spec.shape[3]):
        return
    wrong, reason = ("interleaved", "every third value is alike, as in NHWC data, but the model wants NCHW")
    if spec.shape[1] != 3:
        wrong, reason = ("planar", "neighbouring values are alike, as in NCHW data, but the model wants NHWC")
    swapped = [fact for fact in facts if fact.order == wrong]
    few = len(swapped) * 2 < len(facts)
    for fact in swapped:
        sure = "warning" if few else "error"
        yield Finding(sure, "layout", spec.name, fact.sample, reason + "; most others are not so" * few)


def borders(spec: TensorSpec, facts: Sequence[Facts], recipe: Recipe | None) -> Iterator[Finding]:
    """Letterboxed samples where the recipe does not letterbox."""
    rule = parse_resize(recipe.resize) if recipe and recipe.resize else None
    bordered = sum(fact.borders for fact in facts)
    if bordered * 2 > len(facts) and (rule is None or rule.mode != "letterbox"):
        reason = f"{bordered} of {len(facts)} samples have plain edges, as of letterbox borders"
        reason += f", but the recipe says {rule.text()}" if rule else "; the board must be fed the same way"
        yield Finding("unsure", "letterbox", spec.name, "", reason)


ALL: tuple[Check, ...] = (constant, wrong_type, scale, normalised_twice, layout, borders)


def distortion(spec: TensorSpec, samples: Samples) -> Iterator[Finding]:
    """Stretching pictures of another shape: right only if the model was trained so."""
    recipe = samples.recipes.get(spec.name)
    rule = parse_resize(recipe.resize) if recipe else None
    if rule is None or rule.mode != "stretch" or rule.size is None:
        return
    ratios = []
    pictures = samples.pictures.get(spec.name, ())
    for ref in pictures[:: -(-len(pictures) // _HEADERS) or 1]:
        size = image_size(ref.store, ref.name)
        if size:
            ratio = size[0] / size[1] * rule.size[0] / rule.size[1]
            ratios.append(max(ratio, 1 / ratio))
    if ratios and (middle := float(np.median(ratios))) > 1.25:
        reason = (
            f"stretching distorts the pictures {middle:.2g} times; letterbox or crop, unless the training did so too"
        )
        yield Finding("unsure", "stretch", spec.name, "", reason)


def odd_size(spec: TensorSpec, facts: Sequence[Facts], *, sure: bool) -> Iterator[Finding]:
    """Sizes that NV12 cannot have: of the model, or where it leaves them open, of each sample.

    ``sure``: the board feeds this input as NV12; else it only may.
    """

    def finding(sample: str, height: object, width: object) -> Finding:
        reason = f"nv12 needs even height and width, found {height}x{width}"
        return Finding("error" if sure else "unsure", "nv12", spec.name, sample, reason + why)

    why = "" if sure else ": no camera can feed it as nv12"
    begin = 2 if spec.shape[1:2] in ((1,), (3,)) else 1
    sides = spec.shape[begin : begin + 2]
    if any(isinstance(side, int) and side % 2 for side in sides):
        yield finding("", *sides)
    elif any(isinstance(side, str) for side in sides):
        for fact in facts:
            if any(side % 2 for side in fact.shape[begin : begin + 2]):
                yield finding(fact.sample, *fact.shape[begin : begin + 2])


def duplicates(inputs: Sequence[TensorSpec], facts: dict[str, list[Facts]]) -> Iterator[Finding]:
    """Samples equal in all inputs; those of a single value are told as such already."""
    first: dict[tuple[bytes, ...], str] = {}
    for row in zip(*(facts[spec.name] for spec in inputs), strict=True):
        earlier = first.setdefault(tuple(fact.digest for fact in row), row[0].sample)
        if earlier != row[0].sample and any(fact.low != fact.high for fact in row):
            yield Finding("warning", "duplicate", "", row[0].sample, f"the same as {earlier}")
