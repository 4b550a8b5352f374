"""Builds a .bin with hb_mapper as the plan says: workspace, data, run, judgement, product in its place."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon import estimate5
from ptqbridge.backends.horizon.beside5 import keep, write_layers
from ptqbridge.backends.horizon.calibdata5 import write_samples
from ptqbridge.backends.horizon.checker5 import check_operators, copy_model
from ptqbridge.backends.horizon.context import CALIBRATION_FOLDER
from ptqbridge.backends.horizon.hb_mapper import LOG, Run, program, run_hb_mapper
from ptqbridge.backends.horizon.judge import asked_got, judge, wishes
from ptqbridge.backends.horizon.logs5 import Record
from ptqbridge.backends.horizon.preflight import CONFIG, Preflight, calibrates, configuration, preflight, refuse
from ptqbridge.backends.horizon.stages5 import Stage
from ptqbridge.backends.horizon.steps import script
from ptqbridge.backends.horizon.telling import tell_writing
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.data.recipe import Recipe
from ptqbridge.errors import InputError, LimitNotMet, OptionError, ToolchainFailed
from ptqbridge.files import atomic_path, write_atomic, write_failure
from ptqbridge.plan import Plan
from ptqbridge.result import AskedGot, BuildResult
from ptqbridge.toolchains.local import log_while_running
from ptqbridge.toolchains.select import select

if TYPE_CHECKING:
    from ptqbridge.backends import Progress

Say = Callable[[str], None]
GIVEN = "given"
"""Where copies of sample folders lie that only the YAML names."""


def build(plan: Plan, *, say: Say, progress: Progress | None = None) -> BuildResult:
    """Build the plan's model; the product is at ``--saveEngine`` (or named after the model) only when it is good.

    Raises InputError for a model or data that do not fit, OptionError, ToolchainMissing, ToolchainFailed, and
    LimitNotMet when ``--precisionConstraints=obey`` is not met. The console log of the tool is kept in every case.
    """
    start = time.monotonic()
    argv, product = _command(plan)
    artifact = plan.build.artifact or default_artifact(plan, product)
    log = _log_place(plan, artifact)
    say(f"looking at {plan.build.model.path} and what goes with it")
    check = preflight(plan, values=True)
    refuse(check)
    for remark in check.remarks:
        say(f"pre-flight: {remark}")
    config = configuration(plan)
    with workspace() as place, select(str(plan.settings.get("place") or "local")) as toolchain:
        program(toolchain)  # before the samples are written, which may take long
        operators = check_operators(plan, check, toolchain, log=log, say=say)
        argv = _stage_model(place, plan, check, config, argv)
        data = _stage_data(place, plan, check, config, say, progress)
        if config:
            place.write(CONFIG, _dump(config))
        say(f"hb_mapper starts ({toolchain.name}); log: {log_while_running(log)}")
        run = run_hb_mapper(place, argv, toolchain, log=log, product=product, progress=_teller(say, progress))
        made = _judge(plan, place, run, config, product)
        if plan.build.out:
            _bundle(plan, Path(plan.build.out), place, check, config)
        say(f"writing {artifact}")
        with atomic_path(artifact) as temporary:
            shutil.copyfile(place.job / product, temporary)
        result = BuildResult(
            target=plan.target.name,
            artifact=artifact,
            precision="int8",
            performance_only=made.performance_only,
            seconds=time.monotonic() - start,
            facts=_facts(run, config, data, log, _operators(plan)) | ({"checker": operators} if operators else {}),
            asked_got=made.asked_got,
            notes=(*made.notes, *_told(run.record)),
        )
        keep(result, place.job / product)
        write_layers(plan, result.artifact, say)
    return result


def default_artifact(plan: Plan, product: str) -> str:
    """Where the product goes when nothing is said: in --out, else in the current folder."""
    return os.path.join(plan.build.out, os.path.basename(product))


def _command(plan: Plan) -> tuple[tuple[str, ...], str]:
    """The plan's makertbin command and its product, seen from the working directory."""
    for step in plan.steps:
        if step.argv[:2] == ("hb_mapper", "makertbin"):
            return step.argv, step.writes[0]
    raise OptionError(f"--onnx: expected the path of a model to build for {plan.target.name}")


