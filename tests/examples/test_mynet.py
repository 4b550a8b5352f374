"""The example network: complete, small, no leak between its splits, and as good as its page says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mynet"
MODELS = ("mynet.onnx", "mynet_dynamic.onnx")


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    """The example's accuracy.py as a module."""
    spec = importlib.util.spec_from_file_location("mynet_accuracy", EXAMPLE / "accuracy.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Each dimension's size, or its name where it is dynamic."""
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


def linear_model(path: Path, values: int, kind: int = TensorProto.FLOAT, batch: int = 7) -> Path:
    """A model of fixed batch size: the first ``values`` pixels of each image, in type ``kind``."""
    nodes = [
        helper.make_node("Flatten", ["input1"], ["flat"], axis=1),
        helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["output1"]),
    ]
    numbers = {"starts": [0], "ends": [values], "axes": [1]}
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("input1", kind, [batch, 3, 28, 28])],
        [helper.make_tensor_value_info("output1", kind, [batch, values])],
        [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 6
    onnx.save(model, str(path))
    return path


def test_everything_is_there_and_small() -> None:
    wanted = {"README.md", "train.py", "accuracy.py", "calib/recipe.yaml", "test.npz", *MODELS}
    wanted |= {"test_small/sample.npy", "test_small/sample.bin"}
    files = [each for each in EXAMPLE.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    missing = wanted - {each.relative_to(EXAMPLE).as_posix() for each in files}
    assert not missing
    assert sum(each.stat().st_size for each in files) < 2_000_000


@pytest.mark.parametrize(("name", "batch"), [(MODELS[0], 1), (MODELS[1], "batch")])
def test_models_are_what_the_old_toolchains_read(name: str, batch: int | str) -> None:
    model = onnx.load(str(EXAMPLE / name))
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 11)]
    assert model.ir_version <= 7
    assert [(each.name, shape_of(each)) for each in model.graph.input] == [("input1", [batch, 3, 28, 28])]
    assert [(each.name, shape_of(each)) for each in model.graph.output] == [("output1", [batch, 10])]
    kinds = [node.op_type for node in model.graph.node]
    block = ["Conv", "BatchNormalization", "Relu"]
    assert kinds == [*block, *block, "MaxPool", "Flatten", "Gemm"]
    assert all(node.name.endswith(node.op_type) for node in model.graph.node)


def test_float_top1_and_static_like_dynamic(accuracy: ModuleType) -> None:
    images, labels = accuracy.load_test()
    assert images.dtype == np.uint8 and images.shape == (len(labels), 28, 28, 3) and len(labels) >= 500
    assert labels.dtype == np.int64 and set(labels) == set(range(10))
    inputs = accuracy.preprocess(images, accuracy.load_recipe())
    static, dynamic = (accuracy.predict(EXAMPLE / name, inputs) for name in MODELS)
    assert static.shape == (len(labels), 10)
    assert accuracy.top1(static, labels) >= 0.97
    np.testing.assert_allclose(static, dynamic, rtol=1e-4, atol=1e-4)


def test_readme_states_the_measured_top1(accuracy: ModuleType) -> None:
    row = accuracy.compare([EXAMPLE / "mynet.onnx"])[0]
    stated = re.search(r"(\d+) of (\d+) test images", (EXAMPLE / "README.md").read_text(encoding="utf-8"))
    assert stated is not None
    assert int(stated[2]) == row["samples"]
    assert abs(int(stated[1]) - row["correct"]) <= 1  # another CPU's rounding may turn a close call


def test_calibration_images_load_and_are_not_test_images(accuracy: ModuleType) -> None:
    image = pytest.importorskip("PIL.Image")
    pictures: dict[bytes, str] = {}
    for path in sorted((EXAMPLE / "calib").glob("*.png")):
        with image.open(path) as opened:
            assert (opened.mode, opened.size) == ("RGB", (28, 28)), path.name
            pictures[np.asarray(opened).tobytes()] = path.name
    assert len(pictures) == 100
    digits = [name[len("digit")] for name in pictures.values()]
    assert {digit: digits.count(digit) for digit in digits} == {str(digit): 10 for digit in range(10)}
    tested = {each.tobytes() for each in accuracy.load_test()[0]}
    assert not tested & pictures.keys()
    images = np.stack([np.frombuffer(each, np.uint8).reshape(28, 28, 3) for each in pictures])
    values = accuracy.preprocess(images, accuracy.load_recipe())
    assert abs(float(values.mean())) < 0.1 and abs(float(values.std()) - 1) < 0.1


def test_the_single_sample_is_the_first_test_image(accuracy: ModuleType) -> None:
    sample = np.load(EXAMPLE / "test_small" / "sample.npy", allow_pickle=False)
    assert sample.dtype == np.float32 and sample.shape == (1, 3, 28, 28)
    assert (EXAMPLE / "test_small" / "sample.bin").read_bytes() == sample.tobytes()
    images, _ = accuracy.load_test()
    np.testing.assert_allclose(sample, accuracy.preprocess(images[:1], accuracy.load_recipe()), rtol=1e-6, atol=1e-6)


def test_preprocess_is_the_stated_formula(accuracy: ModuleType) -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    recipe = {"scale": 0.5, "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0], "layout": "nchw"}
    planes = accuracy.preprocess(images, recipe)
    assert planes.dtype == np.float32 and planes.shape == (2, 3, 4, 5)
    assert planes[1, 2, 3, 4] == (images[1, 3, 4, 2] * 0.5 - 3.0) / 4.0
    rows = accuracy.preprocess(images, {**recipe, "layout": "nhwc"})
    np.testing.assert_array_equal(rows.transpose(0, 3, 1, 2), planes)


def test_cosines_of_known_vectors(accuracy: ModuleType) -> None:
    a = np.array([[1, 0], [1, 0], [3, 4], [0, 0], [0, 0]], np.float32)
    b = np.array([[0, 2], [-5, 0], [6, 8], [0, 0], [1, 0]], np.float32)
    np.testing.assert_allclose(accuracy.cosines(a, b), [0, -1, 1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_fixed_batch_that_does_not_divide_the_set(accuracy: ModuleType, tmp_path: Path, kind: int) -> None:
    model = linear_model(tmp_path / "pixels.onnx", 10, kind)
    inputs = np.random.default_rng(0).random((17, 3, 28, 28), dtype=np.float32)
    outputs = accuracy.predict(model, inputs)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, inputs.reshape(17, -1)[:, :10], atol=1e-3)


def test_command_line_prints_and_writes_json(
    accuracy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figures.json"
    paths = [str(EXAMPLE / name) for name in MODELS]
    assert accuracy.main([*paths, "--json", str(target)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:]] == paths
    first, second = json.loads(target.read_text(encoding="utf-8"))["models"]
    assert first["top1"] == first["correct"] / first["samples"] >= 0.97
    assert first["cosine_min"] == pytest.approx(1)
    assert second["cosine_min"] == pytest.approx(1, abs=1e-6)


def test_unusable_models_end_in_one_line(
    accuracy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(EXAMPLE / "mynet.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    whole_numbers = linear_model(tmp_path / "int.onnx", 10, TensorProto.INT32)
    other_shape = linear_model(tmp_path / "wide.onnx", 12)
    for bad in (tmp_path / "absent.onnx", broken, whole_numbers, other_shape):
        assert accuracy.main([good, str(bad)]) == 3
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1 and str(bad) in shown.err
