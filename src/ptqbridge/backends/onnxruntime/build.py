"""Makes the .onnx artifact for the CPU: float32 as the graph optimiser leaves it, or a calibrated integer model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.backends.onnxruntime.artifact import stamp
from ptqbridge.backends.onnxruntime.cached import cached_ranges
from ptqbridge.backends.onnxruntime.fastest import fastest
from ptqbridge.backends.onnxruntime.formats import apply_formats
from ptqbridge.backends.onnxruntime.layers import asked_against_got, enforce, resolve_layers
from ptqbridge.backends.onnxruntime.plan import MADE_UP, Choices
from ptqbridge.backends.onnxruntime.session import SessionPolicy, open_session
from ptqbridge.backends.onnxruntime.shapes import check_shapes, concrete
from ptqbridge.data import Samples, asked_samples, seeded_noise
from ptqbridge.errors import InputError, OptionError
from ptqbridge.measure.compare import compare_outputs
from ptqbridge.model.interface import read_interface
from ptqbridge.model.load import Model, load_model
from ptqbridge.model.save import save_model
from ptqbridge.plan import Plan
from ptqbridge.quantize.calibrate import calibrate, memory_estimate
from ptqbridge.quantize.cpu import integer_unit
from ptqbridge.quantize.methods import SEARCHES
from ptqbridge.quantize.placement import WEIGHTED, observed_tensors
from ptqbridge.quantize.prepare import Prepared, prepare
from ptqbridge.quantize.qdq import quantize
from ptqbridge.quantize.report import kernel_report
from ptqbridge.quantize.search import verdict
from ptqbridge.result import AskedGot, BuildResult
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEME = "onnxruntime"
NOTHING_INTEGER = "no layer can run on integers"
_CHECKED_SAMPLES = 8
"""Samples whose outputs are compared with float32 after an int8 build: enough to see a broken model, soon done."""

Say = Callable[[str], None]


@dataclass
class _Candidate:
    """A model ready to be written, with what was found out while making it."""

    precision: str
    proto: onnx.ModelProto
    facts: dict[str, Any] = field(default_factory=dict)
    asked_got: tuple[AskedGot, ...] = ()
    notes: list[str] = field(default_factory=list)
    performance_only: str = ""
    hashes: dict[str, str] = field(default_factory=dict)


def build(plan: Plan, artifact: str, *, say: Say, progress: Callable[[int, int], None] | None = None) -> BuildResult:
    """Build what ``plan`` says and write it to ``artifact``, whole or not at all.

    ``say`` gets one line per stage, ``progress`` (samples done, all samples) from calibration's threads. Raises
    InputError for a model or data that do not fit, OptionError for layers or formats that do not exist, LimitNotMet
    when --precisionConstraints=obey is not met.
    """
    start = time.perf_counter()
    settled: Choices = plan.settings["choices"]
    if not plan.build.model.path:
        raise OptionError("--onnx: expected the path of a model, found an empty one")
    say(f"loading {plan.build.model.path}")
    model = load_model(plan.build.model.path)
    check_shapes(model.inputs, plan.build.shapes)
    check_shapes(model.inputs, plan.build.calibration.shapes)
    maker = _Maker(plan, settled, model, say, progress)
    if settled.precision == "fp32":
        chosen = maker.float32()
    elif settled.precision == "int8":
        chosen = maker.integer()
    else:
        chosen = maker.best()
    stamp(chosen.proto, plan, settled, chosen.precision, chosen.performance_only, chosen.hashes)
    say(f"writing {artifact}")
    _write(chosen.proto, artifact)
    return BuildResult(
        target=plan.target.name,
        artifact=artifact,
        precision=chosen.precision,
        performance_only=chosen.performance_only,
        seconds=time.perf_counter() - start,
        facts=chosen.facts,
        asked_got=chosen.asked_got,
        notes=tuple(chosen.notes),
    )


def _write(proto: onnx.ModelProto, artifact: str) -> None:
    """Save beside the final name, load it back as a user would, then rename: a broken artifact is never left."""
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder:
        trial = save_model(proto, Path(folder) / "artifact.onnx")[0]
        open_session(trial, SessionPolicy(1, None, "basic"))
    save_model(proto, artifact)


class _Maker:
    """Makes candidates from one model; what both precisions share is done once."""

    def __init__(
        self, plan: Plan, settled: Choices, model: Model, say: Say, progress: Callable[[int, int], None] | None
    ) -> None:
        self.plan, self.settled, self.model, self.say, self.progress = plan, settled, model, say, progress
        build = plan.build
        self.proto, self.format_notes = apply_formats(model.proto, build.input_formats, build.output_formats)
        self.inputs = model.inputs
        self._samples: Samples | None = None

    def float32(self) -> _Candidate:
        """The model as ONNX Runtime's portable graph optimisations leave it."""
        self._refuse_integer_layers()
        level = "basic" if self.settled.level == "basic" else "extended"
        self.say(f"optimising the graph ({level})")
        proto, note = optimised(self.proto, level)
        candidate = _Candidate("fp32", proto, hashes={"model_sha256": self.model.sha256})
        candidate.facts = {"nodes": len(proto.graph.node), "model_sha256": self.model.sha256}
        candidate.notes += [*self.format_notes, *([note] if note else [])]
        return candidate

    def _refuse_integer_layers(self) -> None:
        names = [node.name for node in self.model.structure.graph.node]
        requests = resolve_layers(self.plan.build.precision, names)
        enforce(asked_against_got(requests, {}, (), {}), self.plan.build.precision.constraints)

    def integer(self) -> _Candidate:
        """The calibrated integer model, checked against float32 where the data are real."""
        build = self.plan.build
        samples = self.samples()
        prepared = prepare(self.model.proto, next(iter(samples)).arrays)
        nodes = [node.name for node in prepared.proto.graph.node]
        requests = resolve_layers(build.precision, nodes)
        tensors = observed_tensors(prepared.proto, SCHEME, requests.keep_float)
        if not tensors:
            raise InputError(
                f"{self.model.path}: {NOTHING_INTEGER} (no Conv, Gemm or MatMul with constant weights is left)"
            )
        keep_float = requests.keep_float
        if build.calibration.cache:
            cached = cached_ranges(build.calibration.cache, prepared.proto, SCHEME, keep_float)
            ranges, keep_float, left_out = cached.ranges, cached.keep_float, []
            self.say(f"ranges from {build.calibration.cache}")
        else:
            cached = None
            ranges = self._calibrate(prepared, tensors, samples)
            left_out = [f"left out: {reason}" for reason in samples.skipped]
        unit = integer_unit()
        self.say("inserting Q/DQ")
        quantized = quantize(
            prepared.proto, ranges, scheme=SCHEME, keep_float=keep_float, reduce_range=unit.reduce_range
        )
        report = kernel_report(prepared.proto, quantized)
        rows = asked_against_got(requests, report.kernels, report.integer, _producers(prepared.proto))
        notes = [*requests.notes, *enforce(rows, build.precision.constraints), *prepared.notes]
        notes += cached.notes if cached else ()
        notes += () if cached and not build.calibration.data else samples.notes
        notes += [*left_out, *self.format_notes]
        if unit.reduce_range:
            notes.append(f"weights keep 7 bits: {unit.why}")
        proto, _ = apply_formats(quantized, build.input_formats, build.output_formats)
        return _Candidate(
            precision="int8",
            proto=proto,
            facts={
                "calibration": self._calibration_facts(ranges, samples),
                "kernels": list(report.summary()),
                "reduce_range": unit.reduce_range,
                **self._nearness(prepared.proto, quantized, samples),
            },
            asked_got=rows,
            notes=notes,
            performance_only=MADE_UP if self.settled.made_up else "",
            hashes={"model_sha256": self.model.sha256, **({} if cached else {"data_sha256": samples.fingerprint})},
        )

    def best(self) -> _Candidate:
        """Both candidates, timed by turns on the same data; the faster one is kept."""
        candidates = [self.float32()]
        try:
            candidates.append(self.integer())
        except InputError as error:
            if self.plan.build.calibration.data and NOTHING_INTEGER not in error.message:
                raise
            candidates[0].notes.append(f"int8 left the race: {error.message}")
            return candidates[0]
        inputs, _ = read_interface(candidates[0].proto, self.model.path)
        shapes = concrete(inputs, self.plan.build.shapes)
        self.say("timing float32 and int8 by turns")
        race = fastest({c.precision: c.proto for c in candidates}, shapes, self.plan.run, self.settled.level)
        winner = next(c for c in candidates if c.precision == race.winner)
        winner.facts = {**winner.facts, "race": race.to_dict()}
        winner.notes.append(race.text())
        return winner

    def samples(self) -> Samples:
        """The calibration data, or one batch of noise when there is none."""
        if self._samples is None:
            wanted = self.plan.build.calibration
            if wanted.data:
                self._samples = asked_samples(wanted, self.inputs)
            else:
                shapes = concrete(self.inputs, wanted.shapes, self.plan.build.shapes)
                self._samples = seeded_noise(shapes, 1, wanted.seed)
        return self._samples

    def _calibrate(self, prepared: Prepared, tensors: list[str], samples: Samples) -> Any:
        wanted = self.plan.build.calibration
        total = len(samples)
        what, over = counted(len(tensors), "tensor"), counted(total, "sample")
        self.say(f"calibrating {what} with {over} ({self.settled.algorithm})")
        estimate = memory_estimate(prepared.proto, tensors, samples, algorithm=self.settled.algorithm)
        self.say(estimate.text(wanted.memory_cap))
        progress = self.progress
        ranges = calibrate(
            prepared.proto,
            tensors,
            samples,
            algorithm=self.settled.algorithm,
            percentile=wanted.percentile,
            memory_cap=wanted.memory_cap,
            checkpoint=wanted.checkpoint or None,
            progress=(lambda done: progress(done, total)) if progress else None,
            model_fingerprint=self.model.sha256,
            data_fingerprint=samples.fingerprint,
            scheme=SCHEME,
        )
        if self.settled.algorithm in SEARCHES:
            self.say(verdict(ranges.details))
        return ranges

    def _calibration_facts(self, ranges: Any, samples: Samples) -> dict[str, Any]:
        return {
            "algorithm": ranges.method,
            "ranges": self.plan.build.calibration.cache or None,
            **{key: ranges.details[key] for key in ("winner", "base", "candidates") if key in ranges.details},
            "samples": ranges.samples if self.plan.build.calibration.cache else samples.used,
            "tensors": len(ranges.tensors),
            "data": self.plan.build.calibration.data or None,
            "data_sha256": samples.fingerprint,
            "skipped": list(samples.skipped),
            "recipes": {name: recipe.to_dict() for name, recipe in samples.recipes.items()},
        }

    def _nearness(self, reference: onnx.ModelProto, quantized: onnx.ModelProto, samples: Samples) -> dict[str, Any]:
        """Cosine of each output to float32 over the first samples, lowest of them; nothing for made-up ranges."""
        if not self.plan.build.calibration.data:
            return {}
        self.say("comparing with float32")
        names = [value.name for value in quantized.graph.output]
        lowest: dict[str, float] = {}
        taken = 0
        sessions = [_session(reference), _session(quantized)]
        for sample in samples:
            if taken == _CHECKED_SAMPLES:
                break
            taken += 1
            expected, found = (session.run(names, sample.arrays) for session in sessions)
            for name, want, have in zip(names, expected, found, strict=True):
                cosine = _cosine(want, have, name)
                if cosine is not None:
                    lowest[name] = min(lowest.get(name, 1.0), cosine)
        return {"cosine_to_float32": {"samples": taken, "lowest": lowest}}


