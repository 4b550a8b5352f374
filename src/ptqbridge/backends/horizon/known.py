"""Known failures of Horizon's compilers: a cause in the log becomes one line of ours, a hint and an exit status."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptqbridge.errors import PtqbridgeError, ToolchainFailed

_SHOWN = 300


@dataclass(frozen=True)
class Known:
    """``pattern`` in the tool's message; ``says`` may use its groups; ``kind`` decides the exit status."""

    pattern: str
    kind: type[PtqbridgeError]
    says: str
    hint: str = ""


def explain(
    catalogue: Iterable[Known], causes: Sequence[str], status: int, *, tool: str, unknown: str = ""
) -> PtqbridgeError:
    """The error for a run that failed with ``status`` (negative after a signal); ``causes`` hold the best one first.

    The first cause that the catalogue knows wins, and for it the first entry. ``unknown`` is the hint for others.
    """
    if status < 0:
        return _signalled(status, tool)
    entries = tuple(catalogue)
    for cause in causes:
        for known in entries:
            found = re.search(known.pattern, cause, re.MULTILINE | re.IGNORECASE)
            if found:
                said = known.says.format(*(group or "" for group in found.groups()))
                return known.kind(" ".join(f"{tool}: {said}".split()), hint=known.hint)
    said = " ".join(causes[0].split())[:_SHOWN] if causes else "it said nothing about why"
    return ToolchainFailed(f"{tool} failed with exit status {status}: {said}", hint=unknown if causes else "")


def _signalled(status: int, tool: str) -> PtqbridgeError:
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return ToolchainFailed(f"{tool} was ended by {name}", hint="memory may have run out" if name == "SIGKILL" else "")
