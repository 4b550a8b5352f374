"""A Horizon board reached by the system's ssh, or this machine: staging by hash, one locked session per run.

A run is one remote shell that holds the board's lock, works in a folder of its own and gives files back as text on its
output. Its standard input stays open: when we end, are interrupted or the connection breaks, it sees the end of that
input, ends what it started, and takes its folder and the lock away, whether we can still ask for that or not.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from ptqbridge.backends.horizon.boardfiles import Staged, write_tar
from ptqbridge.backends.horizon.boardscript import FORGET, LOOK, MARK, SEND, session
from ptqbridge.errors import OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import clean, end_group
from ptqbridge.toolchains.ssh import OPTIONS, address

VARIABLE = "PTQBRIDGE_HRT_MODEL_EXEC"
"""Names, on this machine, a program for the board or a folder with it and its libraries: it is brought there."""
FOLDER_VARIABLE = "PTQBRIDGE_BOARD_DIR"
"""Where on the board files are kept, when not in the home folder."""
LOCK = "/tmp/ptqbridge-board.lock"
"""The lock of the whole board, whoever uses it; in a folder that a restart empties."""
_ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
_PATIENCE_S = 10
_BEAT_S = 5


@dataclass(frozen=True)
class Looked:
    """What the board said of itself: folder for files, the tool ("" when missing), free KiB, names it has already."""

    folder: str
    tool: str
    machine: str
    free_kib: int | None
    have: frozenset[str]


@dataclass
class Session:
    """What one session gave: per step its output and status, and the files that came back."""

    outputs: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


class Board:
    """``local`` or ``ssh://[USER@]HOST[:PORT]``. ``trips`` counts the connections made."""

    def __init__(self, place: str) -> None:
        """Raises OptionError for another form."""
        found = address(place)
        if place != "local" and not found:
            raise OptionError(f"--board: expected local or ssh://[USER@]HOST[:PORT], found {place!r}")
        self.name, self.trips = place.rstrip("/"), 0
        self._ssh: list[str] = []
        if found:
            host, port = found
            self._ssh = ["ssh", "-T", *OPTIONS, *_ALIVE, *(("-p", port) if port else ()), "--", host]

    def look(self, names: Sequence[str]) -> Looked:
        """See what is there: the tool, space, and which of ``names``. Raises ToolchainMissing (exit 4)."""
        text, status = self._ask(LOOK, [os.environ.get(FOLDER_VARIABLE, ""), *names])
        said = [line[len(MARK) :].partition(" ") for line in text.splitlines() if line.startswith(MARK)]
        if not any(word == "ready" for word, _, _ in said):
            raise self._unreached(text, status)
        words = {word: rest for word, _, rest in said}
        free = words.get("free", "")
        have = frozenset(rest for word, _, rest in said if word == "have")
        return Looked(words["dir"], words.get("tool", ""), words.get("machine", ""), _int(free), have)

    def send(self, files: Sequence[Staged], looked: Looked, *, program: str = "") -> None:
        """Bring files there in one trip: all of them whole and with the right hash, or none.

        ``program`` is the name of one that is to be run. Raises InputError, ToolchainFailed: the disk is full, the
        connection broke.
        """
        size = sum(file.size for file in files)
        if looked.free_kib is not None and size > looked.free_kib * 1024:
            named = files[0].path if len(files) == 1 else f"{len(files)} files"
            raise ToolchainFailed(
                f"{self.name}: the disk is full: {named} need{'s' * (len(files) == 1)} {size} bytes, and "
                f"{looked.folder} has {looked.free_kib * 1024}",
                hint=f"{FOLDER_VARIABLE}=/another/folder names another place on the board",
            )
        words = [looked.folder, *(file.name for file in files)]
        text, status = self._ask(SEND, words, feed=lambda target: write_tar(target, files, program))
        if f"{MARK}sent" not in text:
            lines = [line for line in text.splitlines() if line.strip()] or ["no answer"]
            why = "the disk is full" if "No space left" in text else clean(lines[-1])
            what = ", ".join(file.path for file in files[:3]) + (", ..." if len(files) > 3 else "")
            raise ToolchainFailed(f"{self.name}: {what} could not be sent: {why} (status {status})")

    def forget(self, looked: Looked, files: Sequence[Staged]) -> None:
        """Take files away again; a board that cannot be reached any more is left alone."""
        if files:
            with suppress(PtqbridgeError, OSError):
                self._ask(FORGET, [looked.folder, LOCK, *(file.name for file in files)])

    def session(self, steps: Sequence[str], folder: str, *, on_line: Callable[[str], None] | None = None) -> Session:
        """Run shell ``steps`` under the board's lock in a fresh folder; lines of the programs go to ``on_line``.

        ``steps`` are made by ``step_line`` and ``give_line``. Raises ToolchainMissing when the board is busy or away,
        ToolchainFailed when the connection breaks. Whatever happens, the board cleans itself up.
        """
        self.trips += 1
        process = _start(self._shell(session("\n".join(steps)), [folder, LOCK]), stdin=subprocess.PIPE)
        done = threading.Event()
        threading.Thread(target=_beat, args=(process, done), daemon=True).start()
        read = _Reader(on_line)
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                read.take(raw.decode("utf-8", "replace"))
                if read.ended:
                    break
        finally:
            done.set()
            _let_go(process)
        if read.locked:
            raise ToolchainFailed(
                f"{self.name}: its lock cannot be taken ({read.locked}): is another user's left there?"
            )
        if read.busy:
            text = f"{self.name}: another run is using the board (process {read.busy})"
            raise ToolchainMissing(text, hint="one run at a time: its figures would be wrong otherwise")
        if not read.ended:
            if not read.result.statuses and not read.started:
                raise self._unreached("\n".join(read.others), process.returncode or 0)
            raise ToolchainFailed(f"{self.name}: the connection broke, or the board died, before the run ended")
        return read.result

    def _shell(self, script: str, words: Sequence[str]) -> list[str]:
        command = ["sh", "-c", script, "sh", *words]
        return [*self._ssh, "exec " + shlex.join(command)] if self._ssh else command

    def _ask(
        self, script: str, words: Sequence[str], *, feed: Callable[[BinaryIO], None] | None = None
    ) -> tuple[str, int]:
        self.trips += 1
        process = _start(self._shell(script, words), stdin=subprocess.PIPE if feed else subprocess.DEVNULL)
        try:
            if feed:
                with suppress(BrokenPipeError):  # what the other side says tells why
                    feed(cast(BinaryIO, process.stdin))
            output, _ = process.communicate()
        finally:
            _close(process)
            end_group(process)
        return output.decode("utf-8", "replace"), process.returncode

    def _unreached(self, text: str, status: int) -> ToolchainMissing:
        lines = [line for line in map(clean, text.splitlines()) if line and not line.startswith("Warning: Permanently")]
        said = lines[-1] if lines else f"no answer (status {status})"
        hint = f"'{shlex.join(['ssh', *self._ssh[-1:]])}' must work without a question" if self._ssh else ""
        if "Host key verification failed" in text:
            hint = "the board's host key is unknown or has changed: check it, then connect once by hand"
        return ToolchainMissing(f"{self.name}: {said}", hint=hint)


