"""Fixtures for all tests. What only one folder needs stands in that folder's conftest.py."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

# One profile for all: the same examples on every run and machine, and no failure because a shared machine was slow.
settings.register_profile(
    "ptqbridge", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
# PTQBRIDGE_HYPOTHESIS=explore looks for new counterexamples.
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("PTQBRIDGE_HYPOTHESIS", "ptqbridge"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parent.parent
