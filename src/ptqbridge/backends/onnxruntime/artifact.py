"""What an .onnx artifact says of itself: metadata properties that ``run`` and ``info`` read back."""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx

import ptqbridge
from ptqbridge.backends.onnxruntime.plan import Choices
from ptqbridge.plan import Plan

PREFIX = "ptqbridge."


def stamp(
    proto: onnx.ModelProto,
    plan: Plan,
    settled: Choices,
    precision: str,
    performance_only: str,
    hashes: Mapping[str, str],
) -> None:
    """Write our properties into ``proto``; other properties stay.

    ``shapes`` is JSON ``{input: {min, opt, max}}``, ``level`` ONNX Runtime's graph optimisation level for loading.
    """
    shapes = {name: {"min": s.min, "opt": s.opt, "max": s.max} for name, s in plan.build.shapes.items()}
    properties = {
        "version": ptqbridge.__version__,
        "target": plan.target.name,
        "precision": precision,
        "level": settled.level,
        "layer_detail": plan.build.layer_detail,
        "shapes": json.dumps(shapes),
        "performance_only": performance_only,
        **hashes,
    }
    others = [entry for entry in proto.metadata_props if not entry.key.startswith(PREFIX)]
    kept = [(entry.key, entry.value) for entry in others]
    del proto.metadata_props[:]
    for key, value in [*kept, *((PREFIX + name, value) for name, value in properties.items() if value)]:
        proto.metadata_props.add(key=key, value=value)
