"""The compiled code of a .bin on hbdk-sim, the compiler's simulator, against the quantized model: bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.infer5 import Feed, channels_first, nv12_to_yuv444, run_quantized
from ptqbridge.backends.horizon.tools5 import MODEL, call
from ptqbridge.backends.horizon.workspace import Workspace
from ptqbridge.errors import LimitNotMet, ToolchainFailed
from ptqbridge.toolchains.program import Toolchain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_DESCRIPTION = "subgraphs.json"
PYRAMID = ("pyramid", "resizer")
"""Sources from which the BPU reads nv12 pictures itself."""


@dataclass(frozen=True)
class Compared:
    """One output of one compiled subgraph: how many of its integers there are, how many differ, and by how much."""

    subgraph: str
    tensor: str
    elements: int
    different: int
    largest: int

    def text(self) -> str:
        """One line."""
        if not self.different:
            return f"{self.subgraph}: {self.tensor}: all {self.elements} integers are equal"
        return (
            f"{self.subgraph}: {self.tensor}: {self.different} of {self.elements} integers differ, by up to "
            f"{self.largest}"
        )


@dataclass(frozen=True)
class Feature:
    """One input or output of a compiled subgraph; ``name`` is that of a tensor of the quantized model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Subgraph:
    """One compiled piece."""

    name: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]


def verify(
    place: Workspace, toolchain: Toolchain, feeds: Sequence[Feed], files: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Compared, ...]:
    """Simulate every subgraph of the workspace's .bin on what the quantized model feeds it, and compare its outputs.

    ``files`` are the inputs of one inference, as ``infer5.write_feeds`` left them. Pictures that the BPU reads as nv12
    are first brought to what nv12 can hold. Raises LimitNotMet when an integer differs, ToolchainMissing,
    ToolchainFailed.
    """
    import numpy as np

    code, subgraphs = _compiled(place, toolchain)
    seen = [feature for part in subgraphs for feature in part.inputs if feature.source in PYRAMID]
    pictures = {feature.name: _as_nv12(place, feature, feeds, files) for feature in seen}
    own = {feed.taken.name for feed in feeds}
    wanted = [f.name for part in subgraphs for f in (*part.inputs, *part.outputs) if f.name not in own]
    tensors = run_quantized(place, toolchain, files, list(dict.fromkeys(wanted)))
    tensors |= {name: np.load(place.job / file, allow_pickle=False) for name, file in files.items()}
    compared = []
    for number, part in enumerate(subgraphs):
        words = _inputs(place, number, part, tensors, pictures)
        out = f"sim_{number}"
        (place.job / out).mkdir()
        call(place, toolchain, "hbdk-sim", "-f", code, "-n", part.name, *words, "-o", out)
        for index, feature in enumerate(part.outputs):
            expected = _filled(_tensor(tensors, feature.name), feature)
            found = _simulated(place.job / out, index, feature)
            compared.append(_compare(part.name, feature.name, expected, found))
            say(f"hbdk-sim: {compared[-1].text()}")
    wrong = [row for row in compared if row.different]
    if wrong:
        raise LimitNotMet(f"--verify=sim: the compiled code is not the quantized model: {wrong[0].text()}")
    return tuple(compared)


