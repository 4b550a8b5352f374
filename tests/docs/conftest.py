"""The environment in which commands of the documentation run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def environment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with a ``ptqbridge`` (and ``python``) on PATH that belong to this checkout and this interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    for name, command in (("ptqbridge", "-m ptqbridge"), ("python", "")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root / "src"), "COLUMNS": "100", "PYTHONUTF8": "1"}
