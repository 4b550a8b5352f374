"""A .bin without a board: its quantized ONNX model, run by hb_mapper's own runtime on this kind of machine.

The quantized model holds the integers that the BPU computes with, so its outputs are those of the compiled model
(``verify5.py`` compares the two bit by bit); only the runtime that comes with hb_mapper knows its operators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon import run_in_tool
from ptqbridge.backends.horizon.tools5 import InputInfo, ModelInfo, call
from ptqbridge.backends.horizon.workspace import Workspace
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.spec import TensorSpec
from ptqbridge.toolchains.program import Toolchain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

QUANTIZED = "quantized.onnx"
"""The quantized model's name in the workspace."""
_SCRIPT, _JOB, _ANSWER = "run_in_tool.py", "job.json", "answer.json"
PIXELS = ("rgb", "bgr", "gray", "yuv444", "nv12")
"""Kinds of input that are bytes 0 to 255 on the board; the quantized model has them less 128, as int8."""


@dataclass(frozen=True)
class Feed:
    """One input. ``given`` is what a user gives, as on the board; ``taken`` what the quantized model takes."""

    given: TensorSpec
    taken: TensorSpec
    info: InputInfo

    def convert(self, array: Array) -> Array:
        """From ``given`` to ``taken``: nv12 becomes one colour triple per pixel, bytes become int8."""
        if self.info.kind == "nv12":
            array = nv12_to_yuv444(array, channels_first=self.channels_first)
        if self.given.dtype == "uint8" and self.taken.dtype == "int8":
            import numpy as np

            array = (array.astype(np.int16) - 128).astype(np.int8)
        return array

    @property
    def channels_first(self) -> bool:
        """Whether the quantized model has the three channels on axis 1."""
        return channels_first(self.taken.shape)


def channels_first(shape: Sequence[int | str]) -> bool:
    """Whether a picture's channels lie on axis 1."""
    return shape[1] == 3 and shape[3] != 3


def nv12_to_yuv444(rows: Array, *, channels_first: bool) -> Array:
    """N x H*3/2 x W bytes to N x H x W x 3 (or N x 3 x H x W); a chroma pair serves its four pixels, as on the BPU."""
    import numpy as np

    height = rows.shape[1] * 2 // 3
    chroma = rows[:, height:].reshape(len(rows), height // 2, rows.shape[2] // 2, 2).repeat(2, axis=1).repeat(2, axis=2)
    yuv: Array = np.concatenate([rows[:, :height, :, None], chroma], axis=3)
    return np.ascontiguousarray(yuv.transpose(0, 3, 1, 2)) if channels_first else yuv


def feeds_of(quantized: str, info: ModelInfo) -> tuple[Feed, ...]:
    """The inputs of a quantized model. Raises InputError when it does not belong to the .bin that ``info`` is of."""
    kinds = {spec.name: spec for spec in info.inputs}
    feeds = []
    for spec in interface(quantized):
        if spec.name not in kinds:
            raise InputError(f"{quantized}: its input {spec.name!r} is none of the artifact's {', '.join(kinds)}")
        feeds.append(Feed(_given(spec, kinds[spec.name]), spec, kinds[spec.name]))
    return tuple(feeds)


def _given(spec: TensorSpec, info: InputInfo) -> TensorSpec:
    if info.kind not in PIXELS or spec.dtype != "int8":
        return spec
    if info.kind != "nv12":
        return TensorSpec(spec.name, "uint8", spec.shape)
    batch, *dims = (int(size) for size in spec.shape)
    height, width = dims[1:] if channels_first(spec.shape) else dims[:2]
    return TensorSpec(spec.name, "uint8", (batch, height * 3 // 2, width))


def interface(quantized: str) -> tuple[TensorSpec, ...]:
    """The inputs of a quantized model, whose operators ONNX itself does not know. Raises InputError."""
    import onnx

    from ptqbridge.model.interface import read_interface

    try:
        proto = onnx.load(quantized)
    except Exception as error:  # protobuf and the file system raise classes without a common base
        raise InputError(f"{quantized}: cannot be read as ONNX ({' '.join(str(error).split())[:100]})") from error
    return read_interface(proto, Path(quantized))[0]


def run_quantized(
    place: Workspace, toolchain: Toolchain, files: Mapping[str, str], tensors: Sequence[str] = ()
) -> dict[str, Array]:
    """Outputs, and ``tensors``, of the workspace's quantized model by name; rows of all inferences along axis 0.

    ``files`` names, by input, the .npy file in the working directory that holds the rows in the form ``taken``.
    Raises ToolchainMissing, ToolchainFailed.
    """
    import numpy as np

    if not (place.job / _SCRIPT).exists():
        place.copy(run_in_tool.__file__, _SCRIPT)
    job = {"model": QUANTIZED, "inputs": dict(files), "tensors": list(tensors), "answer": _ANSWER}
    (place.job / _JOB).write_text(json.dumps(job), encoding="utf-8")
    (place.job / _ANSWER).unlink(missing_ok=True)
    call(place, toolchain, "python", _SCRIPT, _JOB)
    try:
        names = json.loads((place.job / _ANSWER).read_text(encoding="utf-8"))
        outputs = [np.load(place.job / f"out_{number}.npy", allow_pickle=False) for number in range(len(names))]
    except (OSError, ValueError) as error:
        raise ToolchainFailed(f"the tool's runtime ended without its outputs ({error})") from error
    return dict(zip(names, outputs, strict=True))


def write_feeds(place: Workspace, feeds: Sequence[Feed], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Write one inference's inputs, in the form ``given``, for ``run_quantized``."""
    import numpy as np

    files = {}
    for number, feed in enumerate(feeds):
        files[feed.given.name] = f"in_{number}.npy"
        np.save(place.job / files[feed.given.name], feed.convert(arrays[feed.given.name]))
    return files
