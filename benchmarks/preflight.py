"""The pre-flight check on a model of 50 MB: seconds and its parts.

    python benchmarks/preflight.py [--rounds 7] [--json FILE]

Limit: 1 s, without hb_mapper's checker and without reading all calibration samples. The model is ResNet18's shape with
a second classifier that brings it to 50 MB; the samples are 100 arrays of 1x3x224x224.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "src"), str(Path(__file__).resolve().parent)]

import models  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402

LIMIT_S = 1.0
MEGABYTES = 50


def large_model(path: Path) -> None:
    """ResNet18 and a second head of as many outputs as it takes."""
    model = models.resnet18(opset=11)
    missing = MEGABYTES * 10**6 - len(model.SerializeToString())
    feature = next(node.input[0] for node in model.graph.node if node.op_type == "Gemm")
    width = next(t.dims[1] for t in model.graph.initializer if t.dims and len(t.dims) == 2)
    rows = max(missing // (4 * width), 1)
    weight = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "more"))
    model.graph.node.append(onnx.helper.make_node("Gemm", [feature, "more"], ["second"], name="second", transB=1))
    model.graph.output.append(onnx.helper.make_tensor_value_info("second", 1, [1, rows]))
    model.ir_version = 8
    onnx.save(model, path)


def main() -> int:
    """Measure and print; exit status 1 when the limit is not met."""
    from ptqbridge.backends.horizon.plan import plan
    from ptqbridge.backends.horizon.preflight import preflight
    from ptqbridge.invocation import understand

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", dest="file")
    options = parser.parse_args()
    times: dict[str, list[float]] = {"fast-perf": [], "calibrated": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        large_model(path)
        calib = Path(folder) / "calib"
        calib.mkdir()
        sample = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
        for number in range(100):
            np.save(calib / f"{number:03}.npy", sample)
        argv = {"fast-perf": [], "calibrated": ["--int8", f"--calibData={calib}"]}
        made = {}
        for name, words in argv.items():
            invocation = understand(["--target=bayes", f"--onnx={path}", *words], command="build", default_target="cpu")
            assert invocation is not None
            made[name] = plan(invocation.requests[0])
        for _ in range(options.rounds):
            for name, one in made.items():
                start = time.perf_counter()
                check = preflight(one)
                times[name].append(time.perf_counter() - start)
                assert not check.faults, check.faults
        size = os.path.getsize(path)
    record = {
        "model_bytes": size,
        "seconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "slowest": {name: round(max(values), 3) for name, values in times.items()},
        "limit": LIMIT_S,
    }
    print(f"model of {size / 1e6:.1f} MB, median of {options.rounds} rounds, limit {LIMIT_S:g} s")
    for name, seconds in record["seconds"].items():  # type: ignore[attr-defined]
        print(f"  {name:12} {seconds:.3f} s  (slowest {record['slowest'][name]:.3f} s)")  # type: ignore[index]
    if options.file:
        Path(options.file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if max(record["seconds"].values()) <= LIMIT_S else 1  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
