"""Running the command line in this process, and as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Answer:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def ptq(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Runs ``ptqbridge ARGS`` in this process, in an empty folder."""
    from ptqbridge.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> Answer:
        capfd.readouterr()
        status = main([str(word) for word in argv])
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return call


@pytest.fixture
def program(root: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``python -m ptqbridge ARGS``; its temporary files go to ``tmp_path/tmp``."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "TMPDIR": str(tmp_path / "tmp")}

    def start(*argv: object, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ptqbridge", *map(str, argv)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    return start


@pytest.fixture(scope="session")
def mynet(root: Path) -> Path:
    """The folder of the example network."""
    return root / "examples" / "mynet"


@pytest.fixture(scope="session")
def article() -> list[str]:
    """The switches of the article's command line: all but the model, the engine and how long it runs."""
    return [
        "--useCudaGraph",
        "--noDataTransfers",
        "--useSpinWait",
        "--infStreams=8",
        "--maxAuxStreams=8",
        "--builderOptimizationLevel=5",
        "--threads",
        "--best",
        "--verbose",
        "--profilingVerbosity=detailed",
        "--dumpProfile",
        "--dumpLayerInfo",
        "--separateProfileRun",
        "--avgRuns=100",
    ]
