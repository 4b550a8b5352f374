"""What every toolchain can do: bring files to a program, run it there, bring its products back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

OnLine = Callable[[str], None]

Env = Mapping[str, "str | None"]
"""Variables to set for a program; None takes one away."""


@dataclass(frozen=True)
class Finished:
    """A program that has ended. ``status`` is negative after a signal; ``lines`` is its output, colours removed."""

    status: int
    seconds: float
    timed_out: bool
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole output."""
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Call:
    """One program to run: words, the folder of ours it belongs to, where in it, and what becomes of its output."""

    argv: tuple[str, ...]
    folder: Path
    cwd: str
    log: Path
    on_line: OnLine | None
    env: Env
    timeout: float | None


class Toolchain(Protocol):
    """Where vendor programs live. Used as a context manager: leaving it removes what was put on the other side.

    A folder is always a folder of this machine; ``inside`` says what a place in it is called for the program. What is
    here anyway needs neither staging nor fetching, nor an end.
    """

    name: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def inside(self, folder: Path, place: str = "") -> str:
        """The path, as the program sees it, of ``place`` in ``folder``."""
        ...

    def stage(self, folder: Path) -> None:
        """Bring ``folder`` to where programs run. Raises ToolchainMissing when that place cannot be reached."""
        return None

    def run(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        cwd: str = "",
        log: Path,
        on_line: OnLine | None = None,
        env: Env | None = None,
        timeout: float | None = None,
    ) -> Finished:
        """Run ``argv`` in ``folder``/``cwd``; output goes to ``log`` and, line by line, to ``on_line``.

        However this ends (time-out, Ctrl-C, an error of ``on_line``), no process of the program is left.
        Raises ToolchainMissing when the program, image or machine is not there.
        """
        return self.carry_out(Call(tuple(argv), folder, cwd, log, on_line, env or {}, timeout))

    def carry_out(self, call: Call) -> Finished:
        """What ``run`` does in this place."""
        ...

    def fetch(self, folder: Path, place: str) -> None:
        """Bring ``place`` of the staged folder back into ``folder``, when it is there."""
        return None
