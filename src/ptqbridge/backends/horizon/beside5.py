"""What is kept beside a .bin: the record of its build, and the quantized ONNX model that computes what it computes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptqbridge.files import atomic_path, write_atomic
from ptqbridge.report.record import file_sha256, versions
from ptqbridge.result import BuildResult


@dataclass(frozen=True)
class Beside:
    """``record`` is empty and ``quantized`` "" when there is none; ``why`` says what is wrong with what is there."""

    record: Mapping[str, Any] = field(default_factory=dict)
    quantized: str = ""
    why: str = ""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the build found out: estimate, versions, nodes."""
        build = self.record.get("build")
        facts = build.get("facts") if isinstance(build, Mapping) else None
        return facts if isinstance(facts, Mapping) else {}


def record_path(artifact: str) -> str:
    """``model.bin.json``."""
    return f"{artifact}.json"


def quantized_path(artifact: str) -> str:
    """``model_quantized_model.onnx``, the tool's own name for it."""
    return f"{os.path.splitext(artifact)[0]}_quantized_model.onnx"


def keep(result: BuildResult, product: Path) -> None:
    """Put both beside ``result.artifact``; ``product`` is the tool's own copy, with its other products around it.

    The record holds the hashes of both files, so that one replaced later is not taken for what was built.
    Raises InputError when they cannot be written.
    """
    hashes = {"artifact_sha256": file_sha256(result.artifact)}
    made = product.with_name(f"{product.stem}_quantized_model.onnx")
    if made.is_file():
        with atomic_path(quantized_path(result.artifact)) as temporary:
            shutil.copyfile(made, temporary)
        hashes["quantized_sha256"] = file_sha256(str(made))
    record = {**hashes, "versions": versions(), "build": result.to_dict()}
    write_atomic(record_path(result.artifact), json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def look_beside(artifact: str) -> Beside:
    """What was kept beside ``artifact``, as far as it belongs to it. Raises nothing: what is broken is not there."""
    path = record_path(artifact)
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Beside(why=f"there is no record of its build ({path})")
    except (OSError, ValueError):
        return Beside(why=f"{path} is no readable record of a build")
    if not isinstance(record, dict) or record.get("artifact_sha256") != file_sha256(artifact):
        return Beside(why=f"{path} is the record of another artifact")
    quantized = quantized_path(artifact)
    known = record.get("quantized_sha256")
    if not known or known != file_sha256(quantized):
        return Beside(record, why=f"{quantized} is not there, or is not the one that was built with it")
    return Beside(record, quantized)
