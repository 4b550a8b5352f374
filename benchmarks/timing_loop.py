"""Cost of our timing loop over the same loop in C, and what a second stream gives.

    python benchmarks/timing_loop.py [--rounds 60] [--queries 400] [--pairs 5] [--json FILE]

The C loop (timing_loop.c) is compiled here and uses the library in the ONNX Runtime wheel (newer ones have it) through
its C API: bound buffers, two clock reads a query. Ours is what ``ptqbridge run`` uses. Both query the example network
on one thread in this process, by turns and in changing order. Two figures of each: the wall time from the first query's
begin to the last one's end over their number, and the thread's processor time, which other load on the machine disturbs
less. The difference is the median over rounds, for several pairs of sessions, since two sessions of one model differ by
their place in memory. A bare Relu shows the cost of the calls and of the loop alone. Limits: 5 us a query; two streams
at least 1.6 times the throughput of one for the example network, 1.9 times for a model of 5 ms and more. ``peak``
compares the best rounds, for machines that others use too.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from models import model_path

from ptqbridge.backends.onnxruntime.buffers import bind
from ptqbridge.backends.onnxruntime.device import usable_cores
from ptqbridge.backends.onnxruntime.run import run
from ptqbridge.backends.onnxruntime.session import SessionPolicy, open_session
from ptqbridge.data.noise import noise
from ptqbridge.measure.loop import LoopPolicy, run_loop
from ptqbridge.measure.sync_stream import SyncStream
from ptqbridge.model.load import load_model
from ptqbridge.spec.run import RunSpec

HERE = Path(__file__).resolve().parent
TINY = HERE.parent / "examples" / "mynet" / "mynet.onnx"
LIMITS = {"tiny_two_streams": 1.6, "large_two_streams": 1.9}
Figures = tuple[float, float]


def wheel_library() -> Path:
    """The shared library with the C API in the installed ONNX Runtime."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        sys.exit(f"the wheel of onnxruntime {onnxruntime.__version__} has no libonnxruntime.so to link C with")
    return found[0]


