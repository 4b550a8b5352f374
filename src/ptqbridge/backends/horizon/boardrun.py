"""``run`` on a board: the plan's hrt_model_exec commands, staged and carried out, and their figures as an Outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.beside5 import Beside, layer_info, look_beside
from ptqbridge.backends.horizon.board import Board, Session
from ptqbridge.backends.horizon.boardfiles import TOOL, Staged
from ptqbridge.backends.horizon.boardlog import (
    ModelInfo,
    Perf,
    broken_laws,
    parse_infer,
    parse_model_info,
    parse_perf,
    parse_profiler,
)
from ptqbridge.backends.horizon.boardtensor import outputs_of
from ptqbridge.backends.horizon.boardvisit import Argv, Visit, visit
from ptqbridge.backends.horizon.marches import MARCHES, March
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.measure.outcome import Outcome
from ptqbridge.measure.statistics import Distribution, describe
from ptqbridge.measure.summary import Performance
from ptqbridge.measure.trace import Trace
from ptqbridge.plan import Plan
from ptqbridge.spec.run import RunSpec
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from ptqbridge.data.recipe import Recipe
    from ptqbridge.spec import Preprocess

_TIME_FLAGS = ("--perf_time=", "--perf_time_in_seconds=")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """One command.

    ``kind``: perf, sweep, times (of single frames), dump (of outputs) or model_info; ``label``: what was varied.
    """

    kind: str
    label: str
    argv: Argv


@dataclass(frozen=True)
class Done:
    """A command's end: its console and the files it left, without their folder."""

    command: Command
    text: str
    files: Mapping[str, bytes]


def run(plan: Plan, artifact: str, board: Board, *, say: Say) -> Outcome:
    """Time ``artifact`` on ``board`` as the plan says.

    Raises InputError (files), ToolchainMissing (board or tool not there, board busy) and ToolchainFailed (the tool
    failed, the connection broke, the result is incomplete). What this run brought there is taken away after a failure.
    """
    march = MARCHES[plan.target.name]
    if plan.run.skip:
        layers, _ = layer_info(plan.run.reports, look_beside(artifact))
        return Outcome(artifact, "BPU", device=device(march), layer_info=layers, skipped=True)
    with visit(board, march, artifact, say) as stay:
        return _measured(plan, stay)


def commands_of(plan: Plan) -> tuple[Command, ...]:
    """The plan's board commands, a perf of its own for every thread number and core of a sweep."""
    commands = [Command(_kind(step.argv), "", step.argv) for step in plan.steps if step.argv[:1] == (TOOL,)]
    threads = tuple(int(value) for value in plan.settings.get("sweepThreads", ()))
    cores = tuple(int(value) for value in plan.settings.get("sweepCores", ()))
    first = next((command.argv for command in commands if command.kind == "perf"), None)
    if first and (threads or cores):
        plain = _without(first, "profile_path")
        for core in cores or (None,):
            for count in threads or (None,):
                argv = plain if count is None else _with(plain, "thread_num", str(count))
                argv = argv if core is None else _with(argv, "core_id", str(core + 1))
                label = " ".join([f"threads {count}"] * (count is not None) + [f"core {core}"] * (core is not None))
                commands.append(Command("sweep", label, argv))
    return tuple(commands)


def _kind(argv: Argv) -> str:
    if argv[1] != "infer":
        return argv[1]
    return "dump" if any(word.startswith(("--enable_dump", "--dump_intermediate")) for word in argv) else "times"


def _with(argv: Argv, name: str, value: str) -> Argv:
    return (*_without(argv, name), f"--{name}={value}")


def _without(argv: Argv, *names: str) -> Argv:
    return tuple(word for word in argv if not word.startswith(tuple(f"--{name}=" for name in names)))


def _measured(plan: Plan, stay: Visit) -> Outcome:
    beside = look_beside(stay.artifact, stay.model.sha256)
    built = beside.record.get("build", {}).get("target", plan.target.name)
    if built != plan.target.name:
        raise InputError(f"{stay.artifact} was built for {built}, not for {plan.target.name}")
    commands = commands_of(plan)
    stay.bring([stay.model])
    info: ModelInfo | None = None
    inputs: Mapping[str, Any] = {}
    if plan.run.inputs or any(command.kind in ("times", "dump") for command in commands):
        info = stay.info()
        files, inputs = stay.inputs(info, plan.run.inputs, recipe_of(plan.build.calibration.preprocess))
        stay.bring(files)
        commands = tuple(replace(command, argv=_fed(command, stay, files, plan)) for command in commands)
    stay.say(f"{stay.board.name}: {stay.tool}, {stay.looked.machine}; {counted(len(commands), 'run')}")
    done = _carry_out(stay, commands)
    timed = [_perf(each) for each in done if each.command.kind in ("perf", "sweep")]
    timed = _enough(stay, commands, timed)
    return _outcome(plan, stay, beside, done, timed, info, inputs)


