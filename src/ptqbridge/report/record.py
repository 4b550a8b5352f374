"""plan.json and result.json: everything needed to see, later or elsewhere, what was meant and what came of it."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import ptqbridge
from ptqbridge.options.effective import changed
from ptqbridge.options.given import GivenOptions
from ptqbridge.plan import Plan
from ptqbridge.report import mapping

_PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "tensorrt")


def plan_record(argv: Sequence[str], options: GivenOptions, plan: Plan) -> dict[str, Any]:
    """The content of plan.json: command line, spec, verdicts, versions, and hashes of the files named."""
    return {
        "ptqbridge": ptqbridge.__version__,
        "argv": list(argv),
        "sources": {item.option.name: item.source for item in options},
        "spec": mapping.plain({"build": plan.build, "run": plan.run}),
        "effective": changed(options),
        "differences": [{"row": item.row, "option": item.option} for item in options.deviations],
        "warnings": list(options.warnings),
        "plan": mapping.to_dict(plan),
        "versions": versions(),
        "sha256": _hashes(plan),
    }


def versions() -> dict[str, str]:
    """Versions of this program, Python and the packages that matter, without importing them."""
    found = {"ptqbridge": ptqbridge.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hashes(plan: Plan) -> dict[str, str | None]:
    """SHA-256 of every file named in the spec; None for one that is not there. Folders are not hashed here."""
    paths = (plan.build.model.path, plan.build.calibration.cache, plan.run.artifact, *plan.run.inputs.values())
    return {path: file_sha256(path) for path in paths if path and not os.path.isdir(path)}


def file_sha256(path: str) -> str | None:
    """SHA-256 of a file, None when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
