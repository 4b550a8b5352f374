"""Finding out which generation of hb_compile is there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends.horizon.backend import BACKEND
from ptqbridge.backends.horizon.probe6 import by_version, probe, probe_for, read_answers
from ptqbridge.errors import ToolchainMissing
from ptqbridge.plan import Request

MYNET = "--onnx=examples/mynet/mynet.onnx"
Write = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """``program(body)`` is a hb_compile of that shell script; nothing is remembered from before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(body: str) -> Path:
        path = tmp_path / "venv" / "bin" / "hb_compile"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", str(path))
        return path

    return write


@pytest.mark.parametrize(
    ("version", "generation"),
    [("3.0.17", "3.0"), ("3.3.11", "3.0"), ("3.5", "3.5"), ("3.5.16", "3.5"), ("4.0.1", "3.5"), ("", ""), ("x", "")],
)
def test_versions(version: str, generation: str) -> None:
    assert by_version(version) == generation


def test_answers() -> None:
    def never() -> tuple[int, str]:
        raise AssertionError("--help is not needed")

    told = read_answers((0, "hb_compile, version 3.0.17\n"), never)
    assert told and (told.generation, told.version) == ("3.0", "3.0.17")
    refused = (2, "Error: No such option '--version'. version 3.5.16\n")
    old = read_answers(refused, lambda: (0, "  --march [nash-e|nash-m]\n"))
    new = read_answers(refused, lambda: (0, "  --march [nash-e|nash-m|nash-p]\n  --core-num INTEGER\n"))
    assert old and new and (old.generation, new.generation) == ("3.0", "3.5")
    assert "--help lacks" in old.why and "--help has" in new.why
    assert read_answers(refused, lambda: (0, "something else")) is None
    assert read_answers(refused, lambda: (1, "--march")) is None


def test_the_double_tells_by_its_help(root: Path, program: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(f'exec {sys.executable} {root}/tests/doubles/hb_compile "$@"')
    for generation in ("3.0", "3.5"):
        monkeypatch.setenv("DOUBLE_GENERATION", generation)
        path.write_text(path.read_text() + "\n")  # another program than the one remembered
        found = probe()
        assert found and found.generation == generation


def test_a_program_is_asked_once(program: Write, tmp_path: Path) -> None:
    path = program(f"echo asked >>{tmp_path}/asked; echo hb_compile, version 3.0.17")
    assert [probe(), probe()] == [probe(), probe()]
    assert (tmp_path / "asked").read_text() == "asked\n"
    path.write_text("#!/bin/sh\necho hb_compile, version 3.5.16, a newer one\n")
    found = probe()
    assert found and found.version == "3.5.16"


def test_its_package_tells_without_running_it(program: Write, tmp_path: Path) -> None:
    program("exit 9")
    (tmp_path / "venv/lib/python3.10/site-packages/horizon_tc_ui-3.0.17.dist-info").mkdir(parents=True)
    found = probe()
    assert found and (found.generation, found.version) == ("3.0", "3.0.17") and "package" in found.why


def test_what_cannot_tell_is_not_known(program: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    program("exit 9")
    assert probe() is None
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", "/nowhere/hb_compile")
    assert probe() is None


def test_the_plan_follows_the_tool(program: Write, ask: Callable[..., Request], root: Path) -> None:
    program("echo hb_compile, version 3.0.17")
    line = f"--onnx={root}/examples/mynet/mynet.onnx --int8 --calibData=c"
    old = BACKEND.plan(ask(line, "nash-m", "build"))
    assert old.settings["toolchain"] == "3.0" and "enable_vpu: false" in old.files["hb_compile.yaml"]
    assert [(fill.value, fill.why) for fill in old.fills if fill.what == "toolchainVersion"] == [
        ("3.0", "3.0.17 hb_compile --version says so")
    ]
    said = BACKEND.plan(ask(f"{line} --toolchainVersion=3.5", "nash-m", "build"))
    assert said.settings["toolchain"] == "3.5" and not [f for f in said.fills if f.what == "toolchainVersion"]
    away = BACKEND.plan(ask(f"{line} --toolchain=ssh://nowhere", "nash-m", "build"))
    assert any("has not been asked yet" in fill.why for fill in away.fills)


def test_a_tool_elsewhere_is_asked_before_a_build(
    program: Write, ask: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("exit 9")
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\ncase "$*" in *--version) echo hb_compile, version 3.0.17;; *) exit 1;; esac\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    line = f"{MYNET} --toolchain=docker:openexplorer:1"
    for words in ("--dryRun", "--toolchainVersion=3.5"):
        probe_for(ask(f"{line} {words}", "nash-m", "build"))
        assert probe("docker:openexplorer:1", ask=False) is None
    probe_for(ask(line, "nash-m", "build"))
    found = probe("docker:openexplorer:1", ask=False)
    assert found and found.generation == "3.0"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolchainMissing):
        probe_for(ask(f"{MYNET} --toolchain=docker:other", "nash-m", "build"))


def test_doctor_tells_the_generation(
    program: Write, root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from ptqbridge.cli.doctor import main

    path = program("echo hb_compile, version 3.0.17")
    assert main(["--target=nash-m"]) == 0
    assert f"hb_compile {path} (3.0.17, written for as 3.0)" in capsys.readouterr().out
