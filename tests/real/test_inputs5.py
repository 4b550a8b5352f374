"""Every kind of input through the real hb_mapper: the quantized model gives what the float model gives.

The nets tell colours, axes and channels apart, so a wrong order, layout, mean or scale would show in the cosine.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.real
Array = NDArray[Any]
Cli = Callable[..., dict[str, Any]]
SIDE, COUNT = 32, 3
MEAN, STD = (110.0, 128.0, 90.0), (50.0, 70.0, 60.0)
NUMBERS = "--scale=1 --mean=110,128,90 --std=50,70,60"


@pytest.fixture(scope="module")
def cli(root: Path, hb_mapper: Path) -> Cli:
    """``cli(line)`` is the JSON answer of a command that must succeed."""
    env = {**os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": str(root / "src")}

    def run(line: str) -> dict[str, Any]:
        words = [sys.executable, "-m", "ptqbridge", *shlex.split(line), "--json"]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def net(path: Path, inputs: dict[str, tuple[int, ...]], *, channels_last: bool = False) -> Path:
    """Two convolutions per input and their sum; with ``channels_last`` the inputs are N x H x W x C."""
    draw = np.random.default_rng(7)
    nodes, weights, ends = [], [], []
    for name, shape in inputs.items():
        count, source = shape[3] if channels_last else shape[1], name
        if channels_last:
            source = f"{name}_t"
            nodes.append(helper.make_node("Transpose", [name], [source], f"turn_{name}", perm=[0, 3, 1, 2]))
        for number, (few, many) in enumerate([(count, 8), (8, 4)]):
            weight = draw.normal(size=(many, few, 3, 3)) / (3 * few**0.5)
            weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w_{name}{number}"))
            made = f"{name}_c{number}"
            pads = [1, 1, 1, 1]
            nodes.append(
                helper.make_node("Conv", [source, weights[-1].name], [made], f"conv_{name}{number}", pads=pads)
            )
            source = made
            if number == 0:
                source = f"{name}_r"
                nodes.append(helper.make_node("Relu", [made], [source], f"relu_{name}"))
        ends.append(source)
    if len(ends) == 1:
        nodes[-1].output[0] = "y"
    else:
        nodes.append(helper.make_node("Add", ends, ["y"], "sum"))
    graph = helper.make_graph(
        nodes,
        "inputs",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, SIDE, SIDE])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def pictures(channels: int) -> Array:
    """N x H x W x C bytes in R, G, B: smooth, so that halving the chroma for nv12 costs little, and colourful."""
    draw = np.random.default_rng(3)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [[np.sin(6 * (x * a + y * b) + c) for a, b, c in draw.uniform(-1, 1, (channels, 3))] for _ in range(COUNT)]
    spread = np.array([90, 60, 40])[:channels]
    return np.clip(np.rint(np.moveaxis(np.array(waves), 1, 3) * spread + (120, 110, 140)[:channels]), 0, 255).astype(
        np.uint8
    )


def normalised(rgb: Array, color: str, *, channels_last: bool = False) -> Array:
    """What the float model wants, worked out here by itself."""
    values = rgb.astype(np.float64)
    if color == "bgr":
        values = values[..., ::-1]
    count = values.shape[-1]
    values = (values - np.array(MEAN[:count])) / np.array(STD[:count])
    return (values if channels_last else values.transpose(0, 3, 1, 2)).astype(np.float32)


def cosine(one: Array, other: Array) -> float:
    one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def reference(model: Path, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rows = [
        session.run(None, {name: array[number : number + 1] for name, array in feeds.items()})[0]
        for number in range(len(next(iter(feeds.values()))))
    ]
    return np.concatenate(rows)


def save_pngs(folder: Path, rgb: Array) -> Path:
    from PIL import Image

    folder.mkdir()
    for number, picture in enumerate(rgb):
        Image.fromarray(picture.squeeze()).save(folder / f"{number}.png")
    return folder


def built(cli: Cli, tmp_path: Path, options: str, config: dict[str, Any] | None = None, march: str = "bayes") -> Path:
    """A build at the lowest level; the .bin."""
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(config or {}))
    out = tmp_path / "m.bin"
    more = f"--horizonYaml={tmp_path}/more.yaml" if config else ""
    cli(
        f"build --target={march} --int8 --calibAlgo=max --builderOptimizationLevel=0 {options} {more} "
        f"--saveEngine={out} --out={tmp_path}/bundle"
    )
    return out


@dataclass(frozen=True)
class Kind:
    """What the model was trained with, what the board gives, and how near the outputs must be."""

    train: str
    runtime: str
    channels_last: bool = False
    least: float = 0.998


KINDS = [
    Kind("rgb", "rgb"),
    Kind("bgr", "bgr"),
    Kind("bgr", "rgb"),
    Kind("rgb", "bgr"),
    Kind("rgb", "yuv444"),
    Kind("bgr", "yuv444"),
    Kind("rgb", "nv12", least=0.99),
    Kind("bgr", "nv12", least=0.99),
    Kind("gray", "gray"),
    Kind("rgb", "rgb", channels_last=True),
    Kind("bgr", "nv12", channels_last=True, least=0.99),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.train}-{k.runtime}{'-last' if k.channels_last else ''}")
def test_pictures(cli: Cli, tmp_path: Path, kind: Kind) -> None:
    """Pictures and a recipe beside them are all that is given."""
    count = 1 if kind.train == "gray" else 3
    shape = (1, SIDE, SIDE, count) if kind.channels_last else (1, count, SIDE, SIDE)
    model = net(tmp_path / "m.onnx", {"x": shape}, channels_last=kind.channels_last)
    rgb = pictures(count)
    folder = save_pngs(tmp_path / "d", rgb)
    recipe = {"color": kind.train, "scale": 1, "mean": list(MEAN[:count]), "std": list(STD[:count])}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    config = {"input_parameters": {"input_type_rt": kind.runtime}}
    artifact = built(cli, tmp_path, f"--onnx={model} --calibData={folder}", config)
    # hb_mapper's samples: pixels before mean and scale, in the colour and layout of training.
    sample = np.fromfile(next((tmp_path / "bundle" / "calibration_data" / "x").glob("*")), np.float32).reshape(shape)
    first = rgb[:1, ..., ::-1] if kind.train == "bgr" else rgb[:1]
    np.testing.assert_array_equal(sample, first if kind.channels_last else first.transpose(0, 3, 1, 2))
    cli(f"infer --loadEngine={artifact} --calibData={folder} --out={tmp_path}/y.npy")
    got = np.load(tmp_path / "y.npy")
    right = reference(model, {"x": normalised(rgb, kind.train, channels_last=kind.channels_last)})
    assert cosine(got, right) > kind.least
    if count == 3:
        swapped = "rgb" if kind.train == "bgr" else "bgr"
        wrong = reference(model, {"x": normalised(rgb, swapped, channels_last=kind.channels_last)})
        assert cosine(got, wrong) < 0.95, "the net does not tell the colours apart"


def test_a_float_input_of_five_channels(cli: Cli, tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx", {"x": (1, 5, SIDE, SIDE)})
    data = np.random.default_rng(1).normal(size=(COUNT, 5, SIDE, SIDE)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    artifact = built(cli, tmp_path, f"--onnx={model} --calibData={tmp_path}/x.npy")
    cli(f"infer --loadEngine={artifact} --calibData={tmp_path}/x.npy --out={tmp_path}/y.npy")
    assert cosine(np.load(tmp_path / "y.npy"), reference(model, {"x": data})) > 0.998


@pytest.mark.parametrize("kind", ["rgb", "nv12"])
def test_a_picture_beside_a_float_input(cli: Cli, tmp_path: Path, kind: str) -> None:
    """Every list of the YAML has its entry for both; the samples of the one are pixels, of the other floats."""
    model = net(tmp_path / "m.onnx", {"picture": (1, 3, SIDE, SIDE), "map": (1, 5, SIDE, SIDE)})
    rgb = pictures(3)
    feeds = {
        "picture": normalised(rgb, "rgb"),
        "map": np.random.default_rng(1).normal(size=(COUNT, 5, SIDE, SIDE)).astype(np.float32),
    }
    np.savez(tmp_path / "d.npz", **feeds)
    config = {"input_parameters": {"input_type_rt": f"{kind};featuremap"}}
    artifact = built(cli, tmp_path, f"--onnx={model} --calibData={tmp_path}/d.npz {NUMBERS}", config)
    given = yaml.safe_load((tmp_path / "bundle" / "hb_mapper.yaml").read_text())["input_parameters"]
    assert (given["norm_type"], given["input_type_train"]) == ("data_mean_and_scale;no_preprocess", "rgb;featuremap")
    cli(f"infer --loadEngine={artifact} --calibData={tmp_path}/d.npz {NUMBERS} --out={tmp_path}/y.npy")
    assert cosine(np.load(tmp_path / "y.npy"), reference(model, feeds)) > (0.998 if kind == "rgb" else 0.99)


@pytest.mark.parametrize(("source", "march"), [("pyramid", "bayes"), ("resizer", "bayes"), ("pyramid", "bernoulli2")])
def test_sources_of_nv12(cli: Cli, tmp_path: Path, source: str, march: str) -> None:
    model = net(tmp_path / "m.onnx", {"x": (1, 3, SIDE, SIDE)})
    folder = save_pngs(tmp_path / "d", pictures(3))
    config = {"input_parameters": {"input_type_rt": "nv12"}, "compiler_parameters": {"input_source": {"x": source}}}
    line = f"--onnx={model} --calibData={folder} {NUMBERS}"
    artifact = built(cli, tmp_path, line, config, march)
    info = cli(f"info {artifact}")["model"]
    assert info["march"] == march
    assert info["inputs"][0]["kind"] == "nv12"
    cli(f"infer --loadEngine={artifact} --calibData={folder} {NUMBERS} --out={tmp_path}/y.npy")
    assert cosine(np.load(tmp_path / "y.npy"), reference(model, {"x": normalised(pictures(3), "rgb")})) > 0.99


def test_several_pictures_per_run(cli: Cli, tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx", {"x": (1, 3, SIDE, SIDE)})
    folder = save_pngs(tmp_path / "d", pictures(3))
    config = {"input_parameters": {"input_batch": 3, "input_type_rt": "nv12"}}
    artifact = built(cli, tmp_path, f"--onnx={model} --calibData={folder} {NUMBERS}", config)
    cli(f"infer --loadEngine={artifact} --calibData={folder} {NUMBERS} --out={tmp_path}/y.npy")
    assert cosine(np.load(tmp_path / "y.npy"), reference(model, {"x": normalised(pictures(3), "rgb")})) > 0.99


OPERATOR = """
import numpy as np
from horizon_nn.custom.op_registration import op_implement_register, op_shape_infer_register


