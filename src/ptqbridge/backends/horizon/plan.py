"""The plan for one BPU target: report rows, what defaults fill in, files, commands, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ptqbridge.backends.horizon.byhand import board_script
from ptqbridge.backends.horizon.bytecode6 import NOTE, keep, refuse_lost
from ptqbridge.backends.horizon.config import complete, config_name, render, undetermined
from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.faults6 import with_faults
from ptqbridge.backends.horizon.interface6 import board_inputs
from ptqbridge.backends.horizon.lookup import NEWEST_IR, NEWEST_OPSET, OLDEST_OPSET, look_up
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.overlay import checked, lay_over
from ptqbridge.backends.horizon.probe6 import NEWEST, probe
from ptqbridge.backends.horizon.request import RECIPE, settle
from ptqbridge.backends.horizon.rules import RULES
from ptqbridge.backends.horizon.settings import Settings, collect, fast_perf_serves
from ptqbridge.backends.horizon.steps import board_steps, boardless_steps, build_steps, script
from ptqbridge.plan import Filled, Plan, Request, Step, Target, map_options
from ptqbridge.rulebook import Outcome
from ptqbridge.spec import BuildSpec, Precision, RunSpec

MADE_UP = "no calibration data (--calibData): the ranges are made up, so speed means something and accuracy nothing"


def plan(request: Request, toolchain: str = "") -> Plan:
    """What would be done for a BPU target; needs neither vendor software nor, beyond a note, the model file.

    ``toolchain`` is hb_compile's generation, ``3.5`` or ``3.0``; "" is that of --toolchainVersion, else of the tool
    that is found, else 3.5. hb_mapper has one only.
    """
    request = settle(request)
    network, missing = look_up(request.build.model)
    march = MARCHES[request.target.name]
    generation, found = _tool(request, toolchain) if march.journey6 else (NEWEST, None)
    context = Context(march, request, generation, network, overlay=_overlay(request))
    settings = collect(context)
    if fast_perf_serves(settings, context):
        context = replace(context, fast_perf=True)
        settings = collect(context)
    rows, _ = map_options(request, RULES, context)
    if context.bytecode:
        rows = refuse_lost(rows, context)
    notes = [missing] if missing else []
    fills: list[Filled] = [found] if found else []
    steps: tuple[Step, ...] = ()
    files: dict[str, str] = {}
    if context.builds and not (request.command == "run" and request.run.artifact):
        fills += _precision(context)
        notes += _build_notes(settings, context)
        if context.fast_perf:
            why = "it fixes the highest level and int8 everywhere, and calibrates nothing"
            fills.append(Filled("mode", "--fast-perf", why))
        else:
            settings, filled = complete(settings, context)
            lay_over(settings, context.overlay)
            if context.bytecode:
                keep(settings)
            fills += (fill for fill in filled if _stands(fill, settings))
            files[config_name(context)] = render(settings)
        steps = build_steps(settings, context)
        files["run.sh"] = script(steps)
    if request.command != "build" and not request.run.skip:
        board, filled = board_steps(settings, context)
        steps += boardless_steps(settings, context) + board
        fills += filled if context.march.journey6 or context.value("board") else ()
        files["board.sh"] = board_script(board, settings, context)
        notes += _board_notes(context)
    made_up = "" if context.bytecode else _made_up(context)
    record = settings.to_dict() | {"march": context.march.name, "fast_perf": context.fast_perf}
    if context.march.journey6:
        record["toolchain"] = generation
        record["board_inputs"] = board_inputs(settings, context)
    made = Plan(
        request.target,
        request.build,
        request.run,
        rows,
        tuple(fills),
        steps,
        files,
        tuple(notes),
        record,
        made_up,
    )
    if context.overlay and files.get(config_name(context)) and not context.bytecode:
        made = checked(made, generation, network)
    if march.journey6 and "run.sh" in files:
        made = with_faults(made, settings, context)
    if request.gave("dryRun") and "run.sh" in files and not context.march.journey6:
        from ptqbridge.backends.horizon.preflight import noted  # brings onnx

        made = noted(made)
    return made


def _tool(request: Request, toolchain: str) -> tuple[str, Filled | None]:
    """hb_compile's generation and, where the user did not say it, what it rests on."""
    said = toolchain or next((item.value for item in request.asked if item.name == "toolchainVersion"), "")
    if said:
        return said, None
    if request.build.model.format == "none":
        return NEWEST, None
    place = next((item.value for item in request.asked if item.name == "toolchain"), "local")
    found = probe(place, ask=False)
    if found:
        return found.generation, Filled("toolchainVersion", found.generation, f"{found.version} {found.why}".strip())
    where = "no hb_compile was found here" if place == "local" else f"hb_compile of {place} has not been asked yet"
    return NEWEST, Filled("toolchainVersion", NEWEST, f"{where}, and this is the current one")


