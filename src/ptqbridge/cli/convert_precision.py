"""``ptqbridge convert-precision``: write the precision options into the ONNX, as TensorRT 11 wants it, and no more.

The result is useful with NVIDIA's own trtexec too: Q/DQ with our ranges or those of an INT8 cache, Casts for fp16.
"""

from __future__ import annotations

import json
import os

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import OptionError
from ptqbridge.execute import refuse
from ptqbridge.invocation import single_target, understand

VERSION = "11"
"""The generation whose meaning of the options is written down: types come from the model alone."""
USED = (
    *("onnx", "out", "json", "strict", "int8", "fp16", "bf16", "best", "calib", "calibData", "calibAlgo"),
    *("calibSamples", "calibBatch", "calibPercentile", "calibSeed", "skipBroken", "precisionConstraints"),
    *("layerPrecisions", "layerOutputTypes", "inputIOFormats", "outputIOFormats", "sparsity", "config", "target"),
    *("mean", "std", "scale", "resize", "resizeFilter", "preset", "color", "layout", "shapes", "optShapes"),
    *("minShapes", "maxShapes", "verbose"),
)


def main(argv: list[str]) -> int:
    """Edit the model and say what was done and what was left in fp32."""
    invocation = understand(argv, command="build", default_target="trt")
    if invocation is None:
        print(command_help("convert-precision", USED), end="")
        return 0
    options = invocation.options
    request = single_target(invocation)
    if request.target.backend != "tensorrt":
        raise OptionError(f"--target: this command is for trt, found {request.target.name}")
    if not request.build.model.path:
        raise OptionError("--onnx: expected the path of a model, found none")
    left = unused(options, USED, "convert-precision")
    from ptqbridge.backends.tensorrt.build import check_files
    from ptqbridge.backends.tensorrt.cache import check_cache
    from ptqbridge.backends.tensorrt.plan import plan as make_plan
    from ptqbridge.backends.tensorrt.prepare import nearness, write_edited

    plan = make_plan(request, VERSION)
    refuse(plan)
    check_files(plan)
    if not plan.settings["edits"]:
        raise OptionError(
            "nothing to write into the model: no option asks for another precision than its own",
            hint="--int8 --calibData=DATA, --fp16 or --bf16",
        )
    speaker = Speaker(quiet=options.value("json"))
    for warning in (*options.warnings, *(f"not used here, from the job file: {name}" for name in left)):
        speaker.warn(warning)
    if plan.performance_only:
        speaker.warn(f"performance only: {plan.performance_only}")
    out = options.value("out") or _default_out(plan.build.model.path, plan.build.precision.allowed)
    if os.path.isdir(out) or not out.endswith(".onnx"):
        raise OptionError(f"--out: expected the name of an .onnx file, found {out}")
    covered = check_cache(plan, speaker.line)
    with speaker.progress() as progress:
        done = write_edited(plan, out, say=speaker.line, progress=progress)
    done.facts.update(covered)
    for note in done.notes:
        speaker.line(f"note: {note}")
    if near := nearness(done.facts):
        speaker.line(near)
    if options.value("json"):
        record = {"ok": True, "command": "convert-precision", "out": out, "edits": list(plan.settings["edits"])}
        record |= {"facts": done.facts, "notes": done.notes, "performance_only": plan.performance_only or None}
        print(json.dumps(record, ensure_ascii=False, indent=1))
    return 0


def _default_out(model: str, allowed: tuple[str, ...]) -> str:
    stem = os.path.splitext(os.path.basename(model))[0]
    return f"{stem}.{'-'.join(allowed) or 'edited'}.onnx"