def _log_place(plan: Plan, artifact: str) -> Path:
    if plan.build.out:
        try:
            os.makedirs(plan.build.out, exist_ok=True)
        except OSError as error:
            raise write_failure(plan.build.out, error) from error
        return Path(plan.build.out, LOG)
    return Path(f"{os.path.splitext(artifact)[0]}.{LOG}")


def _dump(config: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=2**20))


def _staged_name(plan: Plan) -> str:
    """What the model is called in the working directory: a name that no shell can misread."""
    return f"{PurePosixPath(_command(plan)[1]).stem}.onnx"


def _stage_model(
    place: Workspace, plan: Plan, check: Preflight, config: dict[str, Any], argv: tuple[str, ...]
) -> tuple[str, ...]:
    """Copy the model into the working directory, so that paths are the same wherever the tool runs."""
    name = _staged_name(plan)
    copy_model(place, check, name)
    if config:
        config["model_parameters"]["onnx_model"] = f"./{name}"
        custom = config.get("custom_op", {})
        if custom.get("custom_op_dir"):
            # Models call an operator FOLDER.FILE, and the tool too wants a folder seen from here.
            folder = Path(custom["custom_op_dir"]).name
            place.copy(custom["custom_op_dir"], folder)
            custom["custom_op_dir"] = f"./{folder}"
    original = os.path.abspath(plan.build.model.path)
    return tuple(name if word == original else word for word in argv)


