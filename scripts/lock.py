"""Renew requirements/newest.txt and requirements/lowest.txt from pyproject.toml (see CONTRIBUTING.md).

Needs one interpreter of each supported Python version and pip's access to a package index. newest.txt holds the
newest set that pip resolves on each Python, merged with environment markers; lowest.txt (Python 3.10) holds the lower
bounds of the runtime dependencies with the newest test tools that go with them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

# onnx 1.15 asks for protobuf>=3.20.2 and its generated code is of that age: the newest protobuf would not be an honest
# lowest set.
LOWEST_TRANSITIVE = ("protobuf==3.20.2",)

HEADER = "# {what}.\n# Made by scripts/lock.py, do not edit; CONTRIBUTING.md says how it is renewed.\n"


def find_python(version: str) -> str:
    """The path of a working interpreter of ``version`` ("3.10"), from PATH or pyenv; SystemExit if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [f"python{version}", *map(str, sorted(pyenv.glob(f"versions/{version}*/bin/python{version}")))]
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True
            )
        except FileNotFoundError:
            continue
        if done.returncode == 0:  # a pyenv shim may exist for a version that is not switched on
            return done.stdout.strip()
    raise SystemExit(f"lock.py: no working Python {version} found on PATH or under {pyenv}")


def resolve(python: str, requirements: Iterable[str]) -> dict[str, str]:
    """What pip would install for ``requirements`` on ``python``: normalised name -> version."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        pip = [f"{folder}/venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--dry-run", "--report", str(report), *requirements], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {normal(item["metadata"]["name"]): item["metadata"]["version"] for item in found}


def normal(name: str) -> str:
    """The normalised project name (Python packaging specification "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def extra(project: Mapping[str, Any], name: str) -> list[str]:
    """The requirements of an extra, with the extras of this project it names unfolded."""
    found = []
    for requirement in project["optional-dependencies"][name]:
        inner = re.fullmatch(rf"{project['name']}\[(\w+)\]", requirement)
        found += extra(project, inner[1]) if inner else [requirement]
    return found


def merge(per_python: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Lines ``name==version`` with a marker where the Python versions differ.

    The oldest Python's marker is open below and the newest's open above, so that a Python not yet known takes the
    newest set.
    """
    lines = []
    for name in sorted({name for packages in per_python.values() for name in packages}):
        runs: list[tuple[str | None, list[str]]] = []  # neighbouring Pythons that take the same version
        for python in per_python:
            version = per_python[python].get(name)
            if runs and runs[-1][0] == version:
                runs[-1][1].append(python)
            else:
                runs.append((version, [python]))
        for index, (version, pythons) in enumerate(runs):
            bounds = []
            if index > 0:
                bounds.append(f'python_version >= "{pythons[0]}"')
            if index < len(runs) - 1:
                bounds.append(f'python_version < "{runs[index + 1][1][0]}"')
            if version is not None:
                lines.append(f"{name}=={version}" + (" ; " + " and ".join(bounds) if bounds else ""))
    return lines


def write(name: str, what: str, lines: Iterable[str]) -> None:
    """Write one lock file under requirements/."""
    text = HEADER.format(what=what) + "".join(f"{line}\n" for line in lines)
    (ROOT / "requirements" / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Resolve and write both lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, test, dev = project["dependencies"], extra(project, "test"), extra(project, "dev")
    newest = {version: resolve(find_python(version), [*runtime, *dev]) for version in PYTHONS}
    write("newest.txt", f"The newest dependencies and tools on Python {PYTHONS[0]} to {PYTHONS[-1]}", merge(newest))
    floors = [
        requirement.replace(">=", "==")
        for requirement in [*runtime, *extra(project, "images"), *extra(project, "migrate")]
    ]
    oldest = PYTHONS[0]
    lowest = resolve(find_python(oldest), [*floors, *LOWEST_TRANSITIVE, *test])
    write("lowest.txt", f"The lowest dependencies that are supported, on Python {oldest}", merge({oldest: lowest}))


if __name__ == "__main__":
    main()
