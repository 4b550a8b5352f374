"""What the CPU target does where the user says nothing."""

DEFAULT_ALGORITHM = "percentile"
"""At 99.99 % rare outliers do not widen the ranges, and nothing is cut from tensors of few distinct values, where the
entropy search can go wrong (examples/mynet: see docs/calibration.md)."""
