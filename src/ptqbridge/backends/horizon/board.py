"""A Horizon board reached by the system's ssh, or this machine: staging by hash, one locked session per run.

A run is one remote shell that holds the board's lock, works in a folder of its own and gives files back as text on its
output. Its standard input stays open: when we end, are interrupted or the connection breaks, it sees the end of that
input, ends what it started, and takes its folder and the lock away, whether we can still ask for that or not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ptqbridge.errors import InputError, OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import clean, end_group
from ptqbridge.toolchains.ssh import OPTIONS

TOOL = "hrt_model_exec"
VARIABLE = "PTQBRIDGE_HRT_MODEL_EXEC"
"""Names a program for the board, on this machine: it is brought there when the board has none."""
FOLDER_VARIABLE = "PTQBRIDGE_BOARD_DIR"
"""Where on the board files are kept, when not in the home folder."""
LOCK = "/tmp/ptqbridge-board.lock"
"""The lock of the whole board, whoever uses it; in a folder that a restart empties."""
MARK = "@@ptqbridge "
_ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
_PLACE = re.compile(r"ssh://(?P<host>(?:[\w.-]+@)?[\w][\w.-]*)(?::(?P<port>\d{1,5}))?/?")
_PATIENCE_S = 10

_LOOK = r"""
dir=${1:-${HOME:-/root}/.cache/ptqbridge}; shift
mkdir -p "$dir" || exit 3
tool=$(command -v hrt_model_exec) || for t in /usr/hobot/bin/hrt_model_exec /usr/bin/hrt_model_exec; do
  [ -x "$t" ] && tool=$t && break; done
m='@@ptqbridge '
echo "${m}dir $dir"; echo "${m}tool $tool"; echo "${m}machine $(uname -m)"
echo "${m}free $(df -P -k "$dir" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)"
for name in "$@"; do [ -f "$dir/$name" ] && echo "${m}have $name"; done; echo "${m}ready"
"""
_SEND = r"""
part=$1/.part.$$; trap 'rm -f "$part"' EXIT; trap 'exit 1' HUP INT TERM PIPE
cat > "$part" || exit 4
[ "$(sha256sum "$part" | cut -d ' ' -f 1)" = "$3" ] || { echo "the file arrived damaged"; exit 5; }
chmod "$4" "$part" && mv "$part" "$1/$2" || exit 4; echo "@@ptqbridge sent"
"""
_SESSION = r"""
dir=$1; m='@@ptqbridge '; lock=$2; work=$dir/run.$$; mine=
unset held
cleanup() {{ trap '' HUP INT TERM PIPE; for p in $mine; do kill -s TERM "$p" 2>/dev/null; done
  [ -n "$mine" ] && sleep 0.2; for p in $mine; do kill -s KILL "$p" 2>/dev/null; done
  cd /; rm -rf "$work"; [ -n "$held" ] && rm -rf "$lock"; [ -n "$guard" ] && kill "$guard" 2>/dev/null; }}
trap cleanup EXIT; trap 'exit 130' HUP INT TERM PIPE
if ! mkdir "$lock" 2>/dev/null; then
  other=$(cat "$lock/pid" 2>/dev/null) || {{ sleep 1; other=$(cat "$lock/pid" 2>/dev/null); }}
  if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then echo "${{m}}busy $other"; exit 75; fi
  rm -rf "$lock"; mkdir "$lock" 2>/dev/null || {{ echo "${{m}}busy unknown"; exit 75; }}
fi
held=1; echo $$ > "$lock/pid"
mkdir "$work" && cd "$work" || exit 4
exec 3<&0; main=$$
( cat <&3; kill -s TERM $main ) >/dev/null 2>&1 & guard=$!
step() {{ n=$1; shift; echo "${{m}}start $n"; "$@" 2>&1 </dev/null & mine=$!; wait $mine; s=$?; mine=
  echo; echo "${{m}}status $n $s"; return $s; }}
