"""Fixtures of the Horizon tests: requests and plans from a command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends import resolve
from ptqbridge.backends.horizon.plan import plan
from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request


def request_of(line: str, target: str = "bayes", command: str = "trtexec") -> Request:
    """What the command line hands to a backend."""
    options = parse(shlex.split(line))
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    return Request(resolve(target), build_spec(options), run_spec(options), asked, command)


@pytest.fixture
def ask() -> Callable[..., Request]:
    """``ask(line, target, command)`` is a request."""
    return request_of


@pytest.fixture
def plan_of(monkeypatch: pytest.MonkeyPatch, root: Path) -> Callable[..., Plan]:
    """``plan_of(line, target, command)`` is a plan; paths are seen from the checkout."""
    monkeypatch.chdir(root)

    def make(line: str, target: str = "bayes", command: str = "trtexec", toolchain: str = "3.5") -> Plan:
        return plan(request_of(line, target, command), toolchain)

    return make


@pytest.fixture(scope="session")
def cases(root: Path) -> Path:
    """The folder of published configurations and outputs; skipped where there is none."""
    import os

    named = os.environ.get("PTQBRIDGE_CASES", "")
    found = Path(named) if named else root.parent / "shared" / "cases"
    if not found.is_dir():
        pytest.skip("no cases: PTQBRIDGE_CASES is not set and ../shared/cases is not there")
    return found
