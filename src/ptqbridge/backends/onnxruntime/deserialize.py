"""``--timeDeserialize``: how long making a session of the artifact takes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

WARMUP_LOADS = 2
MEASURED_LOADS = 20


def time_loads(
    load: Callable[[], object], clock: Callable[[], int] = time.perf_counter_ns, *, loads: int = MEASURED_LOADS
) -> tuple[float, ...]:
    """Seconds of 1 + ``loads`` calls of ``load`` after two unmeasured ones.

    The first entry stands for itself, the others for the average. What a load made is released before the next begins.
    After NVIDIA/TensorRT samples/common/sampleInference.cpp, v8.6.1 (``timeDeserialize``).
    """
    times: list[float] = []
    for _ in range(WARMUP_LOADS + 1 + loads):
        gc.collect()
        start = clock()
        made = load()
        times.append((clock() - start) * 1e-9)
        del made
    return tuple(times[WARMUP_LOADS:])
