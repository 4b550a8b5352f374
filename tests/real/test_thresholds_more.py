"""Thresholds and choices of the real hb_mapper on networks made up here, against our own calibration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.verify import needed_tensors

pytestmark = pytest.mark.real
SAMPLES = 20
Samples = list[dict[str, np.ndarray]]


def network(kind: str) -> onnx.ModelProto:
    """Random heavy-tailed weights: ``residual`` convolutions and a pool, or an ``attention`` between reshapes.

    With weights of a normal distribution ``mobile``: BatchNormalization, depthwise convolutions, ReLU6, hard swish,
    squeeze and excite, and what cuts or selects values without a convolution before it.
    """
    rng = np.random.default_rng(3)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op_type, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(source: str, channels: int, out: int, kernel: int = 3, group: int = 1) -> str:
        size = (out, channels // group, kernel, kernel)
        plain = rng.normal(size=size) * 1.4 if kind == "mobile" else rng.standard_t(3, size=size)
        weight = constant(f"weight{len(nodes)}", plain / np.sqrt(np.prod(size[1:])))
        bias = constant(f"bias{len(nodes)}", rng.normal(size=out))
        return add("Conv", source, weight, bias, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=group)

    def normal(source: str, channels: int) -> str:
        values = (rng.uniform(0.5, 2, channels), *rng.normal(size=(2, channels)) * 0.1, rng.uniform(0.5, 2, channels))
        names = [constant(f"{part}{len(nodes)}", v) for part, v in zip("sbmv", values, strict=True)]
        return add("BatchNormalization", source, *names)

    def relu6(source: str) -> str:
        return add("Clip", source, "zero", "six")

    if kind == "residual":
        start = add("Relu", conv("x", 8, 12))
        pooled = add("MaxPool", start, kernel_shape=[2, 2], strides=[2, 2])
        inner = add("LeakyRelu", conv(pooled, 12, 12), alpha=0.1)
        end = conv(add("Relu", add("Add", conv(inner, 12, 12), pooled)), 12, 6)
    elif kind == "mobile":
        for name, bound in (("zero", 0), ("six", 6), ("low", -3)):
            constant(name, np.float32(bound))
        start = relu6(normal(conv("x", 8, 16), 16))
        inner = relu6(normal(conv(start, 16, 16, group=16), 16))
        start = add("Add", normal(conv(inner, 16, 16, 1), 16), start)
        inner = normal(conv(start, 16, 24), 24)
        inner = add("Mul", inner, add("HardSigmoid", inner, alpha=1 / 6, beta=0.5))
        squeezed = add("Relu", conv(add("GlobalAveragePool", inner), 24, 6, 1))
        inner = add("Mul", inner, add("Sigmoid", conv(squeezed, 6, 24, 1)))
        pooled = add("MaxPool", inner, kernel_shape=[3, 3], pads=[1] * 4)
        joined = add("Relu", add("Concat", pooled, inner, normal(conv("x", 8, 8), 8), axis=1))
        inner = add("Clip", conv(joined, 56, 8, 1), "low", "six")
        end = conv(add("AveragePool", inner, kernel_shape=[3, 3], pads=[1] * 4), 8, 4, 1)
    else:
        constants += [
            numpy_helper.from_array(np.array(shape, np.int64), name)
            for name, shape in (("rows", [0, 8, 64]), ("planes", [0, 8, 8, 8]))
        ]
        one, two, three = (add("Reshape", conv("x", 8, 8, 1), "rows") for _ in range(3))
        weights = add("Softmax", add("MatMul", add("Transpose", one, perm=[0, 2, 1]), two), axis=2)
        mixed = add("MatMul", three, add("Transpose", weights, perm=[0, 2, 1]))
        end = conv(add("Add", add("Reshape", mixed, "planes"), "x"), 8, 4, 1)
    made = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])]
    out = [helper.make_tensor_value_info(end, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, kind, made, out, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    return onnx.shape_inference.infer_shapes(model)


def samples() -> Samples:
    rng = np.random.default_rng(4)
    spread = [rng.uniform(0.5, 1.5) for _ in range(SAMPLES)]
    return [{"x": (rng.standard_t(4, size=(1, 8, 8, 8)) * scale).astype(np.float32)} for scale in spread]


def real_thresholds(
    tool: Path, model: onnx.ModelProto, data: Samples, folder: Path, **wanted: object
) -> dict[str, float]:
    """The threshold of each activation in the calibrated model that hb_mapper writes."""
    onnx.save(model, folder / "m.onnx")
    (folder / "data").mkdir()
    for number, sample in enumerate(data):
        sample["x"].tofile(folder / "data" / f"{number:03d}.bin")
    config = {
        "model_parameters": {
            "onnx_model": "./m.onnx", "march": "bayes-e", "working_dir": "./out", "output_model_file_prefix": "m",
        },
        "input_parameters": {
            "input_type_rt": "featuremap", "input_type_train": "featuremap", "input_layout_train": "NCHW",
            "input_layout_rt": "NCHW", "norm_type": "no_preprocess",
        },
        "calibration_parameters": {"cal_data_dir": "./data", "cal_data_type": "float32", **wanted},
    }  # fmt: skip
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    argv = [str(tool), "makertbin", "--config", "c.yaml", "--model-type", "onnx"]
    env = {**os.environ, "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    names = {"x", *(name for node in model.graph.node for name in node.output)}
    for node in onnx.load(folder / "out" / "m_calibrated_model.onnx").graph.node:
        thresholds = [a for a in node.attribute if a.name == "thresholds"]
        if node.op_type == "HzCalibration" and node.input[0] in names:
            (found[node.input[0]],) = helper.get_attribute_value(thresholds[0])
    return found


METHODS: dict[str, tuple[dict[str, object], dict[str, object], float]] = {
    "max": ({"calibration_type": "max"}, {"algorithm": "max"}, 1e-5),
    "percentile": (
        {"calibration_type": "max", "max_percentile": 0.9995}, {"algorithm": "percentile", "percentile": 99.95}, 1e-4
    ),
    "kl": ({"calibration_type": "kl"}, {"algorithm": "kl"}, 1e-2),
    "default": ({"calibration_type": "default"}, {"algorithm": "default"}, 1e-2),
    "mix": ({"calibration_type": "mix"}, {"algorithm": "mix"}, 1e-2),
}  # fmt: skip
# On the attention default takes thresholds per channel.
CASES = [(kind, method) for kind in ("residual", "mobile", "attention") for method in METHODS]
CASES.remove(("attention", "default"))


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_thresholds(hb_mapper: Path, tmp_path: Path, kind: str, method: str) -> None:
    wanted, ours, tolerance = METHODS[method]
    model, data = network(kind), samples()
    expected = real_thresholds(hb_mapper, model, data, tmp_path, **wanted)
    found = calibrate(model, needed_tensors(model, "horizon"), data, scheme="horizon", **ours).tensors  # type: ignore[arg-type]
    assert len(expected) >= 6
    for name, threshold in expected.items():
        assert found[name].amax == pytest.approx(threshold, rel=tolerance), name
