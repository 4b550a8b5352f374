"""What a rule may look at besides its own value: the whole request, the TensorRT version, facts on the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptqbridge.backends.tensorrt import version as versions
from ptqbridge.plan import Request
from ptqbridge.spec import IOFormat

DEFAULT_ALGORITHM = "entropy2"
"""Of our own calibration for this target: the method of the calibrator that trtexec installs."""
_FILL_IN = {"min": ("min", "opt", "max"), "opt": ("opt", "max", "min"), "max": ("max", "opt", "min")}


@dataclass(frozen=True)
class Context:
    """``version`` is a generation (``10``) or a release (``10.13.3``). ``has_qdq`` is None when the model is unseen.

    ``alone`` marks a preview for the tables: one option with nothing else given. Rules then suppose that the
    options which theirs needs are there.
    """

    request: Request
    version: str = "8.6"
    has_qdq: bool | None = None
    alone: bool = False

    @property
    def generation(self) -> str:
        """8.6, 10 or 11."""
        return versions.generation(self.version)

    @property
    def name(self) -> str:
        """``TensorRT 10``, for texts."""
        return f"TensorRT {self.version}"

    @property
    def strong(self) -> bool:
        """Whether element types come from the ONNX file alone, so that precision options edit that file."""
        return self.generation == "11" or (self.generation == "10" and self.gave("stronglyTyped"))

    @property
    def loads(self) -> bool:
        """Whether a built engine is loaded, so that nothing is built."""
        return bool(self.request.run.artifact)

    @property
    def runs(self) -> bool:
        """Whether anything is run and measured."""
        return self.alone or not (self.request.run.skip or self.request.command == "build")

    @property
    def quantizes(self) -> bool:
        """Whether INT8 is allowed, by --int8, --best or an INT8 input or output."""
        return self.gave("int8", "best") or self.int8_io

    @property
    def int8_io(self) -> bool:
        """Whether an input or output is asked for in INT8."""
        build = self.request.build
        formats: tuple[IOFormat, ...] = (*build.input_formats, *build.output_formats)
        return any(entry.dtype == "int8" for entry in formats)

    @property
    def made_up(self) -> bool:
        """Whether INT8 is asked for and no data, cache or Q/DQ nodes tell the ranges."""
        told = self.request.build.calibration.cache or self.request.build.calibration.data or self.has_qdq
        return not self.loads and self.quantizes and not told

    @property
    def calibrates(self) -> bool:
        """Whether our own calibration makes the ranges."""
        calibration = self.request.build.calibration
        told = calibration.cache or self.has_qdq or self.loads
        return bool(self.quantizes and calibration.data and not told)

    @property
    def native(self) -> bool:
        """Whether TensorRT's own calibrator makes the ranges, on the GPU: asked for, and the version has one."""
        return self.calibrates and not self.strong and any(self.values("trtCalibrator"))

    def at_least(self, release: str) -> bool:
        """Whether the version is that release or a later one."""
        return versions.key(self.version) >= versions.first(release)

    def gave(self, *names: str) -> bool:
        """Whether the user gave any of these options."""
        return self.request.gave(*names)

    def lacks(self, *names: str) -> bool:
        """Whether none of these options, one of which the rule needs, was given; False in a preview."""
        return not self.alone and not self.gave(*names)

    def values(self, name: str) -> tuple[Any, ...]:
        """Every value given for an option, in order."""
        return tuple(item.value for item in self.request.asked if item.name == name)

    def shape_options(self) -> Mapping[str, str]:
        """For each bound (min, opt, max) the bound it is taken from; empty when no shape option was given."""
        given = [bound for bound in _FILL_IN if self.gave(f"{bound}Shapes")]
        if not given:
            return {}
        return {bound: next(other for other in order if other in given) for bound, order in _FILL_IN.items()}
