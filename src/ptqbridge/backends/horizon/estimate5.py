"""The performance of a .bin as its compiler estimates it: from the record of the build, or from hbdk-perf."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.beside5 import Beside
from ptqbridge.backends.horizon.tools5 import MODEL, call
from ptqbridge.backends.horizon.workspace import Workspace
from ptqbridge.errors import ToolchainFailed
from ptqbridge.toolchains.program import Toolchain
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from ptqbridge.measure.summary import Performance

HOW = "the compiler's static estimate of the BPU's part; nodes on the CPU, quantization and copies are not in it"
_FOLDER = "perf"


def recorded(beside: Beside) -> list[dict[str, Any]]:
    """The estimates in a build's record, one per subgraph: fps, latency_us, ddr_bytes; empty when there are none."""
    estimate = beside.facts.get("estimate")
    parts = estimate.get("subgraphs") if isinstance(estimate, Mapping) else None
    return [dict(part) for part in parts or () if part.get("fps") and part.get("latency_us")]


def from_compiler(place: Workspace, toolchain: Toolchain) -> list[dict[str, Any]]:
    """The same, from the compiled code in the workspace's .bin. Raises ToolchainMissing, ToolchainFailed."""
    call(place, toolchain, "hb_extract_hbm", MODEL)
    code = next(iter(sorted(place.job.glob("*.hbm"))), None)
    if code is None:
        raise ToolchainFailed("hb_extract_hbm wrote no .hbm file")
    (place.job / _FOLDER).mkdir()
    call(place, toolchain, "hbdk-perf", code.name, "-o", _FOLDER)
    parts = [_summary(path) for path in sorted((place.job / _FOLDER).glob("*.json"))]
    if not parts:
        raise ToolchainFailed("hbdk-perf wrote no estimate")
    return parts


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
        return {
            "subgraph": summary["model name"],
            "fps": float(summary["FPS"]),
            "latency_us": float(summary["latency (us)"]),
            "ddr_bytes": int(summary["DDR bytes per frame"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolchainFailed(f"hbdk-perf: {path.name} is no estimate ({error})") from error


def performance(parts: Sequence[Mapping[str, Any]], policy: Mapping[str, Any]) -> Performance:
    """The summary of subgraphs that run one after the other; what a static estimate cannot tell is None.

    The throughput is that of one BPU core that does all subgraphs of one query before the next. The compiler counts
    frames; with ``input_batch`` a query has several.
    """
    from ptqbridge.measure.statistics import Distribution
    from ptqbridge.measure.summary import Performance

    latency = sum(float(part["latency_us"]) for part in parts) / 1000
    batch = max(_batch(part) for part in parts)
    seconds = sum(_batch(part) / float(part["fps"]) for part in parts)
    traffic = sum(int(part.get("ddr_bytes", 0)) for part in parts)
    return Performance(
        queries=0,
        warmup_queries=0,
        warmup_ms=0.0,
        throughput_qps=1 / seconds,
        latency=Distribution(None, None, latency, None, (), None),
        enqueue=None,
        h2d=None,
        compute=None,
        d2h=None,
        host_walltime_s=None,
        total_compute_s=None,
        processor="BPU",
        measured="vendor estimate",
        policy={"how": HOW, "subgraphs": [dict(part) for part in parts], **policy},
        notes=(
            HOW,
            f"{traffic} bytes of DDR traffic per frame, in {counted(len(parts), 'BPU subgraph')}",
            *((f"a query has {batch} frames: {batch / seconds:.6g} frames per second",) if batch > 1 else ()),
        ),
    )


def _batch(part: Mapping[str, Any]) -> int:
    """Frames that one run takes: the compiler tells frames per second, and the time of a run."""
    return max(round(float(part["fps"]) * float(part["latency_us"]) / 1e6), 1)
