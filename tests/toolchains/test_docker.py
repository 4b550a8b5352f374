"""The container's command, and its end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.cli import main
from ptqbridge.errors import ToolchainMissing
from ptqbridge.toolchains.docker import Docker


def test_command(folder: Path) -> None:
    words = Docker("oe:1").command(["hb_mapper", "a b;c"], folder, cwd="job", env={"X": "1", "Y": None}, container="n")
    assert words == [
        "docker", "run", "--rm", "--init", "--pull=never", "--name=n", f"--user={os.getuid()}:{os.getgid()}",
        f"--mount=type=bind,source={folder},target=/ptqbridge", "--workdir=/ptqbridge/job", "--env=HOME=/ptqbridge",
        "--env=X=1", "oe:1", "hb_mapper", "a b;c",
    ]  # fmt: skip


def test_a_folder_with_a_comma_is_quoted_as_csv(tmp_path: Path) -> None:
    odd = tmp_path / "a,b"
    odd.mkdir()
    mount = next(word for word in Docker("i").command(["x"], odd) if word.startswith("--mount="))
    assert mount == f'--mount=type=bind,"source={odd}",target=/ptqbridge'


def test_run(folder: Path, calls: Callable[[], str]) -> None:
    docker = Docker("oe")
    with docker:
        docker.stage(folder)
        finished = docker.run(["cat", "model.txt"], folder, cwd="job", log=folder / "log")
        docker.fetch(folder, "job")
    assert (finished.status, finished.lines) == (0, ("weights",))
    assert " rm " not in calls()


def test_a_container_that_is_cut_short_is_removed_by_name(folder: Path, calls: Callable[[], str]) -> None:
    finished = Docker("oe").run(["sleep", "60"], folder, cwd="job", log=folder / "log", timeout=0.5)
    assert finished.timed_out
    run, remove = calls().splitlines()
    name = next(word for word in run.split() if word.startswith("--name="))[len("--name=") :]
    assert remove == f"rm --force {name}"


def test_a_callback_that_raises_removes_the_container(folder: Path, calls: Callable[[], str]) -> None:
    def hear(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Docker("oe").run(["echo", "x"], folder, cwd="job", log=folder / "log", on_line=hear)
    assert "rm --force ptqbridge-" in calls()


def test_missing_image_and_program(folder: Path, calls: Callable[[], str]) -> None:
    with pytest.raises(ToolchainMissing, match=r"docker:missing: .*No such image: missing:latest") as caught:
        Docker("missing").run(["true"], folder, log=folder / "log")
    assert "docker pull" in caught.value.hint
    with pytest.raises(ToolchainMissing, match="no-such was not found in the image"):
        Docker("oe").run(["no-such"], folder, cwd="job", log=folder / "log")
    with pytest.raises(ToolchainMissing, match="/tmp cannot be run in the image"):
        Docker("oe").run(["/tmp"], folder, cwd="job", log=folder / "log")


@pytest.mark.parametrize("status", [1, 125, 126, 127, 255])
def test_a_status_of_the_program_is_not_dockers(folder: Path, calls: Callable[[], str], status: int) -> None:
    finished = Docker("oe").run(["sh", "-c", f"echo done; exit {status}"], folder, cwd="job", log=folder / "log")
    assert (finished.status, finished.lines) == (status, ("done",))


def test_no_daemon(folder: Path, calls: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DOWN", "1")
    with pytest.raises(ToolchainMissing, match="Cannot connect to the Docker daemon") as caught:
        Docker("oe").run(["true"], folder, log=folder / "log")
    assert "daemon must run" in caught.value.hint


def test_nothing_of_ours_reaches_the_container(folder: Path, calls: Callable[[], str]) -> None:
    script = 'printf "%s|" "$HOME" "$SECRET" "$CALLS" "$X" "$(id -u)"'
    finished = Docker("oe").run(["sh", "-c", script], folder, cwd="job", log=folder / "log", env={"X": "a b"})
    assert finished.lines == (f"{folder}|||a b|{os.getuid()}|",)


def test_the_container_is_gone_after_a_time_out(folder: Path, calls: Callable[[], str]) -> None:
    """Ending docker's client leaves its container running: it has to be removed by name."""
    script = ["sh", "-c", "echo $$ > pid; sleep 60"]
    assert Docker("oe").run(script, folder, cwd="job", log=folder / "log", timeout=1.5).timed_out
    pid = (folder / "job" / "pid").read_text().strip()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_no_docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolchainMissing, match="docker cannot be started"):
        Docker("oe").run(["true"], folder, log=folder / "log")


def test_a_build_in_a_container(
    tmp_path: Path, root: Path, calls: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line to the product, with the double of hb_mapper in the image and none on this machine."""
    image = tmp_path / "image"
    image.mkdir()
    for name in ("hb_mapper", "hbdk-cc"):
        (image / name).write_text(f'#!/bin/sh\nexec {sys.executable} {root}/tests/doubles/{name} "$@"\n')
        (image / name).chmod(0o755)
    monkeypatch.setenv("DOCKER_PATH", f"{image}:/usr/bin:/bin")
    monkeypatch.delenv("PTQBRIDGE_HB_MAPPER", raising=False)
    words = ["build", f"--onnx={root}/examples/mynet/mynet.onnx", "--int8", f"--calibData={root}/examples/mynet/calib"]
    words += ["--target=j5", "--calibSamples=10", f"--saveEngine={tmp_path}/m.bin"]
    assert main([*words, "--toolchain=docker:other"]) == 4
    assert not (tmp_path / "m.bin").exists()
    assert main([*words, "--toolchain=docker:oe"]) == 0
    assert (tmp_path / "m.bin").stat().st_size > 0
    assert "/ptqbridge/job" in calls() and str(root) not in calls()
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {os.getuid()}
