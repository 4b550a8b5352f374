"""The log in trtexec's format, so that readers of trtexec logs read ours.

Format after NVIDIA/TensorRT samples/common/logging.h, v8.6.1 (``LogStreamConsumerBuffer``, ``Logger``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TextIO

Severity = Literal["V", "I", "W", "E", "F"]
Status = Literal["RUNNING", "PASSED", "FAILED", "WAIVED"]


class TrtLog:
    """Writes ``[MM/DD/YYYY-HH:MM:SS] [I] text`` lines in local time, and the ``&&&&`` status lines.

    V and I go to standard output, W, E and F to standard error; V only when ``verbose`` is set, which may change at
    any time. Each call is one write and one flush; before anything goes to standard error, standard output is
    flushed too, so that the order holds where both end in one file. What the stream's encoding lacks is escaped.

    ``name`` and ``version`` stand in the status line and should tell the truth: what ran, in which version.
    """

    def __init__(
        self,
        name: str,
        version: str,
        *,
        verbose: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        clock: Callable[[], time.struct_time] = time.localtime,
    ) -> None:
        """``out`` and ``err`` default to what sys.stdout and sys.stderr are at the time of writing."""
        self.name = name
        self.version = version
        self.verbose_on = verbose
        self._out = out
        self._err = err
        self._clock = clock

    def status(self, status: Status, argv: Sequence[str]) -> None:
        """``&&&& PASSED NAME [VERSION] # ARGV``: no time, no tag, always to standard output."""
        self._write("I", f"&&&& {status} {self.name} [{self.version}] # {' '.join(argv)}\n")

    def verbose(self, *messages: str) -> None:
        """Log each message at V."""
        if self.verbose_on:
            self.log("V", messages)

    def info(self, *messages: str) -> None:
        """Log each message at I."""
        self.log("I", messages)

    def warning(self, *messages: str) -> None:
        """Log each message at W."""
        self.log("W", messages)

    def error(self, *messages: str) -> None:
        """Log each message at E."""
        self.log("E", messages)

    def log(self, severity: Severity, messages: Iterable[str]) -> None:
        """Log each of ``messages``; one with several lines carries the prefix on its first line only."""
        if severity == "V" and not self.verbose_on:
            return
        prefix = f"[{time.strftime('%m/%d/%Y-%H:%M:%S', self._clock())}] [{severity}] "
        text = "".join(f"{prefix}{message}\n" for message in messages)
        if text:
            self._write(severity, text)

    def _write(self, severity: Severity, text: str) -> None:
        out = self._out or sys.stdout
        if severity in "VI":
            stream = out
        else:
            out.flush()
            stream = self._err or sys.stderr
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
