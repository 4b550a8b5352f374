"""The pre-flight check: what would stop a build of minutes is found within a second, all at once, before the tool runs.

It looks at the model against hb_mapper's limits, at the YAML against the table of all keys, and at the calibration data
against the model's inputs; and it performs the conversions that ``--fixShapes`` and ``--convertOpset`` ask for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptqbridge.backends.horizon.calibdata5 import look as look_at_values
from ptqbridge.backends.horizon.limits5 import Found, model_findings
from ptqbridge.backends.horizon.lookup import Network, loaded, network_of
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.schema import dims, entries
from ptqbridge.backends.horizon.validate import validate
from ptqbridge.backends.horizon.view import View
from ptqbridge.data.asked import asked_samples
from ptqbridge.data.samples import Samples
from ptqbridge.errors import InputError, OptionError, PtqbridgeError
from ptqbridge.model.load import Model
from ptqbridge.plan import Plan

CONFIG = "hb_mapper.yaml"
UNCALIBRATED = ("skip", "load")
"""Calibration types with which no range comes from samples."""


@dataclass(frozen=True)
class Preflight:
    """What the check found. ``model`` is the one to stage: ``converted`` when it is no longer the user's file."""

    model: Model
    findings: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    samples: Samples | None = None
    converted: bool = False

    @property
    def faults(self) -> tuple[str, ...]:
        """The findings that stop the build, a line each."""
        return tuple(found.line for found in self.findings if found.error)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The other findings, and what was converted."""
        return (*self.notes, *(found.line for found in self.findings if not found.error))


def preflight(plan: Plan, *, values: bool = False) -> Preflight:
    """Check a plan for Journey 5 and its relatives; the model file must be there.

    ``values``: also read the sample files that only the YAML names (ours are read when they are written).
    Raises InputError for a file that is no usable ONNX model, since nothing else can be said of it then, and
    OptionError for another format; everything else is a finding.
    """
    if plan.build.model.format != "onnx":
        raise OptionError(f"--{plan.build.model.format}: this version builds ONNX models for {plan.target.name}")
    model = loaded(plan.build.model.path)
    network = network_of(model)
    config = configuration(plan)
    findings: list[Found] = []
    samples = _samples(plan, model, config, findings)
    model, notes, converted = _converted(plan, model, samples, findings)
    shapes = plan.settings.get("shapes", {})
    refused = {found.text for found in findings}
    found = model_findings(
        model, MARCHES[plan.target.name], shapes, listed=bool(config), registered="custom_op" in config
    )
    # What an option could not convert is said once, with the reason.
    findings += [item for item in found if not (refused and _asked_to_convert(plan, item))]
    findings += _yaml_findings(plan, config, network)
    findings += _given_data(config, model, values=values)
    unique = {item.text: item for item in findings}
    return Preflight(model, tuple(unique.values()), notes, samples, converted)


def refuse(check: Preflight) -> None:
    """Raise InputError with every fault, one per line, when there are any."""
    faults = check.faults
    if len(faults) == 1:
        only = next(found for found in check.findings if found.error)
        raise InputError(only.text, hint=only.way_out)
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise InputError(f"{len(faults)} things stop this build before hb_mapper starts:{lines}")


def noted(plan: Plan) -> Plan:
    """The plan with the findings in it: faults in ``faults``, all else as notes. For a dry run."""
    if not os.path.isfile(plan.build.model.path):
        return plan  # a note says so already
    try:
        check = preflight(plan)
    except PtqbridgeError as error:
        return replace(plan, faults=(error.message,))
    notes = [f"pre-flight: {remark}" for remark in check.remarks]
    return replace(plan, notes=(*plan.notes, *notes), faults=check.faults)


def configuration(plan: Plan) -> dict[str, Any]:
    """The plan's YAML as it was shown; empty for fast-perf."""
    if CONFIG not in plan.files:
        return {}
    import yaml

    config = yaml.safe_load(plan.files[CONFIG])
    return {section: dict(keys) for section, keys in config.items()}


def calibrates(config: Mapping[str, Any]) -> bool:
    """Whether ranges come from samples."""
    method = str(config.get("calibration_parameters", {}).get("calibration_type", "default"))
    return bool(config) and method not in UNCALIBRATED


def _samples(plan: Plan, model: Model, config: Mapping[str, Any], findings: list[Found]) -> Samples | None:
    """The calibration data, opened: count, sizes and types against the model's inputs."""
    if not plan.build.calibration.data or not calibrates(config):
        return None
    try:
        return asked_samples(replace(plan.build.calibration, batch=1), model.inputs)  # the compiled shape's
    except PtqbridgeError as error:
        findings.append(Found(f"--calibData: {error.message}", way_out=error.hint))
        return None


