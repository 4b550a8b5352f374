"""``infer`` and ``info`` on a board: one inference, a whole data set, or what the board tells of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.board import Board
from ptqbridge.backends.horizon.boardfiles import TOOL, Staged
from ptqbridge.backends.horizon.boardlog import ModelInfo, parse_infer
from ptqbridge.backends.horizon.boardrun import device, left_by, recipe_of, trace
from ptqbridge.backends.horizon.boardtensor import Intake, from_float, intakes, outputs_of
from ptqbridge.backends.horizon.boardvisit import Argv, Visit, visit
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.data.asked import asked_samples
from ptqbridge.errors import InputError
from ptqbridge.measure.outcome import Outcome
from ptqbridge.spec import Calibration, Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.data.reading import Sample
    from ptqbridge.data.recipe import Recipe

    Arrays = dict[str, NDArray[Any]]

Say = Callable[[str], None]
CHUNK = 32
"""Samples of a data set that are sent, run and taken away again together."""


def read_info(artifact: str, board: Board, *, say: Say) -> tuple[ModelInfo, str]:
    """What the board's tool tells of ``artifact``, and where that tool is. Any march will do."""
    march = MARCHES["nash-e" if artifact.lower().endswith(".hbm") else "bayes"]
    with visit(board, march, artifact, say) as stay:
        stay.bring([stay.model])
        return stay.info(any_march=True), stay.tool


def infer(
    artifact: str,
    march: tuple[str, bool],
    board: Board,
    given: Mapping[str, str],
    *,
    preprocess: Preprocess,
    core: int | None,
    say: Say,
) -> Outcome:
    """One frame on the board: its outputs by name, and how long it took as the only frame of ``kept``.

    ``given`` is a file by input name; what is missing is noise. ``march`` is its name, and whether the model must have
    been built for it; ``core`` counts from 0. Raises as ``boardrun.run``.
    """
    chip = MARCHES[march[0]]
    with visit(board, chip, artifact, say) as stay:
        stay.bring([stay.model])
        info = stay.info(any_march=not march[1])
        files, inputs = stay.inputs(info, given, recipe_of(preprocess))
        stay.bring(files)
        command = _command(stay, files, core)
        session = stay.checked([command])
        outputs = outputs_of(info, left_by(session, 0), dequantized=chip.journey6)
    load_ms = info.load_ms
    return Outcome(
        artifact,
        "BPU",
        kept=trace(parse_infer(session.outputs[0])),
        inputs=inputs,
        outputs=outputs,
        load_s=None if load_ms is None else load_ms / 1000,
        device=device(chip),
        policy={
            "board": board.name,
            "tool": stay.tool,
            "commands": [list(command)],
            "versions": {"runtime": info.runtime, "builder": info.builder},
            "model": info.to_dict(),
        },
    )


def _command(stay: Visit, files: Sequence[Staged], core: int | None) -> Argv:
    """An infer of one frame whose outputs are dumped, as plain floats where the tool can do that."""
    plain = ("--dequantize_process=true", "--remove_padding_process=true") if stay.march.journey6 else ()
    which = () if core is None else (f"--core_id={core + 1}",)
    named = f"--input_file={','.join(map(stay.there, files))}"
    dump = ("--frame_count=1", "--enable_dump=true", "--dump_format=bin")
    return (TOOL, "infer", f"--model_file={stay.artifact}", named, *which, *dump, *plain)


def infer_data(
    artifact: str,
    march: tuple[str, bool],
    board: Board,
    wanted: Calibration,
    *,
    core: int | None,
    say: Say,
) -> tuple[dict[str, Any], Arrays]:
    """Every sample of ``wanted.data`` on the board: what is to be told as JSON, and the outputs, row after row.

    Samples are what the float model takes, as for calibration; where the model takes pixels they are brought to its
    colour, layout and form. Raises as ``boardrun.run``, and InputError when no sample is left.
    """
    import numpy as np

    chip = MARCHES[march[0]]
    rows: dict[str, list[NDArray[Any]]] = {}
    times: list[float] = []
    with visit(board, chip, artifact, say) as stay:
        stay.bring([stay.model])
        info = stay.info(any_march=not march[1])
        known = intakes(info)
        samples = asked_samples(wanted, [intake.spec for intake in known])
        for note in samples.notes:
            say(f"note: {note}")
        asked = recipe_of(wanted.preprocess)
        recipes = {
            intake.name: samples.recipes.get(intake.name) or (asked.resolve(intake.spec) if asked else None)
            for intake in known
            if intake.kind
        }
        for chunk in _chunks(samples, CHUNK):
            outputs, took = _run_chunk(stay, info, known, recipes, chunk, core)
            times += took
            for each in outputs:
                for name, array in each.items():
                    rows.setdefault(name, []).append(np.atleast_1d(array))
            say(f"{len(times)} of {len(samples)} samples")
        for reason in samples.skipped:
            say(f"note: left out: {reason}")
    if not rows:
        raise InputError(f"no sample is left: {samples.skipped[0] if samples.skipped else 'there was none'}")
    arrays = {name: np.concatenate(parts) for name, parts in rows.items()}
    record = {
        "artifact": artifact,
        "board": board.name,
        "samples": samples.used,
        "data_sha256": samples.fingerprint,
        "skipped": list(samples.skipped),
        "outputs": {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()},
        "how": "hrt_model_exec infer, one frame per sample, on the board",
        "infer_ms": {"mean": float(np.mean(times)), "min": min(times), "max": max(times)},
        "versions": {"runtime": info.runtime, "builder": info.builder},
        "notes": list(samples.notes),
    }
    return record, arrays


def _chunks(samples: Any, size: int) -> Iterator[list[Sample]]:
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _run_chunk(
    stay: Visit,
    info: ModelInfo,
    known: Sequence[Intake],
    recipes: Mapping[str, Recipe | None],
    chunk: Sequence[Sample],
    core: int | None,
) -> tuple[list[Arrays], list[float]]:
    """The outputs and the milliseconds of some samples; their files are taken away again."""
    rows: list[list[Staged]] = []
    for sample in chunk:
        files: list[Staged] = []
        for intake in known:
            array = sample.arrays[intake.name]
            for part in from_float(intake, array, recipes.get(intake.name), sample.name):
                files.append(stay.written(part, f"{len(rows)}_{len(files)}"))
        rows.append(files)
    fresh = [file for files in rows for file in files]
    stay.bring(fresh)
    session = stay.checked([_command(stay, files, core) for files in rows])
    outputs = [
        outputs_of(info, left_by(session, number), dequantized=stay.march.journey6) for number in range(len(rows))
    ]
    stay.drop(fresh)
    return outputs, [parse_infer(text)[0] for text in session.outputs]
