"""Start-up of the command line against a bare interpreter and against importing click, interleaved in one run.

    python benchmarks/startup.py [--rounds 40] [--json FILE]

Prints median milliseconds of CPU time (user + system of the child) and the ratios the project promises: ``--version``
at most 1.5 times ``python -c pass``, ``--help`` at most 1.6 times ``python -c "import click"``.
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
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
LAUNCHER = "import sys\nfrom ptqbridge.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
"""What pip installs as the ``ptqbridge`` program."""
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "ptqbridge --version": ["PROGRAM", "--version"],
    "python -c 'import click'": ["-c", "import click"],
    "ptqbridge --help": ["PROGRAM", "--help"],
    "ptqbridge build --help": ["PROGRAM", "build", "--help"],
    "ptqbridge explain": ["PROGRAM", "explain", "--onnx=m.onnx", "--int8", "--target=nash-m"],
}
RATIOS = {
    "ptqbridge --version": ("python -c pass", 1.5),
    "ptqbridge --help": ("python -c 'import click'", 1.6),
}


def cpu_ms(arguments: list[str]) -> float:
    """CPU milliseconds of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> int:
    """Measure and print; exit status 1 when a promised ratio is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", dest="file")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "ptqbridge"
        program.write_text(LAUNCHER, encoding="utf-8")
        for _ in range(options.rounds):
            for name, arguments in COMMANDS.items():
                times[name].append(cpu_ms([str(program) if word == "PROGRAM" else word for word in arguments]))
    medians = {name: statistics.fmean(sorted(values)[: len(values) // 2]) for name, values in times.items()}
    print("| command | CPU ms (mean of the faster half) | ratio | promised |\n|---|---|---|---|")
    missed = 0
    for name, value in medians.items():
        base, limit = RATIOS.get(name, ("", 0.0))
        ratio = f"{value / medians[base]:.2f}" if base else ""
        missed += bool(base) and value > limit * medians[base]
        print(f"| `{name}` | {value:.1f} | {ratio} | {f'{limit:g} x {base}' if base else ''} |")
    if options.file:
        Path(options.file).write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
