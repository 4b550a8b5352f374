"""``ptqbridge run``: run an artifact, or a model built on the spot, and report its performance."""

from __future__ import annotations

from ptqbridge.cli.perform import perform


def main(argv: list[str]) -> int:
    """Run on the given target; the CPU when none is named."""
    return perform("run", argv, default_target="cpu")
