"""What a query on the GPU costs the host: the timing loop with a driver library that answers at once.

The library is compiled here (cc), so calling the driver from Python costs what it does; GPU and TensorRT cost nothing
here. The limits of the project: 60 us per query without, 20 us with a CUDA graph and without copies.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ptqbridge.backends.tensorrt import cuda
from ptqbridge.backends.tensorrt.gpu import Buffer, Event
from ptqbridge.backends.tensorrt.gpu_stream import GpuStream, Policy
from ptqbridge.measure.loop import LoopPolicy, run_loop

SOURCE = """
#include <stddef.h>
#include <stdlib.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)1; return 0; }
int cuCtxPushCurrent_v2(void *c) { return 0; }
int cuCtxPopCurrent_v2(void **c) { return 0; }
int cuStreamCreate(void **s, unsigned f) { *s = malloc(1); return 0; }
int cuStreamDestroy_v2(void *s) { return 0; }
int cuStreamSynchronize(void *s) { return 0; }
int cuStreamWaitEvent(void *s, void *e, unsigned f) { return 0; }
int cuEventCreate(void **e, unsigned f) { *e = malloc(1); return 0; }
int cuEventDestroy_v2(void *e) { return 0; }
int cuEventRecord(void *e, void *s) { return 0; }
int cuEventSynchronize(void *e) { return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { *ms = 1.0f; return 0; }
int cuMemAlloc_v2(unsigned long long *p, size_t n) { *p = (unsigned long long)malloc(n); return 0; }
int cuMemFree_v2(unsigned long long p) { return 0; }
int cuMemHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return 0; }
int cuMemFreeHost(void *p) { return 0; }
int cuMemcpyHtoDAsync_v2(unsigned long long d, void *s, size_t n, void *t) { return 0; }
int cuMemcpyDtoHAsync_v2(void *d, unsigned long long s, size_t n, void *t) { return 0; }
int cuStreamBeginCapture_v2(void *s, int m) { return 0; }
int cuStreamEndCapture(void *s, void **g) { *g = (void *)1; return 0; }
int cuGraphInstantiateWithFlags(void **e, void *g, unsigned long long f) { *e = (void *)1; return 0; }
int cuGraphDestroy(void *g) { return 0; }
int cuGraphLaunch(void *g, void *s) { return 0; }
int cuGraphExecDestroy(void *g) { return 0; }
int cuGetErrorName(int s, char **t) { return 1; }
"""
QUERIES = 20_000


class Context:
    """An execution context that takes a query and does nothing."""

    def execute_async_v3(self, stream: int) -> bool:
        return True


def microseconds(policy: Policy) -> float:
    """Host time per query."""
    device = cuda.open_device(0)
    zero = Event(device.driver, spin=True)
    buffers = [Buffer(device.driver, 600_000, managed=False), Buffer(device.driver, 4000, managed=False)]
    stream = GpuStream(device, Context(), buffers[:1], buffers[1:], zero, policy)
    stream.prepare()
    started = time.perf_counter()
    run_loop([stream], LoopPolicy(QUERIES, 0.0, 0.0))
    return (time.perf_counter() - started) / QUERIES * 1e6


def main() -> None:
    if shutil.which("cc") is None:
        sys.exit("no C compiler (cc), which makes the driver library that answers at once")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "cuda.c"
        source.write_text(SOURCE)
        library = str(Path(folder) / "libcuda.so.1")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-w", "-o", library, str(source)], check=True)
        cuda.load_library = lambda: ctypes.CDLL(library)
        for name, policy, limit in (
            ("copies in each query", Policy(), 60.0),
            ("no copies", Policy(transfers=False), 60.0),
            ("CUDA graph, no copies", Policy(transfers=False, graph=True), 20.0),
        ):
            best = min(microseconds(policy) for _ in range(3))
            print(f"{name:<24} {best:6.1f} us per query (limit {limit:g})")


if __name__ == "__main__":
    main()
