"""Which TensorRT a plan is made for: the installed one, or the generation asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

GENERATIONS = ("8.6", "10", "11")
"""The generations whose Python API differs for us. A bare generation stands for its newest release."""

DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
"""Distributions that bring the Python module ``tensorrt``."""

_OPEN = 999


@dataclass(frozen=True)
class Found:
    """``version`` to plan for; ``origin`` says where it comes from; ``note`` (or "") what the user should know."""

    version: str
    origin: str
    note: str = ""


def key(version: str) -> tuple[int, ...]:
    """A comparable form: ``10.13.3`` is (10, 13, 3); open parts count as the newest: ``10`` is (10, 999).

    Raises ValueError when the text is no version.
    """
    numbers = _numbers(version)
    return numbers if len(numbers) == 3 else (*numbers, _OPEN)


def first(release: str) -> tuple[int, ...]:
    """As ``key``, with open parts counted as the oldest: a feature "since 10.14" is in 10.14.1 too."""
    numbers = _numbers(release)
    return (*numbers, *(0,) * (3 - len(numbers)))


def release(version: str) -> str:
    """A version with all its parts: 8.6 is 8.6.1, its last release; others are filled with 0."""
    parts = version.split(".")[:3]
    return "8.6.1" if parts == ["8", "6"] else ".".join((*parts, "0", "0")[:3])


def _numbers(version: str) -> tuple[int, ...]:
    # Release candidates and local builds ("10.14.1rc1") compare as their release.
    parts = version.split(".")[:3]
    return tuple(int("".join(char for char in part if char.isdigit()) or "x") for part in parts)


def generation(version: str) -> str:
    """8.6, 10 or 11. TensorRT 9 already has the vocabulary of 10; newer than 11 is taken for 11."""
    major = key(version)[0]
    return "8.6" if major <= 8 else "10" if major <= 10 else "11"


def detect() -> Found:
    """The installed TensorRT, found without importing it; 8.6 when there is none."""
    for name in DISTRIBUTIONS:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return _installed(installed)
    return Found(
        "8.6",
        "no TensorRT is installed",
        "no TensorRT is installed here: the plan is for 8.6, the version whose trtexec gives the options their meaning",
    )


def _installed(installed: str) -> Found:
    origin = f"TensorRT {installed} is installed"
    version = ".".join(installed.split(".")[:3])
    try:
        at = key(version)
    except ValueError:
        return Found("8.6", origin, f"{origin}, which is no version number known here: the plan is for 8.6")
    if at < (8, 6):
        return Found("8.6", origin, f"{origin}: older than 8.6, the first one supported; the plan is for 8.6")
    if at[0] == 9 or at[0] > 11:
        return Found(version, origin, f"{origin}: planned as generation {generation(version)}, the nearest known")
    return Found(version, origin)
