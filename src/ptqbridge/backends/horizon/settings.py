"""Collects what the rules emit, and decides whether the tool's fast-perf mode can serve the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules import RULES
from ptqbridge.backends.horizon.rules.book import QUANT, flag
from ptqbridge.plan import COMMON

_ANY_VALUE = (
    "model_parameters.onnx_model",
    "model_parameters.working_dir",
    "model_parameters.output_model_file_prefix",
    "compiler_parameters.advice",
)
"""Settings that do not stand in the way of fast-perf: it has its own way to say them, or they only report."""


@dataclass
class Settings:
    """Everything emitted: YAML by ``section.key``, hrt_model_exec flags, shapes by input name, and switches."""

    yaml: dict[str, Any] = field(default_factory=dict)
    perf: dict[str, Any] = field(default_factory=dict)
    infer: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    switches: dict[str, Any] = field(default_factory=dict)

    def add(self, emits: Mapping[str, Any]) -> None:
        """Take in one outcome's emissions."""
        for name, value in emits.items():
            if name in ("yaml", "perf", "infer", "shapes"):
                merge(getattr(self, name), value)
            else:
                self.switches[name] = value

    def to_dict(self) -> dict[str, Any]:
        """For ``Plan.settings``: the YAML as it was emitted, board flags as words."""
        return {
            "yaml": dict(self.yaml),
            "board_args": tuple(flag(name, value) for name, value in self.perf.items()),
            "infer_args": tuple(flag(name, value) for name, value in self.infer.items()),
            "shapes": dict(self.shapes),
            **self.switches,
        }


def merge(target: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Mappings merge within mappings, tuples grow without repeating, anything else is replaced."""
    for key, value in more.items():
        present = target.get(key)
        if isinstance(value, Mapping):
            nested = dict(present) if isinstance(present, Mapping) else {}
            merge(nested, value)
            target[key] = nested
        elif isinstance(value, tuple) and isinstance(present, tuple):
            target[key] = tuple(dict.fromkeys(present + value))
        else:
            target[key] = value


def collect(context: Context) -> Settings:
    """Apply every rule to what the user gave."""
    settings = Settings()
    for item in context.request.asked:
        if item.name not in COMMON:
            settings.add(RULES.apply(item.name, item.value, context).emits)
    return settings


def fast_perf_serves(settings: Settings, context: Context) -> bool:
    """Whether fast-perf, which takes no YAML and fixes all settings itself, does everything that was asked.

    It fixes the top level, int8 everywhere and the per-layer table; it calibrates nothing.
    """
    if not context.builds or context.calibrated or context.overlay or context.request.build.model.format != "onnx":
        return False
    if context.bytecode:
        return False
    fixed = {
        "compiler_parameters.optimize_level": f"O{context.march.top_level}",
        "compiler_parameters.debug": True,
        f"{QUANT}.model_config": {"all_node_type": "int8"},
    }
    return all(path in _ANY_VALUE or fixed.get(path) == value for path, value in settings.yaml.items())
