"""``run`` for Journey 5, X5 and X3 without a board: the compiler's estimate, the tool's runtime, its simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon import estimate5
from ptqbridge.backends.horizon.beside5 import Beside, layer_info, look_beside, quantized_path
from ptqbridge.backends.horizon.infer5 import QUANTIZED, Feed, feeds_of, run_quantized, write_feeds
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.tools5 import MODEL, model_info
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.errors import InputError, PtqbridgeError
from ptqbridge.plan import Plan
from ptqbridge.toolchains.program import Toolchain
from ptqbridge.toolchains.select import select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.measure.outcome import Outcome

    Array = NDArray[Any]

Say = Callable[[str], None]
NO_BOARD = "no --board was named: the figures are the compiler's estimate, and outputs are computed on this machine"


def run(plan: Plan, artifact: str, *, say: Say) -> Outcome:
    """What can be known of ``artifact`` without a board; the vendor's tools run only when a part needs them.

    Raises InputError for an artifact or inputs that do not fit, ToolchainMissing, ToolchainFailed, and LimitNotMet
    when ``--verify=sim`` finds a difference.
    """
    from ptqbridge.measure.outcome import Outcome

    beside = look_beside(artifact)
    march = MARCHES[plan.target.name]
    layers, unknown = layer_info(plan.run.reports, beside)
    outcome = Outcome(
        artifact,
        processor="BPU",
        device={"Selected Device": march.label, "Compiler": march.tool},
        warnings=beside.stamp,
        notes=(NO_BOARD, *filter(None, [unknown])),
        layer_info=layers,
        skipped=plan.run.skip,
    )
    if plan.run.skip:
        return outcome
    parts = estimate5.recorded(beside)
    computes = bool(plan.settings.get("verify")) or wants_outputs(plan)
    if not parts or computes:
        say(f"asking the tools of {march.tool}" + ("" if parts else f": {beside.why or 'its record has no estimate'}"))
        with workspace() as place, select(str(plan.settings.get("place") or "local")) as toolchain:
            place.copy(artifact, MODEL)
            if computes:
                outcome = _computed(plan, artifact, beside, outcome, place, toolchain, say)
            parts = parts or _estimate(artifact, beside, place, toolchain)
    policy = {"versions": dict(beside.facts.get("versions", {}))}
    return replace(outcome, performance=estimate5.performance(parts, policy), policy=policy)


def wants_outputs(plan: Plan) -> bool:
    """Whether outputs have to be computed."""
    reports = plan.run.reports
    return reports.dump_output or reports.dump_raw or bool(reports.export_output)


def _estimate(artifact: str, beside: Beside, place: Workspace, toolchain: Toolchain) -> list[dict[str, Any]]:
    try:
        return estimate5.from_compiler(place, toolchain)
    except PtqbridgeError as error:
        raise type(error)(
            f"{artifact}: no estimate of its performance: {beside.why or 'its record has none'}, and {error.message}",
            hint="build it with ptqbridge, or run it on a board: --board=ssh://USER@HOST",
        ) from None


def _computed(
    plan: Plan, artifact: str, beside: Beside, outcome: Outcome, place: Workspace, toolchain: Toolchain, say: Say
) -> Outcome:
    """The outcome with inputs and outputs, after the simulation when it was asked for."""
    feeds, notes = stage_quantized(artifact, beside, place, toolchain)
    arrays = _arrays(plan, feeds, say)
    files = write_feeds(place, feeds, arrays)
    if plan.settings.get("verify"):
        from ptqbridge.backends.horizon.verify5 import verify

        compared = verify(place, toolchain, feeds, files, say)
        count = sum(row.elements for row in compared)
        notes += (f"hbdk-sim: the compiled code gives the quantized model's {count} integers, bit by bit",)
    outcome = replace(outcome, inputs=arrays, notes=(*outcome.notes, *notes))
    if not wants_outputs(plan):
        return outcome
    say("running the quantized model in the tool's own runtime")
    return replace(outcome, outputs=run_quantized(place, toolchain, files))


def stage_quantized(
    artifact: str, beside: Beside, place: Workspace, toolchain: Toolchain
) -> tuple[tuple[Feed, ...], tuple[str, ...]]:
    """Copy the quantized model of ``artifact`` into the workspace; its inputs, and what to know of its outputs.

    Raises InputError when it is not kept beside the artifact, or is another's.
    """
    quantized = beside.quantized
    if not quantized:
        raise InputError(
            f"{artifact}: its outputs need its quantized model {quantized_path(artifact)}: {beside.why}",
            hint="ptqbridge build keeps it beside the .bin",
        )
    info = model_info(place, toolchain)
    feeds = feeds_of(quantized, info)
    place.copy(quantized, QUANTIZED)
    operators = str(beside.facts.get("custom_op_dir") or "")
    if operators:
        place.copy(operators, os.path.basename(operators))
    cut = f"the .bin ends before {', '.join(info.deleted)}: what follows is computed here as in the quantized model"
    return feeds, (cut,) if info.deleted else ()


def _arrays(plan: Plan, feeds: Sequence[Feed], say: Say) -> dict[str, Array]:
    from ptqbridge.data.inputs import load_input
    from ptqbridge.data.noise import noise

    names = [feed.given.name for feed in feeds]
    unknown = next((name for name in plan.run.inputs if name not in names), None)
    if unknown is not None:
        raise InputError(f"--loadInputs: the model has no input {unknown!r}; its inputs are {', '.join(names)}")
    arrays = {}
    for feed in feeds:
        spec, file = feed.given, plan.run.inputs.get(feed.given.name)
        shape = tuple(int(size) for size in spec.shape)
        say(f"Using {f'values loaded from {file}' if file else 'random values'} for input {spec.name}")
        arrays[spec.name] = load_input(file, spec, shape) if file else noise(spec, shape)
    return arrays
