"""What a .hbm takes on the board, input by input: an nv12 input becomes two tensors, a float one stays as it was.

Source: Horizon's OE-Skills 0.2.0 (inputs of the compiled model by ``input_type_rt`` and ``input_source``) and model
information printed by boards.
"""

from __future__ import annotations

from typing import Any

from ptqbridge.backends.horizon.config import input_shapes
from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.schema import dims, entries
from ptqbridge.backends.horizon.settings import Settings

PARTS = {"nv12": ("Y", "UV")}
"""hrt_model_exec's ``--input_img_properties`` words of a type that is several tensors; one word per file."""


def board_inputs(settings: Settings, context: Context) -> list[dict[str, Any]]:
    """One entry per input of the model, in the order of its files on the board; empty where that is not known.

    ``input`` is its name, ``type`` its input_type_rt, ``source`` pyramid, ddr or resizer, ``tensors`` what the board
    wants for it: name, shape, dtype, and ``image`` with the word for ``--input_img_properties`` when the file may be a
    picture. For a build by fast-perf, whose types follow from the shapes, the types are what it chooses.
    """
    if context.network is None or not context.builds:
        return []
    inputs = context.network.inputs
    written = settings.yaml
    names = [name or "" for name in entries(written.get("input_parameters.input_name"))]
    names = names if len(names) == len(inputs) else [spec.name for spec in inputs]
    kinds = entries(written.get("input_parameters.input_type_rt"))
    layouts = entries(written.get("input_parameters.input_layout_train"))
    shapes = input_shapes(settings, context)
    own = {spec.name: spec for spec in inputs}
    made = []
    for index, name in enumerate(names):
        spec = own.get(name)
        if spec is None:
            return []
        try:
            shape = dims(shapes[name]) if shapes.get(name) else tuple(int(dim) for dim in spec.shape)
        except ValueError:
            return []  # dynamic: the plan says so
        kind, layout = _entry(kinds, index) or "featuremap", _entry(layouts, index) or "NCHW"
        if context.fast_perf:
            kind, layout = _fast_perf(shape)
        source = _source(written.get("compiler_parameters.input_source"), name, kind)
        tensors = _tensors(name, kind, layout, shape, spec.dtype)
        if source == "resizer":
            tensors.append({"name": f"{name}_roi", "shape": [4], "dtype": "int32"})
        made.append({"input": name, "type": kind, "source": source, "tensors": tensors})
    return made


def _entry(words: list[str | None], index: int) -> str | None:
    return words[index] if index < len(words) else None


def _fast_perf(shape: tuple[int, ...]) -> tuple[str, str]:
    """Pictures of even size become nv12: rank 4 with three channels in front or at the end."""
    if len(shape) == 4 and 3 in (shape[1], shape[3]):
        layout = "NCHW" if shape[1] == 3 else "NHWC"
        sides = shape[2:] if layout == "NCHW" else shape[1:3]
        if not any(side % 2 for side in sides):
            return "nv12", layout
    return "featuremap", "NCHW"


def _source(given: Any, name: str, kind: str) -> str:
    asked = given.get(name) if isinstance(given, dict) else None
    return str(asked or ("pyramid" if kind in ("nv12", "gray") else "ddr"))


def _tensors(name: str, kind: str, layout: str, shape: tuple[int, ...], dtype: str) -> list[dict[str, Any]]:
    if kind == "featuremap" or len(shape) != 4:
        return [{"name": name, "shape": list(shape), "dtype": dtype}]
    batch, (high, wide) = shape[0], (shape[2:] if layout == "NCHW" else shape[1:3])
    if kind == "nv12":
        return [
            {"name": f"{name}_y", "shape": [batch, high, wide, 1], "dtype": "uint8", "image": "Y"},
            {"name": f"{name}_uv", "shape": [batch, high // 2, wide // 2, 2], "dtype": "uint8", "image": "UV"},
        ]
    depth, pixel = (1, "uint8") if kind == "gray" else (3, "int8")
    return [{"name": name, "shape": [batch, high, wide, depth], "dtype": pixel, "image": kind.upper()}]
