"""Target names to backends, without importing any backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from ptqbridge.errors import OptionError
from ptqbridge.plan import Plan, Request, Target
from ptqbridge.rulebook import Outcome

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import Outcome as RunOutcome
    from ptqbridge.result import BuildResult

TARGETS: Mapping[str, str] = {
    "cpu": "onnxruntime",
    "trt": "tensorrt",
    "bayes": "horizon",
    "bayes-e": "horizon",
    "bernoulli2": "horizon",
    "nash-e": "horizon",
    "nash-m": "horizon",
    "nash-p": "horizon",
    "nash-h": "horizon",
    "nash-b": "horizon",
    "nash-b-lite": "horizon",
    "nash-b-plus": "horizon",
}
"""Every target and the backend that serves it."""

CHIPS: Mapping[str, str] = {
    "j5": "bayes",
    "x5": "bayes-e",
    "x3": "bernoulli2",
    "j3": "bernoulli2",
    "ultra": "bayes",
    "j6e": "nash-e",
    "s100": "nash-e",
    "j6m": "nash-m",
    "s100p": "nash-m",
    "j6p": "nash-p",
    "j6h": "nash-h",
    "s600": "nash-p",
    "j6b": "nash-b",
}
"""Chip names that users know, as aliases of targets."""


class Progress(Protocol):
    """Told how far a build is: ``done`` of ``total`` samples, or of the stage that ``what`` names."""

    def __call__(self, done: int, total: int, what: str = "") -> None: ...


class Backend(Protocol):
    """What every backend's ``backend.py`` offers as ``BACKEND``. ``suffix`` is that of its artifacts."""

    suffix: str

    def plan(self, request: Request) -> Plan:
        """The plan for one target; looks at files only to say what it could not look up."""

    def preview(self, name: str, value: object, target: Target) -> Outcome:
        """What a rule makes of one option value with nothing else given, for the tables."""

    def build(self, plan: Plan, *, say: Callable[[str], None], progress: Progress | None) -> BuildResult:
        """Make the artifact; ``say`` gets a line per stage, ``progress`` how far a long one is."""

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> RunOutcome:
        """Run and time an artifact."""

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """What computes, for the log. Raises ToolchainMissing when it is not there."""


def resolve(name: str) -> Target:
    """The target a user means. Raises OptionError for an unknown name."""
    known = CHIPS.get(name.lower(), name.lower())
    if known not in TARGETS:
        import difflib

        guess = difflib.get_close_matches(name.lower(), [*TARGETS, *CHIPS], n=1, cutoff=0.5)
        raise OptionError(
            f"--target: expected one of {', '.join(TARGETS)} or a chip name, found {name!r}",
            hint=f"did you mean {guess[0]}?" if guess else "",
        )
    return Target(known, TARGETS[known], name)


def load(target: Target) -> Backend:
    """Import the backend of a target. Vendor software is not imported by this."""
    return cast(Backend, importlib.import_module(f"ptqbridge.backends.{target.backend}.backend").BACKEND)
