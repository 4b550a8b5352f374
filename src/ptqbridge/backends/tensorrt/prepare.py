"""What happens to the model before TensorRT sees it: our own calibration, and the edits that the plan lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import onnx

from ptqbridge.backends.tensorrt.context import DEFAULT_ALGORITHM
from ptqbridge.backends.tensorrt.layers import unknown_layers
from ptqbridge.backends.tensorrt.plan import EDITED, uses_own_cache
from ptqbridge.backends.tensorrt.rules.bridge import OWN_CACHE
from ptqbridge.backends.tensorrt.rules.network import PRUNED
from ptqbridge.backends.tensorrt.rules.precision import QDQ, QDQ_CACHE, QDQ_NOISE
from ptqbridge.backends.tensorrt.types import edit_types
from ptqbridge.backends.tensorrt.version import release
from ptqbridge.backends.tensorrt.wildcards import matches
from ptqbridge.data import Samples, seeded_noise
from ptqbridge.data.asked import asked_samples
from ptqbridge.errors import InputError
from ptqbridge.measure.compare import compare_outputs
from ptqbridge.model.load import Model, load_model
from ptqbridge.model.save import save_model, session_model
from ptqbridge.plan import Plan
from ptqbridge.quantize.calibrate import calibrate, memory_estimate
from ptqbridge.quantize.explicit import explicit_placement, quantize_explicit
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.formats.reading import read_ranges
from ptqbridge.quantize.formats.writing import write_ranges
from ptqbridge.quantize.methods import SEARCHES
from ptqbridge.quantize.prepare import prepare as prepare_graph
from ptqbridge.quantize.prune import prune_two_of_four
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.search import verdict
from ptqbridge.quantize.verify import float_tensors
from ptqbridge.wording import counted

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
SCHEME = "tensorrt"
COMPARED = 8
"""Samples whose outputs are compared with the float model's."""


def calibration_batches(plan: Plan) -> tuple[Samples, dict[str, tuple[int, ...]]]:
    """The data in the batches that TensorRT calibrates with, and their shapes: the optimal shape of each input.

    The last batch may be smaller. Raises InputError for data that do not fit.
    """
    wanted = plan.build.calibration
    shapes = {**plan.build.shapes, **wanted.shapes}
    inputs = load_model(plan.build.model.path).inputs
    specs = [_concrete(spec, shapes.get(spec.name)) for spec in inputs]
    expected = {spec.name: tuple(map(int, spec.shape)) for spec in specs}
    batch = 1
    if all(spec.shape and isinstance(spec.shape[0], str) for spec in inputs):
        # One-row samples make up a batch where the batch axis is open; otherwise a sample is a batch.
        batch = max(shape[0] for shape in expected.values())
        specs = [replace(spec, shape=("batch", *spec.shape[1:])) for spec in specs]
    return asked_samples(replace(wanted, batch=batch), specs), expected


def remarks(samples: Samples) -> list[str]:
    """What is to be told of ``samples`` once they were all read."""
    return [*samples.notes, *(f"left out: {reason}" for reason in samples.skipped)]


@dataclass
class Prepared:
    """What was found out while preparing."""

    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def prepare(plan: Plan, folder: str, *, say: Say, progress: Progress | None) -> Prepared:
    """Write the edited model, the cache of our own calibration, or both, into ``folder``.

    Raises InputError for a model, data or cache that do not fit.
    """
    work = _Work(plan, load_model(plan.build.model.path), say, progress)
    proto = work.model.proto
    if plan.settings["edits"]:
        proto = work.edit(os.path.join(folder, EDITED))
    if uses_own_cache(plan):
        work.cache(os.path.join(folder, OWN_CACHE), proto)
    return work.done


def write_edited(plan: Plan, path: str, *, say: Say, progress: Progress | None) -> Prepared:
    """Only the edits of a plan for strong typing: the model with Q/DQ and types, written to ``path``."""
    work = _Work(plan, load_model(plan.build.model.path), say, progress)
    work.edit(path)
    return work.done


