"""How near two sets of outputs are: cosine, largest differences, L2 and top-1 agreement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ptqbridge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """Nearness of one output to its reference, accumulated in float64. None: not defined for these tensors.

    ``cosine``: of the flattened tensors; 1 if both are all zero, 0 if one is. ``max_abs``: largest absolute
    difference. ``max_rel``: largest absolute difference over the reference's magnitude, where that is not 0.
    ``l2``: Euclidean norm of the difference. ``top1``: share of rows (last axis) whose largest value is at the same
    place. ``not_finite``: how many places hold nan or inf on one side, or not the same one on both; with any, all
    figures but ``top1`` are of the finite places alone.
    """

    elements: int
    cosine: float | None
    max_abs: float | None
    max_rel: float | None
    l2: float | None
    top1: float | None
    not_finite: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare_outputs(reference: NDArray[Any], other: NDArray[Any], name: str = "output") -> Comparison:
    """Compare two tensors of one shape.

    Raises:
        InputError: their shapes differ; the message has ``name`` and both shapes.
    """
    import numpy as np

    _check_shapes(reference, other, name)
    want, have = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (reference, other))
    finite = np.isfinite(want) & np.isfinite(have)
    not_finite = 0
    if not finite.all():
        same = (want == have) | (np.isnan(want) & np.isnan(have))
        not_finite = int(np.count_nonzero(~finite & ~same))
        want, have = want[finite], have[finite]
    top1 = top1_agreement(reference, other)
    if not len(want):
        return Comparison(reference.size, None, None, None, None, top1, not_finite)
    difference = np.abs(want - have)
    magnitude = np.abs(want)
    sized = magnitude > 0
    return Comparison(
        elements=reference.size,
        cosine=_cosine(want, have),
        max_abs=float(difference.max()),
        max_rel=float((difference[sized] / magnitude[sized]).max()) if sized.any() else None,
        l2=float(np.sqrt(np.dot(difference, difference))),
        top1=top1,
        not_finite=not_finite,
    )


def sample_cosines(reference: NDArray[Any], other: NDArray[Any], name: str = "output") -> NDArray[np.float64]:
    """Cosine of each sample (first axis), shape (n,), float64.

    Raises:
        InputError: the shapes differ or have no axis.
    """
    import numpy as np

    _check_shapes(reference, other, name)
    if not reference.ndim:
        raise InputError(f"{name}: a scalar has no samples to compare")
    pairs = zip(reference.reshape(len(reference), -1), other.reshape(len(other), -1), strict=True)
    return np.array([_cosine(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs], dtype=np.float64)


def top1_agreement(reference: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Share of rows (last axis) with the largest value at the same place; None if rows have fewer than 2 values."""
    import numpy as np

    if not reference.ndim or reference.shape[-1] < 2 or not reference.size:
        return None
    return float(np.mean(np.argmax(reference, axis=-1) == np.argmax(other, axis=-1)))


def top1_accuracy(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of samples whose largest score is at their label. ``scores`` (n, classes), ``labels`` (n,).

    Raises:
        InputError: the numbers of samples differ, or there are none.
    """
    import numpy as np

    if not len(labels) or len(scores) != len(labels):
        raise InputError(f"cannot judge {len(scores)} outputs by {len(labels)} labels")
    return float(np.mean(np.argmax(scores.reshape(len(labels), -1), axis=1) == labels))


def _check_shapes(reference: NDArray[Any], other: NDArray[Any], name: str) -> None:
    if reference.shape != other.shape:
        raise InputError(f"{name}: shapes differ, reference {reference.shape}, compared {other.shape}")


def _cosine(want: NDArray[np.float64], have: NDArray[np.float64]) -> float:
    """Cosine of two finite vectors, scaled first so that large values do not overflow."""
    import numpy as np

    top_want, top_have = np.max(np.abs(want), initial=0.0), np.max(np.abs(have), initial=0.0)
    if not top_want or not top_have:
        return 1.0 if top_want == top_have else 0.0
    want, have = want / top_want, have / top_have
    cosine = np.dot(want, have) / np.sqrt(np.dot(want, want) * np.dot(have, have))
    return float(np.clip(cosine, -1.0, 1.0))
