"""The tools that come with hb_mapper, each run in a private workspace: what they are called, and what they say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ptqbridge.backends.horizon.hb_mapper import program
from ptqbridge.backends.horizon.logs5 import entries
from ptqbridge.backends.horizon.workspace import JOB, TEMPORARY, Workspace
from ptqbridge.errors import ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import Local
from ptqbridge.toolchains.program import Finished, Toolchain

MODEL = "model.bin"
"""The artifact's name in the workspace."""
_PAIR = re.compile(r"([\w &/-]+?) *: ?(.*)")


def tool(toolchain: Toolchain, name: str) -> str:
    """What to call a tool: it lies beside hb_mapper here, and is on PATH elsewhere.

    ``python`` is the Python that hb_mapper runs in. Raises ToolchainMissing.
    """
    if not isinstance(toolchain, Local):
        return "python3" if name == "python" else name
    mapper = program(toolchain)
    beside = os.path.join(os.path.dirname(mapper), name)
    found = _interpreter(mapper) or beside if name == "python" else beside
    if not os.access(found, os.X_OK):
        raise ToolchainMissing(f"{name} was not found beside {mapper}")
    return found


def _interpreter(script: str) -> str:
    """The Python named in a script's first line, "" when it names none."""
    with open(script, "rb") as file:
        first = file.readline(500)
    named = first[2:].strip().decode(errors="replace") if first.startswith(b"#!") else ""
    return named if os.path.isabs(named) and os.path.basename(named).startswith("python") else ""


def call(place: Workspace, toolchain: Toolchain, name: str, *words: str) -> Finished:
    """Run a tool in the workspace, bring its products back. Raises ToolchainFailed with the tool's last word."""
    argv = (tool(toolchain, name), *words)
    log = place.root / TEMPORARY / f"{name}.log"
    toolchain.stage(place.root)
    env = {"TMPDIR": toolchain.inside(place.root, TEMPORARY), "PYTHONUNBUFFERED": "1"}
    finished = toolchain.run(argv, place.root, cwd=JOB, log=log, env=env)
    if finished.status:
        said = [line for line in finished.lines if line.strip()]
        errors = [line for line in said if "error" in line.lower()]
        raise ToolchainFailed(f"{name} ended with status {finished.status}: {(errors or said or ['no word'])[-1]}")
    toolchain.fetch(place.root, JOB)
    return finished


@dataclass(frozen=True)
class InputInfo:
    """How a .bin takes one input. ``kind`` is nv12, rgb, featuremap, ...; ``shape`` is the model's."""

    name: str
    kind: str
    layout: str
    shape: tuple[int, ...]
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInfo:
    """What hb_model_info tells of a .bin. ``deleted`` are the nodes cut off after compiling."""

    name: str
    march: str
    versions: Mapping[str, str]
    inputs: tuple[InputInfo, ...]
    deleted: tuple[str, ...]
    settings: Mapping[str, Mapping[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "march": self.march,
            "versions": dict(self.versions),
            "inputs": [{**vars(spec), "shape": list(spec.shape)} for spec in self.inputs],
            "deleted_nodes": list(self.deleted),
            "settings": {section: dict(pairs) for section, pairs in self.settings.items()},
        }


def model_info(place: Workspace, toolchain: Toolchain) -> ModelInfo:
    """What the workspace's artifact says of itself. Raises ToolchainMissing, ToolchainFailed (also for no .bin)."""
    finished = call(place, toolchain, "hb_model_info", MODEL)
    info = parse_model_info(finished.text)
    if not info.march:
        raise ToolchainFailed("hb_model_info knows nothing of it: it is no .bin of hb_mapper, or a broken one")
    return info


def parse_model_info(text: str) -> ModelInfo:
    """The record of hb_model_info's log (1.24.3): titles between stars or hashes, then ``key : value`` lines."""
    name, section = "", ""
    found: dict[str, dict[str, str]] = {}
    inputs: list[dict[str, str]] = []
    deleted: list[str] = []
    for entry in entries(text):
        line = entry.text.strip()
        if title := re.fullmatch(r"\*+ (.+?) \*+", line):
            name = title[1]
        elif title := re.fullmatch(r"#+ (.+?)(?: info)? #+", line):
            section = title[1]
        elif re.fullmatch(r"-+input info : .+", line):
            if not re.fullmatch(r".+ end -+", line):
                inputs.append({})
        elif line.startswith("deleted nodes:"):
            deleted.append(line.partition(":")[2].strip())
        elif not line.startswith("-") and (pair := _PAIR.fullmatch(line)):
            place = inputs[-1] if inputs and section == "input_parameters" else found.setdefault(section, {})
            place[pair[1].strip()] = pair[2].strip()
    known = found.get("model deps", {})
    versions = {key.removesuffix("version").strip(): value for key, value in known.items() if key.endswith("version")}
    march = found.get("model_parameters", {}).get("BPU march", "")
    return ModelInfo(name, march, versions, tuple(map(_input, inputs)), tuple(deleted), found)


def _input(pairs: Mapping[str, str]) -> InputInfo:
    shape = tuple(int(dim) for dim in pairs.get("input_shape", "").split("x") if dim.isdigit())
    return InputInfo(
        pairs.get("input_name", ""), pairs.get("input_type_rt", ""), pairs.get("input_layout_rt", ""), shape, pairs
    )
