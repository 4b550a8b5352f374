"""Print how accurate mynet is on a BPU: build it for a march with each calibration method, and count on the test set.

    python accuracy_bpu.py [--target bayes] [--methods default,mix,kl,max] [--json FILE]

Needs what accuracy.py needs, ptqbridge, and hb_mapper (PTQBRIDGE_HB_MAPPER or on PATH). The outputs are those of each
build's quantized model in hb_mapper's own runtime; no board is used. Exit status: that of the first command that fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import accuracy
import numpy as np

METHODS = ("default", "mix", "kl", "max")
"""hb_mapper's own names."""


class Failed(Exception):
    """A command of ptqbridge failed; ``status`` is its exit status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def ptqbridge(*words: str) -> dict[str, Any]:
    """The JSON answer of one command."""
    run = subprocess.run([sys.executable, "-m", "ptqbridge", *words, "--json"], capture_output=True, encoding="utf-8")
    try:
        answer: dict[str, Any] = json.loads(run.stdout)
    except ValueError:
        raise Failed(run.returncode or 1, f"ptqbridge {words[0]}: {run.stderr.strip()[-300:]}") from None
    if run.returncode:
        raise Failed(run.returncode, f"ptqbridge {words[0]}: {answer['error']}")
    return answer


def measure(target: str, methods: list[str], folder: Path) -> list[dict[str, Any]]:
    """One row for float32 and for each method: top-1, and cosine of the outputs to float32's."""
    images, labels = accuracy.load_test()
    inputs = accuracy.preprocess(images, accuracy.load_recipe())
    np.save(folder / "inputs.npy", inputs)
    reference = accuracy.predict(accuracy.HERE / "mynet.onnx", inputs)
    rows = [row("float32", reference, reference, labels)]
    for method in methods:
        artifact = folder / f"mynet-{method}.bin"
        given = (f"--onnx={accuracy.HERE / 'mynet.onnx'}", f"--calibData={accuracy.HERE / 'calib'}")
        # The recipe beside the data would put the normalisation into the product; here it takes what mynet.onnx takes.
        chosen = (f"--target={target}", "--int8", f"--calibAlgo={method}", "--inputIOFormats=fp32:chw")
        build = ptqbridge("build", *given, *chosen, f"--saveEngine={artifact}")["targets"][target]["build"]
        out = folder / "outputs.npy"
        ptqbridge("infer", f"--loadEngine={artifact}", f"--calibData={folder / 'inputs.npy'}", f"--out={out}")
        outputs = np.load(out, allow_pickle=False).reshape(len(labels), -1)
        facts = build["facts"]
        estimate = facts["estimate"]["subgraphs"][0]
        rows.append(
            row(method, outputs, reference, labels)
            | {"selected": facts["calibration"]["method"], "cosine_by_hb_mapper": facts["outputs"][0]["cosine"]}
            | {"fps": estimate["fps"], "latency_us": estimate["latency_us"], "versions": facts["versions"]}
        )
    return rows


def row(name: str, outputs: accuracy.Floats, reference: accuracy.Floats, labels: accuracy.Labels) -> dict[str, Any]:
    """The figures of one set of outputs."""
    likeness = accuracy.cosines(outputs, reference)
    share = accuracy.top1(outputs, labels)
    return {
        "method": name,
        "samples": len(labels),
        "correct": round(share * len(labels)),
        "top1": share,
        "cosine_mean": float(likeness.mean()),
        "cosine_min": float(likeness.min()),
    }


def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description="Top-1 of mynet on a BPU for each calibration method of hb_mapper.")
    parser.add_argument("--target", default="bayes", choices=["bayes", "bayes-e", "bernoulli2"])
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(args.target, args.methods.split(","), Path(folder))
    except Failed as error:
        print(f"accuracy_bpu: {error}", file=sys.stderr)
        return error.status
    if args.json:
        args.json.write_text(json.dumps({"target": args.target, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{'method':8}   top-1     right   cosine mean  min       selected")
    for entry in rows:
        right = f"{entry['correct']}/{entry['samples']}"
        print(
            f"{entry['method']:8}  {entry['top1']:7.2%}  {right:>8}   {entry['cosine_mean']:.6f}   "
            f"{entry['cosine_min']:.6f}  {entry.get('selected', '')}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
