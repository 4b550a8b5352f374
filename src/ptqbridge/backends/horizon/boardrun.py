"""``run`` on a board: the plan's hrt_model_exec commands, staged and carried out, and their figures as an Outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptqbridge.backends.horizon.board import (
    TOOL,
    VARIABLE,
    Board,
    Looked,
    Session,
    Staged,
    give_line,
    staged,
    step_line,
)
from ptqbridge.backends.horizon.boardlog import (
    Perf,
    broken_laws,
    failure_line,
    parse_infer,
    parse_model_info,
    parse_perf,
    parse_profiler,
)
from ptqbridge.backends.horizon.marches import MARCHES, March
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.measure.outcome import LayerInfo, Outcome
from ptqbridge.measure.statistics import Distribution, describe
from ptqbridge.measure.summary import Performance
from ptqbridge.measure.trace import Trace
from ptqbridge.plan import Plan
from ptqbridge.spec.run import RunSpec

PROFILE = ("profile/profiler.log", "profile/profiler.csv")
OUTPUTS = "model_infer_output_*"
_TIME_FLAGS = ("--perf_time=", "--perf_time_in_seconds=")
Say = Callable[[str], None]
Argv = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """The commands of one session, and whose figures are whose: (kind, what was varied, argv)."""

    commands: tuple[tuple[str, str, Argv], ...]


def run(plan: Plan, artifact: str, board: Board, *, say: Say) -> Outcome:
    """Time ``artifact`` on ``board`` as the plan says.

    Raises InputError (files), ToolchainMissing (board or tool not there, board busy) and ToolchainFailed (the tool
    failed, the connection broke, the result is incomplete). What this run brought there is taken away after a failure.
    """
    march = MARCHES[plan.target.name]
    if plan.run.skip:
        return Outcome(artifact, "BPU", device=_device(march), skipped=True)
    job = jobs(plan)
    files = _files(job, artifact, march)
    looked, sent = _stage(board, files, say)
    try:
        return _measured(plan, artifact, board, job, files, looked, march, say)
    except BaseException:
        board.forget(looked, sent)
        raise


def jobs(plan: Plan) -> Job:
    """The plan's board commands, a perf of its own for every thread number and core of a sweep."""
    commands: list[tuple[str, str, Argv]] = []
    for step in plan.steps:
        if step.argv[:1] == (TOOL,):
            kind = step.argv[1]
            commands.append((kind, "", step.argv))
    threads = tuple(int(value) for value in _asked(plan, "sweepThreads"))
    cores = tuple(int(value) for value in _asked(plan, "sweepCores"))
    first = next((argv for kind, _, argv in commands if kind == "perf"), None)
    if first and (threads or cores):
        plain = tuple(word for word in first if not word.startswith("--profile_path="))
        for core in cores or (None,):
            for count in threads or (None,):
                argv = plain if count is None else _with(plain, "thread_num", str(count))
                argv = argv if core is None else _with(argv, "core_id", str(core + 1))
                label = " ".join([f"threads {count}"] * (count is not None) + [f"core {core}"] * (core is not None))
                commands.append(("sweep", label, argv))
    return Job(tuple(commands))


def _asked(plan: Plan, name: str) -> tuple[float, ...]:
    return tuple(plan.settings.get(name, ()))


def _with(argv: Argv, name: str, value: str) -> Argv:
    kept = tuple(word for word in argv if not word.startswith(f"--{name}="))
    return (*kept, f"--{name}={value}")


def _files(job: Job, artifact: str, march: March) -> dict[str, Staged]:
    """Every file the commands name, by the words they use."""
    found: dict[str, Staged] = {}
    for _, _, argv in job.commands:
        for word in argv:
            name, _, value = word.partition("=")
            if name == "--model_file":
                found.setdefault(value, staged(artifact, march.suffix))
            elif name == "--input_file":
                for path in value.split(","):
                    found.setdefault(path, staged(path))
    return found


def _stage(board: Board, files: Mapping[str, Staged], say: Say) -> tuple[Looked, list[Staged]]:
    wanted = {file.name: file for file in files.values()}
    own = os.environ.get(VARIABLE, "")
    program = staged(own) if own else None
    looked = board.look([*wanted, *([program.name] if program else [])])
    if not looked.tool and program is None:
        raise ToolchainMissing(
            f"{board.name}: {TOOL} was not found on the board",
            hint=f"put it on the board's PATH, or name the board's program on this machine with {VARIABLE}",
        )
    sent: list[Staged] = []
    try:
        for file in wanted.values():
            if file.name not in looked.have:
                say(f"sending {file.path} ({file.size} bytes) to {board.name}")
                sent.append(file)
                board.send(file, looked)
        if program is not None:
            if program.name not in looked.have:
                sent.append(program)
                board.send(program, looked, program=True)
            looked = Looked(
                looked.folder, f"{looked.folder}/{program.name}", looked.machine, looked.free_kib, looked.have
            )
    except BaseException:
        board.forget(looked, sent)
        raise
    return looked, sent


