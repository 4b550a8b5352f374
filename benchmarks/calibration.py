"""Calibration against plain inference of the same samples: wall and CPU time as ratios, and peak memory.

    python benchmarks/calibration.py [--samples 64] [--rounds 5] [--peers] [--scheme NAME] [--json FILE] [MODEL ...]
    python benchmarks/calibration.py --memory 16,64,256,512 [--json FILE] [MODEL ...]

Arms run in turn in one process, round after round; a figure is the median of the per-round ratios to ``plain``.
``plain`` is load, session with ONNX Runtime's defaults on all cores, and inference with the real outputs. ``max``,
``percentile``, ``entropy2``, ``kl`` and ``default`` are the whole run of ptqbridge: load, calibrate, write the model.
``--peers`` adds ONNX Runtime's quantize_static with its MinMax and Entropy calibrators. Spinning is off
in plain, so that CPU time means work. With ``--memory`` each calibration
runs in a process of its own, and its peak resident memory less that before is given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from models import MODELS, images, model_path

from ptqbridge.model.load import load_model
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.qdq import quantize

ALGORITHMS = ("max", "percentile", "entropy2", "kl", "default")


class Noise:
    """Seeded samples made one by one, so that they take no memory of their own."""

    def __init__(self, name: str, shape: tuple[int, ...], count: int) -> None:
        self.name, self.shape, self.count = name, shape, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for index in range(self.count):
            yield {self.name: images(self.shape, 1, seed=index)[0]}


def model_input(path: Path) -> tuple[str, tuple[int, ...]]:
    spec = load_model(path).inputs[0]
    return spec.name, tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape)


def plain(path: Path, feeds: list[dict[str, np.ndarray]]) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for feed in feeds:
        session.run(None, feed)


def ours(path: Path, feeds: Any, algorithm: str, scheme: str, target: Path) -> None:
    proto = prepare(load_model(path).proto, feeds[0]).proto
    ranges = calibrate(proto, observed_tensors(proto, scheme), feeds, algorithm=algorithm, scheme=scheme)
    target.write_bytes(quantize(proto, ranges, scheme=scheme).SerializeToString())


def peer(path: Path, feeds: list[dict[str, np.ndarray]], method: str, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rest, None)

    quantize_static(
        path, target, Reader(), quant_format=QuantFormat.QDQ, calibrate_method=getattr(CalibrationMethod, method)
    )


def times(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds of every arm's wall and CPU time over those of ``plain``."""
    path = model_path(name)
    input_name, shape = model_input(path)
    feeds = [{input_name: image} for image in images(shape, options.samples)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "int8.onnx")
        arms: dict[str, Callable[[], None]] = {"plain": lambda: plain(path, feeds)}
        for algorithm in ALGORITHMS:
            arms[algorithm] = lambda algorithm=algorithm: ours(path, feeds, algorithm, options.scheme, target)
        if options.peers:
            for method in ("MinMax", "Entropy"):
                arms[f"onnxruntime {method}"] = lambda method=method: peer(path, feeds, method, target)
        walls: dict[str, list[float]] = {arm: [] for arm in arms}
        cpus: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(options.rounds):
            for arm, run in arms.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                walls[arm].append(time.perf_counter() - wall)
                cpus[arm].append(time.process_time() - cpu)
    row: dict[str, Any] = {"model": name, "plain_ms_per_sample": 1e3 * statistics.median(walls["plain"]) / len(feeds)}
    for arm in arms:
        if arm != "plain":
            row[arm] = {
                "wall": statistics.median(a / b for a, b in zip(walls[arm], walls["plain"], strict=True)),
                "cpu": statistics.median(a / b for a, b in zip(cpus[arm], cpus["plain"], strict=True)),
            }
    return row


def peak_of_one(name: str, algorithm: str, count: int, scheme: str) -> float:
    """Megabytes that one calibration adds to this process's peak."""
    path = model_path(name)
    samples = Noise(*model_input(path), count)
    first = next(iter(samples))  # the libraries' own memory comes before
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    proto = prepare(load_model(path).proto, first).proto
    calibrate(proto, observed_tensors(proto, scheme), samples, algorithm=algorithm, scheme=scheme)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory per algorithm and number of samples, each in a fresh process."""
    row: dict[str, Any] = {"model": name}
    for algorithm in ALGORITHMS:
        row[algorithm] = {}
        for count in options.memory:
            command = [
                sys.executable,
                __file__,
                "--one",
                algorithm,
                "--samples",
                str(count),
                "--scheme",
                options.scheme,
            ]
            done = subprocess.run([*command, name], check=True, capture_output=True, text=True)
            row[algorithm][str(count)] = round(float(done.stdout), 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all when none is given")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--scheme", default="onnxruntime")
    parser.add_argument("--memory", type=lambda text: [int(count) for count in text.split(",")], metavar="SAMPLES,...")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(peak_of_one(options.models[0], options.one, options.samples, options.scheme))
        return
    rows = []
    for name in options.models or MODELS:
        row = memory(name, options) if options.memory else times(name, options)
        rows.append(row)
        cells = [
            f"{arm} {found['wall']:.2f}/{found['cpu']:.2f}" if "wall" in found else f"{arm} {found}"
            for arm, found in row.items()
            if isinstance(found, dict)
        ]
        start = f"{name:14} " + ("MB " if options.memory else f"plain {row['plain_ms_per_sample']:.1f} ms, wall/cpu x ")
        print(start + " | ".join(cells), flush=True)
    if options.json:
        versions = {"python": sys.version.split()[0], "numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
        document = {
            "samples": options.samples,
            "cores": len(os.sched_getaffinity(0)),
            "versions": versions,
            "rows": rows,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
