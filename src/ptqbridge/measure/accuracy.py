"""Outputs against expected ones: the distances of trtexec 11's ``--loadRefOutputs`` and what was accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptqbridge.errors import InputError
from ptqbridge.measure.compare import compare_outputs
from ptqbridge.spec.run import Expected
from ptqbridge.spec.tensor import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = {"l0": "L0", "l1": "L1", "l2": "L2", "lInf": "LInf", "cos": "Cosine"}


@dataclass(frozen=True)
class AccuracyLoss:
    """How far one output is from the expected one, by one algorithm; 0 is equal. ``limit`` is what fails it."""

    output: str
    algorithm: str
    loss: float
    limit: float

    @property
    def met(self) -> bool:
        """Below the limit; nan, from an output that is not finite, never is."""
        return self.loss < self.limit

    def text(self) -> str:
        """As trtexec logs it (NVIDIA/TensorRT samples/common/sampleInference.cpp, 11.1)."""
        failed = "" if self.met else f" [FAIL: >= threshold {self.limit:g}]"
        return f"Accuracy loss for tensor {self.output} ({NAMES[self.algorithm]}): {self.loss:.6f}{failed}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; a loss that is not a number is null."""
        loss = self.loss if math.isfinite(self.loss) else None
        return {"algorithm": self.algorithm, "loss": loss, "limit": self.limit, "met": self.met}


def accuracy_losses(outputs: Mapping[str, NDArray[Any]], expected: Expected) -> tuple[AccuracyLoss, ...]:
    """The loss of every output that has an expected one.

    Raises:
        InputError: an output that does not exist (trtexec only warns), or a file that does not fit it.
    """
    from ptqbridge.data.inputs import load_input

    losses = []
    for name, path in expected.files.items():
        if name not in outputs:
            have = ", ".join(outputs) or "none was brought back by this run"
            raise InputError(f"--loadRefOutputs: there is no output {name!r}; outputs: {have}")
        found = outputs[name]
        try:
            wanted = load_input(path, TensorSpec(name, found.dtype.name, found.shape))
        except InputError as error:
            raise InputError(f"--loadRefOutputs: {error.message}", hint=error.hint) from None
        loss = distance(expected.algorithm, found, wanted, atol=expected.atol, rtol=expected.rtol)
        losses.append(AccuracyLoss(name, expected.algorithm, loss, expected.limit))
    return tuple(losses)


def failures(losses: Sequence[AccuracyLoss]) -> str:
    """One line naming every output beyond its limit; "" when there is none."""
    return "; ".join(
        f"output {loss.output}: {NAMES[loss.algorithm]} loss {loss.loss:.6g}, accepted below {loss.limit:g}"
        for loss in losses
        if not loss.met
    )


def distance(
    algorithm: str, found: NDArray[Any], wanted: NDArray[Any], *, atol: float = 1e-5, rtol: float = 1e-5
) -> float:
    """The loss of ``found`` against ``wanted``, of one shape, in float64; nan where a value is not finite.

    ``l0``: share of elements with ``|found - wanted| > atol + rtol * |wanted|``. ``l1``: mean absolute difference.
    ``l2``: mean squared difference. ``lInf``: largest absolute difference. ``cos``: 1 - cosine. The formulas are
    those of NVIDIA/TensorRT samples/common/sampleUtils.cpp, 11.1, but for values that are not finite: there they
    match everything in ``l0`` and vanish in ``lInf``, here they match only themselves.
    """
    import numpy as np

    have, want = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (found, wanted))
    same = (have == want) | (np.isnan(have) & np.isnan(want))
    finite = np.isfinite(have) & np.isfinite(want)
    if not want.size:
        return 0.0
    if algorithm == "l0":
        with np.errstate(invalid="ignore"):
            near = same | (finite & (np.abs(have - want) <= atol + rtol * np.abs(want)))
        return float(np.mean(~near))
    if not (finite | same).all():
        return math.nan
    difference = np.where(same, 0.0, np.abs(np.where(same, 0.0, have) - np.where(same, 0.0, want)))
    if algorithm == "l1":
        return float(difference.mean())
    if algorithm == "l2":
        return float(np.square(difference).mean())
    if algorithm == "lInf":
        return float(difference.max())
    cosine = compare_outputs(wanted, found).cosine
    return math.nan if cosine is None else 1.0 - cosine
