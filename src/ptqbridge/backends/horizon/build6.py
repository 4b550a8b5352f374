"""Builds a .hbm with hb_compile as the plan says, or writes the complete bundle where hb_compile is not installed."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.beside5 import keep, write_layers
from ptqbridge.backends.horizon.errors6 import explain_failure
from ptqbridge.backends.horizon.estimate6 import read_estimate, told
from ptqbridge.backends.horizon.judge6 import asked_got, judge, model_remarks
from ptqbridge.backends.horizon.logs6 import Progress, Record, parse_log
from ptqbridge.backends.horizon.lookup import loaded
from ptqbridge.backends.horizon.probe6 import by_version
from ptqbridge.backends.horizon.quantrules import read_quant_config
from ptqbridge.backends.horizon.run import find_tool, require_board, tool_variable
from ptqbridge.backends.horizon.telling import tell_writing
from ptqbridge.backends.horizon.workspace import JOB, TEMPORARY, Workspace, workspace
from ptqbridge.data.asked import asked_samples
from ptqbridge.data.writers import write_npy
from ptqbridge.errors import InputError, LimitNotMet, OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.files import atomic_path, write_atomic, write_failure
from ptqbridge.model.load import Model
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult
from ptqbridge.toolchains.local import Local, log_while_running
from ptqbridge.toolchains.program import Finished, Toolchain
from ptqbridge.toolchains.select import select

if TYPE_CHECKING:
    from ptqbridge.backends import Progress as Told

TOOL, CONFIG, LOG = "hb_compile", "hb_compile.yaml", "hb_compile.log"
BYTECODE = ".bc"
DATA, CACHE = "calibration_data", "compile_cache"
Say = Callable[[str], None]


class Bundle(Workspace):
    """A folder that holds everything a build needs and stays."""

    def __init__(self, folder: Path) -> None:
        self.root = self.job = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(folder, error) from error


@dataclass(frozen=True)
class Staged:
    """What lies ready in a folder: the command, the product's place in it, the configuration, the data's account."""

    argv: tuple[str, ...]
    product: str
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    samples: int


def build(plan: Plan, *, say: Say, progress: Told | None = None) -> BuildResult:
    """Build the plan's model; the product is at ``--saveEngine`` (or named after the model) only when it is good.

    Raises InputError, OptionError, ToolchainFailed, LimitNotMet for ``--precisionConstraints=obey``, and
    ToolchainMissing, after writing the complete bundle, when hb_compile is not there. The log is kept in every case.
    """
    start = time.monotonic()
    _refuse_faults(plan)
    model = _model(plan)
    toolchain = select(str(plan.settings.get("place") or "local"))
    program = _program(toolchain)
    if not program:
        _leave_bundle(plan, model, say)
    if any(step.argv[:1] == ("hrt_model_exec",) for step in plan.steps) and not plan.settings.get("at"):
        require_board(plan)  # before the build, which may take an hour, not after it
    artifact = plan.build.artifact or os.path.join(plan.build.out, os.path.basename(_command(plan)[1]))
    log = _log_place(plan, artifact)
    with workspace() as place, toolchain:
        staged = stage(plan, model, place, say, here=isinstance(toolchain, Local), progress=progress)
        checked = _check(plan, place, toolchain, program, log, say)
        say(f"hb_compile starts ({toolchain.name}); log: {log_while_running(log)}")
        finished, record = _run(place, staged, toolchain, program, log, Progress(say, progress, staged.samples))
        calibrated = bool(staged.data)
        remarks, performance_only = judge(record, calibrated=calibrated, log=str(log))
        rows = asked_got(staged.config, record.nodes)
        missed = [row for row in rows if not row.met]
        if missed and plan.build.precision.constraints == "obey":
            first = missed[0]
            text = f"--precisionConstraints=obey: layer {first.layer!r} was asked {first.asked}, got {first.got}"
            raise LimitNotMet(text, hint="--precisionConstraints=prefer accepts the difference and reports it")
        product = place.job / staged.product
        estimate = read_estimate(product.parent, product.stem)
        if estimate:
            say(told(estimate))
        remarks += [*model_remarks(staged.config, record.nodes), *_other_generation(plan, record)]
        _keep_cache(plan, place, toolchain)
        _keep_rest(plan, place, staged, log)
        say(f"writing {artifact}")
        with atomic_path(artifact) as temporary:
            shutil.copyfile(product, temporary)
        result = BuildResult(
            target=plan.target.name,
            artifact=artifact,
            precision=_precision(staged.config) if model else "as quantized",
            performance_only=plan.performance_only or performance_only,
            seconds=time.monotonic() - start,
            facts={
                **{key: record.to_dict()[key] for key in ("versions", "phases", "nodes", "warnings", "removed")},
                "log": str(log),
                "generation": plan.settings.get("toolchain"),
                "inputs": plan.settings.get("board_inputs", []),
                **({"estimate": estimate} if estimate else {}),
                "tool_seconds": round(finished.seconds, 3),
                **({"checker": checked} if checked else {}),
                **({"calibration": {**staged.data, "samples_used": record.samples}} if staged.data else {}),
            },
            asked_got=rows,
            notes=tuple(remarks),
        )
        keep(result, product)
    write_layers(plan, artifact, say)
    return result


def _refuse_faults(plan: Plan) -> None:
    if plan.faults:
        lines = plan.faults[0] if len(plan.faults) == 1 else "".join(f"\n  {fault}" for fault in plan.faults)
        raise InputError(f"{plan.target.name}: this build would fail: {lines}")


def _precision(config: Mapping[str, Any]) -> str:
    quant = (config.get("calibration_parameters") or {}).get("quant_config")
    chosen = quant.get("model_config", {}).get("all_node_type", "int8") if isinstance(quant, Mapping) else "int8"
    return str(chosen).replace("float", "fp")


def _program(toolchain: Toolchain) -> str:
    """What to call hb_compile: here its path, elsewhere its name; "" when it is not here."""
    if not isinstance(toolchain, Local):
        return TOOL
    found = find_tool(TOOL)
    return os.path.abspath(found) if found else ""


def _command(plan: Plan) -> tuple[tuple[str, ...], str]:
    for step in plan.steps:
        if step.argv[:1] == (TOOL,) and step.writes:
            return step.argv, step.writes[0]
    raise OptionError(f"--onnx: expected the path of a model to build for {plan.target.name}")


def _model(plan: Plan) -> Model | None:
    """The model; None for a .bc, into which nobody here can look."""
    if plan.build.model.path.endswith(BYTECODE):
        return None
    if plan.build.model.format != "onnx":
        raise OptionError(f"--{plan.build.model.format}: this version builds ONNX models for {plan.target.name}")
    model = loaded(plan.build.model.path)
    for spec in model.inputs:
        given = spec.name in plan.settings.get("shapes", {})
        if not given and any(isinstance(dim, str) for dim in spec.shape[1:]):
            raise InputError(
                f"model {model.path}: input {spec.text()} has dynamic dimensions, and a BPU model has one shape",
                hint=f"--shapes={spec.name}:... gives it",
            )
    return model


def stage(
    plan: Plan,
    model: Model | None,
    place: Workspace,
    say: Say,
    *,
    here: bool = False,
    progress: Told | None = None,
) -> Staged:
    """Put model, samples and configuration into ``place``, with paths that hold wherever that folder lies.

    ``here``: the tool runs on this machine, and its cache stays where it is.
    """
    import yaml

    argv, product = _command(plan)
    name = f"{PurePosixPath(product).stem}{BYTECODE if model is None else '.onnx'}"
    place.copy(plan.build.model.path, name)
    home = Path(plan.build.model.path).resolve().parent
    for file in model.external_files if model else ():
        place.copy(file, str(file.resolve().relative_to(home)))
    config: dict[str, Any] = {}
    data: dict[str, Any] = {}
    if CONFIG in plan.files:
        config = {section: dict(keys) for section, keys in yaml.safe_load(plan.files[CONFIG]).items()}
        if model:
            config["model_parameters"]["onnx_model"] = f"./{name}"
            data = _samples(plan, model, place, config.get("calibration_parameters", {}), say, progress)
        quant = config.get("calibration_parameters", {}).get("quant_config")
        if isinstance(quant, str) and quant:  # a path means nothing to a tool elsewhere
            config["calibration_parameters"]["quant_config"] = read_quant_config(quant)
        compiler = config.get("compiler_parameters", {})
        if compiler.get("cache_path"):
            compiler["cache_path"] = _cache(str(compiler["cache_path"]), place, here=here)
        custom = config.get("custom_op", {})
        if custom.get("custom_op_dir"):
            place.copy(custom["custom_op_dir"], "custom_op")
            custom["custom_op_dir"] = "./custom_op"
        place.write(CONFIG, str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=2**20)))
    original = os.path.abspath(plan.build.model.path)
    argv = tuple(name if word == original else word for word in argv)
    return Staged(argv, product, config, data, int(data.get("samples", 0)) * len(model.inputs if model else ()))


def _cache(path: str, place: Workspace, *, here: bool) -> str:
    """The compile cache for the tool: the user's folder, made when it is not there; elsewhere a copy of it."""
    if os.path.isfile(path):
        raise InputError(f"cache_path: expected a folder for hb_compile's cache, found the file {path}")
    if here:
        Bundle(Path(path))
        return path
    if os.path.isdir(path) and not isinstance(place, Bundle):
        place.copy(path, CACHE)
    else:
        (place.job / CACHE).mkdir(exist_ok=True)
    return f"./{CACHE}"


