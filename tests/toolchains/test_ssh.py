"""Another machine: staging, quoting, status, fetching, ending."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.errors import ToolchainMissing
from ptqbridge.toolchains.ssh import Ssh

AWKWARD = "a b;c $(touch pwned) 'q' \"d\" *"


@pytest.fixture
def host(calls: Callable[[], str]) -> Ssh:
    return Ssh("board")


def test_files_go_there_and_products_come_back(folder: Path, host: Ssh, calls: Callable[[], str]) -> None:
    (folder / "job" / "link").symlink_to(folder / "job" / "model.txt")
    with host:
        host.stage(folder)
        there = Path(host.inside(folder))
        assert there != folder
        assert (there / "job" / "link").read_text() == "weights"
        words = ["sh", "-c", 'mkdir out; cp model.txt out/p.bin; printf "%s|" "$@" "$TMPDIR"', "sh", AWKWARD]
        temporary = host.inside(folder, "tmp")
        finished = host.run(words, folder, cwd="job", log=folder / "log", env={"TMPDIR": temporary})
        assert (finished.status, finished.lines) == (0, (f"{AWKWARD}|{temporary}|",))
        host.fetch(folder, "job/out")
        assert (folder / "job" / "out" / "p.bin").read_text() == "weights"
        host.fetch(folder, "job/nothing")
        assert not (folder / "job" / "nothing").exists()
    assert not there.exists()
    assert not list(folder.rglob("pwned"))
    for word in ("BatchMode=yes", "StrictHostKeyChecking=yes"):
        assert all(word in line for line in calls().splitlines())


@pytest.mark.parametrize("status", [0, 1, 255])
def test_the_status_is_the_programs_even_255(folder: Path, host: Ssh, status: int) -> None:
    with host:
        host.stage(folder)
        heard: list[str] = []
        finished = host.run(
            ["sh", "-c", f"printf no-line-end; exit {status}"], folder, cwd="job", log=folder / "log",
            on_line=heard.append,
        )  # fmt: skip
    assert finished.status == status
    assert heard == ["no-line-end"] == list(finished.lines)


def test_a_time_out_ends_what_runs_there(folder: Path, host: Ssh) -> None:
    with host:
        host.stage(folder)
        pid_file = Path(host.inside(folder, "job/pid"))
        started = time.monotonic()
        finished = host.run(
            ["sh", "-c", "echo $$ > pid; sleep 60 & wait"], folder, cwd="job", log=folder / "log", timeout=1.0
        )
        assert finished.timed_out
        assert time.monotonic() - started < 15
        status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
        assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("name", "said"), [("unknown", "Host key verification failed"), ("refused", "refused")])
def test_hosts_that_do_not_let_us_in(folder: Path, calls: Callable[[], str], name: str, said: str) -> None:
    with pytest.raises(ToolchainMissing, match=f"ssh://{name}: .*{said}") as caught, Ssh(name) as host:
        host.stage(folder)
    assert f"ssh {name}" in caught.value.hint


def test_a_program_that_is_not_there(folder: Path, host: Ssh) -> None:
    with host:
        host.stage(folder)
        with pytest.raises(ToolchainMissing, match="ssh://board: no-such was not found there"):
            host.run(["no-such"], folder, cwd="job", log=folder / "log")