def _made_up(context: Context) -> str:
    """Why accuracy means nothing; "" when ranges come from samples or from the model."""
    if not context.builds or context.calibrated or context.loads:
        return ""
    skipped = context.value("calibAlgo") == "skip"
    return MADE_UP.replace("no calibration data (--calibData)", "--calibAlgo=skip") if skipped else MADE_UP


def _overlay(request: Request) -> Mapping[str, Mapping[str, Any]]:
    path = next((item.value for item in request.asked if item.name == "horizonYaml"), "")
    if not path:
        return {}
    from ptqbridge.backends.horizon.overlay import load_overlay  # brings yaml

    return load_overlay(path)


def _stands(fill: Filled, settings: Settings) -> bool:
    """Whether what was filled in is still so after the overlay."""
    return "." not in fill.what or str(settings.yaml.get(fill.what)) == fill.value


def preview(name: str, value: object, target: Target) -> Outcome:
    """What a rule makes of one option value with nothing else given.

    Per-layer requests are shown as under ``--precisionConstraints=prefer``, since they mean nothing without it.
    """
    build = BuildSpec(precision=Precision(constraints="prefer"))
    return RULES.apply(name, value, Context(MARCHES[target.name], Request(target, build, RunSpec(), ())))


def _precision(context: Context) -> list[Filled]:
    if context.bytecode or context.request.gave("int8", "best", "fp16"):
        return []
    why = "no precision was asked, which means fp32 in trtexec; a BPU computes in int8, so int8 is what is built"
    return [Filled("precision", "int8", why)]


def _build_notes(settings: Settings, context: Context) -> list[str]:
    if context.bytecode:
        return [NOTE]
    notes = []
    march = context.march
    if context.fast_perf:
        notes.append(
            "--fast-perf cuts the Quantize and Dequantize nodes off and turns three-channel inputs of even size into "
            "nv12: the product's inputs and outputs are not those of the model"
        )
    by_recipe = [item for item in context.request.asked if item.source.endswith(RECIPE)]
    if by_recipe:
        notes.append(f"{by_recipe[0].source} says {', '.join(f'--{item.name}' for item in by_recipe)}: no option does")
    if context.image:
        notes.append("the built model takes pixels of 0 to 255; --inputIOFormats=fp32:chw keeps its float input")
    if context.network and context.network.qdq and not march.journey6 and not context.loads:
        notes.append("the model has Q/DQ nodes; only --calibAlgo=load takes its ranges from them")
    for spec in () if march.journey6 else undetermined(settings, context):
        why = "has dynamic dimensions and a BPU model has one shape"
        notes.append(f"input {spec.text()} {why}: give --shapes={spec.name}:...")
    network = context.network
    if network and not march.journey6:
        if not OLDEST_OPSET <= network.opset <= NEWEST_OPSET:
            wanted = f"{OLDEST_OPSET} to {NEWEST_OPSET}"
            way_out = "a copy is converted" if context.value("convertOpset") else "--convertOpset converts a copy"
            notes.append(f"the model has ONNX opset {network.opset}, and hb_mapper takes {wanted}: {way_out}")
        if network.ir_version > NEWEST_IR:
            notes.append(f"the model has ONNX IR version {network.ir_version}, and hb_mapper takes at most {NEWEST_IR}")
    return notes


def _board_notes(context: Context) -> list[str]:
    notes = []
    if not context.value("board"):
        here = "and nothing is timed here" if context.march.journey6 else "and the figures are the compiler's estimate"
        notes.append(f"no --board was named: the commands for it are listed, {here}")
    artifact = context.request.run.artifact
    if artifact and not artifact.endswith(context.march.suffix):
        notes.append(f"{artifact}: a product for {context.march.name} is a {context.march.suffix} file")
    return notes
