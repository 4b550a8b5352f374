"""The failures of tests/backends/horizon/test_failures.py on the real hb_mapper: the same ends as with its double."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real


def _load() -> Any:
    path = Path(__file__).resolve().parents[1] / "doubles" / "hb_mapper_failures.py"
    spec = importlib.util.spec_from_file_location("hb_mapper_failures", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


failures = _load()


@pytest.mark.parametrize("name", failures.CASES)
def test_failure(name: str, tmp_path: Path, hb_mapper: Path) -> None:
    """Expected end, and the end of the double: same status, same line."""
    case = failures.CASES[name]
    for part in ("real", "double"):
        (tmp_path / part).mkdir()
    real = failures.run_case(case, tmp_path / "real", hb_mapper)
    failures.check_case(case, real)
    double = failures.run_case(case, tmp_path / "double", failures.double(tmp_path / "bin"))
    assert (real.status, real.error, real.log) == (double.status, double.error, double.log)
