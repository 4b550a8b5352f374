"""``ptqbridge infer``: outputs, on a board for one input or a whole data set, or of a .bin without a board."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import SAMPLES, unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import InputError, LimitNotMet, OptionError
from ptqbridge.invocation import Invocation, single_target, understand

_DATA = (frozenset(SAMPLES) - {"onnx", "calibBatch"}) | {"loadEngine", "out"}
_ALONE = _DATA | {"toolchain"}
_ON_BOARD = _DATA | {
    *("board", "device", "loadInputs", "dumpOutput", "dumpRawBindingsToFile", "exportOutput"),
    *("loadRefOutputs", "accuracyAlgorithm", "accuracyThreshold", "atol", "rtol"),
}


def main(argv: list[str]) -> int:
    """Write or print the outputs."""
    invocation = understand(argv, command="infer", default_target=_target(argv))
    if invocation is None:
        print(command_help("infer", _ALONE | _ON_BOARD), end="")
        return 0
    options = invocation.options
    board, out = options.value("board"), options.value("out")
    left = unused(options, _ON_BOARD if board else _ALONE, "infer")
    artifact, data = invocation.run.artifact, invocation.build.calibration.data
    if not artifact or (not board and not (data and out)):
        more = "" if board else ", --calibData=DATA and --out=FILE.npz"
        hint = "" if board else "with --board, one inference needs --loadInputs instead"
        raise OptionError(f"infer: expected --loadEngine=FILE{'' if board else '.bin'}{more}", hint=hint)
    if not board and not artifact.lower().endswith(".bin"):
        if artifact.lower().endswith((".onnx", ".engine")):
            hint = "'ptqbridge run --loadEngine=FILE --loadInputs=NAME:FILE --exportOutput=FILE' computes one inference"
            raise OptionError(f"infer: expected an artifact for a Horizon chip, found {artifact}", hint=hint)
        raise OptionError(f"infer: {artifact} runs on its board only: expected --board, found none")
    if bool(data) != bool(out):
        raise OptionError("infer: --calibData=DATA and --out=FILE.npz belong together")
    if out and not out.endswith((".npz", ".npy")):
        raise OptionError(f"--out={out}: expected a name that ends in .npz or .npy")
    if data and (single := [name for name in _SINGLE if name in options]):
        raise OptionError(f"--{single[0]} is for one inference; --calibData runs a data set into --out")
    if not os.path.isfile(artifact):
        raise InputError(f"--loadEngine: {artifact} does not exist")
    speaker = Speaker(quiet=options.value("json"))
    for warning in options.warnings:
        speaker.warn(warning)
    if left:
        speaker.line(f"not used here, from the job file: {', '.join(left)}")
    start = time.perf_counter()
    if board:
        record = (_board_data if data else _board_once)(invocation, artifact, speaker)
    else:
        record = _alone(invocation, artifact, speaker)
    if out:
        for name, entry in record["outputs"].items():
            speaker.line(f"{name}: {entry['dtype']}{entry['shape']}")
        speaker.line(f"wrote {out} in {time.perf_counter() - start:.1f} s")
    record = {"command": "infer", **({"out": out} if out else {}), **record, "seconds": time.perf_counter() - start}
    if far := record.pop("far", ""):
        raise LimitNotMet(f"--accuracyThreshold: {far}", record=record)
    if options.value("json"):
        print(json.dumps({"ok": True, **record}, ensure_ascii=False, indent=1))
    return 0


_SINGLE = ("loadInputs", "dumpOutput", "dumpRawBindingsToFile", "exportOutput", "loadRefOutputs")


def _target(argv: list[str]) -> str:
    """The family is in the artifact's name; J6E is the first chip of its own."""
    return "nash-e" if any(word.lower().endswith(".hbm") for word in argv) else "bayes"


def _alone(invocation: Invocation, artifact: str, speaker: Speaker) -> dict[str, Any]:
    from ptqbridge.backends.horizon.dataset5 import infer

    out, toolchain = invocation.options.value("out"), invocation.options.value("toolchain")
    record = infer(artifact, invocation.build.calibration, out, toolchain=toolchain, say=speaker.line)
    if record["performance_only"]:
        speaker.warn(f"performance only: {record['performance_only']}")
    return record


def _march(invocation: Invocation) -> tuple[str, bool]:
    """The march, and whether it was asked for: then the artifact must have been built for it."""
    target = single_target(invocation).target
    if target.backend != "horizon":
        raise OptionError(f"--board: boards belong to the Horizon targets, not to {target.name}")
    return target.name, "target" in invocation.options


def _core(invocation: Invocation) -> int | None:
    return invocation.run.device if "device" in invocation.options else None


def _board_data(invocation: Invocation, artifact: str, speaker: Speaker) -> dict[str, Any]:
    from ptqbridge.backends.horizon.board import Board
    from ptqbridge.backends.horizon.boardinfer import infer_data
    from ptqbridge.backends.horizon.dataset5 import write_outputs

    options, board = invocation.options, Board(invocation.options.value("board"))
    wanted, core = invocation.build.calibration, _core(invocation)
    record, arrays = infer_data(artifact, _march(invocation), board, wanted, core=core, say=speaker.line)
    write_outputs(options.value("out"), arrays)
    return record


def _board_once(invocation: Invocation, artifact: str, speaker: Speaker) -> dict[str, Any]:
    from ptqbridge.backends.horizon.board import Board
    from ptqbridge.backends.horizon.boardinfer import infer
    from ptqbridge.measure import export as files
    from ptqbridge.measure.accuracy import accuracy_losses, failures

    reports, wanted = invocation.run.reports, invocation.run.expected
    outcome = infer(
        artifact,
        _march(invocation),
        Board(invocation.options.value("board")),
        invocation.run.inputs,
        preprocess=invocation.build.calibration.preprocess,
        core=_core(invocation),
        say=speaker.line,
    )
    took = None if outcome.kept is None else float(outcome.kept.latency()[0])
    if took is not None:
        speaker.line(f"one frame took {took:.3f} ms on {outcome.policy['board']}")
    losses = accuracy_losses(outcome.outputs, wanted) if wanted.files else ()
    lines = [loss.text() for loss in losses]
    lines += files.output_lines(outcome.outputs) if reports.dump_output else []
    lines += files.dump_raw_bindings(outcome.inputs, outcome.outputs) if reports.dump_raw else []
    if not (reports.dump_output or reports.dump_raw):
        lines += [f"{name}: {array.dtype.name}{list(array.shape)}" for name, array in outcome.outputs.items()]
    for line in lines:
        speaker.line(line)
    if reports.export_output:
        files.export_output(reports.export_output, outcome.outputs)
        speaker.line(f"wrote {reports.export_output}")
    record = outcome.to_dict()
    keys = ("artifact", "load_s", "inputs", "outputs", "device", "policy")
    accuracy = {loss.output: loss.to_dict() for loss in losses} or None
    return {key: record[key] for key in keys} | {"infer_ms": took, "accuracy": accuracy, "far": failures(losses)}
