"""Running a program on this machine: its whole process group ends with it, its output is a log and a row of lines."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from ptqbridge.errors import ToolchainMissing
from ptqbridge.files import write_failure
from ptqbridge.toolchains.program import Call, Env, Finished, OnLine, Toolchain

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_END = re.compile(r"\r\n|\n|\r")
_POLL_S = 0.2
"""How often a silent program is looked at: it may be dead while a child of it still holds its output open."""
GRACE_S = 3.0
"""Time between SIGTERM and SIGKILL."""
_ENDS = (signal.SIGTERM, signal.SIGHUP)
_ALONE: Env = {"PYTHONPATH": None, "PYTHONHOME": None, "PYTHONNOUSERSITE": "1"}
"""Our own Python's settings must not reach a vendor's."""


class Local(Toolchain):
    """This machine: nothing needs staging."""

    name = "local"

    def inside(self, folder: Path, place: str = "") -> str:
        """The path itself."""
        return os.path.join(folder, place) if place else str(folder)

    def carry_out(self, call: Call) -> Finished:
        """See ``program.Toolchain.run``. The folder of a program named by its path goes first on its PATH."""
        env = {**_ALONE, **call.env}
        return run(call.argv, call.folder / call.cwd, log=call.log, on_line=call.on_line, env=env, timeout=call.timeout)


def run(
    argv: Sequence[str],
    cwd: Path,
    *,
    log: Path | None = None,
    on_line: OnLine | None = None,
    env: Env | None = None,
    timeout: float | None = None,
) -> Finished:
    """Run ``argv`` in ``cwd`` in a session of its own, standard output and error merged, nothing on standard input.

    Every line, without colours and the carriage returns of progress bars, is appended to ``log`` (new at the start; an
    earlier one is replaced when the program has ended, see ``log_while_running``) and given to ``on_line``. After
    ``timeout`` seconds, on Ctrl-C, on SIGTERM to us and when ``on_line`` raises, the whole process group gets SIGTERM,
    then SIGKILL. The same when the program ends but leaves children behind.
    Raises ToolchainMissing when it cannot be started, InputError when the log cannot be written.
    """
    start = time.monotonic()
    with _open_log(log) as file:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=_environment(argv[0], env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolchainMissing(f"{argv[0]} cannot be started: {error.strerror or error}") from None
        lines: list[str] = []
        with _ended_with_us(process):
            late = False
            for line in _lines(process, None if timeout is None else start + timeout):
                if line is None:
                    late = True
                    break
                lines.append(line)
                if file:
                    _write(file, line)
                if on_line:
                    on_line(line)
    return Finished(process.wait(), time.monotonic() - start, late, tuple(lines))


def log_while_running(log: Path) -> Path:
    """Where the log is written until the program has ended: beside an earlier one, which an interruption must not take.

    What an interrupted program said stays there.
    """
    return log.with_name(f"{log.name}.part") if log.is_file() and not log.is_symlink() else log


@contextmanager
def _open_log(log: Path | None) -> Iterator[TextIO | None]:
    if log is None:
        yield None
        return
    now = log_while_running(log)
    try:
        file = now.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise write_failure(now, error) from error
    try:
        yield file
    except BaseException:
        _close(file)
        if now != log and not now.stat().st_size:  # it could not even be started
            now.unlink()
        raise
    _close(file)
    try:
        os.replace(now, log)
    except OSError as error:
        raise write_failure(log, error) from error


def _close(file: TextIO) -> None:
    with suppress(OSError):  # of a full disk; the line that did not fit has said so
        file.close()


def _write(file: TextIO, line: str) -> None:
    try:
        file.write(f"{line}\n")
    except OSError as error:
        raise write_failure(file.name, error) from error


def _environment(program: str, changes: Env) -> dict[str, str]:
    env = {**os.environ}
    for name, value in changes.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    if os.path.isabs(program):
        env["PATH"] = os.pathsep.join(filter(None, (os.path.dirname(program), env.get("PATH", ""))))
    return env


def _lines(process: subprocess.Popen[bytes], deadline: float | None) -> Iterator[str | None]:
    """The output line by line; None, once, when the deadline has passed."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if deadline is not None and time.monotonic() > deadline:
                yield None
                return
            if not selector.select(_POLL_S):
                if process.poll() is not None:
                    break
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            rest += decoder.decode(data, final=not data)
            # A carriage return at the very end may be the first half of a line end.
            held = "\r" if data and rest.endswith("\r") else ""
            *whole, rest = _END.split(rest[: len(rest) - len(held)])
            rest += held
            yield from filter(None, map(clean, whole))
            if not data:
                break
    if clean(rest):
        yield clean(rest)
    try:  # it may go on without output
        process.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        yield None


def clean(text: str) -> str:
    """One line of output without colours and trailing blanks."""
    return _ANSI.sub("", text).rstrip()


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in the body, afterwards no process of the group is left. SIGTERM to us counts as an end."""
    with cleaned_up(lambda: end_group(process)):
        yield


@contextmanager
def cleaned_up(clean_up: Callable[[], None]) -> Iterator[None]:
    """Call ``clean_up`` however the body ends; in the main thread SIGTERM and SIGHUP end it as an error would."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread()
    heeded = [number for number in _ENDS if ours and signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, leave) for number in heeded}  # nohup's word stands
    try:
        yield
    finally:
        # A second Ctrl-C during the clean-up would leave the program behind: it waits until this is done.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *_ENDS})
        try:
            clean_up()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a session leader and everything in its process group: SIGTERM, after a while SIGKILL; wait for it."""
    group = process.pid
    deadline = time.monotonic() + GRACE_S
    if _members(group, process):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        while _members(group, process) and time.monotonic() < deadline:
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _members(group: int, leader: subprocess.Popen[bytes]) -> bool:
    """Whether a process of the group still runs. Dead ones that nobody waited for do not count (proc_pid_stat(5))."""
    if leader.poll() is None:
        return True
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            state, _, own = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(own) == group and state not in ("Z", "X"):
                return True
    return False
