"""The whole circle on the example model: samples, ranges, TensorRT cache, Q/DQ nodes, and the ranges again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.explicit import quantize_explicit
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.formats.reading import read_ranges
from ptqbridge.quantize.formats.trt_cache import parse_cache
from ptqbridge.quantize.formats.writing import write_ranges
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.verify import float_tensors


@pytest.mark.parametrize("algorithm", ["max", "percentile", "entropy2"])
def test_ranges_come_back_from_the_nodes_of_the_cache(algorithm: str, root: Path, tmp_path: Path) -> None:
    proto = onnx.load(root / "examples/mynet/mynet.onnx")
    shape = [1, *(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:])]
    generator = np.random.default_rng(3)
    samples = [{proto.graph.input[0].name: generator.normal(size=shape).astype(np.float32)} for _ in range(8)]
    prepared = prepare(proto, samples[0]).proto
    ranges = calibrate(prepared, float_tensors(prepared), samples, algorithm=algorithm, scheme="tensorrt")

    written = write_ranges(ranges, str(tmp_path / "a.cache"), Form.TRT_CACHE, version="8.6.1", calibrator="entropy2")
    assert not {loss.what for loss in written.losses} & {"names", "underflow"}
    loaded = read_ranges(tmp_path / "a.cache").ranges
    write_ranges(loaded, str(tmp_path / "b.cache"), Form.TRT_CACHE)
    assert (tmp_path / "b.cache").read_bytes() == (tmp_path / "a.cache").read_bytes()

    made = quantize_explicit(prepared, loaded)
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in made.proto.graph.initializer}
    scales = {
        node.input[0]: constants[node.input[1]]
        for node in made.proto.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in loaded.tensors
    }
    assert len(scales) >= 3
    cached = parse_cache((tmp_path / "a.cache").read_bytes()).amax()
    for name, scale in scales.items():
        assert np.float32(cached[name] / 127.0) == scale, name
        assert float(scale) * 127.0 == pytest.approx(ranges.tensors[name].amax, rel=1e-6), name
