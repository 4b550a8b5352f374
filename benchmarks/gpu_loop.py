"""What a query on the GPU costs the host: the timing loop with a driver library that answers at once.

The library is compiled here (cc) from tests/doubles/cuda_stub.c, so calling the driver from Python costs what it does;
GPU and TensorRT cost nothing here. Measured is CPU time, for each way to the GPU that is installed (device.py). The
limits of the project: 60 us per query without, 20 us with a CUDA graph and without copies.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptqbridge.backends.tensorrt.cuda import CudaError
from ptqbridge.backends.tensorrt.device import CHOICE, LAYERS, Device, open_device
from ptqbridge.backends.tensorrt.gpu_stream import GpuStream, Policy
from ptqbridge.measure.loop import LoopPolicy, run_loop

ROOT = Path(__file__).parents[1]
ROUNDS = 3
RUNS = (
    ("copies in each query", Policy(), 60.0),
    ("no copies", Policy(transfers=False), 60.0),
    ("CUDA graph, with copies", Policy(graph=True), 60.0),
    ("CUDA graph, no copies", Policy(transfers=False, graph=True), 20.0),
)
QUERIES = 20_000


class Context:
    """An execution context that takes a query and does nothing."""

    def execute_async_v3(self, stream: int) -> bool:
        return True


def measure(layer: str) -> None:
    """Print the host time per query for each way of running, with this way to the GPU."""
    os.environ[CHOICE] = layer
    try:
        device = open_device(0)
    except CudaError as error:
        print(f"{layer}: {error}")
        return
    print(device.layer)
    for name, policy, limit in RUNS:
        best = min(microseconds(device, policy) for _ in range(ROUNDS))
        print(f"  {name:<24} {best:6.1f} us per query (limit {limit:g})")
    device.close()


def microseconds(device: Device, policy: Policy) -> float:
    """Host time per query."""
    zero = device.event(spin=True)
    device.batch([zero.recorder(device.stream())])()
    buffers = [device.buffer(600_000), device.buffer(4000)]
    stream = GpuStream(device, Context(), buffers[:1], buffers[1:], zero, policy)
    stream.prepare()
    started = time.process_time()
    run_loop([stream], LoopPolicy(QUERIES, 0.0, 0.0), attach=lambda: attached(device))
    return (time.process_time() - started) / QUERIES * 1e6


@contextmanager
def attached(device: Device) -> Iterator[None]:
    """The device's context in the loop's thread."""
    device.enter()
    yield
    device.leave()


def main() -> None:
    if sys.argv[1:]:
        for layer in sys.argv[1:]:
            measure(layer)
        return
    if shutil.which("cc") is None:
        sys.exit("no C compiler (cc), which makes the driver library that answers at once")
    sys.path.insert(0, str(ROOT / "tests" / "doubles"))
    from cuda_stub import compile_stub

    found = importlib.util.find_spec("pycuda")
    places = (found.submodule_search_locations or ()) if found else ()
    linked = [path for place in places for path in Path(place).glob("*.so")]
    with tempfile.TemporaryDirectory() as folder:
        compile_stub(Path(folder), linked, copies=False)
        there = os.pathsep.join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH", ""))))
        # The dynamic linker reads the variable when a process starts.
        subprocess.run([sys.executable, __file__, *LAYERS], env={**os.environ, "LD_LIBRARY_PATH": there}, check=True)


if __name__ == "__main__":
    main()
