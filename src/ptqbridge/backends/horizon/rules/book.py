"""The rulebook of the BPU targets and the ways to say what an option becomes in the vendor's own words.

A rule emits: ``yaml`` (``section.key`` to value; a mapping merges, a tuple is a set of words that grows, a text is
final), ``perf`` and ``infer`` (flags of hrt_model_exec's subcommands), ``shapes`` (input name to dims), and plain
switches that the plan knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptqbridge.backends.horizon.context import Context
from ptqbridge.rulebook import Outcome, Rulebook, Verdict, ignored

EXACT, APPROXIMATE, IMPLIED = Verdict.EXACT, Verdict.APPROXIMATE, Verdict.IMPLIED
QUANT = "calibration_parameters.quant_config"


class Book(Rulebook[Context]):
    """Rules by option; a value that the parser read as 'as if not given' never reaches them."""

    def apply(self, name: str, value: Any, context: Context) -> Outcome:
        """The outcome of one option value. Raises KeyError for an option without a rule."""
        if value is None:
            return ignored("an empty value leaves the default, as in trtexec")
        return super().apply(name, value, context)


RULES = Book("horizon")


def carry(
    verdict: Verdict,
    because: str = "",
    *,
    yaml: Mapping[str, Any] | None = None,
    perf: Mapping[str, Any] | None = None,
    infer: Mapping[str, Any] | None = None,
    becomes: str = "",
    **switches: Any,
) -> Outcome:
    """An outcome whose text is made from what it emits (``becomes`` overrides the text)."""
    words = [f"{path}: {show(value)}" for path, value in (yaml or {}).items()]
    words += [flag(name, value) for name, value in (perf or {}).items()]
    words += [f"infer {flag(name, value)}" for name, value in (infer or {}).items() if name not in (perf or {})]
    emits = {"yaml": yaml, "perf": perf, "infer": infer}
    emitted = {name: value for name, value in emits.items() if value} | switches
    return Outcome(verdict, becomes or "; ".join(words), because, emitted)


def show(value: Any) -> str:
    """A value as YAML would show it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return str(value)


def flag(name: str, value: Any) -> str:
    """One word for hrt_model_exec. Its booleans read no next word, so a value always follows ``=``."""
    return f"--{name}={show(value)}"


def numbers(values: tuple[float, ...]) -> str:
    """Blank-separated numbers for the YAML; nine digits keep a float32 exactly."""
    return " ".join(f"{value:.9g}" for value in values)
