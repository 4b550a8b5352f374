"""The shapes and the data of a run's inputs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptqbridge.errors import InputError
from ptqbridge.measure.text import dimensions
from ptqbridge.spec.shapes import Shape, ShapeRange
from ptqbridge.spec.tensor import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES_KEY = "ptqbridge.shapes"
"""The artifact's metadata entry for shape ranges: JSON ``{input: {"min": [..], "opt": [..], "max": [..]}}``."""


def shape_ranges(metadata: Mapping[str, str], file: str) -> dict[str, ShapeRange]:
    """The shape ranges the artifact was built for, by input.

    Raises:
        InputError: the entry is there and unreadable.
    """
    text = metadata.get(SHAPES_KEY, "")
    if not text:
        return {}
    try:
        return {
            name: ShapeRange(*(tuple(int(size) for size in entry[kind]) for kind in ("min", "opt", "max")))
            for name, entry in json.loads(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file}: its metadata entry {SHAPES_KEY} is broken: {' '.join(text.split())[:80]}") from error


def resolve_shapes(
    inputs: Sequence[TensorSpec], asked: Mapping[str, Shape], ranges: Mapping[str, ShapeRange]
) -> tuple[dict[str, Shape], list[str]]:
    """The concrete shape of every input, and warnings.

    Asked shapes win; else the artifact's opt shape; else dynamic dimensions become 1, with a warning.

    Raises:
        InputError: an input that does not exist, a rank or a fixed dimension that differs, or a size out of range.
    """
    known(asked, inputs, "--shapes")
    shapes: dict[str, Shape] = {}
    warnings: list[str] = []
    for spec in inputs:
        name = spec.name
        if name in asked:
            shapes[name] = _checked(spec, tuple(asked[name]), ranges.get(name))
        elif name in ranges:
            shapes[name] = _checked(spec, ranges[name].opt, ranges[name])
        else:
            shapes[name] = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
            if spec.is_dynamic:
                warnings.append(
                    f"Dynamic dimensions required for input: {name}, but no shapes were provided. Automatically "
                    f"overriding shape to: {dimensions(shapes[name])}"
                )
    return shapes, warnings


def load_inputs(
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, Shape],
    files: Mapping[str, str],
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, NDArray[Any]]:
    """The array of every input: from its file, or trtexec's noise.

    Raises:
        InputError: an input that does not exist, or a file that does not fit.
    """
    from ptqbridge.data.inputs import load_input
    from ptqbridge.data.noise import noise

    known(files, inputs, "--loadInputs")
    arrays: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        name, file = spec.name, files.get(spec.name)
        say(f"Using values loaded from {file} for input {name}" if file else f"Using random values for input {name}")
        arrays[name] = load_input(file, spec, shapes[name]) if file else noise(spec, shapes[name])
        say(f"Input binding for {name} with dimensions {dimensions(shapes[name])} is created.")
    return arrays


def known(names: Iterable[str], inputs: Sequence[TensorSpec], option: str) -> None:
    """Raise InputError for the first of ``names`` that is no input, with the nearest one."""
    have = [spec.name for spec in inputs]
    for name in names:
        if name in have:
            continue
        near = difflib.get_close_matches(name, have, n=1)
        raise InputError(
            f"{option}: the model has no input {name!r}; its inputs are {', '.join(spec.text() for spec in inputs)}",
            hint=f"did you mean {near[0]!r}?" if near else "",
        )


def _checked(spec: TensorSpec, shape: Shape, allowed: ShapeRange | None) -> Shape:
    text = dimensions(shape) or "()"
    if len(shape) != len(spec.shape):
        raise InputError(f"--shapes: {spec.name}:{text} has {len(shape)} dimensions, the model wants {spec.text()}")
    for want, size in zip(spec.shape, shape, strict=True):
        if (isinstance(want, int) and want != size) or size < 0:
            raise InputError(f"--shapes: {spec.name}:{text} does not fit the model's {spec.text()}")
    if allowed and len(allowed.min) == len(allowed.max) == len(shape):
        inside = all(low <= size <= high for low, size, high in zip(allowed.min, shape, allowed.max, strict=True))
        if not inside:
            raise InputError(
                f"--shapes: {spec.name}:{text} is outside what the artifact was built for, "
                f"{dimensions(allowed.min)} to {dimensions(allowed.max)}",
                hint="build again with other --minShapes and --maxShapes",
            )
    return shape
