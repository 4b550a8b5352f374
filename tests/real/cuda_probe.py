"""Uses one way to the GPU with its real package; run in a process of its own on the stand-in driver. Prints JSON.

Run as: python cuda_probe.py WAY, with the folder of the stand-in (tests/doubles/cuda_stub.py) in LD_LIBRARY_PATH.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

os.environ["PTQBRIDGE_CUDA"] = sys.argv[1]

from ptqbridge.backends.tensorrt.cuda import CudaError
from ptqbridge.backends.tensorrt.device import open_device

HUGE = 1 << 41


def refused(action: Any) -> list[Any]:
    """The status and text of what must fail."""
    try:
        action()
    except CudaError as error:
        return [error.status, str(error)]
    return []


def main() -> None:
    device = open_device(0)
    stream, first, last = device.stream(), device.event(spin=False), device.event(spin=True)
    steps = [first.recorder(stream), last.recorder(stream), last.waiter(stream), last.synchronizer()]
    device.batch(steps)()
    buffer, shared, memory = device.buffer(16), device.buffer(8, managed=True), device.memory(100)
    buffer.host[:] = 7
    device.batch([buffer.uploader(stream), None])()
    stream.synchronize()
    device.wait(stream.handle)
    fetched = device.fetch(buffer.address, 16).tolist()
    buffer.host[:] = 0
    device.batch([buffer.downloader(stream)])()
    shared.host[:] = 3
    graph = device.graph(stream, lambda: True)
    device.batch([graph.launcher])()
    worked: list[str] = []

    def work() -> None:
        device.enter()
        device.batch(steps)()
        device.leave()
        worked.append("yes")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    found = {
        "layer": device.layer,
        "info": device.info(),
        "handle": stream.handle > 0,
        "since": last.since(first) >= 0,
        "fetched": fetched,
        "back": buffer.host.tolist(),
        "shared": device.fetch(shared.address, 8).tolist(),
        "uncopied": shared.uploader(stream) is None and shared.downloader(stream) is None,
        "thread": worked,
        "memory": [memory.address > 0, memory.size],
        "no_memory": refused(lambda: device.memory(HUGE)),
        "no_pinned_memory": refused(lambda: device.buffer(HUGE)),
        "not_launched": refused(lambda: device.graph(stream, lambda: False)),
        "no_device": refused(lambda: open_device(3)),
    }
    for made in (graph, buffer, shared, memory, first, last, stream):
        made.close()
    device.close()
    open_device(0)  # left open: the process must still end well
    print(json.dumps(found))


if __name__ == "__main__":
    main()