def step_line(number: int, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A step of a session: one program, its output kept apart from the others'."""
    sets = [f"{name}={value}" for name, value in (env or {}).items()]
    return f"step {number} {shlex.join(['env', *sets, *argv] if sets else list(argv))}"


def give_line(*patterns: str) -> str:
    """Give back the files that match shell ``patterns`` (letters, digits and ``/._*-`` only)."""
    if any(not re.fullmatch(r"[\w./*-]+", pattern) for pattern in patterns):
        raise ValueError(f"unsafe pattern in {patterns}")
    return f"give {' '.join(patterns)}"


class _Reader:
    """Sorts a session's lines: marks, the programs' output, files."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.on_line, self.result = on_line, Session()
        self.ended, self.started, self.busy, self.locked = False, False, "", ""
        self.others: list[str] = []
        self._current: list[str] | None = None
        self._file: list[str] | None = None

    def take(self, raw: str) -> None:
        line = clean(raw)
        if not line.startswith(MARK):
            self._plain(line)
            return
        word, _, rest = line[len(MARK) :].partition(" ")
        if word == "start":
            self.started, self._current = True, []
        elif word == "status" and self._current is not None:
            self.result.outputs.append("\n".join(self._current) + "\n")
            self.result.statuses.append(_int(rest.split()[-1]) or 0)
            self._current = None
        elif word == "file":
            self._file = []
        elif word == "close" and self._file is not None:
            with suppress(binascii.Error):
                self.result.files[rest] = base64.b64decode("".join(self._file), validate=True)
            self._file = None
        elif word == "busy":
            self.busy = rest or "unknown"
        elif word == "locked":
            self.locked = rest
        elif word == "end":
            self.ended = True

    def _plain(self, line: str) -> None:
        if self._file is not None:
            self._file.append(line)
        elif self._current is not None:
            self._current.append(line)
            if self.on_line and line:
                self.on_line(line)
        elif line:
            self.others.append(line)


def _start(words: Sequence[str], *, stdin: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(words),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=Path("/"),
        )
    except OSError as error:
        raise ToolchainMissing(f"{words[0]} cannot be started: {error.strerror or error}") from None


def _beat(process: subprocess.Popen[bytes], done: threading.Event) -> None:
    """Say now and then that we are there: a board that has lost us, without a word, must not wait for ever."""
    while not done.wait(_BEAT_S):
        try:
            os.write(cast(BinaryIO, process.stdin).fileno(), b".")
        except (OSError, ValueError):
            return


def _close(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close the session's input, which makes the other side clean up; wait for that, but not for ever."""
    _close(process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_S)
    end_group(process)


def _int(text: str) -> int | None:
    return int(text) if text.strip().lstrip("-").isdigit() else None