def _asked_to_convert(plan: Plan, found: Found) -> bool:
    words = (("convert_opset", "has ONNX "), ("fix_shapes", "dynamic dimensions"))
    return any(plan.settings.get(switch) and word in found.text for switch, word in words)


def _converted(
    plan: Plan, model: Model, samples: Samples | None, findings: list[Found]
) -> tuple[Model, tuple[str, ...], bool]:
    fix, lower = (bool(plan.settings.get(switch)) for switch in ("fix_shapes", "convert_opset"))
    if not fix and not lower:
        return model, (), False
    from ptqbridge.backends.horizon.conform import conform  # brings ONNX Runtime

    shapes = {name: dims(text) for name, text in plan.settings.get("shapes", {}).items()}
    try:
        made, notes = conform(model, fix_shapes=fix, convert_opset=lower, shapes=shapes, samples=samples)
    except PtqbridgeError as error:
        findings.append(Found(error.message, way_out=error.hint))
        return model, (), False
    return made, tuple(f"a copy of the model was converted: {note}" for note in notes), made is not model


def _yaml_findings(plan: Plan, config: Mapping[str, Any], network: Network) -> Iterator[Found]:
    """The YAML against the table of all keys. Folders that the build itself fills are not there yet."""
    if not config:
        return
    shapes = plan.settings.get("shapes", {})
    open_inputs = [spec for spec in network.inputs if spec.name not in shapes]
    unsettled = any(isinstance(dim, str) for spec in open_inputs for dim in spec.shape[1:])
    report = validate(config, os.curdir, target=plan.target.name, network=network)
    for fault in report.findings:
        ours = fault.rule == "calibration folders" and str(fault.value).startswith("./")
        # The model's own limits are looked at closer elsewhere.
        if ours or fault.rule in ("model", "dynamic") or (unsettled and fault.key.endswith(".input_shape")):
            continue
        found = "" if fault.value is None else f", found {fault.value!r}"
        yield Found(f"{CONFIG}: {fault.key} {fault.expected}{found}", error=fault in report.errors)


def _given_data(config: Mapping[str, Any], model: Model, *, values: bool) -> Iterator[Found]:
    """Sample folders that only the YAML names: hb_mapper reads every entry as a headerless array of the full shape."""
    calibration = config.get("calibration_parameters", {})
    folders = entries(calibration.get("cal_data_dir"))
    if not calibrates(config) or calibration.get("preprocess_on") or not folders:
        return
    march = MARCHES[str(config["model_parameters"].get("march", "bayes"))]
    view = View(config, march, march.generations[0], os.curdir)
    kinds = entries(calibration.get("cal_data_type"))
    shapes = {spec.name: spec.shape for spec in model.inputs}
    counts = {}
    for index, folder in enumerate(folders):
        if not folder or not os.path.isdir(folder):
            continue  # ours, or said already
        name = view.names[index] if index < len(view.names) else ""
        shape = view.shape(index) or shapes.get(name) or (model.inputs[0].shape if len(model.inputs) == 1 else ())
        kind = (kinds * len(folders))[index] if kinds else ("float32" if folder.endswith("_f32") else "uint8")
        counts[folder] = len(os.listdir(folder))
        yield from _folder(folder, name, shape, str(kind), values=values)
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{folder} {count}" for folder, count in counts.items())
        yield Found(f"cal_data_dir: expected as many samples for every input, found {said}")


def _folder(folder: str, name: str, shape: tuple[int | str, ...], kind: str, *, values: bool) -> Iterator[Found]:
    from pathlib import Path

    import numpy as np

    files = sorted(Path(folder).iterdir())
    if not files:
        yield Found(f"cal_data_dir: {folder} is empty, expected a file per sample")
        return
    odd = next((file for file in files if not file.is_file()), None)
    if odd is not None:
        yield Found(f"cal_data_dir: {odd} is no file, and hb_mapper reads every entry as a sample")
        return
    if not shape or any(isinstance(dim, str) for dim in shape):
        return
    text = "x".join(map(str, shape))
    size = math.prod(int(dim) for dim in shape) * np.dtype(kind).itemsize
    wrong = [file for file in files if file.stat().st_size != size]
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        found = wrong[0].stat().st_size
        yield Found(f"cal_data_dir: expected {size} bytes ({kind} {text}), found {found} in {wrong[0]}{more}")
    elif values:
        try:
            look_at_values(name or folder, files, kind)
        except InputError as error:
            yield Found(error.message)