def recipe_of(preprocess: Preprocess) -> Recipe | None:
    """How pictures become what the float model takes; None when nothing was said."""
    from ptqbridge.data.recipe import Recipe

    recipe = Recipe.from_mapping(vars(preprocess))
    return None if recipe == Recipe() else recipe


def _fed(command: Command, stay: Visit, files: Sequence[Staged], plan: Plan) -> Argv:
    """With the inputs' names on the board; perf makes up its own when the user gave none."""
    argv = _without(command.argv, "input_file")
    if command.kind == "model_info" or (command.kind in ("perf", "sweep") and not plan.run.inputs):
        return argv
    return (*argv, f"--input_file={','.join(map(stay.there, files))}")


def _carry_out(stay: Visit, commands: Sequence[Command]) -> list[Done]:
    session = stay.checked([command.argv for command in commands])
    return [
        Done(command, text, left_by(session, number))
        for number, (command, text) in enumerate(zip(commands, session.outputs, strict=True))
    ]


def left_by(session: Session, number: int) -> dict[str, bytes]:
    """The files that a visit's command left, without its folder."""
    prefix = f"s{number}/"
    return {name[len(prefix) :]: data for name, data in session.files.items() if name.startswith(prefix)}


def _perf(done: Done) -> Perf:
    perf = parse_perf(done.text)
    broken = broken_laws(perf)
    if broken:
        where = f" ({done.command.label})" if done.command.label else ""
        raise ToolchainFailed(f"{TOOL} perf{where} ended with status 0, but {broken[0]}")
    return perf


def _enough(stay: Visit, commands: Sequence[Command], perfs: Sequence[Perf]) -> list[Perf]:
    """trtexec runs until both --iterations and --duration are met; the board's tool knows one of them at a time.

    What ran for its time and made too few frames is run again for its frames, which takes at least as long.
    """
    timed = [command for command in commands if command.kind in ("perf", "sweep")]
    again = {
        place: replace(command, argv=_without(command.argv, "perf_time", "perf_time_in_seconds", "profile_path"))
        for place, (command, perf) in enumerate(zip(timed, perfs, strict=True))
        if any(word.startswith(_TIME_FLAGS) for word in command.argv) and _asked_frames(command) > (perf.frames or 0)
    }
    if not again:
        return list(perfs)
    made = dict(zip(again, map(_perf, _carry_out(stay, list(again.values()))), strict=True))
    return [made.get(place, perf) for place, perf in enumerate(perfs)]


def _asked_frames(command: Command) -> int:
    words = (word.partition("=") for word in command.argv)
    return next((int(value) for name, _, value in words if name == "--frame_count"), 0)


def device(march: March) -> dict[str, object]:
    """The device section of a run."""
    return {"Selected Device": march.label, "BPU Cores": march.cores}


def _outcome(
    plan: Plan,
    stay: Visit,
    beside: Beside,
    done: Sequence[Done],
    perfs: Sequence[Perf],
    info: ModelInfo | None,
    inputs: Mapping[str, Any],
) -> Outcome:
    spec = plan.run
    texts = {each.command.kind: each.text for each in reversed(done)}
    info = info or (parse_model_info(texts["model_info"]) if "model_info" in texts else None)
    main = perfs[0] if perfs else None
    labels = [each.command.label for each in done if each.command.kind in ("perf", "sweep")]
    rows = [_row(label, perf) for label, perf in zip(labels, perfs, strict=True) if label]
    notes = _table(rows)
    layers = None
    if spec.reports.wants_profile:
        layers = _layers(done)
        notes.append("the profile holds the mean time of each segment over all frames, as the board's tool wrote it")
    tensors = [tensor.name for tensor in (*info.inputs, *info.outputs)] if info else []
    table, unknown = layer_info(spec.reports, beside, tensors)
    notes += [unknown] if unknown else []
    stamp = beside.stamp if spec.artifact else ()  # what was just built has said so
    frames = parse_infer(texts.get("times", ""))
    load_ms = main.load_ms if main else info.load_ms if info else None
    policy = {
        "clock": "the board's tool",
        "latency": "from submitting one frame to its result, in its thread",
        "streams": main.threads if main else None,
        "transfers": "none: CPU and BPU share memory",
        "versions": _versions(main, info),
        "board": stay.board.name,
        "tool": stay.tool,
        "commands": [list(each.command.argv) for each in done],
        **({"sweep": rows, "best": _best(rows)} if rows else {}),
        **({"model": info.to_dict()} if info else {}),
    }
    dumped = next((each for each in done if each.command.kind == "dump"), None)
    timed = spec.time_load and load_ms is not None
    return Outcome(
        stay.artifact,
        "BPU",
        performance=_performance(main, frames, spec, policy) if main else None,
        kept=trace(frames),
        inputs=inputs,
        outputs=outputs_of(info, dumped.files, dequantized=stay.march.journey6) if dumped and info else {},
        layers=layers,
        profiled_runs=1 if layers is not None else 0,
        layer_info=table,
        load_s=None if load_ms is None else load_ms / 1000,
        load_times_s=(load_ms / 1000,) if timed and load_ms is not None else (),
        device=device(stay.march),
        policy=policy,
        warnings=tuple(dict.fromkeys((*stamp, *(line for perf in perfs for line in perf.warnings)))),
        notes=tuple(notes),
    )