def compile_c(folder: str) -> ctypes.CDLL:
    """The C loop as a library."""
    target = Path(folder) / "timing_loop.so"
    compiler = os.environ.get("CC", "cc")
    source = str(HERE / "timing_loop.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(target), source, "-ldl"], check=True)
    library = ctypes.CDLL(str(target))
    library.loop_open.restype = ctypes.c_void_p
    library.loop_run.restype = ctypes.c_int64
    return library


def c_loop(library: ctypes.CDLL, path: Path, queries: int) -> Callable[[], Figures]:
    """Microseconds per query, wall and processor time, of the C loop on a session of its own."""
    model = load_model(path)
    (given,), (made,) = model.inputs, model.outputs
    arrays = [np.ascontiguousarray(noise(given, given.shape)), np.zeros(made.shape, np.float32)]
    tensors: list[Any] = []
    for spec, array in zip((given, made), arrays, strict=True):
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        pointer, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        tensors += [spec.name.encode(), pointer, size, shape, ctypes.c_size_t(array.ndim)]
    loop = ctypes.c_void_p(library.loop_open(str(wheel_library()).encode(), str(path).encode(), *tensors))
    stamps = np.zeros(2 * queries, np.int64)
    count = ctypes.c_int64(queries)

    def measure() -> Figures:
        cpu = ctypes.c_int64()
        place = ctypes.c_void_p(stamps.ctypes.data)
        done = library.loop_run(loop, count, ctypes.c_int64(0), count, place, ctypes.byref(cpu))
        assert done == queries and np.isfinite(arrays[1]).all()
        return float(stamps[-1] - stamps[0]) / 1000 / queries, cpu.value / 1000 / queries

    return measure


def our_loop(path: Path, queries: int) -> Callable[[], Figures]:
    """Microseconds per query, wall and processor time, of our loop on a session of its own."""
    given = load_model(path).inputs[0]
    session = open_session(str(path), SessionPolicy(1))
    bound = bind(session, {given.name: noise(given, given.shape)})
    policy = LoopPolicy(iterations=queries, duration_s=0.0, warmup_ms=0.0)

    cpu: list[int] = []

    @contextmanager
    def clocked() -> Iterator[None]:
        start = time.thread_time_ns()
        yield
        cpu.append(time.thread_time_ns() - start)

    def measure() -> Figures:
        stream = SyncStream(bound.call)
        run_loop([stream], policy, attach=clocked)
        trace = stream.trace()
        assert len(trace) == queries
        return float(trace.compute_end[-1] - trace.compute_start[0]) * 1000 / queries, cpu[-1] / 1000 / queries

    return measure


def overhead(library: ctypes.CDLL, path: Path, rounds: int, queries: int) -> dict[str, float]:
    """Medians of one pair of sessions in microseconds: ours, C, and the difference within a round."""
    arms = {"ours": our_loop(path, queries), "c": c_loop(library, path, queries)}
    figures: dict[str, list[Figures]] = {"ours": [], "c": []}
    for number in range(rounds):
        for arm in ("ours", "c") if number % 2 else ("c", "ours"):
            figures[arm].append(arms[arm]())
    found = {}
    for place, clock in enumerate(("wall", "cpu")):
        ours, c = ([pair[place] for pair in figures[arm]] for arm in ("ours", "c"))
        found[f"ours_{clock}"], found[f"c_{clock}"] = statistics.median(ours), statistics.median(c)
        found[f"more_{clock}"] = statistics.median(a - b for a, b in zip(ours, c, strict=True))
        found[f"best_{clock}"] = min(ours) - min(c)
    return found


def streams(model: Path, seconds: float, rounds: int) -> dict[str, float]:
    """Throughput (queries per second) with one stream and with two, and the ratio: medians over rounds."""
    figures: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count in (1, 2):
            spec = RunSpec(streams=count, intra_op_threads=1, duration_s=seconds, warmup_ms=50.0)
            performance = run(str(model), spec).performance
            assert performance is not None and performance.throughput_qps is not None
            figures[count].append(performance.throughput_qps)
    ratios = [two / one for one, two in zip(figures[1], figures[2], strict=True)]
    return {
        "one_qps": statistics.median(figures[1]),
        "two_qps": statistics.median(figures[2]),
        "ratio": statistics.median(ratios),
        "peak": max(figures[2]) / max(figures[1]),
    }


def bare_relu(folder: str) -> Path:
    """A model that computes next to nothing: what is left is the cost of the calls and of the loop."""
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
    path = Path(folder) / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def show(name: str, pairs: list[dict[str, float]], medians: dict[str, float]) -> None:
    """Print one model's figures."""
    for clock in ("cpu", "wall"):
        each = ", ".join(f"{pair[f'more_{clock}']:+.2f}" for pair in pairs)
        ours, c, more, best = (medians[f"{key}_{clock}"] for key in ("ours", "c", "more", "best"))
        print(
            f"{name}, {clock}: ours {ours:.2f} us/query, C {c:.2f}, difference {more:+.2f} (pairs: {each}; best "
            f"rounds {best:+.2f}), limit 5"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--queries", type=int, default=400, help="queries a round")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of sessions")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = compile_c(folder)
        print(f"onnxruntime {onnxruntime.__version__}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}")
        result: dict[str, Any] = {}
        for name, path in (("example network", TINY), ("bare Relu", bare_relu(folder))):
            pairs = [overhead(library, path, args.rounds, args.queries) for _ in range(args.pairs)]
            result[name] = {key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]}
            show(name, pairs, result[name])
    for name, model, seconds in (("tiny", TINY, 0.3), ("large", model_path("mobilenet_v2"), 0.5)):
        figures = streams(model, seconds, 12)
        result[f"{name}_two_streams"] = figures
        print(
            f"{name} ({1000 / figures['one_qps']:.3f} ms): one stream {figures['one_qps']:.1f} qps, two "
            f"{figures['two_qps']:.1f} qps, ratio {figures['ratio']:.2f} (peak {figures['peak']:.2f}), "
            f"limit {LIMITS[f'{name}_two_streams']}"
        )
    if usable_cores() < 2:
        print("two streams cannot gain here: there is one core")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
