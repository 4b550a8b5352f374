"""The steps of a plan: the compiler's command on this side, hrt_model_exec's on the board's."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ptqbridge.backends.horizon.config import config_name
from ptqbridge.backends.horizon.context import CALIBRATION_FOLDER, Context
from ptqbridge.backends.horizon.rules.book import flag
from ptqbridge.backends.horizon.settings import Settings
from ptqbridge.plan import Filled, Step

DEFAULT_FRAMES = 200
"""hrt_model_exec perf's own number of frames."""
DEFAULT_ITERATIONS = 10
"""trtexec's default --iterations, which counts when --duration=0 was asked."""
DEFAULT_SECONDS = 3
"""trtexec's default --duration."""


def build_steps(settings: Settings, context: Context) -> tuple[Step, ...]:
    """From the model file to the product; commands run in the bundle folder."""
    march, model = context.march, context.request.build.model
    path = os.path.abspath(model.path)
    steps: list[Step] = []
    if settings.switches.get("checker"):
        check = ("--model", path, "--march", march.name)
        command = ("hb_compile",) if march.journey6 else ("hb_mapper", "checker", "--model-type", model.format)
        steps.append(Step("ask the checker which operators the BPU takes", (*command, *check)))
    if context.request.build.calibration.data:
        steps.append(Step("write the samples in the form the tool wants", writes=(CALIBRATION_FOLDER,)))
    if not context.fast_perf:
        steps.append(Step("write the tool's configuration", writes=(config_name(context),)))
    steps.append(Step(f"build with {march.tool}", _build_command(settings, context, path), (context.product,)))
    artifact = context.request.build.artifact
    if artifact:
        steps.append(Step("check the product and move it to its place", writes=(artifact,)))
    return tuple(steps)


def _build_command(settings: Settings, context: Context, path: str) -> tuple[str, ...]:
    march = context.march
    kind = () if march.journey6 else ("--model-type", context.request.build.model.format)
    tool = ("hb_compile",) if march.journey6 else ("hb_mapper", "makertbin")
    if not context.fast_perf:
        model = ("--model", path) if context.bytecode else ()
        return (*tool, "--config", config_name(context), *kind, *model)
    shapes = [word for name, dims in settings.shapes.items() for word in ("-i", name, dims)]
    return (*tool, *kind, "--fast-perf", "--model", path, "--march", march.name, *shapes)


def boardless_steps(settings: Settings, context: Context) -> tuple[Step, ...]:
    """What is done on this side instead, on Journey 5 and its relatives, when no board was named."""
    if context.march.journey6 or context.value("board"):
        return ()
    steps = [Step("report the compiler's static estimate, from the build or by hbdk-perf")]
    if settings.switches.get("verify"):
        steps.append(Step("compare the compiled code on hbdk-sim with the quantized model, bit by bit"))
    if settings.infer.get("enable_dump"):
        steps.append(Step("compute the outputs with the quantized model in hb_mapper's own runtime"))
    return tuple(steps)


def board_steps(settings: Settings, context: Context) -> tuple[tuple[Step, ...], tuple[Filled, ...]]:
    """What the board is asked, and what was filled in for it."""
    place = context.value("board") or "the board (none was named)"
    artifact = context.request.build.artifact
    named = artifact if artifact.endswith(context.march.suffix) else context.product  # the tool looks at the suffix
    model = context.request.run.artifact or named
    if settings.switches.get("model_info"):
        return (Step(f"read the model's information on {place}", _command("model_info", {"model_file": model})),), ()
    perf = {"model_file": model} | {name: value for name, value in settings.perf.items() if name != "model_file"}
    filled: tuple[Filled, ...] = ()
    if not {"frame_count", "perf_time", "perf_time_in_seconds"} & set(perf):
        name, value, why = _default_length(context)
        perf[name] = value
        filled = (Filled(f"--{name}", str(value), why),)
    steps = []
    if settings.switches.get("separate") and "profile_path" in perf:
        plain = {name: value for name, value in perf.items() if name != "profile_path"}
        steps.append(Step(f"time the model on {place}", _command("perf", plain)))
        steps.append(Step(f"profile the model on {place}", _command("perf", perf)))
    else:
        steps.append(Step(f"time the model on {place}", _command("perf", perf)))
    steps += _infer_steps(settings, perf, place)
    return tuple(steps), filled


def _infer_steps(settings: Settings, perf: Mapping[str, Any], place: str) -> Iterable[Step]:
    shared = {name: perf[name] for name in ("model_file", "core_id", "input_file") if name in perf}
    if settings.switches.get("frame_times"):
        frames = {"frame_count": perf.get("frame_count", DEFAULT_FRAMES)}
        yield Step(f"time every single frame on {place}", _command("infer", shared | frames))
    dumps = {name: value for name, value in settings.infer.items() if name not in shared}
    if dumps:
        flags = {**shared, "frame_count": 1, **dumps}
        yield Step(f"fetch the outputs of one frame from {place}", _command("infer", flags))


def _default_length(context: Context) -> tuple[str, int, str]:
    if context.request.gave("duration"):
        return "frame_count", DEFAULT_ITERATIONS, "trtexec's default --iterations"
    if context.recent:
        return "perf_time_in_seconds", DEFAULT_SECONDS, "trtexec's default --duration"
    return (
        "frame_count",
        DEFAULT_FRAMES,
        "hrt_model_exec's own default, since it counts no seconds",
    )


def _command(subcommand: str, flags: Mapping[str, Any]) -> tuple[str, ...]:
    return ("hrt_model_exec", subcommand, *(flag(name, value) for name, value in flags.items()))


def script(steps: Iterable[Step]) -> str:
    """The steps' commands as a shell script that runs in its own folder."""
    lines = [f"# {step.title}\n{shlex.join(step.argv)}" for step in steps if step.argv]
    return "\n".join(["#!/bin/sh", "set -eu", 'cd "$(dirname "$0")"', *lines]) + "\n"
