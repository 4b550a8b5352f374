"""What ptqbridge costs on top of hb_mapper: a build against the bare tool on the same YAML and data, by turns.

    PTQBRIDGE_HB_MAPPER=VENV/bin/hb_mapper python benchmarks/wrapper_hb_mapper.py [--rounds 5] [--model mynet|resnet18]

Limits: 1 s on the example model (mynet), 3 % of the wall time on a larger one (resnet18, 8 samples,
level O0). The bare
tool finds its YAML, model and samples ready; ptqbridge also starts, checks, writes the samples and judges the log.
CPU time is shown too, since on a busy machine wall time tells more of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SRC = HERE.parent / "src"
MYNET = HERE.parent / "examples" / "mynet"


def timed(argv: list[str], cwd: Path, env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds (user + system, children included) of one program that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{argv}: status {done.returncode}\n{done.stdout.decode(errors='replace')[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def example(name: str, folder: Path) -> list[str]:
    """Options that build the model ``name``."""
    if name == "mynet":
        return [f"--onnx={MYNET / 'mynet.onnx'}", "--int8", f"--calibData={MYNET / 'calib'}"]
    sys.path[:0] = [str(HERE), str(SRC)]
    import models
    import numpy as np
    import onnx

    proto = models.resnet18(opset=11)
    proto.ir_version = 8
    onnx.save(proto, folder / "resnet18.onnx")
    (folder / "calib").mkdir()
    for number, image in enumerate(models.images((1, 3, 224, 224), 8)):
        np.save(folder / "calib" / f"{number}.npy", np.asarray(image, np.float32).reshape(1, 3, 224, 224))
    data = ["--int8", f"--calibData={folder / 'calib'}", "--calibAlgo=max", "--builderOptimizationLevel=0"]
    return [f"--onnx={folder / 'resnet18.onnx'}", *data]


def main() -> int:
    """Measure and print; exit status 1 when the limit of the model is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=("mynet", "resnet18"), default="mynet")
    parser.add_argument("--json", dest="file")
    options = parser.parse_args()
    tool = os.environ.get("PTQBRIDGE_HB_MAPPER") or shutil.which("hb_mapper")
    if not tool:
        sys.exit("no hb_mapper: set PTQBRIDGE_HB_MAPPER, or put it on PATH")
    tool = os.path.realpath(tool)
    env = {**os.environ, "PYTHONPATH": str(SRC), "PTQBRIDGE_HB_MAPPER": tool}
    bare_env = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    bare_env["PATH"] = os.pathsep.join([os.path.dirname(tool), env["PATH"]])
    times: dict[str, list[tuple[float, float]]] = {"hb_mapper": [], "ptqbridge": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Installed packages are compiled already; a checkout's modules are after the first build.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        build = [sys.executable, "-m", "ptqbridge", "build", "--target=bayes", *example(options.model, folder)]
        # The YAML and the samples for the bare tool are those of a build.
        timed([*build, f"--out={folder / 'bundle'}", f"--saveEngine={folder / 'first.bin'}"], folder, env)
        for number in range(options.rounds):
            job = folder / f"bare{number}"
            shutil.copytree(folder / "bundle", job, ignore=shutil.ignore_patterns("model_output"))
            bare = [tool, "makertbin", "--config", "hb_mapper.yaml", "--model-type", "onnx"]
            times["hb_mapper"].append(timed(bare, job, bare_env))
            times["ptqbridge"].append(timed([*build, f"--saveEngine={folder / 'b.bin'}"], folder, env))
    medians = {
        name: [round(statistics.median(column), 3) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    wall = statistics.median(
        ours[0] - bare[0] for ours, bare in zip(times["ptqbridge"], times["hb_mapper"], strict=True)
    )
    cpu = statistics.median(
        ours[1] - bare[1] for ours, bare in zip(times["ptqbridge"], times["hb_mapper"], strict=True)
    )
    share = wall / medians["hb_mapper"][0]
    limit = "1 s" if options.model == "mynet" else "3 %"
    print(f"{options.model}, {options.rounds} rounds by turns, medians")
    for name, (seconds, own) in medians.items():
        print(f"  {name:10} {seconds:8.2f} s wall  {own:8.2f} s CPU")
    print(f"  difference {wall:8.2f} s wall  {cpu:8.2f} s CPU  ({share:.1%} of the tool's wall time; limit {limit})")
    if options.file:
        record = {"model": options.model, "medians": medians, "wall": wall, "cpu": cpu, "share": share, "rounds": times}
        Path(options.file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if (wall <= 1.0 if options.model == "mynet" else share <= 0.03) else 1


if __name__ == "__main__":
    sys.exit(main())
