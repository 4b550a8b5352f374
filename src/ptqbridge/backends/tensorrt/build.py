"""Building an engine: the model edited where the plan says so, then exactly the calls of the plan."""

from __future__ import annotations

import ast
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ptqbridge.backends.tensorrt.cache import check_cache
from ptqbridge.backends.tensorrt.call import read_call
from ptqbridge.backends.tensorrt.layers import compare, enforce, unknown_layers, wishes
from ptqbridge.backends.tensorrt.native import Native
from ptqbridge.backends.tensorrt.perform import Performer, build_part
from ptqbridge.backends.tensorrt.plan import lost_files, refuse_wrong, uses_own_cache
from ptqbridge.backends.tensorrt.run import require
from ptqbridge.backends.tensorrt.version import generation
from ptqbridge.errors import InputError, ToolchainFailed, ToolchainMissing
from ptqbridge.files import write_atomic
from ptqbridge.plan import Plan
from ptqbridge.result import AskedGot, BuildResult

SETTERS = ("set_layer_precisions(", "set_layer_output_types(")
"""Calls that ask for types of single layers."""
Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def build(plan: Plan, *, say: Say, progress: Progress | None) -> BuildResult:
    """Make the engine that ``plan`` describes. Raises what ``Performer.perform`` does, and InputError for the model."""
    begun = time.perf_counter()
    check_files(plan)
    if not plan.build.out:
        require()
    # With --out the model is prepared first: what is written there serves a machine that has the GPU.
    notes = list(lost_files(plan))
    with work_folder(plan) as folder:
        facts: dict[str, Any] = {"tensorrt_planned": plan.settings["version"]}
        facts |= check_cache(plan, say)
        if needs_preparation(plan):
            from ptqbridge.backends.tensorrt.prepare import prepare

            prepared = prepare(plan, folder, say=say, progress=progress)
            facts |= prepared.facts
            notes += prepared.notes
        try:
            require()
        except ToolchainMissing as error:
            raise _prepared_only(error, plan, notes, facts, say) from None
        native = Native(plan, say, progress)
        performer = Performer(plan.settings["version"], say, native)
        performer.names["beside"] = partial(os.path.join, folder)
        calls = list(build_part(plan.settings["calls"]))
        say(f"building with TensorRT ({len(calls)} calls)")
        obey = plan.build.precision.constraints == "obey"
        held = [text for text in calls if obey and text.startswith("write_engine(")]
        searched = next((index for index, text in enumerate(calls) if text.startswith("engine_bytes = ")), len(calls))
        try:
            performer.perform(calls[:searched])
            notes += _unknown_layers(plan, performer.names["network"])
            performer.perform(text for text in calls[searched:] if text not in held)
        finally:
            native.close()
        facts |= native.facts()
        notes += native.notes()
        rows, untold = _layer_types(plan, performer)
        notes += untold
        performer.perform(held)  # only an engine that obeys replaces the last one
        facts |= _refit_time(plan, performer, say)
        blob = performer.names["engine_bytes"]
        artifact = plan.build.artifact or plan.settings["artifact"]
        if not any(text.startswith("write_engine(") for text in calls):
            if not artifact:
                raise ToolchainFailed("target trt: no file was named for the engine")
            write_atomic(artifact, bytes(memoryview(blob)))
    facts |= {"tensorrt": str(performer.names["trt"].__version__), "engine_bytes": int(blob.nbytes)}
    facts["device"] = performer.names["device"].info()
    return BuildResult(
        target=plan.target.name,
        artifact=artifact,
        precision=precision_word(plan),
        performance_only=plan.performance_only,
        seconds=time.perf_counter() - begun,
        facts=facts,
        asked_got=rows,
        notes=tuple(notes),
    )


