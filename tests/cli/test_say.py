"""What a command says while it works: a bar on a terminal, lines in a log, nothing with --json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ptqbridge.backends import Progress
from ptqbridge.cli import say
from ptqbridge.cli.say import Speaker

Told = list[tuple[str, int, int]]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Told:
    """(title, done, total) of every bar."""
    told: Told = []

    @contextmanager
    def bar(title: str) -> Iterator[Progress]:
        yield lambda done, total, what="": told.append((title, done, total))

    monkeypatch.setattr(say, "_bar", bar)
    return told


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (("lint-data",), "looking at samples"),
        (("calibrate", "--target=j5", "--out=data"), "writing samples"),
        (("calibrate", "--target=j6m", "--out=data"), "writing samples"),
    ],
)
def test_a_bar_counts_samples(
    ptq: Callable[..., object], bars: Told, mynet: Path, words: tuple[str, ...], title: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # a terminal; not in a fixture: pytest changes streams
    given = (f"--onnx={mynet}/mynet.onnx", f"--calibData={mynet}/calib", "--calibSamples=5")
    answer = ptq(*words, *given)
    assert answer.status in (0, 6), answer.err
    assert bars == [(title, done, 5) for done in range(1, 6)]
    assert ptq(*words, *given, "--json").status in (0, 6)
    assert len(bars) == 5


def test_a_log_gets_lines_only_where_they_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with Speaker(quiet=False).progress("looking", lines=False) as progress:
        assert progress is None
    with Speaker(quiet=True).progress() as progress:
        assert progress is None
    with Speaker(quiet=False).progress() as progress:
        assert progress is not None
        progress(1, 64, "writing calibration samples 1/64")
        progress(2, 64, "writing calibration samples 2/64")
    assert capsys.readouterr().out == "writing calibration samples 1/64\n"


def test_a_bar_does_not_count_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with say._bar("looking") as progress:
        progress(33, 64, "writing calibration samples 33/64")
    assert capsys.readouterr().out.count("33/64") == 1
