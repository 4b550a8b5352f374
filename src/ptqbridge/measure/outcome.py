"""What a run gave, on whatever target: figures, outputs, layers, and how all that was obtained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.measure.accuracy import AccuracyLoss
    from ptqbridge.measure.export import LayerTimes
    from ptqbridge.measure.summary import Performance
    from ptqbridge.measure.trace import Trace

    Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class LayerInfo:
    """Layers (names, or objects when detailed) and the names of inputs and outputs."""

    layers: Sequence[str | Mapping[str, Any]]
    bindings: Sequence[str]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The record of one ``run``. None (null in JSON) stands for what was not measured or does not exist.

    Attributes:
        artifact: what was run.
        performance: figures of the timing run; None if none was made or the profiler was attached to it.
        kept: that run's trace without warm-up.
        inputs: what was fed, by name.
        outputs: of stream 0 after the last query, by name. Empty if nothing ran.
        layers: per-layer milliseconds of ``profiled_runs`` queries, warm-up included.
        layer_info: what the artifact consists of, if that was asked for.
        profiles: shapes that each optimization profile allows, if that was asked for.
        load_s: seconds to load the artifact once.
        load_times_s: ``--timeDeserialize``: seconds of the first load and of those to average.
        device: name and value of what ran it, as ``=== Device Information ===`` shows them.
        policy: the effective measuring policy and the versions involved, as plain data.
        skipped: loaded but not run, as was asked.
        interrupted: an endless run was ended by Ctrl-C.
        accuracy: the outputs against the expected ones of ``--loadRefOutputs``.
    """

    artifact: str
    processor: str = "CPU"
    performance: Performance | None = None
    kept: Trace | None = None
    inputs: Tensors = field(default_factory=dict)
    outputs: Tensors = field(default_factory=dict)
    layers: LayerTimes | None = None
    profiled_runs: int = 0
    layer_info: LayerInfo | None = None
    profiles: Sequence[Mapping[str, Any]] = ()
    load_s: float | None = None
    load_times_s: tuple[float, ...] = ()
    device: Mapping[str, object] = field(default_factory=dict)
    policy: Mapping[str, object] = field(default_factory=dict)
    skipped: bool = False
    interrupted: bool = False
    accuracy: tuple[AccuracyLoss, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON; of inputs and outputs only type and shape (``--exportOutput`` writes values)."""
        info = self.layer_info
        return {
            "artifact": self.artifact,
            "performance": None if self.performance is None else self.performance.to_dict(),
            "load_s": self.load_s,
            "load_times_s": list(self.load_times_s) or None,
            "inputs": _signatures(self.inputs),
            "outputs": _signatures(self.outputs),
            "profile": None if self.layers is None else self._profile(),
            "layer_info": None if info is None else {"Layers": list(info.layers), "Bindings": list(info.bindings)},
            "profiles": [dict(row) for row in self.profiles] or None,
            "device": dict(self.device),
            "policy": dict(self.policy),
            "skipped": self.skipped,
            "interrupted": self.interrupted,
            "accuracy": {loss.output: loss.to_dict() for loss in self.accuracy} or None,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def _profile(self) -> dict[str, Any]:
        """The content of ``--exportProfile`` with its head as a field."""
        import json

        from ptqbridge.measure.export import profile_text

        head, *layers = json.loads(profile_text(self.layers or (), self.profiled_runs))
        return {"runs": head["count"], "layers": layers}


def _signatures(tensors: Tensors) -> dict[str, dict[str, Any]]:
    return {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in tensors.items()}
