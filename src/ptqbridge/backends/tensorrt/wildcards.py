"""Shape options whose input names hold a ``*``: trtexec takes one from 9.1 on, for any part of a name.

Source: matchStringWithOneWildcard and findPlausible in NVIDIA/TensorRT samples/common/sampleUtils.h, v10.13.3: an exact
name comes before a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ptqbridge.backends.tensorrt.rules.book import quoted
from ptqbridge.plan import Request

T = TypeVar("T")
_NAMED = re.compile(r'(context\.set_input_shape|calibration_profile\.set_shape)\(("(?:[^"\\]|\\.)*\*(?:[^"\\]|\\.)*")')


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern with one ``*`` fits a whole name; without one, whether they are the same."""
    head, star, tail = pattern.partition("*")
    fits = len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail)
    return bool(star and fits) or pattern == name


def by_name(given: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """What each of ``names`` is given, then what is given for names that are not there."""
    names = list(names)
    found: dict[str, T] = {}
    for name in names:
        pattern = name if name in given else next((pattern for pattern in given if matches(pattern, name)), None)
        if pattern is not None:
            found[name] = given[pattern]
    unused = {pattern: value for pattern, value in given.items() if not any(matches(pattern, n) for n in names)}
    return {**found, **unused}


def resolve(request: Request, names: Sequence[str]) -> Request:
    """The request with every pattern in its shapes replaced by the inputs it fits."""
    build, run = request.build, request.run
    calibration = replace(build.calibration, shapes=by_name(build.calibration.shapes, names))
    return replace(
        request,
        build=replace(build, shapes=by_name(build.shapes, names), calibration=calibration),
        run=replace(run, shapes=by_name(run.shapes, names)),
        profiles={index: by_name(shapes, names) for index, shapes in request.profiles.items()},
    )


def resolve_calls(calls: Iterable[str], names: Sequence[str]) -> list[str]:
    """Calls that name an input by a pattern, once for each input that it fits and that no other call names."""
    calls = list(calls)
    found: list[str] = []
    for text in calls:
        named = _NAMED.match(text)
        if named is None:
            found.append(text)
            continue
        pattern = named.group(2)[1:-1]
        for name in names:
            start = f"{named.group(1)}({quoted(name)}"
            if matches(pattern, name) and not any(other.startswith(start) for other in (*calls, *found)):
                found.append(start + text[named.end() :])
    return found
