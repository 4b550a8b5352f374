"""``ptqbridge toolchain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptqbridge.cli import main
from ptqbridge.toolchains import install as module


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """What ``install`` was asked; it says one line and installs nothing."""
    asked: list[tuple[Path, str]] = []

    def install(folder: Path, *, python: str = "", say: object = None) -> Path:
        asked.append((folder, python))
        say("working")  # type: ignore[operator]
        return folder / "bin" / "hb_mapper"

    monkeypatch.setattr(module, "install", install)
    return asked


def test_install(installed: list[tuple[Path, str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", "install", "hb-mapper", "v", "--python", "python3.10"]) == 0
    assert installed == [(Path("v"), "python3.10")]
    assert capsys.readouterr().out == "working\nuse it with:  export PTQBRIDGE_HB_MAPPER=v/bin/hb_mapper\n"


def test_json(installed: list[tuple[Path, str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", "install", "hb-mapper", "v", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"ok": True, "command": "toolchain", "hb_mapper": "v/bin/hb_mapper"}
    assert said.err == "working\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["install", "hb-compile", "v"], "expected hb-mapper, found 'hb-compile'"),
        (["install", "hb-mapper"], "Missing argument 'VENV'"),
        (["remove"], "No such command 'remove'"),
    ],
)
def test_usage(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", *argv]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("ptqbridge: error: ")


def test_no_fit_python_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", "install", "hb-mapper", str(tmp_path / "v"), "--python", "no-such"]) == 4
    assert "needs Python 3.10 with a shared library (no-such: not found)" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain"]) == 0
    assert "install" in capsys.readouterr().out
    assert main(["toolchain", "install", "--help"]) == 0
    assert "VENV" in capsys.readouterr().out
