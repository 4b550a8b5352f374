"""The real vendor tools; a tool that is not there skips its tests with the reason."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hb_mapper() -> Path:
    """The real hb_mapper: PTQBRIDGE_HB_MAPPER (``make test-real`` sets it), else PATH."""
    found = shutil.which(os.environ.get("PTQBRIDGE_HB_MAPPER") or "hb_mapper")
    if not found:
        pytest.skip("no hb_mapper: PTQBRIDGE_HB_MAPPER is not set and it is not on PATH (make test-real installs it)")
    return Path(found)
