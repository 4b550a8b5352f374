"""Takes the times of single layers from TensorRT's profiler."""

from __future__ import annotations

from typing import Any


def layer_profiler(trt: Any) -> Any:
    """Collects the milliseconds of each layer; what is reported before ``start`` is warm-up and dropped."""

    class Receiver(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            self.times.setdefault(name, []).append(milliseconds)

    class Profiler:
        def __init__(self) -> None:
            self.receiver = Receiver()

        def start(self) -> None:
            self.receiver.times.clear()

        def layers(self) -> list[tuple[str, list[float]]]:
            return list(self.receiver.times.items())

    return Profiler()
