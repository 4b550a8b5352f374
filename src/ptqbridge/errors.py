"""The few error classes, each with its exit status. Their text is one line a user can act on."""

from __future__ import annotations

from collections.abc import Mapping


class PtqbridgeError(Exception):
    """Base of all expected failures; ``message`` is one line, ``hint`` (optional) says the way out."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class OptionError(PtqbridgeError):
    """A wrong option, value or combination, or an option the target refuses. Exit status 2.

    ``difference`` names the row of docs/differences.md when trtexec itself would have gone on.
    """

    exit_status = 2

    def __init__(self, message: str, *, hint: str = "", difference: str = "") -> None:
        super().__init__(message, hint=hint)
        self.difference = difference


class InputError(PtqbridgeError):
    """A model, data or cache file is missing, broken or does not fit. Exit status 3."""

    exit_status = 3


class ToolchainMissing(PtqbridgeError):
    """A vendor program, library, device or board was not found. Exit status 4."""

    exit_status = 4


class ToolchainFailed(PtqbridgeError):
    """A vendor program or library ran and failed. Exit status 5."""

    exit_status = 5


class LimitNotMet(PtqbridgeError):
    """The work was done, but a limit the user stated was not met. Exit status 6.

    ``record`` is the result all the same, for ``--json``.
    """

    exit_status = 6

    def __init__(self, message: str, *, hint: str = "", record: Mapping[str, object] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.record = record or {}


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report SIGINT (128 + 2)."""
