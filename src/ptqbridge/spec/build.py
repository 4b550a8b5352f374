"""What to build: the neutral build spec and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ptqbridge.spec.shapes import ShapeRange
from ptqbridge.spec.tensor import IOFormat


@dataclass(frozen=True)
class ModelFile:
    """The network: ``format`` is onnx, caffe, uff, or none when only an artifact is given."""

    path: str = ""
    format: str = "none"
    description: str = ""
    outputs: tuple[str, ...] = ()
    inputs: tuple[tuple[str, int, int, int], ...] = ()


@dataclass(frozen=True)
class Precision:
    """Which arithmetic is allowed. ``allowed`` holds fp16, bf16, int8, fp8, int4; fp32 always is.

    ``best`` asks for the fastest of all. Per-layer requests (name or pattern with ``*`` to type words) apply only with
    ``constraints`` prefer or obey.
    """

    allowed: tuple[str, ...] = ()
    best: bool = False
    constraints: str = "none"
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layer_outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layer_devices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes an input tensor: ``(pixel * scale - mean) / std`` per channel, after ``resize``.

    ``preset`` names a ready recipe whose parts the other fields override. An empty field is settled from a recipe
    beside the data, or from the model.
    """

    preset: str = ""
    resize: str = ""
    filter: str = ""
    color: str = ""
    layout: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Where activation ranges come from: samples (``data``) or ranges of an earlier calibration (``cache``).

    ``algorithm`` "" is the target's own default, ``percentile`` is in percent, ``samples`` None for all.
    ``seed`` makes the noise used when there is neither. ``memory_cap`` is in bytes, ``checkpoint`` a file that the
    state is saved in; "" for none.
    """

    data: str = ""
    cache: str = ""
    algorithm: str = ""
    percentile: float = 99.99
    samples: int | None = None
    batch: int = 1
    seed: int = 0
    skip_broken: int = 0
    memory_cap: int | None = None
    checkpoint: str = ""
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)
    preprocess: Preprocess = Preprocess()


@dataclass(frozen=True)
class BuildSpec:
    """What the user wants built. ``effort`` is 0 to 5 or None; ``layer_detail`` is names, detailed or none."""

    model: ModelFile = ModelFile()
    artifact: str = ""
    precision: Precision = Precision()
    calibration: Calibration = Calibration()
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)
    input_formats: tuple[IOFormat, ...] = ()
    output_formats: tuple[IOFormat, ...] = ()
    effort: int | None = None
    sparsity: str = "disable"
    refittable: bool = False
    layer_detail: str = "names"
    out: str = ""
    strict: bool = False
