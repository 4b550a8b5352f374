"""The cache of ``--calib`` before anything is built: whether it can be read, and how much of the model it covers.

trtexec hands any file to the builder, which passes over one that does not fit and ends for want of scales, or builds
with the scales of another model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptqbridge.backends.tensorrt.rules.book import quoted
from ptqbridge.backends.tensorrt.rules.precision import QDQ_CACHE
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan

SHOWN = 5
"""Missing tensors that are named."""


def check_cache(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Say how many of the model's tensors have a scale; the same as facts. Empty where no cache is used.

    Raises InputError for a file that is broken, of another kind than the lowering reads, or of another model.
    """
    path, calls = plan.build.calibration.cache, plan.settings["calls"]
    weak = any("cached_ranges(" in text and quoted(path) in text for text in calls)
    if not path or not (weak or QDQ_CACHE in plan.settings["edits"]):
        return {}
    from ptqbridge.model.load import load_model
    from ptqbridge.quantize.formats.forms import Form
    from ptqbridge.quantize.formats.reading import read_ranges
    from ptqbridge.quantize.verify import verify

    try:
        loaded = read_ranges(path)
    except InputError as error:
        raise InputError(f"--calib: {error.message}", hint=error.hint) from None
    if weak and loaded.form is not Form.TRT_CACHE:
        raise InputError(
            f"--calib: expected a TensorRT calibration cache, found {path}, which is {loaded.form}",
            hint=f"ptqbridge calibrate convert {path} model.cache",
        )
    found = verify(loaded.ranges, load_model(plan.build.model.path).proto, "tensorrt")
    # Names decide, for TensorRT and for our Q/DQ nodes; a tensor that was only renamed has no scale.
    missing = [name for name in found.needed if name not in loaded.ranges.tensors]
    count = len(found.needed) - len(missing)
    if missing and not count:
        raise InputError(
            f"--calib: {path} names none of the {len(missing)} tensors of {plan.build.model.path}:"
            " it belongs to another model"
        )
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    note = f"; without one, and so in higher precision: {', '.join(missing[:SHOWN])}{more}" if missing else ""
    say(f"calibration cache: {count} of {len(found.needed)} tensors of the model have a scale{note}")
    if found.moved:
        say(f"calibration cache: {len(found.moved)} names look renamed; ptqbridge calibrate verify {path} pairs them")
    return {"cache": {"file": path, "tensors": len(found.needed), "covered": count}}