def _stage_data(
    place: Workspace,
    plan: Plan,
    check: Preflight,
    config: dict[str, Any],
    say: Say,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The calibration data: ours written anew, a folder that only the YAML names copied as it is."""
    wanted, samples = plan.build.calibration, check.samples
    if not calibrates(config):
        return {}
    if samples is not None:
        tell_writing(samples, say, progress)
        facts = write_samples(place, samples, check.model.inputs, config, Recipe.from_mapping(vars(wanted.preprocess)))
        for note in (*samples.notes, *(f"left out: {reason}" for reason in samples.skipped)):
            say(f"note: {note}")
        return {"data": wanted.data, **facts}
    calibration = config["calibration_parameters"]
    folders = [part for part in str(calibration.get("cal_data_dir") or "").split(";") if part]
    for number, folder in enumerate(folders):
        place.copy(folder, f"{GIVEN}/{number}")
    if folders:
        calibration["cal_data_dir"] = ";".join(f"./{GIVEN}/{number}" for number in range(len(folders)))
    return {"data": ";".join(folders)} if folders else {}


def _teller(say: Say, progress: Progress | None) -> Callable[[Stage], None]:
    """How far the tool is, for ``progress``; without one, a line when a stage begins."""
    last = ""

    def hear(stage: Stage) -> None:
        nonlocal last
        if progress:
            progress(round(stage.percent), 100, f"hb_mapper: {stage.text}")
        elif stage.name != last:
            say(f"hb_mapper: {stage.name}")
        last = stage.name

    return hear


@dataclass
class _Made:
    """What judging found."""

    performance_only: str
    asked_got: tuple[AskedGot, ...] = ()
    notes: list[str] = field(default_factory=list)


def _judge(plan: Plan, place: Workspace, run: Run, config: Mapping[str, Any], product: str) -> _Made:
    calibration = config.get("calibration_parameters", {})
    made = _Made(plan.performance_only)
    loaded = calibration.get("calibration_type") == "load"
    for finding in judge(run.record, calibrated=calibrates(config), loaded=loaded):
        if finding.level == "error":
            raise ToolchainFailed(f"hb_mapper succeeded, but {finding.text}", hint=f"log: {run.log}")
        if finding.check == "made-up":
            made.performance_only = made.performance_only or finding.text
        else:
            made.notes.append(finding.text)
    wanted = wishes(config)
    if wanted:
        made.asked_got = asked_got(wanted, run.record.nodes, _links(place.job / product))
        missed = [row for row in made.asked_got if not row.met]
        if missed and plan.build.precision.constraints == "obey":
            more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
            raise LimitNotMet(
                f"--precisionConstraints=obey: layer {missed[0].layer!r} was asked {missed[0].asked}, got "
                f"{missed[0].got}{more}",
                hint="--precisionConstraints=prefer accepts the difference and reports it",
            )
    return made


def _links(product: Path) -> Mapping[str, Any]:
    """Which node reads what, as the tool wrote it beside the product."""
    try:
        links = json.loads(product.with_name(f"{product.stem}_quant_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return links if isinstance(links, dict) else {}


def _bundle(plan: Plan, folder: Path, place: Workspace, check: Preflight, config: Mapping[str, Any]) -> None:
    """Into ``folder``: the data and all products there are, and what the plan's own files do not say yet.

    So the build can be repeated by hand. A converted model goes with it, any other stays where it is. Samples of an
    earlier bundle are removed, since hb_mapper takes every file that it finds.
    """
    staged = _staged_name(plan)
    original = os.path.abspath(plan.build.model.path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CALIBRATION_FOLDER, GIVEN):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
        for part in place.job.iterdir():
            if part.is_dir() and not part.name.startswith("."):
                shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
            elif check.converted and part.name.startswith(staged):  # with its external data
                shutil.copyfile(part, folder / part.name)
        if config:
            model = config["model_parameters"]
            kept = {**config, "model_parameters": model if check.converted else {**model, "onnx_model": original}}
            write_atomic(folder / CONFIG, _dump(kept))
        if check.converted:
            build = [step for step in plan.steps if step.argv[:1] == ("hb_mapper",)]
            write_atomic(folder / "run.sh", script(build).replace(original, staged))
    except (OSError, shutil.Error) as error:
        raise InputError(f"--out: {folder} cannot be written ({error})") from error


def write_bundle(plan: Plan, folder: str, say: Say) -> list[str]:
    """For a dry run: into ``folder`` what hb_mapper needs beside the plan's own files; returns what lies there then.

    Without effect when the plan has faults: they are what the dry run ends with. Raises InputError for data that do
    not fit.
    """
    if plan.faults:
        return []
    check = preflight(plan, values=True)
    refuse(check)
    config = configuration(plan)
    with workspace() as place:
        _stage_model(place, plan, check, config, ())
        _stage_data(place, plan, check, config, say)
        _bundle(plan, Path(folder), place, check, config)
    return sorted(str(part) for part in Path(folder).iterdir())


def _facts(run: Run, config: Mapping[str, Any], data: Mapping[str, Any], log: Path, operators: str) -> dict[str, Any]:
    record = run.record.to_dict()
    estimates = run.record.estimates
    facts: dict[str, Any] = {
        "versions": record["versions"],
        "phases": record["phases"],
        "log": str(log),
        "estimate": {
            "how": estimate5.HOW,
            "subgraphs": record["estimates"],
            "latency_us": round(sum(part.latency_us for part in estimates), 3),
        },
        "outputs": record["outputs"],
        "nodes": record["nodes"],
        "tool_warnings": record["warnings"],
    }
    if operators:
        facts["custom_op_dir"] = operators
    if data:
        asked = config["calibration_parameters"].get("calibration_type", "default")
        method = {"asked": asked, "method": run.record.method, "parameters": record["parameters"]}
        facts["calibration"] = {**method, **data, "samples_used": run.record.samples}
    return facts


def _operators(plan: Plan) -> str:
    """The folder of operators in Python that the model needs wherever it runs; "" for none."""
    return str(configuration(plan).get("custom_op", {}).get("custom_op_dir") or "")


def _told(record: Record) -> list[str]:
    """The figures a user looks for, one line each."""
    lines = [
        f"estimated by the compiler, BPU part only: {part.fps:.2f} FPS, latency {part.latency_us / 1000:g} ms, "
        f"{part.ddr_bytes} bytes of DDR traffic ({part.subgraph})"
        for part in record.estimates
    ]
    if record.outputs:
        lines.append(f"calibrated with {record.method}" if record.method else "ranges of the model's own Q/DQ nodes")
        cosines = ", ".join(f"{output.name} {output.cosine:.6f}" for output in record.outputs if output.cosine)
        lines.append(f"cosine to the float model, by hb_mapper: {cosines}")
    return lines
