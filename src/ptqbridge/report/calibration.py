"""Files of ranges as text for people: conversions, tables of ranges, drift between two, coverage of a model."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from ptqbridge.quantize.formats.drift import Comparison
from ptqbridge.quantize.formats.forms import Loss
from ptqbridge.quantize.formats.reading import Loaded
from ptqbridge.quantize.verify import Coverage
from ptqbridge.wording import counted

_NAMES_SHOWN = 10


def origin(loaded: Loaded) -> str:
    """One line: what kind of file, how its ranges were found."""
    ranges = loaded.ranges
    parts = [str(loaded.form)]
    if "cache_header" in ranges.details:
        parts.append(f"header {ranges.details['cache_header']}")
    elif ranges.method:
        percent = ranges.details.get("percentile")
        parts.append(f"method {ranges.method}" + (f" {percent:g} %" if isinstance(percent, (int, float)) else ""))
    if loaded.form.name == "RANGES":
        if ranges.scheme:
            parts.append(f"scheme {ranges.scheme}")
        if ranges.samples:
            parts.append(counted(ranges.samples, "sample"))
    parts.append(counted(len(ranges.tensors), "tensor"))
    return f"{loaded.path}: {', '.join(parts)}"


def show(loaded: Loaded) -> str:
    """Everything in a file: where it comes from, then a row per tensor."""
    ranges = loaded.ranges
    lines = [origin(loaded)]
    for word, value in (
        ("data", ranges.data_fingerprint),
        ("model", ranges.model_fingerprint),
        ("versions", ", ".join(f"{name} {version}" for name, version in ranges.versions.items())),
    ):
        if value:
            lines.append(f"  {word}: {value}")
    lines += [f"note: {note}" for note in loaded.notes] + [f"lost: {loss.text}" for loss in loaded.losses]
    rows = [
        (name, f"{r.min:.6g}", f"{r.max:.6g}", f"{r.amax:.6g}", f"{r.amax / 127:.6g}", r.method or "-")
        for name, r in ranges.tensors.items()
    ]
    header = ("tensor", "min", "max", "amax", "scale (amax/127)", "method")
    return "\n".join([*lines, "", *_table(header, rows, right=(1, 2, 3, 4))]) + "\n"


def converted(losses: Sequence[Loss], notes: Sequence[str]) -> list[str]:
    """What a conversion costs, a line each."""
    lines = [f"lost: {loss.text}" for loss in losses] or ["lost: nothing"]
    return lines + [f"note: {note}" for note in notes]


def drift(comparison: Comparison, first: Loaded, second: Loaded, *, limit: float | None, top: int) -> str:
    """The drift table, furthest apart first, and the names that are in one file only."""
    lines = [f"A {origin(first)}", f"B {origin(second)}", ""]
    rows = [
        (
            d.name,
            f"{d.first:.6g}",
            f"{d.second:.6g}",
            _ratio(d.ratio),
            f"by position, in B {d.other}" if d.other else "",
        )
        for d in comparison.drifts[: top or None]
    ]
    if rows:
        lines += _table(("tensor", "A amax", "B amax", "B/A", ""), rows, right=(1, 2, 3))
    rest = len(comparison.drifts) - len(rows)
    if rest:
        lines.append(f"... and {rest} that are nearer (--top=0 shows all)")
    same = sum(d.ratio == 1 for d in comparison.drifts)
    lines.append(f"{counted(len(comparison.drifts), 'tensor')} in both, {same} with equal amax, largest factor "
                 f"{_ratio(comparison.factor)}")  # fmt: skip
    moved = sum(bool(d.other) for d in comparison.drifts)
    if moved:
        lines.append(f"{moved} names differ and were paired by their position between equal names")
    lines += _names("only in A", comparison.only_first) + _names("only in B", comparison.only_second)
    if limit is not None:
        word = "within" if comparison.factor <= limit else "beyond"
        lines.append(f"{word} --limit={limit:g}")
    return "\n".join(lines) + "\n"


def _ratio(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.4g}"


def coverage(found: Coverage, loaded: Loaded, model: str, *, least: float | None, notes: Iterable[str] = ()) -> str:
    """How much of the model is covered, and the names that are missing or foreign."""
    lines = [origin(loaded), *(f"note: {note}" for note in (*loaded.notes, *notes))]
    lines.append(
        f"covers {found.covered} of the {len(found.needed)} tensors that scheme {found.scheme} needs of {model}: "
        f"{found.percent:.1f} %"
    )
    if found.moved:
        lines.append(f"{len(found.moved)} names differ and were matched by their position between equal names:")
        shown = list(found.moved.items())[:_NAMES_SHOWN]
        lines += [f"  {name} -> {other}" for name, other in shown]
        if len(found.moved) > len(shown):
            lines.append(f"  ... and {len(found.moved) - len(shown)} more")
    lines += _names("missing", found.missing)
    lines += _names("in the model, but not needed", found.spare)
    lines += _names("not in the model", found.unknown)
    if least is not None:
        lines.append(f"{'meets' if found.percent >= least else 'below'} --minCoverage={least:g}")
    return "\n".join(lines) + "\n"


def _names(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return textwrap.wrap(
        f"{title} ({len(names)}): {shown}",
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(header), *map(line, rows)]


def show_record(loaded: Loaded) -> dict[str, Any]:
    """``show`` as JSON-ready data."""
    ranges = loaded.ranges
    return {
        "file": loaded.path,
        "form": str(loaded.form),
        "method": ranges.method,
        "scheme": ranges.scheme,
        "samples": ranges.samples,
        "fingerprint": {"data": ranges.data_fingerprint, "model": ranges.model_fingerprint},
        "versions": dict(ranges.versions),
        "details": dict(ranges.details),
        "notes": list(loaded.notes),
        "lost": [loss.to_dict() for loss in loaded.losses],
        "tensors": {
            name: {"min": r.min, "max": r.max, "amax": r.amax, "method": r.method} for name, r in ranges.tensors.items()
        },
    }


def drift_record(comparison: Comparison) -> dict[str, Any]:
    """``drift`` as JSON-ready data; a ratio that is infinite is null."""
    return {
        "largest_factor": _finite(comparison.factor),
        "tensors": [
            {
                "name": d.name,
                "other_name": d.other or d.name,
                "matched": "position" if d.other else "name",
                "a": d.first,
                "b": d.second,
                "ratio": _finite(d.ratio),
            }
            for d in comparison.drifts
        ],
        "only_in_a": list(comparison.only_first),
        "only_in_b": list(comparison.only_second),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def coverage_record(found: Coverage) -> dict[str, Any]:
    """``coverage`` as JSON-ready data."""
    return {
        "scheme": found.scheme,
        "percent": found.percent,
        "needed": len(found.needed),
        "covered": found.covered,
        "matched_by_position": dict(found.moved),
        "missing": list(found.missing),
        "not_needed": list(found.spare),
        "unknown": list(found.unknown),
    }
