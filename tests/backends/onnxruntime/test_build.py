"""The CPU build from end to end on small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ptqbridge.backends.onnxruntime import build as room
from ptqbridge.backends.onnxruntime.build import build
from ptqbridge.errors import InputError, LimitNotMet, OptionError
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult

PlanOf = Callable[..., Plan]


@pytest.fixture
def build_with(plan_of: PlanOf, tmp_path: Path) -> Callable[..., BuildResult]:
    def make(*argv: str) -> BuildResult:
        return build(plan_of(*argv), str(tmp_path / "out.onnx"), say=lambda line: None)

    return make


def outputs(path: str | Path, feed: dict[str, Any]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, feed)[0]
    return result


def sample(seed: int = 5, shape: tuple[int, ...] = (1, 3, 8, 8)) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)}


def test_fp32_computes_the_same(build_with: Callable[..., BuildResult], net: Path, properties: Any) -> None:
    result = build_with(f"--onnx={net}")
    np.testing.assert_allclose(outputs(result.artifact, sample()), outputs(net, sample()), rtol=1e-4, atol=1e-5)
    assert result.precision == "fp32"
    assert properties(Path(result.artifact))["precision"] == "fp32"
    assert "performance_only" not in properties(Path(result.artifact))


@pytest.mark.parametrize("algorithm", ["max", "percentile", "entropy2"])
def test_int8_is_integer_and_near(
    build_with: Callable[..., BuildResult], net: Path, calib: Path, properties: Any, algorithm: str
) -> None:
    result = build_with(f"--onnx={net}", "--int8", f"--calibData={calib}", f"--calibAlgo={algorithm}")
    assert "2 of 2 Conv run as QLinearConv" in result.facts["kernels"]
    assert result.facts["cosine_to_float32"]["lowest"]["y"] > 0.98
    assert result.facts["calibration"]["samples"] == 16
    assert result.performance_only == ""
    assert properties(Path(result.artifact))["data_sha256"] == result.facts["calibration"]["data_sha256"]
    want, have = outputs(net, sample()).ravel(), outputs(result.artifact, sample()).ravel()
    assert float(want @ have / np.linalg.norm(want) / np.linalg.norm(have)) > 0.98


def test_int8_without_data_is_stamped(build_with: Callable[..., BuildResult], net: Path, properties: Any) -> None:
    result = build_with(f"--onnx={net}", "--int8")
    assert "accuracy is not" in result.performance_only
    assert properties(Path(result.artifact))["performance_only"] == result.performance_only
    assert "cosine_to_float32" not in result.facts


def test_the_same_build_twice_gives_the_same_bytes(
    build_with: Callable[..., BuildResult], net: Path, calib: Path
) -> None:
    first = Path(build_with(f"--onnx={net}", "--int8", f"--calibData={calib}").artifact).read_bytes()
    again = Path(build_with(f"--onnx={net}", "--int8", f"--calibData={calib}").artifact).read_bytes()
    assert first == again


def test_best_keeps_the_faster(
    build_with: Callable[..., BuildResult], net: Path, calib: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptqbridge.backends.onnxruntime.fastest import Race

    for winner in ("fp32", "int8"):
        monkeypatch.setattr(room, "fastest", lambda *a, w=winner: Race(w, {"fp32": 1.0, "int8": 2.0}, 15, 1))
        result = build_with(f"--onnx={net}", "--best", f"--calibData={calib}")
        assert result.precision == winner
        assert result.facts["race"]["winner"] == winner


def test_best_without_anything_to_quantize_is_fp32(build_with: Callable[..., BuildResult], tmp_path: Path) -> None:
    relu = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[1,4] x) => (float[1,4] y) {y = Relu(x)}'
    )
    path = tmp_path / "relu.onnx"
    onnx.save(relu, str(path))
    result = build_with(f"--onnx={path}", "--best")
    assert result.precision == "fp32"
    assert any("int8 left the race" in note for note in result.notes)
    with pytest.raises(InputError, match="no layer can run on integers"):
        build_with(f"--onnx={path}", "--int8")


def test_dynamic_shapes_take_their_noise_from_opt(
    build_with: Callable[..., BuildResult], dynamic_net: Path, properties: Any
) -> None:
    result = build_with(f"--onnx={dynamic_net}", "--int8", "--minShapes=x:1x3x8x8", "--maxShapes=x:4x3x16x16")
    assert '"max": [4, 3, 16, 16]' in properties(Path(result.artifact))["shapes"]
    assert outputs(result.artifact, sample(shape=(2, 3, 12, 12))).shape == (2, 4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("--optShapes=y:1x3x8x8", "the model has no input 'y'; it has x"),
        ("--optShapes=x:1x3x8", "expected one that fits x: float32[n,3,s,s], found 1x3x8"),
        ("--optShapes=x:1x4x8x8", "expected one that fits"),
    ],
)
def test_shapes_that_do_not_fit(
    build_with: Callable[..., BuildResult], dynamic_net: Path, shapes: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        build_with(f"--onnx={dynamic_net}", shapes)
    assert message in caught.value.message


def test_layer_kept_in_float(build_with: Callable[..., BuildResult], net: Path, calib: Path) -> None:
    result = build_with(
        f"--onnx={net}", "--int8", f"--calibData={calib}", "--precisionConstraints=obey", "--layerPrecisions=conv2:fp32"
    )
    assert [(row.layer, row.met) for row in result.asked_got] == [("conv2", True)]
    assert "1 of 2 Conv run as QLinearConv" in result.facts["kernels"]


def test_obey_fails_when_a_layer_cannot_be_integer(
    build_with: Callable[..., BuildResult], tmp_path: Path, make_net: Callable[..., onnx.ModelProto]
) -> None:
    net = make_net()
    net.graph.node[6].input[2] = ""
    net.graph.node.append(onnx.helper.make_node("Tanh", ["y"], ["z"], "tanh"))
    net.graph.output[0].name = "z"
    path = tmp_path / "tanh.onnx"
    onnx.save(net, str(path))
    argv = [f"--onnx={path}", "--int8", "--layerPrecisions=tanh:int8"]
    result = build_with(*argv, "--precisionConstraints=prefer")
    assert [(row.got, row.met) for row in result.asked_got] == [("float32 (Tanh)", False)]
    Path(result.artifact).unlink()
    with pytest.raises(LimitNotMet, match="'tanh' was asked in int8, got float32"):
        build_with(*argv, "--precisionConstraints=obey")
    assert not (tmp_path / "out.onnx").exists()


def test_a_folded_relu_is_integer_too(build_with: Callable[..., BuildResult], net: Path, calib: Path) -> None:
    result = build_with(
        f"--onnx={net}", "--int8", f"--calibData={calib}", "--precisionConstraints=obey", "--layerPrecisions=relu*:int8"
    )
    assert [row.got for row in result.asked_got] == [
        "int8 (fused into conv1, QLinearConv)",
        "int8 (fused into conv2, QLinearConv)",
    ]


def test_obey_with_an_unknown_layer(build_with: Callable[..., BuildResult], net: Path) -> None:
    with pytest.raises(OptionError, match="no layer is called 'nope'"):
        build_with(f"--onnx={net}", "--int8", "--layerPrecisions=nope:int8", "--precisionConstraints=obey")


def test_formats_hold_for_the_integer_model(build_with: Callable[..., BuildResult], net: Path, calib: Path) -> None:
    result = build_with(f"--onnx={net}", "--int8", f"--calibData={calib}", "--inputIOFormats=fp16:chw")
    found = outputs(result.artifact, {"x": sample()["x"].astype(np.float16)})
    assert found.shape == (1, 4)
    assert any(note.startswith("x: fp16:chw by Cast") for note in result.notes)


def test_a_failed_build_leaves_the_last_good_artifact(
    build_with: Callable[..., BuildResult], net: Path, calib: Path, tmp_path: Path
) -> None:
    good = Path(build_with(f"--onnx={net}").artifact).read_bytes()
    np.save(calib / "99.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    with pytest.raises(InputError, match=r"99\.npy"):
        build_with(f"--onnx={net}", "--int8", f"--calibData={calib}")
    assert (tmp_path / "out.onnx").read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calib", "net.onnx", "out.onnx"]


def test_interruption_leaves_nothing(plan_of: PlanOf, net: Path, calib: Path, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("writing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(plan_of(f"--onnx={net}", "--int8", f"--calibData={calib}"), str(tmp_path / "o.onnx"), say=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calib", "net.onnx"]


def test_empty_model_path(build_with: Callable[..., BuildResult]) -> None:
    with pytest.raises(OptionError, match="--onnx: expected the path of a model"):
        build_with("--onnx=")
