"""board.sh: the board's commands for someone who runs them there by hand, and the files that must lie beside it.

``run --board`` converts inputs and names them by itself; by hand they must be what hrt_model_exec reads: raw bytes of
the tensor's own type, one file per tensor.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ptqbridge.backends.horizon.context import Context, safe
from ptqbridge.backends.horizon.interface6 import board_inputs
from ptqbridge.backends.horizon.schema import entries
from ptqbridge.backends.horizon.settings import Settings
from ptqbridge.plan import Step

_FORMS = "# An input is raw bytes without padding or header (numpy's tofile); .npy must be converted.\n"
Files = Sequence[tuple[str, str]]
"""Name and content of every file that an inference takes, in the model's order."""


def board_script(steps: Sequence[Step], settings: Settings, context: Context) -> str:
    """A shell script that runs in its own folder; ``steps`` are those of the board."""
    loaded = context.request.run.artifact
    model = PurePath(loaded).name if loaded else context.product
    inputs = input_files(settings, context)
    commands = [(step.title, _words(step.argv, model, inputs)) for step in steps if step.argv]
    fed = any(word.startswith("--input_file=") for _, argv in commands for word in argv)
    lines = ["#!/bin/sh", "# To be run on the board. What must lie beside this script:", f"#   {model}"]
    if fed and inputs:
        lines += [f"#   {name}: {what}" for name, what in inputs]
    elif fed:
        lines.append("#   a file per input, named as below; 'hrt_model_exec model_info' tells types and shapes")
    text = "\n".join(lines) + "\n" + (_FORMS if fed else "") + 'set -eu\ncd "$(dirname "$0")"\n'
    if any(word.startswith("--profile_path=") for _, argv in commands for word in argv):
        text += "mkdir -p profile\n"
    return text + "".join(f"# {title}\n{shlex.join(argv)}\n" for title, argv in commands)


def _words(argv: Sequence[str], model: str, inputs: Files) -> list[str]:
    """The command with the names that its files have beside the script; infer always takes inputs."""
    words = [f"--model_file={model}" if word.startswith("--model_file=") else word for word in argv]
    given = [word for word in words if word.startswith("--input_file=")]
    if argv[1] == "infer" or given:
        rest = [word for word in words if word not in given]
        named = [f"--input_file={','.join(name for name, _ in inputs)}"] if inputs else given
        return [*rest, *(named or ["--input_file=input.bin"])]
    return words


def input_files(settings: Settings, context: Context) -> Files:
    """The files of one inference; empty where the model's inputs are not known, as those of a loaded artifact."""
    if context.network is None or not context.builds:
        return ()
    if context.march.journey6:
        return [
            _journey6(entry["input"], tensor)
            for entry in board_inputs(settings, context)
            for tensor in entry["tensors"]
        ]
    kinds = entries(settings.yaml.get("input_parameters.input_type_rt"))
    kinds += [None] * len(context.network.inputs)
    named = zip(context.network.inputs, kinds, strict=False)
    return [(f"{safe(spec.name)}.bin", _JOURNEY5.get(kind or "", _TOLD)) for spec, kind in named]


_TOLD = "as 'hrt_model_exec model_info' tells"
_JOURNEY5 = {"nv12": "NV12 in one file, luma before chroma: height x width x 3 / 2 bytes"}
_PARTS = {"Y": ", the luma of NV12", "UV": ", the chroma of NV12"}


def _journey6(name: str, tensor: Mapping[str, Any]) -> tuple[str, str]:
    file = safe(tensor["name"])
    if tensor["name"] == f"{name}_roi":
        return f"{file}.txt", "left, top, right and bottom of the part to take, as text"
    shape = "x".join(map(str, tensor["shape"]))
    return f"{file}.bin", f"{tensor['dtype']} {shape}{_PARTS.get(tensor.get('image', ''), '')}"
