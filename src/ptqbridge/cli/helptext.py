"""Help texts of the commands that take trtexec-style options, made from the option table."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Collection

from ptqbridge.cli import COMMANDS
from ptqbridge.options.option import GROUPS, Option
from ptqbridge.options.table import OPTIONS

_USAGE = {
    "build": "ptqbridge build --onnx=MODEL [--target=T] [OPTIONS]",
    "run": "ptqbridge run (--loadEngine=ARTIFACT | --onnx=MODEL) [--target=T] [OPTIONS]",
    "trtexec": "ptqbridge trtexec --onnx=MODEL [--target=T] [OPTIONS]",
    "calibrate": "ptqbridge calibrate --onnx=MODEL --calibData=DATA [--out=FILE|FOLDER] [OPTIONS]\n"
    "       ptqbridge calibrate (convert A B | show FILE | diff A B | verify FILE --onnx=MODEL) [--help]",
    "convert-precision": "ptqbridge convert-precision --onnx=MODEL (--int8 | --fp16 | --bf16 | --best) [OPTIONS]",
    "lint-data": "ptqbridge lint-data --onnx=MODEL --calibData=DATA [OPTIONS]",
    "infer": "ptqbridge infer --loadEngine=FILE.bin --calibData=DATA --out=FILE.npz [OPTIONS]\n"
    "       ptqbridge infer --loadEngine=FILE --board=B (--loadInputs=I:F,... | --calibData=DATA --out=FILE.npz) [...]",
    "explain": "ptqbridge explain [--json] [--target=T ...] [--] OPTIONS",
}
_EXAMPLES = {
    "build": (
        "ptqbridge build --onnx=model.onnx --int8 --calibData=calib --saveEngine=model_int8.onnx",
        "ptqbridge build --onnx=model.onnx --target=nash-m --dryRun --out=out",
    ),
    "run": ("ptqbridge run --loadEngine=model_int8.onnx --infStreams=2 --duration=5",),
    "trtexec": ("ptqbridge trtexec --onnx=model.onnx --best --target=cpu",),
    "calibrate": (
        "ptqbridge calibrate --onnx=model.onnx --calibData=calib --calibAlgo=percentile --out=model.ranges.json",
        "ptqbridge calibrate --onnx=model.onnx --calibData=calib --calibAlgo=entropy2 --out=model.cache",
        "ptqbridge calibrate --onnx=model.onnx --calibData=images --preset=imagenet --target=j5 --out=calibration_data",
        "ptqbridge calibrate convert model.cache model.ranges.json",
        "ptqbridge calibrate verify model.cache --onnx=model.onnx --minCoverage=100",
    ),
    "convert-precision": (
        "ptqbridge convert-precision --onnx=model.onnx --int8 --fp16 --calibData=calib --out=model_int8.onnx",
        "ptqbridge convert-precision --onnx=model.onnx --int8 --calib=model.cache",
    ),
    "lint-data": ("ptqbridge lint-data --onnx=model.onnx --calibData=images --preset=imagenet",),
    "infer": (
        "ptqbridge infer --loadEngine=model.bin --calibData=test_images --preset=imagenet --out=outputs.npz",
        "ptqbridge infer --loadEngine=model.hbm --target=nash-m --board=ssh://root@board --loadInputs=images:cat.jpg",
    ),
    "explain": ("ptqbridge explain --target=trt --target=j5 --target=j6m -- --onnx=model.onnx --best",),
}


def command_help(command: str, names: Collection[str] = ()) -> str:
    """The whole help text of a command: usage, examples, then its options (all, or those named) by group."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    lines = [f"Usage: {_USAGE[command]}", "", COMMANDS[command], "", "Examples:"]
    lines += [f"  {example}" for example in _EXAMPLES[command]]
    for group in GROUPS:
        rows = [option for option in OPTIONS if option.group == group and not option.hidden]
        rows = [option for option in rows if not names or option.name in names]
        if not rows:
            continue
        lines += ["", f"{group.capitalize()} options:"]
        for option in rows:
            lines += _option_lines(option, width)
    lines += ["", "'ptqbridge flags' shows what each target makes of every option, older spellings included."]
    return "\n".join(lines) + "\n"


def _option_lines(option: Option, width: int) -> list[str]:
    lead = "  " + option.synopsis() + "".join(f", {other}" for other in option.spellings[1:])
    text = option.help + (f" [{_default(option)}]" if _default(option) else "")
    indent = " " * 34
    if len(lead) < 33:
        return textwrap.wrap(text, width, initial_indent=f"{lead:<34}", subsequent_indent=indent)
    return [lead, *textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)]


def _default(option: Option) -> str:
    value = option.default
    if option.is_flag or value is None or value in ("", (), {}):
        return ""
    if isinstance(value, (tuple, dict)):
        return ",".join(f"{item:g}" for item in value) if isinstance(value, tuple) else ""
    return f"{value:g}" if isinstance(value, float) else str(value)
