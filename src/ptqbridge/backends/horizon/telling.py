"""Saying that calibration samples are written, and how far that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ptqbridge.data.samples import Samples
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from ptqbridge.backends import Progress


def tell_writing(samples: Samples, say: Callable[[str], None], progress: Progress | None, form: str = "") -> None:
    """Before ``samples`` are written: a line, or with ``progress`` a stage that tells of each. ``form``: as what."""
    if progress is None:
        say(f"writing {counted(len(samples), 'calibration sample')}{form}")
        return
    samples.tell(lambda done, total: progress(done, total, f"writing calibration samples{form} {done}/{total}"))
