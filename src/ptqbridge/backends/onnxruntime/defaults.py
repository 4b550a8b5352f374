"""What the CPU target does where the user says nothing."""

DEFAULT_ALGORITHM = "default"
"""Of percentile 99.995, max and kl the one that leaves the outputs nearest to float32: no single method is right for
every network (docs/calibration.md), and the search costs two to three times as much as max (docs/performance.md)."""
