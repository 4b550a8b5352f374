"""Running a program in a container: one mount, our user, no shell, and no container left behind."""

from __future__ import annotations

import csv
import io
import os
import secrets
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ptqbridge.errors import ToolchainMissing
from ptqbridge.toolchains.local import run
from ptqbridge.toolchains.program import Call, Env, Finished, Toolchain

MOUNT = "/ptqbridge"
"""Where the folder stands inside the container."""
_CLIENT_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
"""Exit statuses of ``docker run`` itself (docker run reference, "Exit status"); a program may use them as well."""
_OWN = ("docker: ", "Error: ", "unknown flag")
"""How lines of docker, or podman in its place, begin when it could not run the program."""


class Docker(Toolchain):
    """An image with the vendor's tools. The image must be on this machine: nothing is pulled."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.name = f"docker:{image}"

    def inside(self, folder: Path, place: str = "") -> str:
        """The folder is mounted at one fixed place."""
        return f"{MOUNT}/{place}" if place else MOUNT

    def command(
        self, argv: Sequence[str], folder: Path, *, cwd: str = "", env: Env | None = None, container: str = ""
    ) -> list[str]:
        """The ``docker run`` command."""
        words = ["docker", "run", "--rm", "--init", "--pull=never"]
        words += [f"--name={container}"] if container else []
        words += [f"--user={os.getuid()}:{os.getgid()}", f"--mount={_mount(folder)}"]
        words += [f"--workdir={self.inside(folder, cwd)}"]
        # The image knows no home of our user, and tools write caches there.
        variables = {"HOME": self.inside(folder), **(env or {})}
        words += [f"--env={name}={value}" for name, value in variables.items() if value is not None]
        return [*words, self.image, *argv]

    def carry_out(self, call: Call) -> Finished:
        """See ``program.Toolchain.run``."""
        container = f"ptqbridge-{secrets.token_hex(6)}"
        command = self.command(call.argv, call.folder, cwd=call.cwd, env=call.env, container=container)
        over = False
        try:
            finished = run(command, call.folder, log=call.log, on_line=call.on_line, timeout=call.timeout)
            over = not finished.timed_out and finished.status >= 0
        finally:
            if not over:  # ending the client does not end the container
                _remove(container)
        if finished.status in (_CLIENT_FAILED, _NOT_EXECUTABLE, _NOT_FOUND):
            self._own_failure(finished, call.argv[0])
        return finished

    def _own_failure(self, finished: Finished, program: str) -> None:
        """Raise when the status is docker's, not the program's: docker then says so in a line of its own."""
        said = next((line for line in finished.lines if line.startswith(_OWN)), "")
        if not said:
            return
        if finished.status == _NOT_FOUND:
            raise ToolchainMissing(f"{self.name}: {program} was not found in the image")
        if finished.status == _NOT_EXECUTABLE:
            raise ToolchainMissing(f"{self.name}: {program} cannot be run in the image")
        hint = "docker's daemon must run, and let this user in"
        if "No such image" in finished.text or "Unable to find image" in finished.text:
            hint = "the image must be on this machine: docker pull it"
        raise ToolchainMissing(f"{self.name}: {said.removeprefix('docker: ')}", hint=hint)


def _mount(folder: Path) -> str:
    """The value of --mount, which is one line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["type=bind", f"source={folder.resolve()}", f"target={MOUNT}"])
    return text.getvalue()


def _remove(container: str) -> None:
    """End and remove the container; it may be gone already, and the daemon may not answer."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["docker", "rm", "--force", container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            start_new_session=True,
            check=False,
        )
