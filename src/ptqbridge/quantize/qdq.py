"""Writes the quantized model: integer weights, and QuantizeLinear/DequantizeLinear where a placement wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.check import opset_of
from ptqbridge.quantize.explicit import quantize_explicit
from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, new_name
from ptqbridge.quantize.horizon import horizon_placement
from ptqbridge.quantize.placement import Placement, place

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptqbridge.quantize.ranges import Ranges

    Float32 = npt.NDArray[np.float32]

OLDEST_QDQ_OPSET = 10
"""The first opset with QuantizeLinear and DequantizeLinear."""
PER_CHANNEL_OPSET = 13
"""The first opset whose DequantizeLinear takes one scale per channel (attribute axis)."""

WEIGHT_TOP = 127
"""The largest weight magnitude as an integer; -128 is not used, so that the range is symmetric."""

_SMALLEST_SCALE = np.float32(1e-15)  # the product of two such scales is still a normal float32
_BIAS_LIMIT = 2.0**30  # leaves half of int32 for the accumulated products


@dataclass(frozen=True)
class _Scheme:
    """The number formats of a scheme."""

    reduce_range: bool  # pairs of weights stay within 128
    per_channel: bool  # one weight scale per output channel, or one per weight


@dataclass(frozen=True)
class _Affine:
    """value = (integer - zero_point) * scale, integers uint8."""

    scale: np.float32
    zero_point: int


def quantize(
    proto: onnx.ModelProto,
    ranges: Ranges,
    *,
    scheme: str = "onnxruntime",
    keep_float: frozenset[str] = frozenset(),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """``proto``, prepared by `ptqbridge.quantize.prepare.prepare` and not changed, as ``scheme`` quantizes it.

    ``onnxruntime``: what its integer kernels take. Weights are int8, symmetric, one scale per output channel, stored as
    integers, activations uint8 with zero exactly representable, biases int32 at scale input x weight. ``keep_float``
    names nodes that stay float32. ``reduce_range`` scales weights so that CPUs without integer dot products compute
    exactly (see `weight_scales`; `ptqbridge.quantize.cpu` tells which do).

    Below opset 13 weights get one scale per tensor, since DequantizeLinear has no axis there; `prepare` raises the
    opset where it can.

    ``tensorrt``: Q/DQ pairs for explicit quantization, as `ptqbridge.quantize.explicit.quantize_explicit` writes them;
    nodes that lack a range stay float. ``horizon``: a float model that rounds where hb_mapper's integers do, since it
    takes no quantized ONNX (`ptqbridge.quantize.twin.make_twin`).

    Raises InputError when ``ranges`` lacks a tensor or the opset is below 10 (no DequantizeLinear at all), and
    ValueError for another scheme, or ``reduce_range`` for one that has no such thing.
    """
    if reduce_range and scheme != "onnxruntime":
        raise ValueError(f"reduce_range is for onnxruntime only, not for {scheme!r}")
    opset = opset_of(proto)
    if opset < OLDEST_QDQ_OPSET:
        raise InputError(f"the model's opset {opset} has no QuantizeLinear; export it with opset 13 or later")
    if scheme == "tensorrt":
        return quantize_explicit(proto, ranges, keep_float).proto
    if scheme == "horizon":
        from ptqbridge.quantize.twin import make_twin, rounding  # imports this module

        rounded = horizon_placement(proto, keep_float)
        _check_all_there(rounded.observed, ranges)
        affine = rounding(scheme, asymmetric=ranges.details.get("asymmetric") is True)
        return make_twin(proto, rounded.root, ranges.tensors, affine, keep_float=keep_float)
    placement = place(proto, scheme, keep_float)
    _check_all_there(placement.observed, ranges)
    formats = _Scheme(reduce_range=reduce_range, per_channel=opset >= PER_CHANNEL_OPSET)
    return _Writer(proto, placement, ranges, formats).write()


def _check_all_there(needed: Sequence[str], ranges: Ranges) -> None:
    missing = [name for name in needed if name not in ranges.tensors]
    if missing:
        raise InputError(
            f"the calibration ranges lack {len(missing)} of {len(needed)} tensors, first {missing[0]!r}; "
            "they were made for another model or another choice of float layers"
        )


def affine_uint8(low: float, high: float) -> tuple[np.float32, int]:
    """Scale and zero point of uint8 for values in [low, high], widened so that it holds 0 exactly.

    scale = (high - low) / 255, zero_point = round(-low / scale) (ONNX QuantizeLinear, asymmetric case).
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = np.float32(max((high - low) / 255.0, float(_SMALLEST_SCALE)))
    return scale, int(np.clip(np.rint(-low / float(scale)), 0, 255))


