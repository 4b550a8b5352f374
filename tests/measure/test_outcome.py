"""The record of a run as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.measure.summary import summarize
from ptqbridge.measure.trace import Trace


def test_what_does_not_exist_is_null() -> None:
    record = Outcome("a.onnx").to_dict()
    for name in ("performance", "load_s", "load_times_s", "profile", "layer_info"):
        assert record[name] is None
    assert (record["inputs"], record["outputs"], record["skipped"]) == ({}, {}, False)


def test_a_full_record_is_json(compute_trace: Callable[..., Trace]) -> None:
    trace = compute_trace(range(0, 100, 5))
    outcome = Outcome(
        "a.onnx",
        performance=summarize(trace, warmup_ms=10, percentiles=[99]),
        kept=trace,
        outputs={"y": np.zeros((2, 3), np.float16)},
        layers=[("conv", [1.0, 3.0]), ("idle", [])],
        profiled_runs=2,
        layer_info=LayerInfo(["conv"], ["x", "y"]),
        load_s=0.5,
        load_times_s=(0.1, 0.2),
        device={"Selected Device": "CPU"},
        policy={"streams": 1},
        warnings=("w",),
    )
    record = json.loads(json.dumps(outcome.to_dict(), allow_nan=False))
    assert record["outputs"] == {"y": {"dtype": "float16", "shape": [2, 3]}}
    assert record["performance"]["queries"] == 18
    assert record["profile"]["runs"] == 2
    assert record["profile"]["layers"][0] == {
        "name": "conv", "timeMs": 4, "averageMs": 2, "medianMs": 2, "percentage": 100,
    }  # fmt: skip
    assert record["profile"]["layers"][1]["averageMs"] is None
    assert record["layer_info"] == {"Layers": ["conv"], "Bindings": ["x", "y"]}
    assert record["load_times_s"] == [0.1, 0.2]
