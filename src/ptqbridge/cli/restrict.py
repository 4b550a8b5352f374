"""Commands that take few of the options: what they cannot use is said, never swallowed."""

from __future__ import annotations

from collections.abc import Collection

from ptqbridge.errors import OptionError
from ptqbridge.options.given import COMMAND_LINE, GivenOptions

SAMPLES = (
    *("onnx", "calibData", "calibSamples", "calibBatch", "calibSeed", "skipBroken"),
    *("preset", "mean", "std", "scale", "resize", "resizeFilter", "color", "layout"),
    *("target", "config", "json", "verbose", "help"),
)
"""Options of every command that reads samples for a model."""


def unused(options: GivenOptions, names: Collection[str], command: str) -> list[str]:
    """The options of the job file that ``command`` does not use. Raises OptionError for one on the command line."""
    others = [given for given in options if given.option.name not in names]
    for given in others:
        if given.source == COMMAND_LINE:
            raise OptionError(
                f"--{given.option.name}: {command} has no use for it",
                hint=f"'ptqbridge {command} --help' lists its options",
            )
    return [given.option.name for given in others]
