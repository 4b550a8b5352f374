"""The generated pages are what the program prints now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PAGES = {
    "options.md": ["flags", "--format", "markdown"],
    "differences.md": ["flags", "--differences"],
    "horizon-keys.md": ["flags", "--keys"],
}


@pytest.mark.parametrize("page", PAGES)
def test_page_is_fresh(page: str, root: Path, environment: dict[str, str]) -> None:
    command = ["ptqbridge", *PAGES[page]]
    run = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    written = (root / "docs" / page).read_text(encoding="utf-8")
    assert written == run.stdout, f"docs/{page} is stale: run `make docs` and commit the result"
