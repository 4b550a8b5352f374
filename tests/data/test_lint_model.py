"""The model's first BatchNormalization as a witness of how the training data was prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.data import open_samples
from ptqbridge.data.lint import Finding, lint_data
from ptqbridge.spec.tensor import TensorSpec

SPEC = TensorSpec("x", "float32", ("n", 3, 16, 16))
MEAN = np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def photos(rng: np.random.Generator, count: int = 40) -> np.ndarray:
    """0..1, red brighter than blue, neighbours alike."""
    base = rng.random((count, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    noise = rng.random((count, 3, 16, 16))
    return (0.7 * base + 0.3 * noise) * np.array([0.95, 0.75, 0.55]).reshape(1, 3, 1, 1)


@pytest.fixture
def model(rng: np.random.Generator) -> onnx.ModelProto:
    """One 1x1 convolution and a BatchNormalization settled on ImageNet-normalised photos."""
    weight = rng.normal(size=(8, 3, 1, 1)).astype(np.float32)
    seen = np.einsum("nchw,oc->nohw", (photos(rng, 200) - MEAN) / STD, weight[:, :, 0, 0])
    values = {
        "w": weight,
        "gamma": np.ones(8, np.float32),
        "beta": np.zeros(8, np.float32),
        "mean": seen.mean(axis=(0, 2, 3)).astype(np.float32),
        "var": seen.var(axis=(0, 2, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def findings(save_npy: Callable[..., Path], model: onnx.ModelProto) -> Callable[[np.ndarray], list[Finding]]:
    def run(array: np.ndarray) -> list[Finding]:
        samples = open_samples(save_npy("d.npy", array.astype(np.float32)), [SPEC])
        return lint_data(samples, [SPEC], proto=model)

    return run


def test_data_as_in_training_is_fine(findings: Callable[..., list[Finding]], rng: np.random.Generator) -> None:
    assert findings((photos(rng) - MEAN) / STD) == []


@pytest.mark.parametrize(
    ("prepare", "change"),
    [
        (lambda p: (p[:, ::-1] - MEAN) / STD, "with red and blue swapped"),
        (lambda p: p, "normalised by ImageNet's mean and std"),
        (lambda p: np.rint(p * 255), "divided by 255 and normalised by ImageNet's mean and std"),
        (lambda p: ((p - MEAN) / STD - MEAN) / STD, "with ImageNet's mean and std undone"),
        (lambda p: (p - MEAN) / STD / 255, "times 255"),
    ],
)
def test_mistakes_are_recognised(
    findings: Callable[..., list[Finding]],
    rng: np.random.Generator,
    prepare: Callable[[np.ndarray], np.ndarray],
    change: str,
) -> None:
    found = [f for f in findings(prepare(photos(rng))) if f.check in ("statistics", "color")]
    assert len(found) == 1
    assert found[0].level in ("error", "warning")
    assert found[0].reason.endswith(f"times better {change}")


@pytest.mark.parametrize("pixels", [False, True])
def test_data_that_fit_settle_what_the_numbers_leave_open(
    findings: Callable[..., list[Finding]], model: onnx.ModelProto, rng: np.random.Generator, pixels: bool
) -> None:
    if pixels:  # the same network for pixels of 0..255: its own first layers bring them to the same values
        model.graph.node[0].input[0] = "normalised"
        for name, value in (("shift", 255 * MEAN), ("factor", 1 / (255 * STD))):
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        model.graph.node.insert(0, helper.make_node("Mul", ["shifted", "factor"], ["normalised"]))
        model.graph.node.insert(0, helper.make_node("Sub", ["x", "shift"], ["shifted"]))
    found = findings(np.rint(photos(rng) * 255))
    assert (found == []) is pixels


@pytest.mark.parametrize("spoil", ["scale", "constant", "layout"])
def test_samples_wrong_in_themselves_do_not_blur_the_statistics(
    findings: Callable[..., list[Finding]], rng: np.random.Generator, spoil: str
) -> None:
    data = (photos(rng) - MEAN) / STD
    if spoil == "scale":
        data[5] = np.rint(photos(rng, 1)[0] * 255)
    elif spoil == "constant":
        data[5:25] = 0.5
    else:
        data[5:25] = data[5:25].transpose(0, 2, 3, 1).reshape(20, 3, 16, 16)
    assert {f.check for f in findings(data)} == {spoil}


def test_values_that_were_never_pixels_get_no_advice_on_pixels(
    findings: Callable[..., list[Finding]], rng: np.random.Generator
) -> None:
    for found in findings(-14 + rng.gamma(2, 3, (40, 3, 16, 16))):
        assert "better" not in found.reason


def test_data_from_elsewhere_contradicts(findings: Callable[..., list[Finding]], rng: np.random.Generator) -> None:
    found = findings(rng.normal(5, 9, (40, 3, 16, 16)))
    assert {f.check for f in found} == {"statistics"}


def test_gray_data_cannot_tell_the_channel_order(
    findings: Callable[..., list[Finding]], rng: np.random.Generator
) -> None:
    gray = photos(rng)[:, :1].repeat(3, axis=1)
    assert ("unsure", "color") in {(f.level, f.check) for f in findings((gray - 0.4) / 0.25)}


def test_model_without_normalisation(
    save_npy: Callable[..., Path], model: onnx.ModelProto, rng: np.random.Generator
) -> None:
    del model.graph.node[1]
    model.graph.output[0].name = "c"
    samples = open_samples(save_npy("d.npy", photos(rng).astype(np.float32)), [SPEC])
    (found,) = lint_data(samples, [SPEC], proto=model)
    assert (found.level, found.check) == ("unsure", "color")
    assert "no BatchNormalization" in found.reason


def test_a_model_that_cannot_run_gives_no_verdict(
    save_npy: Callable[..., Path], model: onnx.ModelProto, rng: np.random.Generator
) -> None:
    model.graph.node[0].domain = "nowhere"
    samples = open_samples(save_npy("d.npy", photos(rng).astype(np.float32)), [SPEC])
    (found,) = lint_data(samples, [SPEC], proto=model)
    assert (found.level, found.check) == ("unsure", "statistics")
