"""``ptqbridge trtexec``: build and run in one go, the drop-in for trtexec; on TensorRT when no target is named."""

from __future__ import annotations

from ptqbridge.cli.perform import perform


def main(argv: list[str]) -> int:
    """Build and run as trtexec does."""
    return perform("trtexec", argv, default_target="trt")