def _measured(
    plan: Plan,
    artifact: str,
    board: Board,
    job: Job,
    files: Mapping[str, Staged],
    looked: Looked,
    march: March,
    say: Say,
) -> Outcome:
    say(f"{board.name}: {looked.tool}, {looked.machine}; {len(job.commands)} run(s)")
    session = _carry_out(board, [argv for _, _, argv in job.commands], files, looked)
    texts = _checked(job, session, march)
    perfs = [(label, parse_perf(text)) for kind, label, text in texts if kind in ("perf", "sweep")]
    for label, perf in perfs:
        _complete(perf, label)
    if perfs:
        perfs[0] = ("", _enough(plan, board, job, files, looked, perfs[0][1]))
    frames = [ms for kind, _, text in texts if kind == "infer" for ms in parse_infer(text)]
    if "enable_dump" in " ".join(word for _, _, argv in job.commands for word in argv):
        frames = frames[:-1]  # the frame whose outputs were fetched stands for itself
    return _outcome(plan, artifact, board, looked, session, texts, perfs, frames, march)


def _carry_out(board: Board, commands: Sequence[Argv], files: Mapping[str, Staged], looked: Looked) -> Session:
    lines = [
        step_line(number, (looked.tool, *(_there(word, files, looked) for word in argv[1:])))
        for number, argv in enumerate(commands)
    ]
    return board.session([" &&\n".join(lines), give_line(*PROFILE, OUTPUTS)], looked.folder)


def _there(word: str, files: Mapping[str, Staged], looked: Looked) -> str:
    """A command word with the names that its files have on the board."""
    name, equals, value = word.partition("=")
    if name not in ("--model_file", "--input_file"):
        return word
    return f"{name}{equals}" + ",".join(f"{looked.folder}/{files[path].name}" for path in _paths(name, value))


def _paths(name: str, value: str) -> list[str]:
    return [value] if name == "--model_file" else value.split(",")


def _checked(job: Job, session: Session, march: March) -> list[tuple[str, str, str]]:
    """Kind, label and console of every command. Raises for the first that failed."""
    texts = []
    for (kind, label, argv), text, status in zip(job.commands, session.outputs, session.statuses, strict=False):
        if status:
            raise _failure(kind, text, status, march, argv)
        texts.append((kind, label, text))
    return texts


def _failure(kind: str, text: str, status: int, march: March, argv: Argv) -> PtqbridgeError:
    said = failure_line("\n".join(line for line in text.splitlines() if not line.startswith(f"{TOOL} ")))
    if "march" in said and "match" in said:
        return InputError(f"the model is not for this board: {said}", hint=f"it was built for {march.name}")
    if status == 127:
        return ToolchainMissing(f"{TOOL} cannot be started on the board: {said}")
    if "unknown command line flag" in said:
        hint = "an older tool? --toolchainVersion=3.0 leaves out what came later"
        return ToolchainFailed(f"{TOOL} {kind}: {said}", hint=hint)
    if "No space left" in said:
        return ToolchainFailed(f"{TOOL} {kind}: the board's disk is full")
    if status > 128:
        return ToolchainFailed(f"{TOOL} {kind} was ended by signal {status - 128} on the board: {said}")
    return ToolchainFailed(f"{TOOL} {kind} failed with status {status}: {said}")


def _complete(perf: Perf, label: str) -> None:
    broken = broken_laws(perf)
    if broken:
        where = f" ({label})" if label else ""
        raise ToolchainFailed(f"{TOOL} perf{where} ended with status 0, but {broken[0]}")


def _enough(plan: Plan, board: Board, job: Job, files: Mapping[str, Staged], looked: Looked, perf: Perf) -> Perf:
    """trtexec runs until both --iterations and --duration are met; the board's tool knows one of them at a time."""
    argv = next(argv for kind, _, argv in job.commands if kind == "perf")
    wanted = next((int(word.partition("=")[2]) for word in argv if word.startswith("--frame_count=")), 0)
    timed = any(word.startswith(_TIME_FLAGS) for word in argv)
    if not timed or wanted <= (perf.frames or 0):
        return perf
    again = tuple(word for word in argv if not word.startswith((*_TIME_FLAGS, "--profile_path=")))
    session = _carry_out(board, [again], files, looked)
    made = parse_perf(_checked(Job((("perf", "", again),)), session, MARCHES[plan.target.name])[0][2])
    _complete(made, "")
    return made


