"""Makes our callbacks with the real TensorRT bindings, as far as it goes without a GPU; prints JSON.

Run as: python runs_probe.py SITE SRC < NAMES. SITE holds a bindings wheel (see bindings_probe.py), SRC our package;
NAMES is a JSON list of dotted names below the module, and those that do not exist are printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from bindings_probe import load, look


class Late:
    """What the allocator callback hands its calls to."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.error: Exception | None = None

    def take(self, size: int, alignment: int) -> int:
        return size + alignment


def main() -> None:
    site, source = sys.argv[1:]
    trt = load(site)
    sys.path.insert(0, source)
    from ptqbridge.backends.tensorrt.debug import debug_listener
    from ptqbridge.backends.tensorrt.profiler import layer_profiler
    from ptqbridge.backends.tensorrt.tensors import output_allocator

    found: dict[str, Any] = {"missing": [name for name in json.load(sys.stdin) if not look(trt, name)]}
    late = Late()
    allocator: Any = output_allocator(trt, late)  # type: ignore[arg-type]
    allocator.notify_shape("y", trt.Dims((2, 3)))
    address = allocator.reallocate_output_async("y", 0, 100, 256, 7)
    found["allocator"] = [isinstance(allocator, trt.IOutputAllocator), address, list(late.shape)]
    profiler = layer_profiler(trt)
    profiler.receiver.report_layer_time("conv", 0.5)
    found["profiler"] = [isinstance(profiler.receiver, trt.IProfiler), profiler.layers()]
    if hasattr(trt, "IDebugListener"):
        taken: list[Any] = []
        device = SimpleNamespace(wait=lambda stream: taken.append(stream))
        writer = SimpleNamespace(seen={}, error=None, device=device, take=lambda *words: taken.append(list(words)))
        listener: Any = debug_listener(trt, writer)  # type: ignore[arg-type]
        done = listener.process_debug_tensor(16, trt.TensorLocation.HOST, trt.DataType.HALF, trt.Dims((2,)), "t", 9)
        found["listener"] = [isinstance(listener, trt.IDebugListener), done, str(writer.error), taken]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