def _versions(main: Perf | None, info: ModelInfo | None) -> dict[str, str]:
    known = [source for source in (main, info) if source]
    return {
        "runtime": next((source.runtime for source in known if source.runtime), ""),
        "builder": next((source.builder for source in known if source.builder), ""),
    }


def _performance(perf: Perf, frames: Sequence[float], spec: RunSpec, policy: Mapping[str, Any]) -> Performance:
    alone = describe(frames, spec.reports.percentiles) if frames else None
    notes = []
    if alone:
        many = (perf.threads or 1) > 1
        notes.append(
            f"{'' if many else 'median and '}percentiles come from a run of {len(frames)} frames one by one, the other "
            f"figures from perf{f' with {perf.threads} frames in flight' if many else ''}"
        )
    elif spec.reports.percentiles:
        notes.append("the board's tool tells no median and no percentiles; --percentile times single frames as well")
    latency = Distribution(
        min=perf.stream.min_ms if perf.stream else None,
        max=perf.stream.max_ms if perf.stream else None,
        mean=perf.average_ms or 0.0,
        median=alone.median if alone and perf.threads == 1 else None,
        percentiles=alone.percentiles if alone else (),
        cv=None,
    )
    return Performance(
        queries=perf.frames or 0,
        warmup_queries=0,
        warmup_ms=0.0,
        throughput_qps=perf.fps,
        latency=latency,
        enqueue=None,
        h2d=None,
        compute=None,
        d2h=None,
        host_walltime_s=(perf.run_ms or 0.0) / 1000,
        total_compute_s=None,
        streams=perf.threads or 1,
        processor="BPU",
        measured="board",
        policy=policy,
        notes=tuple(notes),
    )


def trace(frames: Sequence[float]) -> Trace | None:
    """Frame times of infer as a trace: one frame begins where the one before it ended."""
    if not frames:
        return None
    import numpy as np

    ends = np.cumsum(np.asarray(frames, np.float64))
    return Trace(compute_start=ends - np.asarray(frames, np.float64), compute_end=ends)


def _layers(done: Sequence[Done]) -> list[tuple[str, list[float]]]:
    log = next((each.files["profile/profiler.log"] for each in done if "profile/profiler.log" in each.files), None)
    if log is None:
        raise ToolchainFailed("the board's tool wrote no profiler.log")
    nodes = parse_profiler(log.decode("utf-8", "replace"))["nodes"]
    return [(name, [float(times.get("avg_time", 0.0))]) for name, times in nodes.items()]


def _row(label: str, perf: Perf) -> dict[str, Any]:
    stream = perf.stream
    return {
        "run": label,
        "threads": perf.threads,
        "fps": perf.fps,
        "average_ms": perf.average_ms,
        "min_ms": stream.min_ms if stream else None,
        "max_ms": stream.max_ms if stream else None,
    }


def _best(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The run with the shortest latency, and the one with the most frames a second."""
    return {
        "latency": str(min(rows, key=lambda row: float(row["average_ms"]))["run"]),
        "throughput": str(max(rows, key=lambda row: float(row["fps"]))["run"]),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    width = max(len(row["run"]) for row in rows)
    lines = [
        f"{row['run']:<{width}}  {row['fps']:>10.3f} FPS  average latency {row['average_ms']:>9.3f} ms" for row in rows
    ]
    best = _best(rows)
    return [*lines, f"best for latency: {best['latency']}; best for throughput: {best['throughput']}"]