class _Work:
    def __init__(self, plan: Plan, model: Model, say: Say, progress: Progress | None) -> None:
        self.plan, self.model, self.say, self.progress = plan, model, say, progress
        self.done = Prepared()

    def cache(self, path: str, proto: onnx.ModelProto) -> None:
        """Ranges of every float tensor of the model that is built, as a TensorRT cache for the planned version."""
        ranges = self._calibrate(proto, float_tensors(proto), self._samples())
        planned = self.plan.settings["version"]
        version = release(planned)
        written = write_ranges(ranges, path, Form.TRT_CACHE, version=version, calibrator="entropy2")
        self.done.notes += written.notes
        if planned.count(".") < 2 and version != planned:
            text = f"the first line of {path} is for TensorRT {version}; trtexec passes over a cache of another version"
            self.done.notes.append(f"{text}, so name yours in full for it (--trtVersion=10.13.3)")
        self.say(f"calibration cache: {path}")

    def edit(self, path: str) -> onnx.ModelProto:
        """The edits in a fixed order: weights, Q/DQ, then types. Returns what is written."""
        edits = set(self.plan.settings["edits"])
        if edits - {PRUNED}:
            nodes = [node.name or node.output[0] for node in self.model.proto.graph.node]
            types = replace(self.plan.build.precision, layer_devices={})  # those are the parsed network's
            self.done.notes += unknown_layers(types, nodes, stars=True)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model.proto)
        if PRUNED in edits:
            self.done.facts["pruned_weights"] = prune_two_of_four(proto)
            self.say(f"pruned {self.done.facts['pruned_weights']} weights to 2:4")
        if edits & {QDQ, QDQ_CACHE, QDQ_NOISE}:
            proto = self._quantize(proto)
        if edits - {PRUNED, QDQ, QDQ_CACHE, QDQ_NOISE}:
            proto = edit_types(proto, self.plan, self._magnitudes(), self.done, self.say)
        save_model(proto, path)
        self.say(f"edited model: {path}")
        self._compare(proto)
        return proto

    def _compare(self, edited: onnx.ModelProto) -> None:
        """The lowest cosine of each output to the float model's, by ONNX Runtime over a few samples."""
        samples = self._samples()
        lowest: dict[str, float] = {}
        taken = 0
        try:
            with session_model(self.model.proto) as before, session_model(edited) as after:
                sessions = [_session(before), _session(after)]
                kinds = {entry.name: entry.type for entry in sessions[1].get_inputs()}
                for sample in islice(samples, COMPARED):
                    expected = sessions[0].run(None, sample.arrays)
                    found = sessions[1].run(None, {name: _typed(kinds[name], v) for name, v in sample.arrays.items()})
                    taken += 1
                    for entry, want, have in zip(sessions[0].get_outputs(), expected, found, strict=True):
                        cosine = compare_outputs(want, have.astype(want.dtype), entry.name).cosine
                        if cosine is not None and want.dtype.kind == "f":
                            lowest[entry.name] = min(lowest.get(entry.name, 1.0), cosine)
        except Exception as error:  # ONNX Runtime's own kinds; TensorRT may well run what it cannot
            reason = str(error).splitlines()[0][:200]
            self.done.notes.append(
                f"not compared with the float model: ONNX Runtime cannot run it on this CPU: {reason}"
            )
            return
        data = self.plan.build.calibration.data
        self.done.facts["cosine_to_float32"] = {"samples": taken, "lowest": lowest, "data": data or "noise"}

    def _quantize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        calibration = self.plan.build.calibration
        samples = None if calibration.cache else self._samples()
        graph = prepare_graph(proto, next(iter(samples)).arrays if samples else None)
        keep = layers_kept_float(self.plan, [node.name for node in graph.proto.graph.node])
        if samples is None:
            loaded = read_ranges(calibration.cache)
            ranges, notes = loaded.ranges, loaded.notes
        else:
            wanted = explicit_placement(graph.proto, keep).quantized
            ranges, notes = self._calibrate(graph.proto, list(wanted), samples), ()
        made = quantize_explicit(graph.proto, ranges, keep)
        if not made.placement.layers:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(made.placement.floats.items())[:3])
            raise InputError(f"no layer of {self.model.path} gets INT8" + (f" ({reasons})" if reasons else ""))
        self.done.notes += [*graph.notes, *notes]
        self.done.notes += [f"{name} stays float: {why}" for name, why in made.placement.floats.items()]
        self.done.facts["qdq"] = {
            "layers": len(made.placement.layers),
            "activations": len(made.placement.quantized),
            "float": dict(made.placement.floats),
            "ranges": calibration.cache or calibration.data or "noise",
            "method": ranges.method,
            "samples": ranges.samples,
        }
        self.say(
            f"Q/DQ: {counted(len(made.placement.layers), 'layer')} in INT8, {len(made.placement.floats)} stay float"
        )
        return made.proto

    def _magnitudes(self) -> dict[str, float] | None:
        """The largest magnitudes of activations, for checks against a type's range; None where nothing tells them."""
        calibration = self.plan.build.calibration
        if calibration.cache:
            return {name: found.amax for name, found in read_ranges(calibration.cache).ranges.tensors.items()}
        if not calibration.data:
            return None
        samples = self._samples()
        self.say(f"looking for the largest values over {counted(len(samples), 'sample')}")
        proto = self.model.proto
        cap = calibration.memory_cap
        ranges = calibrate(proto, float_tensors(proto), samples, algorithm="max", memory_cap=cap)
        return {name: found.amax for name, found in ranges.tensors.items()}

    def _samples(self) -> Samples:
        wanted = self.plan.build.calibration
        if not wanted.data:
            shapes = {**self.plan.build.shapes, **wanted.shapes}
            return seeded_noise([_concrete(spec, shapes.get(spec.name)) for spec in self.model.inputs], 1, wanted.seed)
        return asked_samples(wanted, self.model.inputs)

    def _calibrate(self, proto: onnx.ModelProto, tensors: list[str], samples: Samples) -> Ranges:
        wanted = self.plan.build.calibration
        total, progress = len(samples), self.progress
        algorithm = wanted.algorithm or DEFAULT_ALGORITHM
        self.say(f"calibrating {counted(len(tensors), 'tensor')} with {counted(total, 'sample')} ({algorithm})")
        self.say(memory_estimate(proto, tensors, samples, algorithm=algorithm).text(wanted.memory_cap))
        ranges = calibrate(
            proto,
            tensors,
            samples,
            algorithm=algorithm,
            percentile=wanted.percentile,
            memory_cap=wanted.memory_cap,
            checkpoint=wanted.checkpoint or None,
            progress=(lambda done: progress(done, total)) if progress else None,
            model_fingerprint=self.model.sha256,
            data_fingerprint=samples.fingerprint,
            scheme=SCHEME,
        )
        if algorithm in SEARCHES:
            self.say(verdict(ranges.details))
        self.done.notes += remarks(samples)
        self.done.facts["calibration"] = {
            "algorithm": ranges.method,
            "samples": samples.used,
            "tensors": len(ranges.tensors),
            "data": wanted.data or None,
            "data_sha256": samples.fingerprint,
            "skipped": list(samples.skipped),
        }
        return ranges


