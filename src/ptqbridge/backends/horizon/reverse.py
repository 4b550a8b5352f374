"""From a vendor YAML back to our command line: the options that reproduce it, and an overlay for all else.

What the options give is planned and compared with the YAML, key by key in normal form; what differs goes into the
overlay. So the command line reproduces the YAML whatever the options can say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptqbridge.backends.horizon.equal import differences, normal
from ptqbridge.backends.horizon.marches import March
from ptqbridge.backends.horizon.overlay import absolute
from ptqbridge.backends.horizon.plan import plan
from ptqbridge.backends.horizon.schema import entries, floats
from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request, Target

_METHODS = ("max", "kl", "default", "mix", "load")
"""Methods whose names are those of --calibAlgo; skip is what a build without samples has by itself."""
_UNSPEAKABLE = (":", ",", "*", "'", "+")
"""Characters of node names that the grammar of per-layer options gives a meaning."""


@dataclass(frozen=True)
class Reversed:
    """The command line (without ``ptqbridge build``) and the keys of the overlay, empty when none is needed."""

    words: tuple[str, ...]
    overlay: Mapping[str, Mapping[str, Any]]
    march: March

    def keys(self) -> list[str]:
        """The overlay's keys."""
        return [f"{section}.{key}" for section, content in self.overlay.items() for key in content]


def reverse(config: Mapping[str, Any], folder: str, march: March, generation: str = "3.5") -> Reversed:
    """The options and overlay of a valid YAML whose relative paths start at ``folder``."""
    words = tuple(_words(config, folder, march, generation))
    wanted = normal(config, folder, march, generation)
    made = planned_yaml(plan_of(words, march, generation))
    overlay: dict[str, dict[str, Any]] = {}
    for path in differences(wanted, normal(made, os.getcwd(), march, generation)):
        section, _, key = path.partition(".")
        own = (config.get(section) or {}).get(key) if path in wanted else None
        if path.endswith("cal_data_type") and own is None and path in wanted:
            own = ";".join(wanted[path])
        overlay.setdefault(section, {})[key] = own
    return Reversed(words, {name: absolute(keys, os.path.abspath(folder)) for name, keys in overlay.items()}, march)


def plan_of(words: Sequence[str], march: March, generation: str = "3.5") -> Plan:
    """The plan of a build command line."""
    options = parse(words)
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    target = Target(march.name, "horizon", march.name)
    return plan(Request(target, build_spec(options), run_spec(options), asked, "build"), generation)


def planned_yaml(made: Plan) -> dict[str, Any]:
    """The YAML of a plan, read back; empty sections for a build by fast-perf, which writes none."""
    import yaml

    text = next((text for name, text in made.files.items() if name.endswith(".yaml")), "{}")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _words(config: Mapping[str, Any], folder: str, march: March, generation: str) -> Iterator[str]:
    model, inputs, calibration, compiler = (
        config.get(f"{name}_parameters") or {} for name in ("model", "input", "calibration", "compiler")
    )
    yield f"--target={march.name}"
    if generation != "3.5" and march.journey6:
        yield f"--toolchainVersion={generation}"
    for key, option in (("onnx_model", "onnx"), ("caffe_model", "model"), ("prototxt", "deploy")):
        if model.get(key):
            yield f"--{option}={_near(str(model[key]), folder)}"
    prefix = str(model.get("output_model_file_prefix") or "model")
    place = _near(str(model.get("working_dir") or "./model_output"), folder)
    yield f"--saveEngine={os.path.join(place, prefix)}{march.suffix}"
    level = str(compiler.get("optimize_level") or ("O2" if march.journey6 else "O0"))
    yield f"--builderOptimizationLevel={level[1:]}"
    if compiler.get("debug") is False:
        yield "--profilingVerbosity=none"
    elif compiler.get("advice") == 1:
        yield "--profilingVerbosity=detailed"
    yield from _shapes(inputs)
    yield from _pixels(inputs, march)
    yield from _calibration(calibration)
    if not march.journey6:
        yield from _nodes(model.get("node_info"))


def _near(path: str, folder: str) -> str:
    """A path of the YAML as seen from here; absolute where that takes many steps up."""
    whole = os.path.normpath(os.path.join(os.path.abspath(folder), path))
    relative = os.path.relpath(whole)
    return path if os.path.isabs(path) else whole if relative.startswith("../..") else relative


def _shapes(inputs: Mapping[str, Any]) -> Iterator[str]:
    names, shapes = entries(inputs.get("input_name")), entries(inputs.get("input_shape"))
    if shapes and len(names) == len(shapes) and all(name and ":" not in name for name in names):
        yield "--shapes=" + ",".join(f"{name}:{shape}" for name, shape in zip(names, shapes, strict=True))


def _pixels(inputs: Mapping[str, Any], march: March) -> Iterator[str]:
    """Normalisation of a single picture input, in our order: ``(pixel * scale - mean) / std``."""
    kinds, train = entries(inputs.get("input_type_rt")), entries(inputs.get("input_type_train"))
    layouts = entries(inputs.get("input_layout_train"))
    if len(layouts) == 1 and layouts[0] in ("NCHW", "NHWC"):
        yield f"--layout={layouts[0].lower()}"
    if len(kinds) != 1 or kinds[0] == "featuremap":
        return
    mean, scale, std = (_entry(inputs.get(f"{name}_value")) for name in ("mean", "scale", "std"))
    if not march.journey6:
        norm = str(inputs.get("norm_type") or "")
        mean, scale = (mean if "mean" in norm else ()), (scale if "scale" in norm else ())
    if not (mean or scale or std):
        return
    if train and train[0] in ("rgb", "bgr", "gray"):
        yield f"--color={train[0]}"
    if scale:
        yield f"--scale={_text(scale)}"
    if mean:
        factors = scale or (1.0,)
        count = max(len(mean), len(factors))
        yield f"--mean={_text(tuple(mean[i % len(mean)] * factors[i % len(factors)] for i in range(count)))}"
    if std:
        yield f"--std={_text(std)}"


def _entry(value: Any) -> tuple[float, ...]:
    words = entries(value)
    return floats(words[0]) if len(words) == 1 and words[0] else ()


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.15g}" for value in values)


def _calibration(calibration: Mapping[str, Any]) -> Iterator[str]:
    method, share = calibration.get("calibration_type"), calibration.get("max_percentile")
    if method == "max" and share:
        yield "--calibAlgo=percentile"
        yield f"--calibPercentile={float(share) * 100:.12g}"
    elif method in _METHODS and not share:
        yield f"--calibAlgo={method}"


def _nodes(node_info: Any) -> Iterator[str]:
    """Per-layer options, where every name and word can be said with them."""
    if not isinstance(node_info, Mapping) or not node_info:
        return
    words = {"InputType": ("int8", "int16"), "OutputType": ("int8", "int16"), "ON": ("BPU", "CPU")}
    for node, wanted in node_info.items():
        speakable = isinstance(wanted, Mapping) and all(value in words.get(key, ()) for key, value in wanted.items())
        if not speakable or any(mark in str(node) for mark in _UNSPEAKABLE):
            return
    yield "--precisionConstraints=prefer"
    for key, option in (
        ("InputType", "layerPrecisions"),
        ("OutputType", "layerOutputTypes"),
        ("ON", "layerDeviceTypes"),
    ):
        named = [f"{node}:{wanted[key]}" for node, wanted in node_info.items() if key in wanted]
        if named:
            yield f"--{option}={','.join(named)}"
