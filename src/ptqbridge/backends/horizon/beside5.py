"""What is kept beside a .bin or .hbm: the record of its build, for a .bin also the quantized model it computes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.files import atomic_path, write_atomic
from ptqbridge.report.record import file_sha256, versions
from ptqbridge.result import BuildResult

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import LayerInfo
    from ptqbridge.plan import Plan
    from ptqbridge.spec.run import Reports


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

    @property
    def stamp(self) -> tuple[str, ...]:
        """The warning that the artifact is good for timing only, when it is."""
        build = self.record.get("build")
        reason = build.get("performance_only") if isinstance(build, Mapping) else ""
        return (f"performance only: {reason}",) if reason else ()


def layer_info(reports: Reports, beside: Beside, bindings: Sequence[str] = ()) -> tuple[LayerInfo | None, str]:
    """The node table of the build's log when layers were asked for, and why there is none ("" otherwise).

    ``bindings`` are the names of inputs and outputs where the artifact has told them.
    """
    from ptqbridge.measure.outcome import LayerInfo

    if not (reports.dump_layers or reports.export_layers):
        return None, ""
    nodes = beside.facts.get("nodes")
    if not nodes:
        return None, f"no layers are known: {beside.why or 'the record of the build has none'}"
    if not bindings:
        taken = [tensor for entry in beside.facts.get("inputs", ()) for tensor in entry.get("tensors", ())]
        bindings = [tensor["name"] for tensor in (*taken, *beside.facts.get("outputs", ()))]
    return LayerInfo(list(nodes), list(bindings)), ""


def write_layers(plan: Plan, artifact: str, say: Callable[[str], None]) -> None:
    """``build --exportLayerInfo``: the table of nodes of what was just built. Raises InputError."""
    path = plan.settings.get("layers")
    if not path:
        return
    from ptqbridge.measure.export import export_layer_info

    table, why = layer_info(plan.run.reports, look_beside(artifact))
    if table:
        export_layer_info(path, table.layers, table.bindings)
    say(f"layers: {path}" if table else f"{path} was not written: {why}")


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


def look_beside(artifact: str, sha256: str = "") -> Beside:
    """What was kept beside ``artifact``, as far as it belongs to it. Raises nothing: what is broken is not there.

    ``sha256`` is that of the artifact where it is known already.
    """
    path = record_path(artifact)
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Beside(why=f"there is no record of its build ({path})")
    except (OSError, ValueError):
        return Beside(why=f"{path} is no readable record of a build")
    if not isinstance(record, dict) or record.get("artifact_sha256") != (sha256 or file_sha256(artifact)):
        return Beside(why=f"{path} is the record of another artifact")
    quantized = quantized_path(artifact)
    known = record.get("quantized_sha256")
    if not known or known != file_sha256(quantized):
        return Beside(record, why=f"{quantized} is not there, or is not the one that was built with it")
    return Beside(record, quantized)
