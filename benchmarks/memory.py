"""Peak memory of an int8 build against the number of calibration samples, each build in a process of its own.

    python benchmarks/memory.py [--counts 64 512] [--json FILE]

Model: ResNet18 at 224x224 (benchmarks/models.py); data: generated .npy samples in a temporary folder. The project
promises that 64 and 512 samples differ by at most 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from models import model_path

SRC = Path(__file__).resolve().parent.parent / "src"
LIMIT = 0.05
CHILD = """
import resource, sys
from ptqbridge.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def peak_mb(model: Path, data: Path, algorithm: str, count: int, out: Path) -> float:
    """Peak resident megabytes of one build."""
    argv = ["build", f"--onnx={model}", "--int8", f"--calibData={data}", f"--calibAlgo={algorithm}", "--json"]
    argv += [f"--calibSamples={count}", f"--saveEngine={out / 'x.onnx'}"]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", CHILD, *argv], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return int(done.stdout.split()[-1]) / 1024


def main() -> int:
    """Measure and print; exit status 1 when memory grows by more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--algorithms", nargs="+", default=["default", "max", "percentile", "entropy2"])
    parser.add_argument("--json", dest="file")
    options = parser.parse_args()
    model = model_path("resnet18")
    found: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        draw = np.random.default_rng(0)
        for index in range(max(options.counts)):
            np.save(data / f"{index:04d}.npy", draw.normal(0, 1, (1, 3, 224, 224)).astype(np.float32))
        for algorithm in options.algorithms:
            found[algorithm] = {count: peak_mb(model, data, algorithm, count, Path(folder)) for count in options.counts}
    print(f"| method | {' | '.join(f'{count} samples, MB' for count in options.counts)} | growth |")
    print("|---" * (len(options.counts) + 2) + "|")
    missed = 0
    for algorithm, peaks in found.items():
        values = list(peaks.values())
        growth = max(values) / min(values) - 1
        missed += growth > LIMIT
        print(f"| {algorithm} | {' | '.join(f'{value:.0f}' for value in values)} | {growth:.1%} |")
    if options.file:
        Path(options.file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
