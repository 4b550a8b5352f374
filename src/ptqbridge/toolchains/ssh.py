"""Running a program on another machine with the system's ssh and scp, so that ~/.ssh/config counts."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ptqbridge.errors import ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import run
from ptqbridge.toolchains.program import Call, Env, Finished, Toolchain

OPTIONS = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10")
"""Never ask anything, never trust a host that nobody has accepted."""
_HOST = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*@)?"
    r"(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*)|\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_MARK = "ptqbridge-status="
"""ssh gives its own failures the status 255, which vendor tools use too: so the remote shell says the status."""
_REMOTE = re.compile(r"/[A-Za-z0-9_./-]+")
_QUICK_S = 60


class Ssh(Toolchain):
    """A machine reached as ``ssh HOST``; a temporary folder there is made for a run and removed with it."""

    def __init__(self, host: str, port: str = "") -> None:
        self.host = host
        self.name = f"ssh://{host}" + (f":{port}" if port else "")
        self._ssh = ["ssh", "-T", *OPTIONS, *(("-p", port) if port else ())]
        self._scp = ["scp", "-q", "-r", *OPTIONS, *(("-P", port) if port else ())]
        self._remote = ""

    def __exit__(self, *_: object) -> None:
        if self._remote:
            remote, self._remote = self._remote, ""
            with suppress(ToolchainMissing):
                self._ask(("rm", "-rf", "--", remote))

    def inside(self, folder: Path, place: str = "") -> str:
        """The folder keeps its name below the temporary one."""
        return "/".join(filter(None, (self._remote, folder.name, place)))

    def stage(self, folder: Path) -> None:
        """Copy ``folder`` there; links become the files they point to."""
        if not self._remote:
            answer = self._ask(("mktemp", "-d", "/tmp/ptqbridge.XXXXXXXX"))
            remote = answer.lines[-1] if answer.lines else ""
            if not _REMOTE.fullmatch(remote):
                raise ToolchainMissing(f"{self.name}: mktemp -d answered {remote!r}, expected a folder")
            self._remote = remote
        self._copy(str(folder), f"{self._address}:{self._remote}/")

    @property
    def _address(self) -> str:
        """The host as scp wants it: an IPv6 address in brackets."""
        user, at, host = self.host.rpartition("@")
        return f"{user}{at}[{host}]" if ":" in host else self.host

    def carry_out(self, call: Call) -> Finished:
        """See ``program.Toolchain.run``. The status is that of the remote program; a broken connection is a failure."""
        group = f"{self.inside(call.folder)}/.group"
        status: list[int] = []

        def hear(line: str) -> None:
            before, mark, number = line.rpartition(_MARK)
            if mark and number.isdigit():
                status.append(int(number))
                line = before
            if line and call.on_line:
                call.on_line(line)

        over = False
        try:
            words = self._words(call.argv, self.inside(call.folder, call.cwd), group, call.env)
            command = [*self._ssh, "--", self.host, words]
            finished = run(command, call.folder, log=call.log, on_line=hear, timeout=call.timeout)
            over = bool(status)
        finally:
            if not over:  # ending ssh does not end what runs there
                with suppress(ToolchainMissing):
                    self._ask(("sh", "-c", _KILL, "sh", group))
        lines = tuple(line for line in finished.lines if _MARK not in line)
        if finished.timed_out:
            return Finished(finished.status, finished.seconds, True, lines)
        if not status:
            raise (
                self._unreached(finished)
                if finished.status == 255
                else ToolchainFailed(f"{self.name}: the connection ended before {call.argv[0]} did")
            )
        if status[-1] == 127:
            raise ToolchainMissing(f"{self.name}: {call.argv[0]} was not found there")
        return Finished(status[-1], finished.seconds, False, lines)

    def _words(self, argv: Sequence[str], cwd: str, group: str, env: Env) -> str:
        """The remote command line. Whatever the login shell is, it only starts sh with quoted words."""
        sets = [f"{name}={value}" for name, value in env.items() if value is not None]
        return "exec " + shlex.join(["sh", "-c", _SCRIPT, "sh", group, cwd, "env", *sets, *argv])

    def fetch(self, folder: Path, place: str) -> None:
        """Copy ``place`` back, replacing what is here."""
        if self._ask(("test", "-e", self.inside(folder, place)), accept=(0, 1)).status:
            return
        here = folder / place
        if here.is_dir():
            shutil.rmtree(here)
        here.parent.mkdir(parents=True, exist_ok=True)
        self._copy(f"{self._address}:{self.inside(folder, place)}", str(here))

    def _copy(self, source: str, target: str) -> None:
        finished = run([*self._scp, "--", source, target], Path("/"))
        if finished.status:
            raise self._unreached(finished)

    def _ask(self, argv: Sequence[str], accept: Sequence[int] = (0,)) -> Finished:
        command = [*self._ssh, "--", self.host, "exec " + shlex.join(argv)]
        finished = run(command, Path("/"), timeout=_QUICK_S)
        if finished.status not in accept:
            raise self._unreached(finished)
        return finished

    def _unreached(self, finished: Finished) -> ToolchainMissing:
        said = finished.lines[-1] if finished.lines else f"ssh ended with status {finished.status}"
        text = finished.text
        hint = f"'ssh {self.host}' must work without a question"
        if "Host key verification failed" in text:
            hint = f"the host is unknown or its key has changed: check it, then 'ssh {self.host}' once"
        elif "subsystem request failed" in text or "scp: Connection closed" in text:
            hint = "scp needs the sftp subsystem of the server there"
        return ToolchainMissing(f"{self.name}: {said}", hint=hint)


def address(text: str) -> tuple[str, str] | None:
    """``[USER@]HOST`` without brackets and the port ("" for the usual) of ``ssh://[USER@]HOST[:PORT]``, else None.

    HOST may be an alias of ~/.ssh/config or an IPv6 address in brackets, never something that ssh takes for an option.
    """
    found = _HOST.fullmatch(text.removeprefix("ssh://")) if text.startswith("ssh://") else None
    if not found or int(found["port"] or 1) not in range(1, 65536):
        return None
    return (found["user"] or "") + (found["host"] or found["v6"]), found["port"] or ""


_SCRIPT = f'echo $$ > "$1" && cd "$2" || exit 126; shift 2; "$@"; printf "\\n{_MARK}%d\\n" $?'
"""Notes the process group (sshd makes every command a session of its own), runs the words, says their status."""
_KILL = 'p=$(cat "$1") && { kill -s TERM -- "-$p"; sleep 1; kill -s KILL -- "-$p"; } 2>/dev/null; true'


def available() -> bool:
    """Whether ssh and scp are installed."""
    return all(map(shutil.which, ("ssh", "scp")))