def _prepared_only(
    error: ToolchainMissing, plan: Plan, notes: list[str], facts: dict[str, Any], say: Say
) -> ToolchainMissing:
    """The error of a machine without a GPU; what was made here for one that has it is said, and so is how it went."""
    if not needs_preparation(plan):
        return error
    from ptqbridge.backends.tensorrt.prepare import nearness

    for text in (*(f"note: {note}" for note in notes), nearness(facts)):
        if text:
            say(text)
    script = "" if plan.files else "; give --emitScript=build.py for a script too"
    return ToolchainMissing(
        error.message, hint=f"{plan.build.out} holds what a machine with a GPU needs beside the model{script}"
    )


def _unknown_layers(plan: Plan, network: Any) -> tuple[str, ...]:
    """Requests for layers that the parsed network lacks, before kernels are searched for. Raises as unknown_layers."""
    if not any(text.startswith((*SETTERS, "set_layer_devices(")) for text in plan.settings["calls"]):
        return ()
    names = [network.get_layer(index).name for index in range(network.num_layers)]
    return unknown_layers(plan.build.precision, names, stars=generation(plan.settings["version"]) != "8.6")


def _layer_types(plan: Plan, performer: Performer) -> tuple[tuple[AskedGot, ...], tuple[str, ...]]:
    """Per-layer types asked for and got, and notes. Raises LimitNotMet for what obey does not allow."""
    names, precision = performer.names, plan.build.precision
    if not any(text.startswith(SETTERS) for text in plan.settings["calls"]):
        return (), ()  # nothing is asked for, or the types are written into the model and are what they are
    asked = wishes(names["network"])
    performer.perform(["inspector = engine.create_engine_inspector()"])
    text = names["inspector"].get_engine_information(names["trt"].LayerInformationFormat.JSON)
    rows, notes = compare(asked, text)
    enforce(rows, precision.constraints)
    return rows, notes


def _refit_time(plan: Plan, performer: Performer, say: Say) -> dict[str, Any]:
    """--timeRefit: milliseconds of one refit, on average; nothing where it was not asked for."""
    if not plan.settings.get("times_refit", False):
        return {}
    from ptqbridge.backends.tensorrt.refit import time_refit

    names, threads = performer.names, plan.run.threads
    took = time_refit(names["trt"], names, generation=generation(plan.settings["version"]), threads=threads)
    say(f"Engine refitted in {took:.6g} ms.")
    return {"refit_ms": took}


def check_files(plan: Plan) -> None:
    """Refuse what cannot succeed before anything is touched. Raises InputError."""
    model, calibration = plan.build.model.path, plan.build.calibration
    if model and not Path(model).is_file():
        raise InputError(f"--onnx: expected a model file, {model} was not found")
    refuse_wrong(plan)
    for option, path in (("calib", calibration.cache), ("calibData", calibration.data)):
        if path and not os.path.exists(path):
            raise InputError(f"--{option}: {path} was not found")
    for cache in timing_caches(plan.settings["calls"]):
        if not os.path.isdir(os.path.dirname(cache) or "."):  # it is written when the engine has been built
            raise InputError(f"--timingCacheFile: cannot write {cache}: its folder does not exist")


def timing_caches(calls: Iterable[str]) -> Iterator[str]:
    """The files that calls merge timings into."""
    for text in calls:
        if text.startswith("merge_timing_cache("):
            yield ast.literal_eval(read_call(text).arguments[0])


def needs_preparation(plan: Plan) -> bool:
    """Whether the model is edited or calibrated by ourselves first."""
    return bool(plan.settings["edits"]) or uses_own_cache(plan)


@contextmanager
def work_folder(plan: Plan) -> Iterator[str]:
    """Where edited models and caches go: the folder of ``--out``, else a temporary one."""
    if plan.build.out:
        os.makedirs(plan.build.out, exist_ok=True)
        yield plan.build.out
        return
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder:
        yield folder


def precision_word(plan: Plan) -> str:
    """What the engine may compute in, in a word or two."""
    words = plan.build.precision.allowed
    return "+".join(words) if words else "fp32"
