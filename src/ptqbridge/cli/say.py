"""What a build says on the terminal: stages, one progress bar, warnings, the closing account."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ptqbridge.backends import Progress
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult
from ptqbridge.rulebook import Verdict
from ptqbridge.wording import counted

_QUIET_S = 2.0
"""Seconds between two lines of progress in a log, at least."""


class Speaker:
    """Prints for people on standard output, or nothing when ``quiet`` (JSON goes there then); warnings on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def print(self, text: str) -> None:
        """A text with its line ends."""
        if not self.quiet:
            print(text, end="", flush=True)

    def line(self, text: str) -> None:
        """One line."""
        self.print(f"{text}\n")

    def warn(self, text: str) -> None:
        """One line on standard error, also when quiet."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def mapping(self, plan: Plan) -> None:
        """What is not carried over exactly, so that nobody must ask for it."""
        for row in plan.rows:
            if row.verdict in (Verdict.APPROXIMATE, Verdict.IGNORED):
                becomes = f" -> {row.becomes}" if row.becomes else ""
                self.line(f"{row.verdict}: {row.option}{becomes} ({row.why})")
        for fill in plan.fills:
            self.line(f"default: {fill.what} = {fill.value} ({fill.why})")
        if plan.performance_only:
            self.warn(f"performance only: {plan.performance_only}")

    def built(self, result: BuildResult) -> None:
        """The closing account of a build."""
        for note in result.notes:
            self.line(f"note: {note}")
        for line in result.facts.get("kernels", ()):
            self.line(f"kernels: {line}")
        nearness = result.facts.get("cosine_to_float32")
        if nearness:
            figures = ", ".join(f"{name} {value:.5f}" for name, value in nearness["lowest"].items())
            self.line(f"lowest cosine to float32 over {counted(nearness['samples'], 'sample')}: {figures}")
        for row in result.asked_got:
            self.line(f"layer {row.layer}: asked {row.asked}, got {row.got}")
        stamp = " [performance only]" if result.performance_only else ""
        self.line(f"built {result.artifact} ({result.precision}) in {result.seconds:.1f} s{stamp}")

    @contextmanager
    def progress(self, what: str = "calibrating", *, lines: bool = True) -> Iterator[Progress | None]:
        """A progress callback: a bar with time left on a terminal, ``lines`` now and then in a log, else None.

        ``what`` stands before the bar until the callback is given another word.
        """
        if self.quiet:
            yield None
        elif sys.stdout.isatty():
            with _bar(what) as callback:
                yield callback
        else:
            yield _tenths(self.line) if lines else None


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, what: str = "") -> None:
            shown = what.removesuffix(f" {done}/{total}")  # the bar says that itself
            bar.update(task, completed=done, total=total, description=shown or title)

        yield update


def _tenths(line: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Progress:
    """A line per tenth of the samples, but no two within two seconds: a quick calibration says nothing.

    A named stage gets a line when it begins, and in a long one more now and then.
    """
    shown, said_at, stage = 0, clock(), ""

    def update(done: int, total: int, what: str = "") -> None:
        nonlocal shown, said_at, stage
        if what:
            name = re.sub(r" [\d/%]+.*", "", what)
            if name != stage or clock() - said_at >= _QUIET_S:
                stage, said_at = name, clock()
                line(what)
            return
        tenth = done * 10 // max(total, 1)
        if tenth > shown and clock() - said_at >= _QUIET_S:
            shown, said_at = tenth, clock()
            line(f"calibrated {done}/{counted(total, 'sample')}")

    return update
