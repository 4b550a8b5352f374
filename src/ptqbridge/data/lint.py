"""Find what ruins quantization in calibration data before the build: findings with sample and reason.

One streaming pass; per sample only a few numbers and a hash are kept. What the data alone cannot decide is looked up
in the model's first normalisation layer (lint_model.py) or reported as unsure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptqbridge.data import lint_checks
from ptqbridge.data.facts import Facts, Finding, is_image, look
from ptqbridge.data.reading import rows_per_sample
from ptqbridge.data.samples import Samples
from ptqbridge.spec.tensor import TensorSpec
from ptqbridge.wording import counted

if TYPE_CHECKING:
    import onnx

__all__ = ["FEW", "Finding", "is_image", "lint_data"]

FEW = 20
"""Fewer samples than this are reported: the vendors' manuals advise 20 to 500 (Horizon) or 500 (NVIDIA)."""
_UNDECIDED = ("scale", "normalised-twice")
"""What is only unsure while the model's statistics have not said that the data fit."""


def lint_data(
    samples: Samples,
    inputs: Sequence[TensorSpec],
    *,
    proto: onnx.ModelProto | None = None,
    nv12: frozenset[str] = frozenset(),
    perhaps_nv12: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Check ``samples``; open them with ``skip_broken=None``, so that unusable ones become findings, not errors.

    ``proto`` is the float model, when at hand. ``nv12`` names the inputs that a board will feed as NV12,
    ``perhaps_nv12`` those that it might. Raises InputError when a generator fails half-way.
    """
    facts: dict[str, list[Facts]] = {spec.name: [] for spec in inputs}
    for sample in samples:
        for spec in inputs:
            facts[spec.name].append(look(sample.name, spec, sample.arrays[spec.name]))
    findings = [
        Finding("error", left.check, "", left.sample, left.message.removeprefix(f"{left.sample}: "))
        for left in samples.left
    ]
    count = len(facts[inputs[0].name])
    rows = count * rows_per_sample(inputs[0])
    if rows < FEW:
        usable = counted(rows, "usable sample")
        findings.append(Finding("warning", "few", "", "", f"{usable}, at least {FEW} are advised"))
    for spec in inputs:
        for check in lint_checks.ALL:
            findings += check(spec, facts[spec.name], samples.recipes.get(spec.name))
        findings += lint_checks.distortion(spec, samples)
        if spec.name in nv12 | perhaps_nv12:
            findings += lint_checks.odd_size(spec, facts[spec.name], sure=spec.name in nv12)
    findings += lint_checks.duplicates(inputs, facts)
    if proto is not None and count:
        from ptqbridge.data.lint_model import against_model

        bad = frozenset(found.sample for found in findings if found.sample and found.check != "duplicate")
        verdicts = against_model(proto, samples, inputs, facts, without=bad)
        settled = {verdict.input for verdict in verdicts if verdict.settled}
        findings = [
            finding
            for finding in findings
            if not (finding.level == "unsure" and finding.check in _UNDECIDED and finding.input in settled)
        ]
        findings += [finding for verdict in verdicts for finding in verdict.findings]
    elif count and any(is_image(spec) for spec in inputs):
        name = next(spec.name for spec in inputs if is_image(spec))
        findings.append(Finding("unsure", "color", name, "", "without the model, RGB and BGR cannot be told apart"))
    return findings
