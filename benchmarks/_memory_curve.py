"""Draws peak memory of calibration against the number of samples as an SVG, from the JSON of calibration.py --memory.

python benchmarks/calibration.py --memory 16,64,256,512 --json memory.json mobilenet_v2
python benchmarks/_memory_curve.py memory.json docs/calibration-memory.svg
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 48
COLOURS = ("#1b6ca8", "#c2571a", "#3c8d40", "#8a4fa3", "#a3434f", "#5b6470")
STYLE = "font-family='Helvetica, Arial, sans-serif' font-size='13' fill='#222'"


def nice_step(top: float) -> float:
    """A round distance between about five grid lines up to ``top``."""
    rough = top / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)


def picture(row: dict[str, Any]) -> str:
    """One model's curves, memory over samples, the latter on a logarithmic axis."""
    curves = {
        name: {int(n): mb for n, mb in found.items()}
        for name, found in row.items()
        if isinstance(found, dict) and name not in ("limits", "growth")
    }
    counts = sorted({count for found in curves.values() for count in found})
    step = nice_step(max(mb for found in curves.values() for mb in found.values()))
    top = step * math.ceil(max(mb for found in curves.values() for mb in found.values()) / step)
    low, high = math.log2(counts[0]), math.log2(counts[-1])

    def x(count: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((math.log2(count) - low) / (high - low) if high > low else 0.5)

    def y(mb: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * mb / top

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
        f"<text x='{LEFT}' y='22' {STYLE}>{escape(row['model'])}: memory that calibration adds, MB</text>",
    ]
    for line in range(round(top / step) + 1):
        height = y(line * step)
        parts.append(f"<path d='M{LEFT} {height:.1f}H{WIDTH - RIGHT}' stroke='#ddd'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{height + 4:.1f}' text-anchor='end' {STYLE}>{line * step:g}</text>")
    for count in counts:
        parts.append(f"<text x='{x(count):.1f}' y='{HEIGHT - 26}' text-anchor='middle' {STYLE}>{count}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f"<text x='{middle:.1f}' y='{HEIGHT - 8}' text-anchor='middle' {STYLE}>samples</text>")
    labels = spread([y(found[counts[-1]]) for found in curves.values()])
    for (name, found), colour, label in zip(curves.items(), COLOURS * len(curves), labels, strict=False):
        points = [(x(count), y(found[count])) for count in counts]
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{across:.1f}' cy='{up:.1f}' r='3' fill='{colour}'/>" for across, up in points]
        text = f"{escape(name)} {found[counts[-1]]:.0f}"
        words = STYLE.replace("#222", colour)
        parts.append(f"<text x='{WIDTH - RIGHT + 10}' y='{label + 4:.1f}' {words}>{text}</text>")
    return "\n".join([*parts, "</svg>", ""])


def spread(heights: list[float], least: float = 16.0) -> list[float]:
    """The heights moved apart so that text of that height does not overlap."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = list(heights)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    over = max(moved, default=0.0) - (HEIGHT - BOTTOM)
    return [height - max(over, 0.0) for height in moved]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("svg", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.json.read_text())["rows"]
    options.svg.write_text(picture(rows[0]))


if __name__ == "__main__":
    main()