def _producers(proto: onnx.ModelProto) -> dict[str, str]:
    """Node name to the name of the node that makes its first input; layers with weights are never fused backwards."""
    makers = {output: node.name for node in proto.graph.node for output in node.output}
    followers = [node for node in proto.graph.node if node.op_type not in WEIGHTED and node.input]
    return {node.name: makers[node.input[0]] for node in followers if node.input[0] in makers}


def _cosine(want: NDArray[Any], have: NDArray[Any], name: str) -> float | None:
    if not np.issubdtype(np.asarray(want).dtype, np.floating):
        return None
    comparison = compare_outputs(want, have, name)
    if comparison.not_finite:
        raise InputError(
            f"output {name!r} is not finite in {comparison.not_finite} places; the model or data are broken"
        )
    return comparison.cosine


def _session(proto: onnx.ModelProto) -> Any:
    from ptqbridge.model.save import session_model

    with session_model(proto) as source:
        return open_session(source, SessionPolicy(0, None, "all"))


def optimised(proto: onnx.ModelProto, level: str) -> tuple[onnx.ModelProto, str]:
    """The graph after ONNX Runtime's ``basic`` or ``extended`` optimisations, which fit every processor.

    The highest level rearranges weights for this processor's kernels, so it is applied at load instead. Returns the
    model as it is, with a note, where ONNX Runtime cannot write the result (above 2 GiB).
    """
    import onnxruntime

    from ptqbridge.backends.onnxruntime.session import runtime_errors
    from ptqbridge.model.save import session_model

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if level == "basic" else levels.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder, session_model(proto) as source:
        written = Path(folder) / "optimised.onnx"
        if not isinstance(source, bytes):
            return _copy(proto), "kept as it is: too large for ONNX Runtime to write back"
        options.optimized_model_filepath = str(written)
        try:
            with runtime_errors("the model: ONNX Runtime cannot optimise it"):
                onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except InputError as error:
            if "serialization failed" not in error.message:
                raise
            raise InputError(f"cannot write the optimised graph to {folder}: the disk may be full") from None
        return onnx.load(written), ""


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy
