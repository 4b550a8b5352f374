"""What the rules may look at: the march, the request, the tool's generation and, when it was found, the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from ptqbridge.backends.horizon.lookup import Network
from ptqbridge.backends.horizon.marches import March
from ptqbridge.plan import Request
from ptqbridge.spec import Preprocess, TensorSpec

CALIBRATION_FOLDER = "calibration_data"
PRODUCT_FOLDER = "model_output"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Context:
    """One plan's circumstances. ``toolchain`` is hb_compile's generation, ``3.5`` or ``3.0`` (no effect on J5)."""

    march: March
    request: Request
    toolchain: str = "3.5"
    network: Network | None = None
    fast_perf: bool = False
    overlay: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The tool's own keys by section, from --horizonYaml."""

    @property
    def recent(self) -> bool:
        """Whether the keys and flags that came after hb_compile 3.0 are there."""
        return self.march.journey6 and self.toolchain != "3.0"

    @property
    def builds(self) -> bool:
        """Whether there is a model to build; otherwise an artifact is loaded."""
        return self.request.build.model.format != "none"

    @property
    def calibrated(self) -> bool:
        """Whether there are samples to calibrate with."""
        return bool(self.request.build.calibration.data or self.own_data)

    @property
    def bytecode(self) -> bool:
        """Whether the model is a .bc of hb_compile, quantized already."""
        return self.march.journey6 and self.request.build.model.path.endswith(".bc")

    @property
    def loads(self) -> bool:
        """Whether ranges come from the model's own Q/DQ nodes."""
        return self.request.build.calibration.algorithm == "load"

    @property
    def own_data(self) -> bool:
        """Whether --horizonYaml names samples that are in the tool's own form already."""
        return bool(self.overlay.get("calibration_parameters", {}).get("cal_data_dir"))

    @property
    def constraints(self) -> str:
        """Whether per-layer requests count: none, prefer or obey."""
        return self.request.build.precision.constraints

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become input tensors, with a preset's parts filled in."""
        return with_preset(self.request.build.calibration.preprocess)

    @property
    def layout(self) -> str:
        """Axis order of the image input, ``nchw`` or ``nhwc``: as asked, else where three (or one) channels lie."""
        if self.preprocess.layout:
            return self.preprocess.layout
        pictures = [spec.shape for spec in self.network.inputs if len(spec.shape) == 4] if self.network else []
        return "nhwc" if any(shape[1] not in (1, 3) and shape[3] in (1, 3) for shape in pictures) else "nchw"

    @property
    def color(self) -> str:
        """Channel order the model was trained with: as asked, else rgb, or gray where no input has three channels."""
        axis = 1 if self.layout == "nchw" else 3
        channels = [spec.shape[axis] for spec in self.network.inputs if len(spec.shape) == 4] if self.network else []
        return self.preprocess.color or ("gray" if 1 in channels and 3 not in channels else "rgb")

    @property
    def image(self) -> bool:
        """Whether the tool inserts the normalisation, so that the built model takes pixels.

        An explicit input format, or a model that takes no pictures, keeps the model's own input (as floats, or
        quantized by the caller); the samples are then normalised beforehand.
        """
        own_input = bool(self.request.build.input_formats)
        pictures = self.network is None or any(map(self.is_picture, self.network.inputs))
        normalised = self.request.gave("mean", "std", "scale") or any(normalisation(self.preprocess))
        return normalised and pictures and not own_input

    def is_picture(self, spec: TensorSpec) -> bool:
        """Rank 4 with three channels, or one when the model was trained on gray pictures."""
        axis = 1 if self.layout == "nchw" else 3
        return len(spec.shape) == 4 and spec.shape[axis] == (1 if self.color == "gray" else 3)

    def value(self, name: str, default: Any = None) -> Any:
        """The value of an option the user gave, else ``default``."""
        return next((item.value for item in self.request.asked if item.name == name), default)

    @property
    def prefix(self) -> str:
        """The product's name without suffix. The tools pass it to a shell: anything unusual becomes ``_``.

        A ``_`` at its end makes hb_mapper 1.24.3 save its models under one name and look for them under another.
        """
        build = self.request.build
        named = build.model.path if self.fast_perf else build.artifact or build.model.path
        return safe(PurePath(named).stem).rstrip("_") or "model"

    @property
    def product(self) -> str:
        """Where the tool writes the product, seen from the bundle folder."""
        return f"{PRODUCT_FOLDER}/{self.prefix}{self.march.suffix}"

    @property
    def calibration_folders(self) -> str:
        """One folder per input, joined as the YAML wants it."""
        names = [safe(spec.name) for spec in self.network.inputs] if self.network else ["<input>"]
        return ";".join(f"./{CALIBRATION_FOLDER}/{name}" for name in names)


_DATA_TYPES = ("float32", "uint8", "int32", "int16", "int8")


def data_types(network: Network | None) -> str:
    """hb_mapper's element type of each input's sample files; a type it does not know is written as float32."""
    kinds = [spec.dtype for spec in network.inputs] if network else ["float32"]
    return ";".join(kind if kind in _DATA_TYPES else "float32" for kind in kinds)


def safe(name: str) -> str:
    """A file name that neither a shell nor a ``;`` list of the YAML can misread."""
    return _UNSAFE.sub("_", name).lstrip("-.")


def with_preset(preprocess: Preprocess) -> Preprocess:
    """``preprocess`` with what its preset says where nothing else is said; a preset's ``* 1 - 0`` is left empty."""
    if not preprocess.preset:
        return preprocess
    from ptqbridge.data.recipe import Recipe

    recipe = Recipe.from_mapping(vars(preprocess))
    if {*recipe.scale, *recipe.std} <= {1.0} and set(recipe.mean) <= {0.0}:
        recipe = replace(recipe, mean=(), std=(), scale=())
    parts = {name: getattr(recipe, name) for name in vars(preprocess) if name != "preset"}
    return replace(preprocess, **parts)


def normalisation(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """``(mean_value, scale_value, std_value)`` in the tools' order, for pixels of 0 to 255.

    Ours is ``(pixel * scale - mean) / std``, theirs ``(pixel - mean_value) * scale_value`` or ``/ std_value``; so
    ``mean_value = mean / scale``, ``scale_value = scale / std`` and ``std_value = std / scale``. Empty where ours is.
    Without a scale, mean and std of at most 1 are for pixels of 0 to 1, as in ``data.recipe``; larger ones are for 0 to
    255.
    """
    mean, std, scale = preprocess.mean, preprocess.std, preprocess.scale
    for_pixels = any(abs(number) > 1 for number in (*mean, *std))
    factor = scale or ((1.0,) if for_pixels or not (mean or std) else (1 / 255,))
    means = tuple(m / s for m, s in _pair(mean, factor))
    scales = tuple(s / d for s, d in _pair(factor, std or (1.0,))) if factor != (1.0,) or scale or std else ()
    stds = tuple(d / s for d, s in _pair(std, factor)) if std else ()
    return means, scales, stds


def _pair(left: tuple[float, ...], right: tuple[float, ...]) -> list[tuple[float, float]]:
    if not left:
        return []
    count = max(len(left), len(right))
    return [(left[i % len(left)], right[i % len(right)]) for i in range(count)]