@op_implement_register("Tilt")
class Tilt:
    def __init__(self, slope):
        self.slope = float(slope)

    def compute(self, x):
        return np.where(x > 0, x, x * self.slope).astype(np.float32)


@op_shape_infer_register("Tilt")
def infer_shape(shapes):
    return shapes
"""


def tilted(path: Path, *, custom: bool) -> Path:
    """Two convolutions with a leaky ReLU between them, which is an operator of our own when ``custom``."""
    draw = np.random.default_rng(5)
    weights = [
        numpy_helper.from_array((draw.normal(size=size) / 5).astype(np.float32), f"w{number}")
        for number, size in enumerate([(8, 3, 3, 3), (4, 8, 3, 3)])
    ]
    own = helper.make_node(
        "PyOp", ["a"], ["b"], "tilt", domain="horizon.custom", input_types=[TensorProto.FLOAT],
        output_types=[TensorProto.FLOAT], output_shape=["1,8,16,16"], module="ops.tilt", class_name="Tilt",
        compute="compute", slope="0.25",
    )  # fmt: skip
    middle = own if custom else helper.make_node("LeakyRelu", ["a"], ["b"], "tilt", alpha=0.25)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0"], ["a"], "c0", pads=[1, 1, 1, 1]),
            middle,
            helper.make_node("Conv", ["b", "w1"], ["y"], "c1", pads=[1, 1, 1, 1]),
        ],
        "tilted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])],
        weights,
        value_info=[helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8, 16, 16])],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid("horizon.custom", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets[: 1 + custom], ir_version=6), path)
    return path


def test_an_operator_written_in_python(cli: Cli, hb_mapper: Path, tmp_path: Path) -> None:
    """It is registered, runs on the CPU between two BPU subgraphs, and in infer, the simulation and by hand too."""
    model = tilted(tmp_path / "m.onnx", custom=True)
    data = np.random.default_rng(1).normal(size=(COUNT, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "tilt.py").write_text(OPERATOR)
    line = f"--onnx={model} --calibData={tmp_path}/x.npy --staticPlugins={tmp_path}/ops/tilt.py"
    artifact = built(cli, tmp_path, line)
    nodes = {node["name"]: node for node in json.loads(Path(f"{artifact}.json").read_text())["build"]["facts"]["nodes"]}
    assert (nodes["tilt"]["type"], nodes["tilt"]["processor"]) == ("PyOp", "CPU")
    cli(f"infer --loadEngine={artifact} --calibData={tmp_path}/x.npy --out={tmp_path}/y.npy")
    right = reference(tilted(tmp_path / "leaky.onnx", custom=False), {"x": data})
    assert cosine(np.load(tmp_path / "y.npy"), right) > 0.998
    answer = cli(f"run --loadEngine={artifact} --target=bayes --verify=sim")["run"]
    assert any("bit by bit" in note for note in answer["notes"])
    product = tmp_path / "bundle" / "model_output" / "m.bin"
    product.unlink()
    env = {"PATH": f"{hb_mapper.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", str(tmp_path / "bundle" / "run.sh")], env=env, check=True, capture_output=True)
    assert product.stat().st_size > 1000


def test_load_takes_the_ranges_of_q_dq_nodes(cli: Cli, root: Path, tmp_path: Path) -> None:
    """The thresholds of the product are the scales of the model, times 127."""
    proto = onnx.load(root / "examples" / "mynet" / "mynet.onnx")
    nodes, count = [], 0
    for node in list(proto.graph.node):
        if node.op_type in ("Conv", "Gemm"):
            count += 1
            proto.graph.initializer.append(numpy_helper.from_array(np.array(0.03 * count, np.float32), f"s{count}"))
            proto.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"z{count}"))
            scale = [f"s{count}", f"z{count}"]
            nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *scale], [f"q{count}"], f"Q{count}"))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{count}", *scale], [f"d{count}"], f"D{count}"))
            node.input[0] = f"d{count}"
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "q.onnx")
    line = f"build --onnx={tmp_path}/q.onnx --int8 --calibAlgo=load --target=bayes --builderOptimizationLevel=0"
    build = cli(f"{line} --saveEngine={tmp_path}/m.bin")["targets"]["bayes"]["build"]
    found = {node["name"]: node["threshold"] for node in build["facts"]["nodes"]}
    assert found["/features/features.0/Conv"] == pytest.approx(0.03 * 127, abs=0.01)
    assert found["/features/features.3/Conv"] == pytest.approx(0.06 * 127, abs=0.01)
    assert found["/fc/Gemm"] == pytest.approx(0.09 * 127, abs=0.01)
    assert build["performance_only"] is None
