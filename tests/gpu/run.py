"""Makes every check on a GPU within a time limit, and writes one JSON file.

    python tests/gpu/run.py [--out gpu.json] [--limit 600] [--folder FOLDER] [CHECK ...]

Each check is a process of its own (checks.py), so that a crash costs one check. The file is written anew after each, so
that a run that is cut short leaves what it found. Exit status 0: none failed; 1: some did; 4: no TensorRT or no GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESERVE_S = 15
"""Seconds before the limit in which no further check is begun."""


def make(name: str, folder: str, limit: float) -> dict[str, Any]:
    """One check: ``result`` is passed, skipped, failed, crashed or timed out."""
    command = [sys.executable, str(HERE / "checks.py"), name, folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"result": "timed out", "reason": f"more than {limit:.0f} s"}
    last = done.stdout.strip().splitlines()[-1:] or ["{}"]
    if done.returncode == 0:
        return {"result": "passed", **json.loads(last[0])}
    if done.returncode == 3 and last[0].startswith('{"skipped"'):
        return {"result": "skipped", "reason": json.loads(last[0])["skipped"]}
    result = "crashed" if done.returncode < 0 else "failed"
    return {"result": result, "reason": "\n".join(done.stderr.strip().splitlines()[-6:]), "status": done.returncode}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Check ptqbridge's trt target on a real GPU.")
    parser.add_argument("--out", default="gpu.json", help="the file to write")
    parser.add_argument("--limit", type=float, default=600, help="seconds for all checks together")
    parser.add_argument("--folder", help="where engines are kept; default: a temporary folder")
    parser.add_argument("checks", nargs="*", help="names of checks; default: all")
    asked = parser.parse_args(argv)
    sys.path.insert(0, str(HERE))
    from checks import CHECKS, missing, version

    if reason := missing():
        print(f"nothing was checked: {reason}", file=sys.stderr)
        return 4
    if unknown := [name for name in asked.checks if name not in CHECKS]:
        parser.error(f"unknown checks {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    end = time.monotonic() + asked.limit
    record: dict[str, Any] = {"tensorrt": version(), "python": sys.version.split()[0], "checks": {}}
    out = Path(asked.out).resolve()
    with tempfile.TemporaryDirectory(prefix="ptqbridge-gpu-") as temporary:
        folder = str(Path(asked.folder).resolve()) if asked.folder else temporary
        for name in asked.checks or CHECKS:
            left = end - time.monotonic()
            found = make(name, folder, left) if left > RESERVE_S else {"result": "not begun", "reason": "out of time"}
            record["checks"][name] = found
            out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"{found['result']:<10} {name:<40} {found.get('seconds', '')} {found.get('reason', '')}", flush=True)
    results = [found["result"] for found in record["checks"].values()]
    counts = {result: results.count(result) for result in dict.fromkeys(results)}
    print(f"{', '.join(f'{count} {result}' for result, count in counts.items())}; {out}")
    return 0 if set(results) <= {"passed", "skipped"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
