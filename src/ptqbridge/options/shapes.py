"""The fill-in of missing min/opt/max shapes and the exchange between build and run shapes, as trtexec does them.

Source: ``processShapes`` and ``AllOptions::parse`` in NVIDIA/TensorRT samples/common/sampleOptions.cpp, tag v8.6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptqbridge.options.given import GivenOptions
from ptqbridge.spec import Shape, ShapeRange

_SOURCES = {"min": ("min", "opt", "max"), "opt": ("opt", "max", "min"), "max": ("max", "opt", "min")}
"""Where a missing bound is taken from, in order of preference."""


@dataclass(frozen=True)
class ShapePlan:
    """Shapes after all fill-in; ``warnings`` say each bound that was made up."""

    build: Mapping[str, ShapeRange]
    calibration: Mapping[str, ShapeRange]
    run: Mapping[str, Shape]
    warnings: tuple[str, ...]


def plan_shapes(options: GivenOptions) -> ShapePlan:
    """All shapes of a command line. Raises nothing: ``checks.py`` has refused what cannot be."""
    warnings: list[str] = []
    build = fill(options, ("minShapes", "optShapes", "maxShapes"), warnings)
    calibration = fill(options, ("minShapesCalib", "optShapesCalib", "maxShapesCalib"), [])
    int8 = options.has("int8", "best")
    if int8 and "calib" in options and build and not calibration:
        calibration = build
    run: dict[str, Shape] = dict(options.value("shapes"))
    for name, shape in build.items():
        run.setdefault(name, shape.opt)
    everything = {**build, **{name: ShapeRange(dims, dims, dims) for name, dims in run.items() if name not in build}}
    return ShapePlan(everything, calibration, run, tuple(warnings))


def later_profiles(options: GivenOptions) -> dict[int, dict[str, ShapeRange]]:
    """The shapes of each ``--profile=N`` after profile 0, filled in like those of profile 0."""
    names = ("minShapes", "optShapes", "maxShapes")
    return {index: fill(GivenOptions(items), names, []) for index, items in options.sections.items() if index > 0}


def fill(options: GivenOptions, names: Sequence[str], warnings: list[str]) -> dict[str, ShapeRange]:
    """Ranges from up to three options; a bound whose OPTION is absent is copied from another one.

    A tensor absent from an option that was given gets an empty shape there, as in trtexec.
    """
    given = {bound: options.value(name) for bound, name in zip(("min", "opt", "max"), names, strict=True)}
    present = [bound for bound, name in zip(("min", "opt", "max"), names, strict=True) if name in options]
    if not present:
        return {}
    chosen = {bound: next(source for source in _SOURCES[bound] if source in present) for bound in _SOURCES}
    tensors = list(dict.fromkeys(tensor for shapes in given.values() for tensor in shapes))
    for bound, source in chosen.items():
        if bound != source:
            warnings.extend(f"{bound} shape of {tensor!r} is taken from --{source}Shapes" for tensor in tensors)
    return {tensor: ShapeRange(*(given[chosen[bound]].get(tensor, ()) for bound in _SOURCES)) for tensor in tensors}
