"""Shapes asked for against the model's inputs, and the concrete shape of data made up here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from ptqbridge.errors import InputError
from ptqbridge.spec import ShapeRange, TensorSpec


def check_shapes(inputs: Sequence[TensorSpec], shapes: Mapping[str, ShapeRange]) -> None:
    """Every named input exists and every shape fits it. Raises InputError naming both."""
    by_name = {spec.name: spec for spec in inputs}
    for name, wanted in shapes.items():
        spec = by_name.get(name)
        if spec is None:
            near = difflib.get_close_matches(name.strip(), by_name, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else ""
            raise InputError(f"the model has no input {name!r}; it has {', '.join(by_name)}", hint=hint)
        for bound, shape in (("min", wanted.min), ("opt", wanted.opt), ("max", wanted.max)):
            if not _fits(spec, shape):
                found = "x".join(map(str, shape)) or "no shape"
                raise InputError(f"{bound} shape of {name!r}: expected one that fits {spec.text()}, found {found}")


def _fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    return len(shape) == len(spec.shape) and all(
        size >= 0 and (isinstance(dim, str) or dim == size) for dim, size in zip(spec.shape, shape, strict=True)
    )


def concrete(inputs: Sequence[TensorSpec], *preferences: Mapping[str, ShapeRange]) -> tuple[TensorSpec, ...]:
    """Each input with a fixed shape: the opt shape of the first preference that names it, else 1 per dynamic axis."""
    fixed = []
    for spec in inputs:
        chosen = next((shapes[spec.name].opt for shapes in preferences if spec.name in shapes), None)
        if chosen is not None and len(chosen) == 4 and not _fits(spec, chosen):
            chosen = tuple(chosen[axis] for axis in (0, 2, 3, 1))  # the border was turned to hwc (formats.py)
        shape = chosen if chosen is not None else tuple(1 if isinstance(dim, str) else dim for dim in spec.shape)
        fixed.append(TensorSpec(spec.name, spec.dtype, tuple(shape)))
    return tuple(fixed)
