"""The plan of a TensorRT build: verdicts, the ordered builder calls, what defaults fill in, what could not be seen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ptqbridge.backends.tensorrt import calls as sequence
from ptqbridge.backends.tensorrt import version as versions
from ptqbridge.backends.tensorrt.context import DEFAULT_ALGORITHM, Context
from ptqbridge.backends.tensorrt.io import io_calls, io_range_calls, later_profile_calls, ones
from ptqbridge.backends.tensorrt.planfile import OtherForm, plan_version
from ptqbridge.backends.tensorrt.rules import RULES
from ptqbridge.backends.tensorrt.rules.book import beside, quoted
from ptqbridge.backends.tensorrt.rules.bridge import OWN_CACHE
from ptqbridge.backends.tensorrt.wildcards import by_name, resolve, resolve_calls
from ptqbridge.errors import InputError, OptionError
from ptqbridge.plan import COMMON, Filled, Plan, Request, Step, Target, map_options
from ptqbridge.rulebook import Outcome, Verdict
from ptqbridge.spec import BuildSpec, RunSpec, TensorSpec

_ON_IO = re.compile(
    r"network\.get_(in|out)put\(|profile\d*\.set_shape|require_valid\(profile\d*\)"
    r"|config\.add_optimization_profile\(profile\d*\)"
)
WILDCARDS_SINCE = "9.1"
"""The first trtexec that reads a ``*`` in the names of shape options."""
EDITED = "model.edited.onnx"
"""The ONNX after edits, inside the output folder."""


@dataclass(frozen=True)
class Seen:
    """What the model file tells a plan. ``has_qdq`` is None when it could not be looked into.

    ``unshaped`` are the dynamic inputs that no shape option names. ``wrong`` says why no machine can build or run it.
    """

    has_qdq: bool | None = None
    notes: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    unshaped: tuple[TensorSpec, ...] = ()
    wrong: tuple[str, ...] = ()


def plan(request: Request, version: str = "") -> Plan:
    """The plan for TensorRT ``version`` (a generation or a release; default: the installed one, else 8.6).

    Needs neither TensorRT nor the model file. Raises ValueError when ``version`` is no version, and OptionError when
    ``--trtVersion`` names none or several.
    """
    version = version or asked_version(request)
    found = versions.Found(version, "asked for") if version else versions.detect()
    stars = versions.key(found.version) >= versions.first(WILDCARDS_SINCE)
    seen = look(request, stars=stars)
    if stars and seen.inputs:
        request = resolve(request, [spec.name for spec in seen.inputs])
    context = Context(request, found.version, seen.has_qdq)
    rows, settings = map_options(request, RULES, context)
    emitted = list(outcomes(request, context))
    edits = tuple(dict.fromkeys(_emitted("edits", emitted)))
    asked = _emitted("calls", emitted)
    if seen.inputs and not context.loads:
        # Now that the model is seen, its inputs and outputs are named one by one.
        io = (
            *io_calls(context, seen.inputs, seen.outputs),
            *io_range_calls(context, len(seen.inputs), len(seen.outputs)),
            *later_profile_calls(context, seen.inputs),
        )
        defaults = [text for text in sequence.always(context) if not _ON_IO.match(text)]
        asked = [*io, *(text for text in asked if not _ON_IO.match(text))]
        asked = resolve_calls(asked, [spec.name for spec in seen.inputs])
    else:
        defaults = list(sequence.always(context))
    artifact = default_artifact(request)
    if artifact:
        asked.append(f"write_engine({quoted(artifact)}, engine_bytes)")
    calls = sequence.arrange(defaults, asked, _emitted("dla", emitted))
    if edits:
        calls = tuple(
            f"parser.parse_from_file({beside(EDITED)})" if text.startswith("parser.parse_from_file") else text
            for text in calls
        )
    settings |= {"version": found.version, "calls": calls, "edits": edits, "wrong": seen.wrong}
    settings["artifact"] = request.build.artifact or artifact
    made = Plan(
        target=request.target,
        build=request.build,
        run=request.run,
        rows=rows,
        fills=(*fills(context, found), *_dynamic_fills(seen), *_artifact_fill(artifact)),
        steps=steps(context, calls, edits),
        notes=tuple(note for note in (found.note, *seen.notes, *unseen_data(request), *_gaps(context)) if note),
        files=script_files(request, calls, found.version),
        settings=settings,
        performance_only=performance_only(context),
    )
    return replace(made, notes=(*made.notes, *lost_files(made)))


def asked_version(request: Request) -> str:
    """What ``--trtVersion`` says; "" when it was not given. Raises OptionError when that is not one known version."""
    given = [item.value for item in request.asked if item.name == "trtVersion"]
    version: str = given[-1] if given else ""
    if not version:
        return ""
    if not re.fullmatch(r"\d+(\.\d+)*", version) or versions.key(version) < (8, 6):
        raise OptionError(
            f"--trtVersion: expected one TensorRT version from 8.6 on, such as 8.6, 10.13.3 or 11, found {version!r}",
            hint="explain takes several, parted by commas" if "," in version else "",
        )
    return version


def preview(name: str, value: object, target: Target) -> Outcome:
    """What one option becomes with nothing else given: on 8.6, with the verdicts of 10 and 11 where they differ."""
    request = Request(target, BuildSpec(), RunSpec(), ())
    first, *later = (
        RULES.apply(name, value, Context(request, generation, alone=True)) for generation in versions.GENERATIONS
    )
    others: dict[str, list[str]] = {}
    for generation, outcome in zip(versions.GENERATIONS[1:], later, strict=True):
        if outcome.verdict is not first.verdict:
            becomes = outcome.becomes or re.sub(rf"^TensorRT {generation} ", "it ", outcome.because)
            others.setdefault(f"{outcome.verdict}, {becomes}", []).append(generation)
    texts = [f"on {' and '.join(generations)}: {text}" for text, generations in others.items()]
    return replace(first, because="; ".join(text for text in (first.because, *texts) if text))


def script_files(request: Request, calls: tuple[str, ...], version: str) -> dict[str, str]:
    """The program of ``--emitScript`` by its name; nothing when it was not asked for."""
    asked = [item.value for item in request.asked if item.name == "emitScript" and item.value]
    if not asked or request.run.artifact:
        return {}
    from ptqbridge import __version__
    from ptqbridge.backends.tensorrt.script import script

    needs = [name for name in (EDITED, OWN_CACHE) if any(beside(name) in text for text in calls)]
    words = [item.written for item in request.asked if item.name != "emitScript"]
    command = f"ptqbridge build {' '.join(words)}"
    artifact = default_artifact(request)
    if request.build.out and artifact:  # the script stands in that folder, and so does the engine
        engine = f"write_engine({quoted(artifact)}, "
        calls = tuple(text.replace(engine, f"write_engine({beside(Path(artifact).name)}, ") for text in calls)
    return {asked[-1]: script(calls, version=__version__, tensorrt=version, command=command, needs=needs)}


def lost_files(plan: Plan) -> Iterable[str]:
    """What an emitted script reads and nobody keeps, where no --out was given."""
    calls = plan.settings["calls"]
    lost = [name for name in (EDITED, OWN_CACHE) if any(beside(name) in text for text in calls)]
    if plan.files and lost and not plan.build.out:
        read = f"{next(iter(plan.files))} reads {' and '.join(lost)} in its own folder"
        yield f"{read}: give --out=FOLDER, which keeps them together"


def uses_own_cache(plan: Plan) -> bool:
    """Whether a call reads the cache of our own calibration, so that it has to be there."""
    return any("cached_ranges(" in text and beside(OWN_CACHE) in text for text in plan.settings["calls"])


def default_artifact(request: Request) -> str:
    """Where ``build`` puts the engine when ``--saveEngine`` does not say; "" where an engine need not be kept."""
    build = request.build
    if build.artifact or request.command != "build" or not build.model.path:
        return ""
    return str(Path(build.out or ".") / f"{Path(build.model.path).stem}.trt.engine")


def _artifact_fill(artifact: str) -> Iterable[Filled]:
    if artifact:
        yield Filled("--saveEngine", artifact, "named after the model")


def look(request: Request, *, stars: bool = False) -> Seen:
    """Whether the model is there and holds Q/DQ nodes. ``stars``: input names may be patterns."""
    path = request.build.model.path
    if request.run.artifact:
        if not Path(request.run.artifact).is_file():
            return Seen(notes=(f"{request.run.artifact} was not found: nothing about the engine was checked",))
        return _look_at_engine(request.run.artifact)
    if not path or request.build.model.format != "onnx":
        return Seen()
    if not Path(path).is_file():
        return Seen(notes=(f"{path} was not found: its input names, shapes and Q/DQ nodes were not checked",))
    from ptqbridge.model.load import Unreadable, load_model
    from ptqbridge.model.walk import all_nodes

    try:
        model = load_model(path)
    except InputError as error:
        unread = f"{path} could not be looked into: {error.message}"
        return Seen(notes=(unread,), wrong=(error.message,) if isinstance(error, Unreadable) else ())
    has_qdq = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in all_nodes(model.structure))
    known = {spec.name for spec in model.inputs}
    given = by_name(request.build.shapes, known) if stars else request.build.shapes
    strangers = [name for name in given if name not in known]
    wrong = tuple(f"{name!r} is no input of {path} ({', '.join(sorted(known))})" for name in strangers)
    shaped = any(spec.is_dynamic or (spec.dtype in ("int32", "int64") and len(spec.shape) < 2) for spec in model.inputs)
    if request.build.shapes and not shaped:
        wrong += (f"no input of {path} is dynamic: TensorRT takes no explicit shapes then",)
    unshaped = tuple(spec for spec in model.inputs if spec.is_dynamic and spec.name not in given)
    notes = tuple(f"{text}: the build would fail" for text in wrong)
    return Seen(has_qdq, notes, tuple(model.inputs), tuple(model.outputs), unshaped, wrong)


def _look_at_engine(path: str) -> Seen:
    """Whether the file can be an engine."""
    try:
        plan_version(path)
    except OtherForm:
        return Seen()
    except InputError as error:
        return Seen(notes=(error.message,), wrong=(error.message,))
    return Seen()


def refuse_wrong(made: Plan) -> None:
    """Raise InputError for what the model or the engine itself makes impossible, on every machine."""
    if made.settings["wrong"]:
        raise InputError("; ".join(made.settings["wrong"]))


def unseen_data(request: Request) -> Iterable[str]:
    """Calibration files that are not there: an error before a build, here said."""
    calibration = request.build.calibration
    for option, path in (("calib", calibration.cache), ("calibData", calibration.data)):
        if path and not Path(path).exists():
            yield f"--{option}: {path} was not found; a build would end with exit status 3"


def outcomes(request: Request, context: Context) -> Iterable[Outcome]:
    """The outcome of each option given that is carried over."""
    for item in request.asked:
        if item.name not in COMMON:
            outcome = RULES.apply(item.name, item.value, context)
            if outcome.verdict is not Verdict.REFUSED:
                yield outcome


def _emitted(kind: str, emitted: Iterable[Outcome]) -> list[str]:
    return [text for outcome in emitted for text in outcome.emits.get(kind, ())]


def performance_only(context: Context) -> str:
    """Why accuracy is meaningless; "" when it is not."""
    if not context.made_up:
        return ""
    source = "one batch of seeded noise" if context.strong else "fixed ranges (2 and 4), as trtexec makes them up"
    unseen = " (Q/DQ nodes in the model would do, but it could not be looked into)" if context.has_qdq is None else ""
    return f"INT8 from {source}: neither --calibData nor --calib was given{unseen}"


def fills(context: Context, found: versions.Found) -> tuple[Filled, ...]:
    """What is decided because the user did not say."""
    filled = [Filled("TensorRT version", found.version, found.origin)]
    if not context.loads:
        filled += _build_fills(context)
    if context.runs and not context.request.run.time_load:
        switches = {
            "useCudaGraph": "no CUDA graph",
            "useSpinWait": "no spin wait",
            "noDataTransfers": "copies in each query",
        }
        unsaid = [text for name, text in switches.items() if not context.gave(name)]
        if unsaid:
            filled.append(Filled("measuring", ", ".join(unsaid), "the defaults of trtexec 8.6.1, on every version"))
    if not context.gave("device"):
        filled.append(Filled("device", "0", "trtexec's default"))
    return tuple(filled)


def _build_fills(context: Context) -> Iterable[Filled]:
    if context.strong and not context.gave("fp16", "bf16", "int8", "best"):
        yield Filled("precision", "the model's own types", "a strongly typed network takes them from the ONNX")
    elif not context.gave("fp16", "bf16", "int8", "fp8", "int4", "best"):
        tf32 = "" if context.gave("noTF32") else ", TF32 allowed"
        yield Filled("precision", f"fp32{tf32}", "no precision option was given")
    if context.made_up:
        yield Filled("INT8 ranges", "made up", performance_only(context))
    if context.calibrates and not context.native and not context.gave("calibAlgo"):
        yield Filled("calibration method", DEFAULT_ALGORITHM, "the method of the calibrator that trtexec installs")
    if context.generation == "8.6" and not context.gave("inputIOFormats"):
        yield Filled("inputs", "fp32, linear", "trtexec 8.6 sets floating-point and INT8 inputs so")
    if not context.gave("builderOptimizationLevel", "heuristic"):
        yield Filled("builder optimization level", "3", "TensorRT's default")
    if not context.gave("timingCacheFile", "noBuilderCache"):
        yield Filled("timing cache", "in memory, for this build only", "no --timingCacheFile was given")


def _dynamic_fills(seen: Seen) -> Iterable[Filled]:
    for spec in seen.unshaped:
        yield Filled(f"shape of {spec.name}", ones(spec).text(), "trtexec takes 1 where no shape option says more")


def steps(context: Context, calls: tuple[str, ...], edits: tuple[str, ...]) -> tuple[Step, ...]:
    """What will be done, in order: files first, then one step per call."""
    build, run = context.request.build, context.request.run
    done: list[Step] = []
    if not context.loads:
        done += _preparation(context, edits)
    for text in calls:
        saves = build.artifact or default_artifact(context.request)
        done.append(Step(text, writes=(saves,) if text.startswith("write_engine(") else ()))
    if context.runs and not run.time_load:
        exports = (run.reports.export_times, run.reports.export_output, run.reports.export_profile)
        done.append(Step("measure, and print the performance summary", writes=tuple(path for path in exports if path)))
    return tuple(done)


def _preparation(context: Context, edits: tuple[str, ...]) -> Iterable[Step]:
    calibration = context.request.build.calibration
    editing = [Step(f"edit the ONNX: {'; '.join(edits)}", writes=(EDITED,))] if edits else []
    if not context.strong:
        yield from editing  # pruned weights, whose activations are then calibrated
    if context.native:
        yield Step(f"during the build: calibrate with {calibration.data}, by TensorRT on the GPU", writes=(OWN_CACHE,))
    elif context.calibrates:
        writes = () if context.strong else (OWN_CACHE,)
        algorithm = calibration.algorithm or DEFAULT_ALGORITHM
        yield Step(f"calibrate with {calibration.data} ({algorithm}), on the CPU", writes=writes)
    if context.made_up and context.strong:
        yield Step("calibrate with one batch of seeded noise, on the CPU")
    if context.strong:
        yield from editing


def _gaps(context: Context) -> Iterable[str]:
    if context.gave("sparsity") and context.request.build.sparsity == "force" and not context.loads:
        yield "--sparsity=force prunes weights without retraining: expect a loss of accuracy"
    if not context.loads and context.request.build.model.path:
        yield "calls with i, name or address in them are made once for each, those on context once for each stream"
