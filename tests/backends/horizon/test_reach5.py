"""How hb_mapper's keys are reached: the table is whole, and no rule writes a key that the tool does not know."""

from __future__ import annotations

from ptqbridge.backends.horizon.reach5 import emitted_paths, markdown, reach
from ptqbridge.backends.horizon.schema5 import table

KNOWN = {f"{section}.{key}" for section, keys in table().items() for key in keys}


def test_every_key_has_one_row() -> None:
    rows = [f"{row.section}.{row.key}" for row in reach()]
    assert sorted(rows) == sorted(KNOWN)
    lines = markdown().splitlines()
    assert sum(line.startswith("| `") for line in lines) == len(KNOWN)


def test_rules_write_known_keys_only() -> None:
    assert emitted_paths() <= KNOWN
    assert len(emitted_paths()) >= 25


def test_what_is_filled_in_is_known() -> None:
    filled = {row.key: row.filled for row in reach() if row.filled}
    assert filled["march"] == "bayes"
    assert filled["optimize_level"] == "O3"
    assert filled["calibration_type"] == "default"


def test_options_are_named() -> None:
    ways = {row.key: row.options for row in reach()}
    assert ways["optimize_level"] == ("builderOptimizationLevel",)
    assert ways["node_info"] == ("layerPrecisions", "layerOutputTypes", "layerDeviceTypes")
    assert ways["max_percentile"] == ("calibAlgo", "calibPercentile")
    assert "staticPlugins" in ways["op_register_files"]
    assert ways["jobs"] == ()
    assert "| `jobs` | a whole number, 0 or more |  | `--horizonYaml` |  |" in markdown()
