"""What lint remembers of a sample, and the form of what it finds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ptqbridge.data.arrays import Array
from ptqbridge.data.misread import looks_like
from ptqbridge.spec.tensor import TensorSpec

TINY = 1e-30
_LEAST = 768
"""Values that show an order: a picture of 16x16."""


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong.

    ``level``: ``error`` (the build would be worthless), ``warning`` (it probably loses accuracy), ``unsure`` (the data
    cannot tell). ``check`` is a short stable name, ``sample`` is empty when the finding is about all of them.
    """

    level: str
    check: str
    input: str
    sample: str
    reason: str

    def text(self) -> str:
        """One line."""
        where = ": ".join(filter(None, (self.sample, f"input '{self.input}'" if self.input else "")))
        return f"{self.level} [{self.check}] {where}{': ' if where else ''}{self.reason}"


@dataclass(frozen=True)
class Facts:
    """What is remembered of one sample of one input.

    ``whole``: only whole numbers. ``tiny``: share of values below TINY that are not 0. ``misread``: the type its bytes
    look like, "" for its own. ``order``: how colours lie in memory, see ``_order``. ``borders``: two opposite edges are
    plain.
    """

    sample: str
    shape: tuple[int, ...]
    low: float
    high: float
    whole: bool
    tiny: float
    misread: str
    digest: bytes
    order: str
    borders: bool

    @property
    def spread(self) -> float:
        """From the smallest to the largest value."""
        return self.high - self.low


def look(sample: str, spec: TensorSpec, array: Array) -> Facts:
    """The facts of ``array``, the data of input ``spec`` in ``sample``."""
    flat = array.reshape(-1)
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    floating = array.dtype.kind == "f"
    return Facts(
        sample=sample,
        shape=array.shape,
        low=low,
        high=high,
        whole=bool(np.array_equal(flat, np.rint(flat))) if floating else True,
        tiny=float(np.mean((np.abs(flat) < TINY) & (flat != 0))) if floating and flat.size else 0.0,
        misread=looks_like(array),
        digest=hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest(),
        order=_order_of(array, spec),
        borders=_has_borders(array, spec) if is_image(spec) else False,
    )


def is_image(spec: TensorSpec) -> bool:
    """Whether an input looks like a picture: four axes, one of them of 1 or 3 channels."""
    return len(spec.shape) == 4 and (spec.shape[1] in (1, 3) or spec.shape[3] in (1, 3))


def _order_of(array: Array, spec: TensorSpec) -> str:
    if not is_image(spec) or 3 not in (spec.shape[1], spec.shape[3]):
        return ""
    return _order(array, array.shape[3] if spec.shape[1] == 3 else array.shape[2])


def _order(array: Array, width: int) -> str:
    """How three colours of pictures of that width lie in memory: ``interleaved`` (NHWC), ``planar`` (NCHW), or "".

    Interleaved, a value is nearer to the third after it than to the next, or (grey pictures) hardly any step but that
    from blue to the next red is above 0. In planes the next value is the nearest, and every third step is like the
    others. Where neither shows, the answer is "".
    """
    flat = array.reshape(-1).astype(np.float32)
    if flat.size < _LEAST:
        return ""
    steps = np.abs(flat[1:] - flat[:-1])
    within = np.arange(steps.size) % width != width - 1  # in planes, rows end in large steps
    near, third = float(steps[within].mean()), float(np.abs(flat[3:] - flat[:-3])[within[2:]].mean())
    if not near:
        return ""
    least, middle, most = sorted(float(steps[phase::3][within[phase::3]].mean()) for phase in range(3))
    if third / near < 0.75 or middle / most < 0.1:
        return "interleaved"
    return "planar" if third / near > 1.25 and least / most > 0.85 else ""


def _has_borders(array: Array, spec: TensorSpec) -> bool:
    """Whether two opposite edges of all pictures are of one and the same value per channel."""
    planes = array if spec.shape[1] in (1, 3) else array.transpose(0, 3, 1, 2)
    if min(planes.shape[2:]) < 8 or not planes.size:
        return False

    def flat(edges: Array) -> bool:
        return bool((edges.max(axis=(2, 3)) == edges.min(axis=(2, 3))).all())

    inside = planes[:, :, planes.shape[2] // 2, :]
    if inside.max() == inside.min():
        return False
    rows, columns = planes[:, :, [0, 1, -2, -1], :], planes[:, :, :, [0, 1, -2, -1]]
    return flat(rows) != flat(columns)