def nearness(facts: Mapping[str, Any]) -> str:
    """How near the edited model's outputs are to the float model's, in a line; "" where that was not looked at."""
    found = facts.get("cosine_to_float32")
    if not found:
        return ""
    figures = ", ".join(f"{name} {value:.5f}" for name, value in found["lowest"].items())
    count = counted(found["samples"], "sample")
    return f"lowest cosine to the float model over {count} of {found['data']}: {figures}"


def _session(source: bytes | str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Q/DQ pairs as the ONNX defines them: the integer kernels that ONNX Runtime would put in their place saturate on
    # processors without VNNI, which no GPU does.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _typed(kind: str, value: Any) -> Any:
    """A sample in the element type that an edited input takes."""
    names = {"tensor(float16)": "float16", "tensor(float)": "float32", "tensor(int32)": "int32"}
    return value.astype(names.get(kind, value.dtype))


def layers_kept_float(plan: Plan, nodes: list[str]) -> frozenset[str]:
    """Nodes that per-layer options ask for in another type than int8; one ``*`` may stand anywhere in a name."""
    if plan.build.precision.constraints == "none":
        return frozenset()
    kept: set[str] = set()
    for pattern, words in plan.build.precision.layers.items():
        chosen = [name for name in nodes if name == pattern] or [name for name in nodes if matches(pattern, name)]
        (kept.update if words[0] != "int8" else kept.difference_update)(chosen)
    return frozenset(kept)


def _concrete(spec: Any, asked: Any) -> Any:
    from ptqbridge.backends.tensorrt.io import ones

    return replace(spec, shape=tuple((asked or ones(spec)).opt))
