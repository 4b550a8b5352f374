"""Calibration against plain inference of the same samples: wall and CPU time as ratios, and peak memory.

    python benchmarks/calibration.py [--samples 64] [--rounds 3] [--peers] [--scheme NAME] [--json FILE] [MODEL ...]
    python benchmarks/calibration.py --memory 16,64,256,512 [--json FILE] [MODEL ...]
    python benchmarks/calibration.py --table FILE.json

Arms run in turn in one process, round after round; a figure is the median of the per-round ratios to ``plain``.
``plain`` is load, session with ONNX Runtime's defaults on all cores, and inference with the real outputs. ``max``,
``percentile``, ``entropy2``, ``kl`` and ``default`` are the whole run of ptqbridge: load, calibrate, write the model.
Spinning is off in plain, so that CPU time means work. The time that choosing the thresholds takes is added up apart.

``--peers`` adds ONNX Runtime's quantize_static with its MinMax and Entropy calibrators and, with PTQBRIDGE_HB_MAPPER
set to the tool's path, the calibration stage of hb_mapper with max and kl (on the model at opset 11, without what it
does before and after); each once, and the slow ones on --peer-samples, over a plain run of as many samples.

With ``--memory`` each calibration runs in a process of its own, and its peak resident memory less that before is given;
beside it the limit (the model, what two samples make its tensors take, and 150 MB) and by how much the whole process's
peak grows from the first number of samples.
``--table`` prints what a JSON file holds as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from models import MODELS, images, model_path

from ptqbridge.model.load import load_model
from ptqbridge.quantize import methods
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.lower import lower_ir, lower_opset
from ptqbridge.quantize.memory import give_back
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.qdq import quantize
from ptqbridge.quantize.sources import GraphFacts

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


def hb_mapper(tool: str, model: Path, samples: Path, method: str) -> tuple[float, float]:
    """Wall and CPU seconds of the tool's calibration stage."""
    folder = Path(tool).resolve().parent
    command = [str(folder / "python"), str(Path(__file__).with_name("_hb_mapper_calibration.py"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join([str(folder), environment["PATH"]])
    argv = [*command, str(model), str(samples), method]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise RuntimeError((done.stderr or done.stdout)[-2000:])
    wall, cpu = json.loads(done.stdout.strip().splitlines()[-1])
    return wall, cpu


def clock(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of ``run``."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def peers(path: Path, feeds: list[dict[str, np.ndarray]], few: int, folder: Path) -> dict[str, Any]:
    """The peers' times over those of a plain run of as many samples, one run each."""
    arms: dict[str, tuple[int, Callable[[], tuple[float, float]]]] = {}
    for method, count in (("MinMax", len(feeds)), ("Entropy", few)):
        arms[f"onnxruntime {method}"] = (
            count,
            lambda method=method, count=count: clock(lambda: peer(path, feeds[:count], method, folder / "peer.onnx")),
        )
    if tool := os.environ.get("PTQBRIDGE_HB_MAPPER"):
        proto = onnx.load(path)
        lower_opset(proto)
        lower_ir(proto)
        onnx.save(proto, folder / "opset11.onnx")
        for method, count in (("max", len(feeds)), ("kl", few)):
            samples = folder / f"{count}.npy"
            np.save(samples, np.stack([next(iter(feed.values())) for feed in feeds[:count]]))
            arms[f"hb_mapper {method}"] = (
                count,
                lambda method=method, samples=samples: hb_mapper(tool, folder / "opset11.onnx", samples, method),
            )
    found: dict[str, Any] = {}
    for arm, (count, run) in arms.items():
        base = clock(lambda count=count: plain(path, feeds[:count]))
        try:
            wall, cpu = run()
        except Exception as problem:  # one peer that cannot take a model must not end the run
            found[arm] = {"samples": count, "failed": str(problem).strip().splitlines()[-1][:300]}
        else:
            found[arm] = {"samples": count, "wall": wall / base[0], "cpu": cpu / base[1]}
        print(f"  {path.stem} {arm}: {found[arm]}", file=sys.stderr, flush=True)
    return found


class Search:
    """Adds up what choosing the thresholds takes: CPU seconds, and the number of tensors."""

    def __init__(self) -> None:
        self.seconds, self.tensors = 0.0, 0
        chosen = methods._One.ranges_of

        def timed(method: Any, tensor: str, findings: Any) -> Any:
            start = time.thread_time()
            found = chosen(method, tensor, findings)
            self.seconds += time.thread_time() - start
            self.tensors += 1
            return found

        methods._One.ranges_of = timed  # type: ignore[method-assign]

    def take(self) -> tuple[float, int]:
        """What was added up since the last time."""
        found = self.seconds, self.tensors
        self.seconds, self.tensors = 0.0, 0
        return found


def times(name: str, options: argparse.Namespace, search: Search) -> dict[str, Any]:
    """Medians over the rounds of every arm's wall and CPU time over those of ``plain``."""
    path = model_path(name)
    input_name, shape = model_input(path)
    feeds = [{input_name: image} for image in images(shape, options.samples)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arms: dict[str, Callable[[], None]] = {"plain": lambda: plain(path, feeds)}
        for algorithm in ALGORITHMS:
            arms[algorithm] = lambda algorithm=algorithm: ours(
                path, feeds, algorithm, options.scheme, folder / "int8.onnx"
            )
        walls: dict[str, list[float]] = {arm: [] for arm in arms}
        cpus: dict[str, list[float]] = {arm: [] for arm in arms}
        searches: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
        for _ in range(options.rounds):
            for arm, run in arms.items():
                wall, cpu = clock(run)
                walls[arm].append(wall)
                cpus[arm].append(cpu)
                seconds, tensors = search.take()
                searches[arm].append((1e3 * seconds / max(tensors, 1), seconds / cpu))
        row: dict[str, Any] = {"model": name, "samples": len(feeds), "rounds": options.rounds}
        row["plain_ms_per_sample"] = 1e3 * statistics.median(walls["plain"]) / len(feeds)
        for arm in ALGORITHMS:
            row[arm] = {
                "wall": statistics.median(a / b for a, b in zip(walls[arm], walls["plain"], strict=True)),
                "cpu": statistics.median(a / b for a, b in zip(cpus[arm], cpus["plain"], strict=True)),
            }
            if arm in ("percentile", "entropy2", "kl"):
                row[arm]["search_ms_per_tensor"] = statistics.median(ms for ms, _ in searches[arm])
                row[arm]["search_share"] = statistics.median(share for _, share in searches[arm])
        if options.peers:
            row |= peers(path, feeds, min(options.peer_samples, len(feeds)), folder)
    return row


def table(document: dict[str, Any]) -> str:
    """The rows of a result file as Markdown, a column for each model."""
    rows = document["rows"]
    arms = list(dict.fromkeys(arm for row in rows for arm, found in row.items() if isinstance(found, dict)))
    head = [f"wall / CPU, times plain, {document['samples']} samples", *(row["model"] for row in rows)]
    lines = [head, ["---"] * len(head)]
    lines.append(["plain inference, ms per sample", *(f"{row['plain_ms_per_sample']:.1f}" for row in rows)])
    lines += [[arm, *(cell(row.get(arm, {}), document["samples"]) for row in rows)] for arm in arms]
    for arm in ("entropy2", "kl"):
        found = [row[arm] for row in rows]
        cells = [f"{one['search_ms_per_tensor']:.2f} ms, {one['search_share']:.1%}" for one in found]
        lines.append([f"search of {arm}: per tensor, share of the CPU time", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(found: dict[str, Any], samples: int) -> str:
    """One arm on one model."""
    if "wall" not in found:
        return "failed" if "failed" in found else ""
    count = found.get("samples", samples)
    return f"{found['wall']:.2f} / {found['cpu']:.2f}" + (f" ({count} samples)" if count != samples else "")


def status_mb(key: str) -> float:
    """A size of this process by the kernel; ``ru_maxrss`` would start with what the parent had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def peak_of_one(name: str, algorithm: str, count: int, scheme: str) -> tuple[float, float]:
    """Megabytes that this process takes before a calibration, and that one adds at its peak."""
    path = model_path(name)
    proto = onnx.load(path, load_external_data=False)
    shape = tuple(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim)
    samples = Noise(proto.graph.input[0].name, shape, count)
    del proto
    first = next(iter(samples))
    give_back()
    before = status_mb("VmRSS")  # the interpreter and the libraries
    prepared = prepare(load_model(path).proto, first).proto
    calibrate(prepared, observed_tensors(prepared, scheme), samples, algorithm=algorithm, scheme=scheme)
    return before, status_mb("VmHWM") - before


def memory_limit(name: str) -> dict[str, float]:
    """Megabytes of the model's weights, of what two samples make all its tensors take, and both and 150 MB."""
    path = model_path(name)
    proto = prepare(load_model(path).proto).proto
    input_name, shape = model_input(path)
    facts = GraphFacts(proto, {input_name: shape})
    tensors = sum(facts.bytes_of(output) or 0 for output in facts.producers)
    found = {"model": path.stat().st_size / 2**20, "two_samples": 2 * tensors / 2**20}
    return {**found, "limit": sum(found.values()) + 150}


def memory(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory per algorithm and number of samples, each in a fresh process."""
    row: dict[str, Any] = {"model": name, "limits": memory_limit(name)}
    for algorithm in ALGORITHMS:
        row[algorithm] = {}
        for count in options.memory:
            command = [sys.executable, __file__, "--one", algorithm, "--samples", str(count)]
            done = subprocess.run(
                [*command, "--scheme", options.scheme, name], check=True, capture_output=True, text=True
            )
            before, added = (round(float(word), 1) for word in done.stdout.split())
            row[algorithm][str(count)] = added
            row["before"] = before
        peaks = [row["before"] + added for added in row[algorithm].values()]
        row.setdefault("growth", {})[algorithm] = round(max(peaks) / peaks[0] - 1, 4)
    return row


def memory_table(document: dict[str, Any]) -> str:
    """What ``--memory`` found as Markdown: a row for each model and algorithm."""
    counts = list(document["rows"][0][ALGORITHMS[0]])
    head = ["model", "limit, MB", "method", *(f"{count} samples, MB" for count in counts), "growth of the process"]
    lines = [head, ["---"] * len(head)]
    for row in document["rows"]:
        for arm in ALGORITHMS:
            found = [f"{row[arm][count]:.0f}" for count in counts]
            lines.append([row["model"], f"{row['limits']['limit']:.0f}", arm, *found, f"{row['growth'][arm]:.1%}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all when none is given")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peer-samples", type=int, default=16, help="for the slow ones")
    parser.add_argument("--scheme", default="onnxruntime")
    parser.add_argument("--memory", type=lambda text: [int(count) for count in text.split(",")], metavar="SAMPLES,...")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, metavar="FILE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        found = json.loads(options.table.read_text())
        print(memory_table(found) if "limits" in found["rows"][0] else table(found))
        return
    if options.one:
        print(*peak_of_one(options.models[0], options.one, options.samples, options.scheme))
        return
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
    rows: list[dict[str, Any]] = []
    document: dict[str, Any] = {
        "samples": options.samples,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
        "rows": rows,
    }
    search = Search()
    for name in options.models or MODELS:
        row = memory(name, options) if options.memory else times(name, options, search)
        rows.append(row)
        cells = [
            f"{arm} {found['wall']:.2f}/{found['cpu']:.2f}" if "wall" in found else f"{arm} {found}"
            for arm, found in row.items()
            if isinstance(found, dict)
        ]
        start = "MB, " if options.memory else f"plain {row['plain_ms_per_sample']:.1f} ms, wall/cpu x "
        print(f"{name:14} {start}" + " | ".join(cells), file=sys.stderr, flush=True)
        if options.json:  # after each model, so that an interrupted run leaves what it has
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(memory_table(document) if options.memory else table(document))


if __name__ == "__main__":
    main()
