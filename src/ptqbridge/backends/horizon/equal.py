"""Whether two vendor YAMLs mean the same: lists read, defaults and dead keys left out, paths made absolute."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from ptqbridge.backends.horizon import schema5, schema6
from ptqbridge.backends.horizon.marches import March
from ptqbridge.backends.horizon.overlay import PATH_KEYS
from ptqbridge.backends.horizon.schema import Key, entries, floats

_SETS = ("remove_node_type", "remove_node_name", "run_on_cpu", "run_on_bpu", "debug_mode", "optimization")
_PLACES = ("working_dir",)
"""Keys that say where things are put; --saveEngine names the place of the product instead."""


def normal(config: Mapping[str, Any], folder: str, march: March, generation: str = "3.5") -> dict[str, Any]:
    """What a YAML says, by ``section.key``, in one form for all spellings; ``folder`` is where its paths start."""
    table = schema6.table(generation) if march.journey6 else schema5.table()
    found: dict[str, Any] = {}
    for section, keys in table.items():
        content = config.get(section) or {}
        for name, value in content.items():
            key = keys.get(name, Key("any"))
            made = _value(name, value, key, folder)
            if not (key.deprecated or name in _PLACES or made in (None, "", (), {}) or made == _default(name, key)):
                found[f"{section}.{name}"] = made
    _implied(found, config, march)
    return found


def _default(name: str, key: Key) -> Any:
    return None if key.default is None else _value(name, key.default, key, "")


def _value(name: str, value: Any, key: Key, folder: str) -> Any:
    if value is None:
        return None
    if name in PATH_KEYS:
        return tuple(os.path.normpath(os.path.join(folder, entry)) for entry in entries(value) if entry)
    if key.kind == "numbers":
        return tuple(None if entry is None else floats(entry) for entry in entries(value))
    if name in _SETS:
        words = re.split(r"[;,]", str(value).replace('"', "").replace("'", ""))
        return tuple(sorted(word.strip() for word in words if word.strip()))
    if name == "input_shape":
        return tuple((entry or "").lower() for entry in entries(value))
    if key.kind == "list":
        return tuple(entries(value))
    if name in ("node_info", "set_node_data_type"):
        return _nodes(value)
    return str(value) if key.kind == "text" else value


def _nodes(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(node): dict(wanted) for node, wanted in value.items() if wanted}
    pairs = (pair.rpartition(":") for pair in str(value).split(";") if pair.strip())
    return {node.strip(): {"OutputType": word.strip()} for node, _, word in pairs}


def _implied(found: dict[str, Any], config: Mapping[str, Any], march: March) -> None:
    """Leave out what follows from other keys, and fill in what an absent key means."""
    kinds = found.get("input_parameters.input_type_rt", ())
    if len(kinds) == 1:
        found.pop("input_parameters.input_name", None)
    section = "calibration_parameters"
    if march.journey6:
        if found.get(f"{section}.calibration_type") == "default":
            del found[f"{section}.calibration_type"]
        return
    if kinds and all(kind == "nv12" for kind in kinds):
        found.pop("input_parameters.input_layout_rt", None)
    folders = found.get(f"{section}.cal_data_dir")
    if folders and f"{section}.cal_data_type" not in found:
        found[f"{section}.cal_data_type"] = tuple("float32" if f.endswith("_f32") else "uint8" for f in folders)
    if not folders:
        found.pop(f"{section}.cal_data_type", None)


def same(left: Any, right: Any) -> bool:
    """Equality; numbers may differ as much as nine written digits do."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return math.isclose(left, right, rel_tol=1e-8, abs_tol=1e-12)
    if isinstance(left, (tuple, list)) and isinstance(right, (tuple, list)):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """The ``section.key`` of everything that two normal forms say differently, sorted."""
    return sorted(key for key in {*left, *right} if not same(left.get(key), right.get(key)))