def _device(march: March) -> dict[str, object]:
    return {"Selected Device": march.label, "BPU Cores": march.cores}


def _outcome(
    plan: Plan,
    artifact: str,
    board: Board,
    looked: Looked,
    session: Session,
    texts: Sequence[tuple[str, str, str]],
    perfs: Sequence[tuple[str, Perf]],
    frames: Sequence[float],
    march: March,
) -> Outcome:
    spec = plan.run
    notes: list[str] = []
    warnings: list[str] = []
    info = next((parse_model_info(text) for kind, _, text in texts if kind == "model_info"), None)
    main = perfs[0][1] if perfs else None
    load_ms = main.load_ms if main else info.load_ms if info else None
    layers, layer_runs = None, 0
    if spec.reports.wants_profile:
        layers, layer_runs = _layers(session), 1
        notes.append("the profile holds the mean time of each segment over all frames, as the board's tool wrote it")
    if main:
        warnings += main.warnings
    sweep = [row for label, perf in perfs if label for row in [_row(label, perf)]]
    notes += _table(sweep)
    policy = {
        "clock": "the board's tool",
        "latency": "from submitting one frame to its result, in its thread",
        "streams": main.threads if main else None,
        "transfers": "none: CPU and BPU share memory",
        "versions": {"runtime": main.runtime if main else "", "builder": main.builder if main else ""},
        "board": board.name,
        "tool": looked.tool,
        "commands": [list(step.argv) for step in plan.steps if step.argv[:1] == (TOOL,)],
        **({"sweep": sweep} if sweep else {}),
        **({"model": info.to_dict()} if info else {}),
    }
    timed = spec.time_load and load_ms is not None
    return Outcome(
        artifact,
        "BPU",
        performance=_performance(main, frames, spec, policy) if main else None,
        kept=_trace(frames),
        outputs=_outputs(session, spec),
        layers=layers,
        profiled_runs=layer_runs,
        layer_info=_layer_info(info),
        load_s=None if load_ms is None else load_ms / 1000,
        load_times_s=(load_ms / 1000,) if timed and load_ms is not None else (),
        device=_device(march),
        policy=policy,
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _performance(perf: Perf, frames: Sequence[float], spec: RunSpec, policy: Mapping[str, Any]) -> Performance:
    alone = describe(frames, spec.reports.percentiles) if frames else None
    notes = []
    if alone:
        notes.append(
            f"median and percentiles come from a run of {len(frames)} frames one by one, the other figures from perf"
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


def _trace(frames: Sequence[float]) -> Trace | None:
    """Frame times of infer as a trace: one frame begins where the one before it ended."""
    if not frames:
        return None
    import numpy as np

    ends = np.cumsum(np.asarray(frames, np.float64))
    return Trace(compute_start=ends - np.asarray(frames, np.float64), compute_end=ends)


def _layers(session: Session) -> list[tuple[str, list[float]]]:
    text = session.files.get(PROFILE[0])
    if text is None:
        raise ToolchainFailed("the board's tool wrote no profiler.log")
    nodes = parse_profiler(text.decode("utf-8", "replace"))["nodes"]
    return [(name, [float(times.get("avg_time", 0.0))]) for name, times in nodes.items()]


def _outputs(session: Session, spec: RunSpec) -> dict[str, Any]:
    """Dumped outputs by tensor name, as flat float32 (their shapes are in model_info, which was not asked)."""
    import numpy as np

    found = {}
    for name in sorted(session.files):
        base = os.path.basename(name)
        if base.startswith("model_infer_output_") and base.endswith(".bin"):
            tensor = base[len("model_infer_output_") : -len(".bin")].partition("_")[2]
            data = session.files[name]
            found[tensor] = np.frombuffer(data, np.float32 if len(data) % 4 == 0 else np.uint8)
    return found


def _layer_info(info: Any) -> LayerInfo | None:
    return LayerInfo([], [tensor.name for tensor in (*info.inputs, *info.outputs)]) if info else None


def _row(label: str, perf: Perf) -> dict[str, Any]:
    return {"run": label, "fps": perf.fps, "average_ms": perf.average_ms, "threads": perf.threads}


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [f"{row['run']}: {row['fps']:.3f} FPS, average latency {row['average_ms']:.3f} ms" for row in rows]
    quick = min(rows, key=lambda row: float(row["average_ms"]))
    much = max(rows, key=lambda row: float(row["fps"]))
    return [*lines, f"best for latency: {quick['run']}; best for throughput: {much['run']}"]