class _Writer:
    def __init__(self, proto: onnx.ModelProto, placement: Placement, ranges: Ranges, formats: _Scheme) -> None:
        self.index = GraphIndex(proto)
        self.proto = proto
        self.placement = placement
        self.formats = formats
        self.taken = all_names(proto)
        self.affine = {name: self._affine(ranges, name) for name in placement.quantized}
        self.dequantized: dict[str, str] = {}  # tensor -> its name after Q/DQ
        self.raw: dict[str, str] = {}  # pinned tensor -> the new name of what its node makes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.cache: dict[tuple[object, ...], str] = {}
        self.biases: dict[str, dict[str, str]] = {}  # name of the Add after a MatMul -> its integer bias

    def _affine(self, ranges: Ranges, name: str) -> _Affine:
        found = ranges.tensors[self.placement.root(name)]
        return _Affine(*affine_uint8(found.min, found.max))

    def write(self) -> onnx.ModelProto:
        integer_made = self._integer_made()
        for name in self.index.inputs:
            if name in self.affine:
                self._add_pair(name, pinned=False)
        for node in self.index.nodes:
            is_integer = node.name in self.placement.integer
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for slot, name in enumerate(copy.input):
                # A float node reads the rounded value only where no other exists: behind an integer node.
                if name in self.dequantized and (is_integer or name in integer_made):
                    copy.input[slot] = self.dequantized[name]
                copy.input[slot] = self.biases.get(node.name, {}).get(name, copy.input[slot])
            if is_integer and node.op_type in ("Conv", "Gemm", "MatMul"):
                self._quantize_parameters(node, copy)
            for slot, name in enumerate(copy.output):
                if name in self.affine and name in self.index.pinned and name in integer_made:
                    self.raw[name] = copy.output[slot] = new_name(f"{name}_float", self.taken)
            self.nodes.append(copy)
            for name in node.output:
                if name in self.affine:
                    self._add_pair(name, pinned=name in self.raw)
        return self._assemble()

    def _integer_made(self) -> set[str]:
        """Quantized tensors made by an integer node, perhaps through a Relu or Clip that vanishes in Q."""
        made = set()
        for name in self.affine:
            position = self.index.maker.get(name)
            if position is None:
                continue
            node = self.index.nodes[position]
            if node.op_type in ("Relu", "Clip") and self.index.only_reader(node.input[0]) == position:
                position = self.index.maker.get(node.input[0], position)
            if self.index.nodes[position].name in self.placement.integer:
                made.add(name)
        return made

    def _add_pair(self, name: str, *, pinned: bool) -> None:
        """Q and DQ after tensor ``name``; a pinned tensor keeps its name for the value after DQ."""
        source = self.raw[name] if pinned else name
        affine = self.affine[name]
        scale = self._constant(f"{name}_scale", affine.scale)
        zero = self._constant(f"{name}_zero_point", np.uint8(affine.zero_point))
        integers = new_name(f"{name}_uint8", self.taken)
        after = name if pinned else new_name(f"{name}_dequantized", self.taken)
        self._node("QuantizeLinear", name, [source, scale, zero], integers)
        self._node("DequantizeLinear", name, [integers, scale, zero], after)
        self.dequantized[name] = after

    def _quantize_parameters(self, node: onnx.NodeProto, copy: onnx.NodeProto) -> None:
        weight_name = node.input[1]
        if weight_name not in self.index.constants:
            return
        weight = np.asarray(self.index.array(weight_name), np.float32)
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
        add, bias_name = self.index.bias_after(node)
        if add is None and len(node.input) > 2:
            bias_name = node.input[2]
        bias = np.asarray(self.index.array(bias_name), np.float32).reshape(-1) if bias_name else None
        input_scale = self.affine[node.input[0]].scale
        scale = weight_scales(weight, axis, bias, input_scale, reduce_range=self.formats.reduce_range)
        if not self.formats.per_channel:
            scale = scale.max(keepdims=True).reshape(())
        copy.input[1] = self._weight(weight_name, weight, axis, scale)
        if bias is None:
            return
        integer_bias = self._bias(bias_name, bias, input_scale * scale)
        if add is None:
            copy.input[2] = integer_bias
        else:
            self.biases[add] = {bias_name: integer_bias}

    def _weight(self, name: str, weight: Float32, axis: int, scale: Float32) -> str:
        key = (name, axis, scale.tobytes())
        if key not in self.cache:
            wide = [1] * weight.ndim
            if scale.ndim:
                wide[axis] = -1
            integers = np.clip(np.rint(weight / scale.reshape(wide)), -WEIGHT_TOP, WEIGHT_TOP)
            self.cache[key] = self._dequantize_constant(name, integers.astype(np.int8), scale, axis)
        return self.cache[key]

    def _bias(self, name: str, bias: Float32, scale: Float32) -> str:
        key = (name, scale.tobytes())
        if key not in self.cache:
            integers = np.rint(bias.astype(np.float64) / scale.astype(np.float64)).astype(np.int32)
            self.cache[key] = self._dequantize_constant(name, integers, scale, 0)
        return self.cache[key]

    def _dequantize_constant(self, name: str, integers: npt.NDArray[np.generic], scale: Float32, axis: int) -> str:
        kind = integers.dtype.name
        data = self._constant(f"{name}_{kind}", integers)
        scales = self._constant(f"{name}_scale", scale)
        zeros = self._constant(f"{name}_zero_point", np.zeros(scale.shape, integers.dtype))
        after = new_name(f"{name}_dequantized", self.taken)
        self._node("DequantizeLinear", name, [data, scales, zeros], after, axis=axis if scale.ndim else None)
        return after

    def _constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        name = new_name(name, self.taken)
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, op_type: str, about: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        name = new_name(f"{about}_{op_type}", self.taken)
        node = onnx.helper.make_node(op_type, inputs, [output], name)
        if axis is not None:
            node.attribute.append(onnx.helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def _assemble(self) -> onnx.ModelProto:
        """A new model that shares nothing with the old one; unused float weights are left out."""
        model = onnx.ModelProto(ir_version=max(self.proto.ir_version, 7), producer_name="ptqbridge")
        model.opset_import.extend(self.proto.opset_import)
        model.metadata_props.extend(self.proto.metadata_props)
        model.functions.extend(self.proto.functions)
        graph, old = model.graph, self.proto.graph
        graph.name = old.name or "graph"
        graph.node.extend(self.nodes)
        graph.output.extend(old.output)
        used = {name for node in self.nodes for name in node.input} | self.index.pinned
        graph.input.extend(value for value in old.input if value.name not in self.index.constants)
        graph.initializer.extend(tensor for tensor in old.initializer if tensor.name in used)
        graph.initializer.extend(self.constants)
        graph.sparse_initializer.extend(old.sparse_initializer)
        return model


def weight_scales(
    weight: Float32, axis: int, bias: Float32 | None, input_scale: np.float32, *, reduce_range: bool = False
) -> Float32:
    """One scale per slice of ``weight`` along ``axis``, so that weight / scale lies within +-127. Shape: (slices,).

    With ``reduce_range`` moreover any two integers of a slice add up to at most 128 in magnitude: 255 * 128 fits
    int16, which is what vpmaddubsw saturates at when it adds two products of uint8 and int8.

    Never so small that the bias at scale ``input_scale * scale`` would leave int32: a channel whose weights died but
    whose bias lives gets a larger scale instead of a wrong bias.
    """
    slices = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1)
    scale = slices.max(axis=1, initial=0.0) / np.float32(WEIGHT_TOP)
    if reduce_range and slices.shape[1] > 1:
        two_largest = np.partition(slices, -2, axis=1)[:, -2:].sum(axis=1)
        scale = np.maximum(scale, two_largest / np.float32(127.0))  # 127: rounding may add a half to each
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias) / (float(input_scale) * _BIAS_LIMIT))
    result: Float32 = np.maximum(scale, _SMALLEST_SCALE).astype(np.float32)
    return result
