"""The plan for the CPU: which artifact is made, how, and what the defaults decide."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ptqbridge.backends.onnxruntime.context import Context
from ptqbridge.backends.onnxruntime.defaults import DEFAULT_ALGORITHM
from ptqbridge.backends.onnxruntime.rules import RULES
from ptqbridge.plan import Filled, Plan, Request, Step, Target, map_options
from ptqbridge.rulebook import Outcome
from ptqbridge.spec import BuildSpec, RunSpec
from ptqbridge.wording import counted

MADE_UP = "int8 ranges come from one batch of noise (no --calib, no --calibData): timing is meaningful, accuracy is not"


@dataclass(frozen=True)
class Choices:
    """What the CPU plan settles: ``precision`` is fp32, int8 or best; ``artifact`` the path written, "" for none."""

    precision: str
    level: str
    algorithm: str
    artifact: str
    made_up: bool


def preview(name: str, value: object, target: Target) -> Outcome:
    """What one option value becomes with nothing else given."""
    return RULES.apply(name, value, Context(Request(target, BuildSpec(), RunSpec(), ())))


def choices(request: Request, level: str) -> Choices:
    """Settle what the options leave open."""
    build = request.build
    precision = "best" if build.precision.best else "int8" if "int8" in build.precision.allowed else "fp32"
    algorithm = build.calibration.algorithm or DEFAULT_ALGORITHM
    return Choices(
        precision, level, algorithm, _artifact(request, precision), precision != "fp32" and not _ranges_from(request)
    )


def _ranges_from(request: Request) -> str:
    """The file of ranges or the samples that the ranges come from; "" when they are made up."""
    return request.build.calibration.cache or request.build.calibration.data


def _artifact(request: Request, precision: str) -> str:
    build = request.build
    if build.artifact:
        return build.artifact
    if request.command != "build" or not build.model.path:
        return ""
    stem = os.path.splitext(os.path.basename(build.model.path))[0]
    return os.path.join(build.out or ".", f"{stem}.cpu-{precision}.onnx")


def plan(request: Request) -> Plan:
    """What will be done for this request; nothing is read but the presence of the files named."""
    rows, settings = map_options(request, RULES, Context(request))
    settled = choices(request, settings.get("level", "all"))
    building = bool(request.build.model.path)
    return Plan(
        target=request.target,
        build=request.build,
        run=request.run,
        rows=rows,
        fills=tuple(_fills(request, settled)) if building else (),
        steps=tuple(_steps(request, settled)),
        notes=tuple(_notes(request)),
        settings={"choices": settled},
        performance_only=_made_up(settled) if building else "",
    )


def _made_up(settled: Choices) -> str:
    if not settled.made_up:
        return ""
    return f"should int8 win: {MADE_UP}" if settled.precision == "best" else MADE_UP


def _fills(request: Request, settled: Choices) -> list[Filled]:
    build = request.build
    fills = []
    if settled.precision == "fp32" and not build.precision.allowed:
        fills.append(Filled("precision", "fp32", "no precision option was given"))
    if settled.precision != "fp32":
        if not request.gave("calibAlgo") and not build.calibration.cache:
            fills.append(
                Filled("--calibAlgo", settled.algorithm, "the method that keeps the outputs nearest to float32")
            )
        if build.calibration.data and not build.calibration.cache and build.calibration.samples is None:
            fills.append(Filled("--calibSamples", "all", "every sample found is used"))
    if not request.gave("builderOptimizationLevel"):
        fills.append(Filled("graph optimisation", settled.level, "ONNX Runtime's default"))
    if settled.artifact and not build.artifact:
        fills.append(Filled("--saveEngine", settled.artifact, "named after the model and the precision"))
    return fills


def _steps(request: Request, settled: Choices) -> list[Step]:
    build, run = request.build, request.run
    steps = []
    if build.model.path:
        steps.append(Step(f"load and check {build.model.path}"))
        if settled.precision != "fp32":
            if build.calibration.cache:
                steps.append(Step(f"take the ranges from {build.calibration.cache}"))
            else:
                data = build.calibration.data or "one batch of noise"
                steps.append(Step(f"calibrate with {data}: {settled.algorithm}"))
            steps.append(Step("write integer weights, Q/DQ for uint8 activations, and check what became integer"))
        if settled.precision == "best":
            steps.append(Step("time float32 and int8 by turns, keep the faster"))
        written = (settled.artifact,) if settled.artifact else ()
        steps.append(
            Step("write the artifact" if written else "keep the artifact in a temporary folder", writes=written)
        )
    if request.command != "build" and not run.skip:
        steps.append(
            Step(f"run {counted(run.streams, 'stream')}, at least {run.iterations} iterations and {run.duration_s:g} s")
        )
    return steps


def _notes(request: Request) -> list[str]:
    named = {
        request.build.model.path: "its inputs, shapes and layers were not checked",
        request.build.calibration.cache: "its ranges were not checked",
        request.build.calibration.data: "its samples were not checked",
        request.run.artifact: "it was not checked",
    }
    return [f"{path} was not found: {what}" for path, what in named.items() if path and not os.path.exists(path)]
