"""The trace of a timing run: when each query was enqueued, copied, computed and copied back.

After NVIDIA/TensorRT samples/common/sampleReporting.cpp and sampleInference.cpp, v8.6.1 (``InferenceTrace``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Stamps = NDArray[np.float64]
    Durations = NDArray[np.float32]

PHASES = ("enqueue", "h2d", "compute", "d2h")


@dataclass(frozen=True, eq=False)
class Trace:
    """Stamps of n queries, one array of shape (n,) per column, in milliseconds after the zero point.

    A phase that does not exist on a target (copies on a CPU, an enqueue apart from the query) has None for both its
    columns. Stamps are float64 so that durations stay exact late in a long run (a float32 stamp is 0.2 us coarse
    after 3 s and 4 us after a minute); durations are float32, as are all statistics.
    """

    compute_start: Stamps
    compute_end: Stamps
    enqueue_start: Stamps | None = None
    enqueue_end: Stamps | None = None
    h2d_start: Stamps | None = None
    h2d_end: Stamps | None = None
    d2h_start: Stamps | None = None
    d2h_end: Stamps | None = None

    def __len__(self) -> int:
        return len(self.compute_start)

    @property
    def first_stamps(self) -> Stamps:
        """When each query began on the device: its input copy, or its compute where there is no copy."""
        return self.compute_start if self.h2d_start is None else self.h2d_start

    @property
    def last_stamps(self) -> Stamps:
        """When each query ended on the device."""
        return self.compute_end if self.d2h_end is None else self.d2h_end

    def durations(self, phase: str) -> Durations | None:
        """Milliseconds that each query spent in ``phase`` (one of `PHASES`), float32; None if it does not exist."""
        import numpy as np

        start, end = getattr(self, f"{phase}_start"), getattr(self, f"{phase}_end")
        return None if start is None or end is None else (end - start).astype(np.float32)

    def latency(self) -> Durations:
        """H2D + compute + D2H per query, added in float32; what does not exist is not in the sum.

        trtexec's "latency": gaps between the parts are not counted, so it is not the end-to-end time.
        """
        import numpy as np

        parts = [self.durations(phase) for phase in ("h2d", "compute", "d2h")]
        total = np.zeros(len(self), dtype=np.float32)
        for part in parts:
            if part is not None:
                total = total + part
        return total

    def walltime_ms(self) -> float | None:
        """From the first query's first stamp to the last query's last one, as float32; None for an empty trace."""
        import numpy as np

        if not len(self):
            return None
        return float(np.float32(self.last_stamps[-1] - self.first_stamps[0]))

    def without_warmup(self, warmup_ms: float) -> tuple[int, Trace]:
        """How many leading queries are warm-up, and the others.

        Dropped are the queries before the first whose compute start is at ``warmup_ms`` or later; later ones stay
        whatever their start. Nothing is kept if no query reached that time.
        """
        import numpy as np

        late = np.flatnonzero(self.compute_start >= warmup_ms)
        dropped = int(late[0]) if len(late) else len(self)
        return dropped, self._picked(slice(dropped, None))

    def _picked(self, rows: slice | NDArray[np.intp]) -> Trace:
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        picked: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
        return Trace(**picked)


def merge(traces: Sequence[Trace]) -> Trace:
    """One trace of all streams' queries, sorted by their first device stamp.

    A column exists in the result if it exists in every trace. No traces give an empty one.
    """
    import numpy as np

    def joined(name: str) -> Any:
        columns = [getattr(trace, name) for trace in traces]
        if any(column is None for column in columns):
            return None
        return np.concatenate([np.asarray(column, dtype=np.float64) for column in columns])

    if not traces:
        empty = np.zeros(0, dtype=np.float64)
        return Trace(compute_start=empty, compute_end=empty)
    whole = Trace(**{f.name: joined(f.name) for f in fields(Trace)})
    return whole._picked(np.argsort(whole.first_stamps, kind="stable"))
