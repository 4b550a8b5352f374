"""``--horizonYaml``: the vendor's own keys, laid over what the options give, and checked with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ptqbridge.backends.horizon.faults6 import to_be_written
from ptqbridge.backends.horizon.lookup import Network
from ptqbridge.backends.horizon.settings import Settings, merge
from ptqbridge.backends.horizon.validate import read_yaml, validate
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan
from ptqbridge.rulebook import Verdict

PATH_KEYS = ("onnx_model", "caffe_model", "prototxt", "cache_path", "custom_op_dir", "working_dir", "cal_data_dir")
"""Keys that hold one path, or several joined by ``;``."""


def load_overlay(path: str) -> dict[str, dict[str, Any]]:
    """The keys of an overlay by section; its relative paths start at its own folder, as the tools have it.

    Raises InputError: cannot be read, is no YAML, or is not sections of keys.
    """
    content, doubled = read_yaml(path)
    if doubled:
        raise InputError(f"--horizonYaml: {path}: {doubled[0]} stands twice")
    folder = os.path.dirname(os.path.abspath(path))
    for section, keys in content.items():
        if not isinstance(keys, Mapping):
            raise InputError(f"--horizonYaml: {path}: expected keys below {section}, found {keys!r}")
    return {str(section): absolute(keys, folder) for section, keys in content.items()}


def absolute(keys: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The keys of one section with absolute paths."""
    made = dict(keys)
    for name in PATH_KEYS:
        if isinstance(made.get(name), str) and made[name]:
            parts = (part.strip() for part in made[name].split(";"))
            made[name] = ";".join(os.path.normpath(os.path.join(folder, part)) if part else part for part in parts)
    if isinstance(made.get("quant_config"), str) and made["quant_config"]:
        made["quant_config"] = os.path.normpath(os.path.join(folder, made["quant_config"]))
    return made


def lay_over(settings: Settings, overlay: Mapping[str, Mapping[str, Any]]) -> None:
    """Change the YAML settings: a mapping merges into one that is there, null takes a key away, all else replaces."""
    for section, keys in overlay.items():
        for key, value in keys.items():
            path = f"{section}.{key}"
            below = {name: settings.yaml[name] for name in settings.yaml if name.startswith(f"{path}.")}
            present: Any = settings.yaml.get(path)
            for name in below:
                del settings.yaml[name]
            if value is None:
                settings.yaml.pop(path, None)
                continue
            if isinstance(value, Mapping) and (below or isinstance(present, Mapping)):
                nested: dict[str, Any] = dict(present) if isinstance(present, Mapping) else {}
                for name, content in below.items():
                    merge(nested, _deep(name[len(path) + 1 :].split("."), content))
                merge(nested, value)
                value = nested
            settings.yaml[path] = value


def _deep(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _deep(keys[1:], value)}


def checked(plan: Plan, toolchain: str, network: Network | None = None) -> Plan:
    """The plan with the overlay's row refused when the finished YAML breaks a rule, and its remarks as notes.

    Folders that the build itself fills are not there yet and are no fault.
    """
    import yaml

    text = next(text for name, text in plan.files.items() if name.endswith(".yaml"))
    config = yaml.safe_load(text)
    report = validate(config, os.curdir, target=plan.target.name, generation=toolchain, network=network)
    faults = [finding for finding in report.errors if not to_be_written(finding.rule, finding.key, finding.value)]
    notes = [finding.text() for finding in report.findings if finding.severity != "error" and finding.rule != "model"]
    rows = plan.rows
    if faults:
        why = "; ".join(f"{finding.key}: {finding.expected}, found {finding.value!r}" for finding in faults)
        rows = tuple(
            replace(row, verdict=Verdict.REFUSED, why=why) if row.option.startswith("--horizonYaml") else row
            for row in rows
        )
    return replace(plan, rows=rows, notes=(*plan.notes, *notes))
