"""Reading the compiler's estimate of a .hbm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptqbridge.backends.horizon.estimate6 import read_estimate, told

WHOLE = {
    "summary": {
        "performance": {
            "FPS": 1234.5,
            "latency (us)": 810.0,
            "latency (ms)": 0.81,
            "latency (us) by segments": [810.0],
        },
        "DDR access data": {"DDR megabytes per run": 1.5, "loaded bytes per run": 1000, "static memory": 2000},
        "layer details": [
            {"layer name": "/a/Conv", "active period of time": "0~10", "computing cost (no DDR)": "1%", "origin ops": 7}
        ],
        "model info": {"BPU core number": 1, "compiling HBDK version": "4.11.2"},
    },
    "details": [[]],
}


def test_the_whole_form(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(WHOLE))
    found = read_estimate(tmp_path, "m")
    assert (found["fps"], found["latency_us"], found["ddr_megabytes"], found["cores"]) == (1234.5, 810.0, 1.5, 1)
    assert (found["loaded_bytes"], found["static_memory_bytes"], found["segments_us"]) == (1000, 2000, [810.0])
    assert found["layers"] == [{"name": "/a/Conv", "active": "0~10", "computing": "1%", "operations": 7}]
    text = "the compiler estimates 0.81 ms a frame, 1234.5 frames per second, 1.5 MB to and from memory a frame"
    assert told(found) == text
    assert "no measurement" in found["how"]


def test_numbers_without_groups_and_the_other_name(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"summary": {"FPS": 10, "latency (us)": true}}')
    found = read_estimate(tmp_path, "m")
    assert (found["fps"], found["file"]) == (10, "model.json") and "latency_us" not in found


@pytest.mark.parametrize("text", ["", "[]", '{"summary": 3}', '{"summary": {"FPS": NaN}}', '{"other": {}}', "\xff"])
def test_what_is_no_estimate_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text, encoding="latin-1")
    assert read_estimate(tmp_path, "m") == {}
