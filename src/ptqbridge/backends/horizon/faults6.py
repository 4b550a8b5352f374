"""What is known, before hb_compile runs, to stop a Journey 6 build: the finished YAML against the table of all keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ptqbridge.backends.horizon.config import undetermined
from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.schema import entries
from ptqbridge.backends.horizon.settings import Settings
from ptqbridge.plan import Plan

OURS = "./"
"""Folders that the build itself fills begin so."""


def with_faults(plan: Plan, settings: Settings, context: Context) -> Plan:
    """The plan with its faults; without the model only what shows without it."""
    faults = [*_generation(context), *_names(context), *_dynamic(settings, context)]
    name = next((name for name in plan.files if name.endswith(".yaml")), "")
    if name and not faults:
        faults += _yaml(name, plan.files[name], context)
    return replace(plan, faults=(*plan.faults, *faults))


def _generation(context: Context) -> Iterator[str]:
    march = context.march
    if context.toolchain not in march.generations:
        known = " or ".join(march.generations)
        yield f"{march.tool} {context.toolchain} does not know {march.name}; {known} does"


def _names(context: Context) -> Iterator[str]:
    """Names of several inputs stand in one text that the tool splits at ``;`` and takes quotes out of."""
    inputs = context.network.inputs if context.network else ()
    for spec in inputs if len(inputs) > 1 else ():
        if not writable(spec.name):
            yield f"input {spec.name!r}: expected a name without ; ' \" and blanks at its ends, as hb_compile reads it"


def writable(name: str) -> bool:
    """Whether the tool reads this name as one entry of a list."""
    return entries(name) == [name]


def _dynamic(settings: Settings, context: Context) -> Iterator[str]:
    for spec in undetermined(settings, context):
        why = "has dynamic dimensions, and a BPU model has one shape"
        yield f"input {spec.text()} {why}: give --shapes={spec.name}:..."


def _yaml(name: str, text: str, context: Context) -> Iterator[str]:
    import yaml

    from ptqbridge.backends.horizon.validate import validate

    config: Mapping[str, Any] = yaml.safe_load(text)
    report = validate(
        config,
        os.curdir,
        target=context.march.name,
        generation=context.toolchain,
        network=context.network,
        bytecode=context.bytecode,
    )
    for finding in report.errors:
        if not to_be_written(finding.rule, finding.key, finding.value):
            found = "" if finding.value is None else f", found {finding.value!r}"
            yield f"{name}: {finding.key}: {finding.expected}{found}"


def to_be_written(rule: str, key: str, value: Any) -> bool:
    """Whether a finding is of something that is not there yet, or that the build looks at itself: the model."""
    filled = rule == "calibration folders" and str(value).startswith(OURS) and key.endswith("cal_data_dir")
    return filled or rule == "model" or (rule == "cache" and key.endswith("cache_path") and bool(value))