give() {{ for f in "$@"; do [ -f "$f" ] || continue; echo "${{m}}file $f"; base64 "$f"; echo "${{m}}close $f"; done; }}
{steps}
echo "${{m}}end"
"""


@dataclass(frozen=True)
class Staged:
    """A file of ours and its name on the board: its hash, with the suffix by which the tool knows it."""

    path: str
    name: str
    sha256: str
    size: int


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


def staged(path: str, suffix: str = "") -> Staged:
    """The file at ``path`` under its board name. Raises InputError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        size = os.path.getsize(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    ending = suffix or os.path.splitext(path)[1]
    ending = ending if re.fullmatch(r"\.\w{1,8}", ending) else ""
    return Staged(path, digest.hexdigest()[:32] + ending, digest.hexdigest(), size)


class Board:
    """``local`` or ``ssh://[USER@]HOST[:PORT]``. ``trips`` counts the connections made."""

    def __init__(self, place: str) -> None:
        """Raises OptionError for another form."""
        found = _PLACE.fullmatch(place)
        if place != "local" and not found:
            raise OptionError(f"--board: expected local or ssh://[USER@]HOST[:PORT], found {place!r}")
        self.name, self.trips = place, 0
        self._ssh: list[str] = []
        if found:
            port = ("-p", found["port"]) if found["port"] else ()
            self._ssh = ["ssh", "-T", *OPTIONS, *_ALIVE, *port, "--", found["host"]]

    def look(self, names: Sequence[str]) -> Looked:
        """See what is there: the tool, space, and which of ``names``. Raises ToolchainMissing (exit 4)."""
        text, status = self._ask(_LOOK, [os.environ.get(FOLDER_VARIABLE, ""), *names])
        said = [line[len(MARK) :].partition(" ") for line in text.splitlines() if line.startswith(MARK)]
        if not any(word == "ready" for word, _, _ in said):
            raise self._unreached(text, status)
        words = {word: rest for word, _, rest in said}
        free = words.get("free", "")
        have = frozenset(rest for word, _, rest in said if word == "have")
        return Looked(words["dir"], words.get("tool", ""), words.get("machine", ""), _int(free), have)

    def send(self, file: Staged, looked: Looked, *, program: bool = False) -> None:
        """Bring one file there: whole and with the right hash, or not at all.

        Raises ToolchainFailed: the disk is full, the connection broke.
        """
        if looked.free_kib is not None and file.size > looked.free_kib * 1024:
            raise ToolchainFailed(
                f"{self.name}: the disk is full: {file.path} needs {file.size} bytes, and {looked.folder} has "
                f"{looked.free_kib * 1024}",
                hint=f"{FOLDER_VARIABLE}=/another/folder names another place on the board",
            )
        mode = "755" if program else "644"
        with open(file.path, "rb") as source:
            text, status = self._ask(_SEND, [looked.folder, file.name, file.sha256, mode], stdin=source.fileno())
        if f"{MARK}sent" not in text:
            why = "the disk is full" if "No space left" in text else (text.strip().splitlines() or ["no answer"])[-1]
            raise ToolchainFailed(f"{self.name}: {file.path} could not be sent: {why} (status {status})")

    def forget(self, looked: Looked, files: Sequence[Staged]) -> None:
        """Take files away again; a board that cannot be reached any more is left alone."""
        paths = [f"{looked.folder}/{file.name}" for file in files]
        if paths:
            with suppress(PtqbridgeError, OSError):
                self._ask('rm -f -- "$@"', paths)

    def session(self, steps: Sequence[str], folder: str, *, on_line: Callable[[str], None] | None = None) -> Session:
        """Run shell ``steps`` under the board's lock in a fresh folder; lines of the programs go to ``on_line``.

        ``steps`` are made by ``step_line`` and ``give_line``. Raises ToolchainMissing when the board is busy or away,
        ToolchainFailed when the connection breaks. Whatever happens, the board cleans itself up.
        """
        self.trips += 1
        words = [*self._shell(_SESSION.format(steps="\n".join(steps)), [folder, LOCK])]
        process = _start(words, stdin=subprocess.PIPE)
        read = _Reader(on_line)
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                read.take(raw.decode("utf-8", "replace"))
                if read.ended:
                    break
        finally:
            _let_go(process)
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

    def _ask(self, script: str, words: Sequence[str], *, stdin: int = subprocess.DEVNULL) -> tuple[str, int]:
        self.trips += 1
        process = _start(self._shell(script, words), stdin=stdin)
        try:
            output, _ = process.communicate()
        finally:
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
        self.ended, self.started, self.busy = False, False, ""
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


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close the session's input, which makes the other side clean up; wait for that, but not for ever."""
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_S)
    end_group(process)


def _int(text: str) -> int | None:
    return int(text) if text.strip().lstrip("-").isdigit() else None