def _compiled(place: Workspace, toolchain: Toolchain) -> tuple[str, tuple[Subgraph, ...]]:
    """The compiled code out of the .bin, and what it consists of."""
    call(place, toolchain, "hb_extract_hbm", MODEL)
    code = next(iter(sorted(place.job.glob("*.hbm"))), None)
    if code is None:
        raise ToolchainFailed("hb_extract_hbm wrote no .hbm file")
    call(place, toolchain, "hbdk-disas", "--json", "-o", _DESCRIPTION, code.name)
    try:
        return code.name, tuple(map(_subgraph, json.loads((place.job / _DESCRIPTION).read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolchainFailed(f"hbdk-disas did not describe the compiled code ({error})") from error


def _subgraph(entry: Mapping[str, Any]) -> Subgraph:
    return Subgraph(
        entry["model name"],
        tuple(map(_feature, entry["input features"])),
        tuple(map(_feature, entry["output features"])),
    )


def _feature(entry: Mapping[str, Any]) -> Feature:
    shape = tuple(int(size) for size in entry["valid dim"])
    return Feature(entry["feature name"], entry["element type name"], shape, str(entry.get("input source", "")).lower())


def _as_nv12(place: Workspace, feature: Feature, feeds: Sequence[Feed], files: Mapping[str, str]) -> Array:
    """The picture as one nv12 plane; the quantized model's input becomes what that holds."""
    import numpy as np

    if feature.name not in files:
        raise ToolchainFailed(f"{feature.name}: the compiled code reads a picture that is no input of the model")
    path = place.job / files[feature.name]
    rows = np.load(path, allow_pickle=False)
    first = channels_first(rows.shape)
    pixels = ((rows.transpose(0, 2, 3, 1) if first else rows).astype(np.int16) + 128).astype(np.uint8)
    luma, chroma = pixels[:, :, :, 0], pixels[:, ::2, ::2, 1:]
    planes = np.concatenate([luma, chroma.reshape(len(luma), luma.shape[1] // 2, luma.shape[2])], axis=1)
    back = nv12_to_yuv444(planes, channels_first=first).astype(np.int16) - 128
    np.save(path, back.astype(np.int8))
    return planes


def _inputs(
    place: Workspace, number: int, part: Subgraph, tensors: Mapping[str, Array], pictures: Mapping[str, Array]
) -> list[str]:
    """The words that hand one subgraph its inputs: raw files, nv12 ones with their size."""
    names, sizes = [], []
    for index, feature in enumerate(part.inputs):
        picture = pictures.get(feature.name)
        names.append(f"sim_{number}_{index}.{'bin' if picture is None else 'yuv'}")
        data = _filled(_tensor(tensors, feature.name), feature).astype(feature.dtype) if picture is None else picture
        data.tofile(place.job / names[-1])
        sizes.append("" if picture is None else f"{picture.shape[1] * 2 // 3}x{picture.shape[2]}")
    return ["-i", ",".join(names), *(["--yuv-size", ",".join(sizes)] if any(sizes) else [])]


def _filled(tensor: Array, feature: Feature) -> Array:
    """``tensor`` as often as the compiled code takes it: with ``input_batch`` more often than the quantized model."""
    import math

    import numpy as np

    times, rest = divmod(math.prod(feature.shape), max(tensor.size, 1))
    if rest or times < 1:
        raise ToolchainFailed(f"{feature.name}: {feature.shape} was compiled, {tensor.shape} is in the quantized model")
    return np.concatenate([tensor] * times) if times > 1 else tensor


def _tensor(tensors: Mapping[str, Array], name: str) -> Array:
    if name not in tensors:
        raise ToolchainFailed(f"the quantized model has no tensor {name!r}, which the compiled code names")
    return tensors[name]


def _simulated(folder: Path, index: int, feature: Feature) -> Array:
    """The integers that hbdk-sim wrote: one text file per output, lines with # say other things."""
    import numpy as np

    found = sorted(folder.glob(f"hbdk_output{index}_*_elem_int.txt"))
    if len(found) != 1:
        raise ToolchainFailed(f"hbdk-sim wrote no integers for {feature.name}")
    lines = [line for line in found[0].read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    try:
        return np.array(" ".join(lines).split(), dtype=np.int64)
    except ValueError as error:
        raise ToolchainFailed(f"hbdk-sim's output of {feature.name} are no integers ({error})") from error


def _compare(subgraph: str, name: str, expected: Array, found: Array) -> Compared:
    import numpy as np

    want = expected.reshape(-1).astype(np.int64)
    if want.size != found.size:
        raise ToolchainFailed(f"hbdk-sim gave {found.size} values of {name}, the quantized model {want.size}")
    difference = np.abs(want - found)
    return Compared(subgraph, name, int(want.size), int(np.count_nonzero(difference)), int(difference.max(initial=0)))