def _keep_cache(plan: Plan, place: Workspace, toolchain: Toolchain) -> None:
    """A copy of the cache that was elsewhere goes back to where the user keeps it."""
    path = plan.settings.get("yaml", {}).get("compiler_parameters.cache_path")
    if not path or CONFIG not in plan.files or isinstance(toolchain, Local):
        return
    toolchain.fetch(place.root, f"{JOB}/{CACHE}")
    try:
        shutil.copytree(place.job / CACHE, path, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise InputError(f"the compile cache {path} cannot be written ({error})") from error


def _other_generation(plan: Plan, record: Record) -> list[str]:
    """A remark when the tool that ran is of another generation than the plan was made for."""
    version = record.versions.get(TOOL, "")
    planned = str(plan.settings.get("toolchain") or "")
    ran = by_version(version)
    if not ran or not planned or ran == planned:
        return []
    return [f"the plan was made for {TOOL} {planned}, and {version} ran: --toolchainVersion={ran} writes for it"]


def _samples(
    plan: Plan, model: Model, place: Workspace, keys: dict[str, Any], say: Say, progress: Told | None
) -> dict[str, Any]:
    """Samples as .npy, one folder per input, as the float model wants them; folders the YAML names are copied."""
    wanted = plan.build.calibration
    if wanted.data and keys.get("calibration_type") != "skip":
        samples = asked_samples(replace(wanted, batch=1), model.inputs)  # a file holds one inference
        tell_writing(samples, say, progress, " as .npy, normalised as the float model wants them")
        folders = write_npy(samples, model.inputs, str(place.job / DATA))
        for note in (*samples.notes, *(f"left out: {reason}" for reason in samples.skipped)):
            say(f"note: {note}")
        keys["cal_data_dir"] = ";".join(f"./{DATA}/{os.path.basename(folder)}" for folder in folders.values())
        facts = {"data_sha256": samples.fingerprint, "skipped": list(samples.skipped)}
        return {"data": wanted.data, "samples": samples.used, **facts}
    named = [part for part in str(keys.get("cal_data_dir") or "").split(";") if part]
    for number, folder in enumerate(named):
        place.copy(folder, f"given/{number}")
    if named:
        keys["cal_data_dir"] = ";".join(f"./given/{number}" for number in range(len(named)))
    return {"data": ";".join(named), "samples": len(os.listdir(place.job / "given/0"))} if named else {}


def _run(
    place: Workspace, staged: Staged, toolchain: Toolchain, program: str, log: Path, progress: Progress
) -> tuple[Finished, Record]:
    toolchain.stage(place.root)
    env = {"TMPDIR": toolchain.inside(place.root, TEMPORARY), "PYTHONUNBUFFERED": "1"}
    words = (program, *staged.argv[1:])
    try:
        finished = toolchain.run(words, place.root, cwd=JOB, log=log, on_line=progress.hear, env=env)
        if finished.status:
            raise explain_failure(finished.text, finished.status)
        record = parse_log(finished.text)
        toolchain.fetch(place.root, f"{JOB}/{os.path.dirname(staged.product)}")
        if not record.succeeded:
            raise ToolchainFailed("hb_compile ended with status 0, but its log does not say that it finished")
        product = place.job / staged.product
        if not product.is_file() or not product.stat().st_size:
            made = "made an empty one" if product.is_file() else "made none"
            raise ToolchainFailed(f"hb_compile says it wrote {product.name}, but {made}")
    except PtqbridgeError as error:
        raise type(error)(error.message, hint="; ".join(filter(None, (error.hint, f"log: {log}")))) from None
    return finished, record


def _check(
    plan: Plan, place: Workspace, toolchain: Toolchain, program: str, log: Path, say: Say
) -> list[dict[str, str]]:
    """The checker's run, when the plan has one: every node with its place. Its products stay in the workspace."""
    step = next((step for step in plan.steps if step.argv[:1] == (TOOL,) and not step.writes), None)
    if step is None:
        return []
    name = f"{PurePosixPath(_command(plan)[1]).stem}.onnx"
    words = [name if word == os.path.abspath(plan.build.model.path) else word for word in step.argv[1:]]
    toolchain.stage(place.root)
    finished = toolchain.run((program, *words), place.root, cwd=JOB, log=log)
    if finished.status:
        raise explain_failure(finished.text, finished.status, tool="hb_compile's checker")
    nodes = parse_log(finished.text).nodes
    away = [node.name for node in nodes if node.on == "CPU"]
    say(f"checker: {len(nodes) - len(away)} of {len(nodes)} nodes on the BPU" + (f"; not: {away[0]}" if away else ""))
    return [{"node": node.name, "type": node.kind, "on": node.on} for node in nodes]


def _log_place(plan: Plan, artifact: str) -> Path:
    if not plan.build.out:
        kept = any(row.option.startswith("--saveEngine") for row in plan.rows)  # else the artifact is a passing one
        stem = os.path.splitext(artifact)[0] if kept else f"{Path(plan.build.model.path).stem}-{plan.target.name}"
        return Path(f"{stem}.{LOG}")
    Bundle(Path(plan.build.out))
    return Path(plan.build.out, LOG)


def _keep_rest(plan: Plan, place: Workspace, staged: Staged, log: Path) -> None:
    """With --out: all products, configuration and samples; the build can be repeated by hand from there."""
    if not plan.build.out:
        return
    folder = Path(plan.build.out)
    try:
        for part in place.job.iterdir():
            if part.is_dir() and not part.name.startswith("."):
                shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
            elif part.is_file() and part.name != LOG:
                shutil.copyfile(part, folder / part.name)
        write_atomic(folder / "run.sh", script(staged))
    except (OSError, shutil.Error) as error:
        raise InputError(f"--out: {folder} cannot be written ({error})") from error


def script(staged: Staged) -> str:
    """The command as a shell script that runs in its own folder."""
    return f'#!/bin/sh\nset -eu\ncd "$(dirname "$0")"\n{shlex.join(staged.argv)}\n'


def write_bundle(plan: Plan, folder: str, say: Say) -> list[str]:
    """Everything a build needs, in ``folder``: model, configuration, samples, run.sh. Returns what was written."""
    place = Bundle(Path(folder))
    for name in (DATA, CACHE, "given", "custom_op"):  # those of an earlier bundle
        if (place.job / name).is_dir():
            shutil.rmtree(place.job / name)
    staged = stage(plan, _model(plan), place, say)
    write_atomic(place.job / "run.sh", script(staged))
    return sorted(str(part) for part in place.job.iterdir())


def _leave_bundle(plan: Plan, model: Model | None, say: Say) -> None:
    """Write the bundle, then raise ToolchainMissing with the one line that says how to run it."""
    folder = plan.build.out or f"{Path(plan.build.model.path).stem}-{plan.target.name}"
    write_bundle(plan, folder, say)
    variable = tool_variable(TOOL)
    named = os.environ.get(variable, "")
    looked = f"{variable}={named} is no program" if named else f"not on PATH, and {variable} is not set"
    raise ToolchainMissing(
        f"{plan.target.name}: {TOOL} was not found ({looked}); the complete bundle is in {folder}",
        hint=f"run it inside Horizon's OpenExplorer container: sh {shlex.quote(os.path.join(folder, 'run.sh'))}; or "
        "build with --toolchain=docker:IMAGE or --toolchain=ssh://HOST",
    )
