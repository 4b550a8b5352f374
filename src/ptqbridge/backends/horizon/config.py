"""The YAML of hb_mapper and hb_compile: what the rules emitted, completed by what the tool needs in any case."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ptqbridge.backends.horizon.context import PRODUCT_FOLDER, Context
from ptqbridge.backends.horizon.schema import entries
from ptqbridge.backends.horizon.settings import Settings, merge
from ptqbridge.plan import Filled
from ptqbridge.spec import TensorSpec

SECTIONS = ("model_parameters", "input_parameters", "calibration_parameters", "compiler_parameters", "custom_op")
_PATHS = ("onnx_model", "caffe_model", "prototxt", "cache_path", "custom_op_dir")


def config_name(context: Context) -> str:
    """The YAML's name in the bundle folder."""
    return f"{context.march.tool}.yaml"


def complete(settings: Settings, context: Context) -> tuple[Settings, tuple[Filled, ...]]:
    """Settings with the defaults filled in, and what was filled in that the user should hear of."""
    filled: list[Filled] = []
    full = Settings(perf=settings.perf, infer=settings.infer, shapes=settings.shapes, switches=settings.switches)
    merge(full.yaml, {"model_parameters.march": context.march.name})
    merge(full.yaml, settings.yaml)

    def fill(path: str, value: Any, why: str = "") -> None:
        if path not in full.yaml:
            full.yaml[path] = value
            if why:
                filled.append(Filled(path, str(value), why))

    fill("model_parameters.working_dir", f"./{PRODUCT_FOLDER}")
    fill("model_parameters.output_model_file_prefix", context.prefix)
    if context.march.journey6:  # its default differs between generations
        fill("model_parameters.enable_vpu", context.recent)
    if not context.bytecode:
        _fill_inputs(full, context, fill)
        _fill_calibration(context, fill)
    top = f"O{context.march.top_level}"
    fill("compiler_parameters.optimize_level", top, "the highest level: timing means nothing at a lower one")
    fill("compiler_parameters.compile_mode", "latency")
    return full, tuple(filled)


def _fill_inputs(full: Settings, context: Context, fill: Any) -> None:
    color = context.color
    kind = color if context.image else "featuremap"
    why = "the tool inserts the normalisation" if context.image else "the model keeps its float input"
    fill("input_parameters.input_type_rt", kind, why)
    fill("input_parameters.input_type_train", kind)
    layout = context.layout.upper()
    seen = "the model's shape shows it" if context.network else "the usual order; --layout says otherwise"
    fill("input_parameters.input_layout_train", layout, seen)
    if not context.march.journey6:
        fill("input_parameters.input_layout_rt", layout)
        fill("input_parameters.norm_type", _norm_type(full.yaml))
    shapes = input_shapes(full, context)
    if shapes:
        given = full.shapes
        made = [name for name in shapes if name not in given]
        why = f"a dynamic batch of {', '.join(made)} becomes 1, as in trtexec" if _dynamic(context, made) else ""
        fill("input_parameters.input_shape", ";".join(shapes.values()), why)
    if context.network:
        names = [spec.name for spec in context.network.inputs]
        if len(names) > 1 or not context.march.journey6 or entries(names[0]) == names:  # else the tool misreads it
            fill("input_parameters.input_name", ";".join(names))
        _spread(full.yaml, context.network.inputs, context)


def _fill_calibration(context: Context, fill: Any) -> None:
    if not context.calibrated:
        fill("calibration_parameters.calibration_type", "skip", "there is no calibration data: every range is made up")
    elif not context.march.journey6:
        fill("calibration_parameters.calibration_type", "default", "hb_mapper tries several methods and keeps the best")


def _norm_type(yaml: Mapping[str, Any]) -> str:
    mean, scale = (f"input_parameters.{name}_value" in yaml for name in ("mean", "scale"))
    if mean and scale:
        return "data_mean_and_scale"
    return "data_mean" if mean else "data_scale" if scale else "no_preprocess"


def input_shapes(settings: Settings, context: Context) -> dict[str, str]:
    """The shape of every input, when one must be written: given ones, and 1 for a dynamic batch."""
    if context.network is None:
        return dict(settings.shapes)
    specs = context.network.inputs
    if not settings.shapes and not any(spec.is_dynamic for spec in specs):
        return {}
    return {spec.name: settings.shapes.get(spec.name) or _batch_of_one(spec) for spec in specs}


def _batch_of_one(spec: TensorSpec) -> str:
    first, *others = spec.shape or (1,)
    return "x".join(str(dim) for dim in (1 if isinstance(first, str) else first, *others))


def _dynamic(context: Context, names: list[str]) -> bool:
    return context.network is not None and any(s.is_dynamic for s in context.network.inputs if s.name in names)


def undetermined(settings: Settings, context: Context) -> list[TensorSpec]:
    """Inputs with a dynamic dimension behind the batch that no option fixes."""
    if context.network is None:
        return []
    return [
        spec
        for spec in context.network.inputs
        if spec.name not in settings.shapes and any(isinstance(dim, str) for dim in spec.shape[1:])
    ]


def _spread(yaml: dict[str, Any], inputs: tuple[TensorSpec, ...], context: Context) -> None:
    """One entry per input in every list that was written for one input."""
    if len(inputs) < 2:
        return
    others = {"input_type_rt": "featuremap", "input_type_train": "featuremap", "norm_type": "no_preprocess"}
    others |= {"mean_value": "None", "scale_value": "None", "std_value": "None"}
    for key in (*others, "input_layout_train", "input_layout_rt"):
        path = f"input_parameters.{key}"
        if path in yaml and ";" not in str(yaml[path]):
            own = str(yaml[path])
            yaml[path] = ";".join(own if context.is_picture(spec) else others.get(key, own) for spec in inputs)


def render(settings: Settings) -> str:
    """The YAML text. Lists are one text joined by ``;``, paths absolute, and a key ``ON`` is quoted by the dumper."""
    import yaml

    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for path, value in settings.yaml.items():
        section, *keys = path.split(".")
        place = sections.setdefault(section, {})  # an overlay may bring one that the tool does not know: a finding
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = _plain(keys[-1], value)
    written = {name: entries for name, entries in sections.items() if entries}
    return str(yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=2**20))


def _plain(key: str, value: Any) -> Any:
    if key in _PATHS and value:
        return os.path.abspath(value)
    if isinstance(value, Mapping):
        return {name: _plain("", entry) for name, entry in value.items()}
    return ";".join(map(str, value)) if isinstance(value, tuple) else value
