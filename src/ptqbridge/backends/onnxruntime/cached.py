"""Ranges for the CPU from a file (--calib): a TensorRT cache, ranges.json or ONNX Runtime's calibration JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.formats.reading import read_ranges
from ptqbridge.quantize.placement import FOLDED, place
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.sources import GraphFacts
from ptqbridge.quantize.verify import fitted, verify
from ptqbridge.wording import counted

_NAMED = 3


@dataclass(frozen=True)
class CachedRanges:
    """``ranges`` hold a range of every tensor that is quantized once the nodes ``keep_float`` stay float."""

    ranges: Ranges
    keep_float: frozenset[str]
    notes: tuple[str, ...]


def cached_ranges(path: str, proto: onnx.ModelProto, scheme: str, keep_float: Iterable[str]) -> CachedRanges:
    """The ranges in ``path`` for the prepared model ``proto``; layers whose tensors it lacks stay float.

    A TensorRT cache holds magnitudes: the range is [-a, a], or [0, a] where the graph proves a tensor non-negative.
    Raises InputError for an unreadable file, and for one that covers no layer of the model.
    """
    loaded = read_ranges(path)
    coverage = verify(loaded.ranges, proto, "tensorrt")
    ranges = fitted(loaded.ranges, coverage)
    if loaded.form is Form.TRT_CACHE:
        facts = GraphFacts(proto)
        halved = {
            name: replace(found, min=0.0) if name in facts and facts.never_negative(name) else found
            for name, found in ranges.tensors.items()
        }
        ranges = replace(ranges, tensors=halved)
    asked = frozenset(keep_float)
    kept = asked
    makers = {output: node for node in proto.graph.node for output in node.output}
    wanted = place(proto, scheme, kept)
    while wanted.integer:
        lacking = {name for name in wanted.quantized if wanted.root(name) not in ranges.tensors}
        lacking |= {source for name in lacking for source in _behind_folded(name, makers)}
        left = {node.name for node in proto.graph.node if lacking & {*node.input, *node.output}} & wanted.integer
        if not left:
            break
        kept = kept | left
        wanted = place(proto, scheme, kept)
    if not wanted.integer:
        held = counted(len(loaded.ranges.tensors), "tensor")
        raise InputError(
            f"--calib: {path} has no range for any layer of this model; it holds {held}"
            f"{_first(loaded.ranges.tensors)}, the model has {len(coverage.needed)}{_first(coverage.needed)}",
            hint="ptqbridge calibrate verify shows what is missing",
        )
    notes = [*loaded.notes, f"{path}: ranges of {coverage.covered} of the model's {len(coverage.needed)} tensors"]
    if coverage.moved:
        notes.append(f"{len(coverage.moved)} names were matched by position{_first(coverage.moved)}")
    if kept - asked:
        notes.append(f"{len(kept - asked)} layers stay float32 for want of a range{_first(sorted(kept - asked))}")
    return CachedRanges(ranges, kept, tuple(notes))


def _behind_folded(name: str, makers: Mapping[str, onnx.NodeProto]) -> Iterator[str]:
    """The tensors from ``name`` back to the layer whose Q swallows the Relu or Clip between."""
    while (node := makers.get(name)) is not None and node.op_type in FOLDED:
        name = node.input[0]
        yield name


def _first(names: Iterable[str]) -> str:
    shown = [repr(name) for name in list(names)[:_NAMED]]
    return f" (first {', '.join(shown)})" if shown else ""
