"""The bins of ``kl`` when later batches go beyond them, as the calibrating operator of hb_mapper answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from ptqbridge.quantize import search
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.methods import KlBins, kl_bins
from ptqbridge.quantize.ranges import TensorRange

RECORDED = json.loads((Path(__file__).parent.parent / "cases" / "horizon" / "kl-batches.json").read_text())["cases"]


def sample(number: int, size: int, scale: float) -> np.ndarray:
    """Heavy-tailed values of both signs, the same everywhere."""
    mixed = (np.arange(1, size + 1, dtype=np.int64) * 2654435761 + number * 40503 * 65537) >> 7
    share = ((mixed % 65521) + 1).astype(np.float64) / 65523
    sign = np.where(mixed % 2, 1.0, -1.0)
    return (sign * share * scale / (1.05 - share)).astype(np.float32).reshape(1, 1, 1, size)


def network(size: int) -> onnx.ModelProto:
    return parser.parse_model(
        f"""<ir_version: 7, opset_import: ["": 11]> net (float[1,1,1,{size}] x) => (float[1,1,1,{size}] y) {{
          n = Neg(x)
          y = Sigmoid(n)
        }}"""
    )


@pytest.mark.parametrize("case", RECORDED)
@pytest.mark.parametrize("workers", [1, 2])
def test_kl_as_recorded(case: str, workers: int) -> None:
    size, scales, threshold = (RECORDED[case][key] for key in ("size", "scales", "threshold"))
    samples = [{"x": sample(number, size, scale)} for number, scale in enumerate(scales)]
    ranges = calibrate(network(size), ["x", "n"], samples, algorithm="kl", workers=workers).tensors
    assert ranges["x"].amax == pytest.approx(threshold, rel=1e-6)
    assert ranges["n"].amax == pytest.approx(threshold, rel=1e-6)


def test_the_searches_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, TensorRange] = {}

    def score(self: search.Judge, ranges: dict[str, TensorRange], **how: object) -> float:
        seen.update({found.method: found for found in ranges.values()})
        return 1.0

    monkeypatch.setattr(search.Judge, "score", score)
    case = RECORDED["an all-zero first batch"]
    samples = [{"x": sample(number, case["size"], scale)} for number, scale in enumerate(case["scales"])]
    calibrate(network(case["size"]), ["x"], samples, algorithm="default", scheme="horizon", memory_cap=1 << 30)
    assert seen["kl"].amax == pytest.approx(case["threshold"], rel=1e-6)


@pytest.mark.parametrize(
    ("peaks", "bins"),
    [
        ([], KlBins(0.0)),
        ([0.0, 2.0, 1.0], KlBins(2.0)),
        ([1.0, 16.0], KlBins(1.0)),
        ([1.0, 16.001], KlBins(1.0, 2)),
        ([1.0, 24.0], KlBins(1.0, 3)),
        ([1.0, 100.0, 100.0, 1000.0], KlBins(1.0, 12 * 10)),
    ],
)
def test_how_many_bins_become_one(peaks: list[float], bins: KlBins) -> None:
    assert kl_bins(peaks) == bins
