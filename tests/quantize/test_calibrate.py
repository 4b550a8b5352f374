"""Calibration as a whole: exact against NumPy on the model's own tensors, deterministic, and clear about bad data."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.calibrate import ALGORITHMS, calibrate
from ptqbridge.quantize.methods import SEARCHES
from ptqbridge.quantize.ranges import Ranges, TensorRange
from ptqbridge.quantize.thresholds import percentile_index

TENSORS = ["x", "r1", "y2", "sum", "p", "f", "w1", "logits"]


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    """A small residual network: convolutions, ReLU, an addition with both signs, pooling, a linear layer."""
    random = np.random.default_rng(0)
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> net (float[n,3,16,16] x) => (float[n,10] logits) {
          y1 = Conv<pads=[1,1,1,1]>(x, w1)
          r1 = Relu(y1)
          y2 = Conv<pads=[1,1,1,1]>(r1, w2)
          sum = Add(r1, y2)
          p = GlobalAveragePool(sum)
          f = Flatten(p)
          logits = Gemm<transB=1>(f, w3)
        }"""
    )
    for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (8, 8, 3, 3)), ("w3", (10, 8))):
        weight = random.normal(size=shape).astype(np.float32) * 0.3
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    return model


def images(count: int, *, batch: int = 1, seed: int = 1) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_t(4, size=(batch, 3, 16, 16)).astype(np.float32)} for _ in range(count)]


def all_values(proto: onnx.ModelProto, names: list[str], samples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Every value of every tensor, the simple way."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    computed = [name for name in names if name not in ("x", "w1")]
    for name in computed:
        if name != "logits":
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(computed, sample) for sample in samples]
    values = {name: np.concatenate([run[i].ravel() for run in runs]) for i, name in enumerate(computed)}
    values["x"] = np.concatenate([sample["x"].ravel() for sample in samples])
    return values


def test_max_is_that_of_all_values(proto: onnx.ModelProto) -> None:
    samples = images(5)
    ranges = calibrate(proto, TENSORS, samples, algorithm="max", scheme="tensorrt", data_fingerprint="d")
    assert list(ranges.tensors) == TENSORS
    for name, values in all_values(proto, TENSORS, samples).items():
        found = ranges.tensors[name]
        assert found.max == pytest.approx(values.max(), rel=1e-5)
        assert found.min == (0.0 if name == "r1" else pytest.approx(values.min(), rel=1e-5))
    assert ranges.tensors["w1"].method == "constant"
    assert ranges.tensors["f"] == ranges.tensors["p"]
    assert ranges.details["shared"] == {"f": "p"}
    assert (ranges.method, ranges.scheme, ranges.samples, ranges.data_fingerprint) == ("max", "tensorrt", 5, "d")
    assert Ranges.from_json(ranges.to_json()) == ranges


@pytest.mark.parametrize("percent", [50, 99, 99.9, 100])
def test_percentile_is_that_of_a_sort(proto: onnx.ModelProto, percent: float) -> None:
    samples = images(5)
    ranges = calibrate(proto, TENSORS, samples, algorithm="percentile", percentile=percent)
    for name, values in all_values(proto, TENSORS, samples).items():
        threshold = np.sort(np.abs(values))[percentile_index(values.size, percent)]
        assert ranges.tensors[name].amax == pytest.approx(threshold, rel=1e-5)
    assert ranges.details["percentile"] == percent


def test_percentile_of_horizon_keeps_half_a_sample(proto: onnx.ModelProto) -> None:
    samples = images(3)
    low = calibrate(proto, ["r1"], samples, algorithm="percentile", percentile=70, scheme="horizon")
    floor = calibrate(proto, ["r1"], samples, algorithm="percentile", percentile=100 - 50 / 3, scheme="tensorrt")
    assert low.tensors == floor.tensors
    assert low.details["percentile_asked"] == 70
    assert low.details["percentile"] == pytest.approx(100 - 50 / 3)


def test_legacy_is_the_quantile_unless_a_cutoff_asks_for_regression(proto: onnx.ModelProto) -> None:
    samples = images(3)
    legacy = calibrate(proto, ["r1", "y2"], samples, algorithm="legacy", percentile=99)
    quantile = calibrate(proto, ["r1", "y2"], samples, algorithm="percentile", percentile=99)
    for name, found in legacy.tensors.items():
        assert (found.min, found.max) == (quantile.tensors[name].min, quantile.tensors[name].max)
    fitted = calibrate(proto, ["r1", "y2"], samples, algorithm="legacy", percentile=99, regression_cutoff=0.5)
    most = calibrate(proto, ["r1", "y2"], samples, algorithm="max")
    assert fitted.tensors != legacy.tensors
    assert all(fitted.tensors[name].amax <= most.tensors[name].amax for name in most.tensors)
    assert fitted.details["regression_cutoff"] == 0.5


def test_percentile_of_growing_samples_takes_a_second_pass(proto: onnx.ModelProto) -> None:
    samples = images(1) + images(3, batch=4)
    ranges = calibrate(proto, ["r1"], samples, algorithm="percentile", percentile=90, workers=1)
    values = np.sort(all_values(proto, ["r1"], samples)["r1"])
    assert ranges.tensors["r1"].max == pytest.approx(values[percentile_index(values.size, 90)], rel=1e-5)


def test_entropy2_clips_both_sides_and_no_more(proto: onnx.ModelProto) -> None:
    samples = images(8)
    samples[0]["x"][0, 0, 0, 0] = 300.0
    most = calibrate(proto, TENSORS, samples, algorithm="max").tensors
    clipped = calibrate(proto, TENSORS, samples, algorithm="entropy2").tensors
    assert clipped["x"].amax < 0.5 * most["x"].amax
    for name in TENSORS:
        assert most[name].min <= clipped[name].min <= clipped[name].max <= most[name].max


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_workers_and_batches_do_not_matter(proto: onnx.ModelProto, algorithm: str) -> None:
    samples = images(12)
    texts = {calibrate(proto, TENSORS, samples, algorithm=algorithm, workers=w).to_json() for w in (1, 2, 5)}
    assert len(texts) == 1
    batched = [{"x": np.concatenate([s["x"] for s in samples[i : i + 4]])} for i in (0, 4, 8)]
    once = calibrate(proto, TENSORS, samples, algorithm=algorithm).tensors
    if algorithm not in ("kl", *SEARCHES):  # their first batch is counted in samples
        for name, found in calibrate(proto, TENSORS, batched, algorithm=algorithm).tensors.items():
            assert found.max == pytest.approx(once[name].max, rel=1e-5)


@dataclass(frozen=True)
class Named:
    name: str
    arrays: dict[str, np.ndarray]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("workers", [1, 3])
def test_first_bad_sample_is_named(proto: onnx.ModelProto, algorithm: str, bad: float, workers: int) -> None:
    samples = [Named(f"image{i}.npy", arrays) for i, arrays in enumerate(images(9))]
    for index in (5, 6, 7):
        samples[index].arrays["x"][0, 1, 2, 3] = bad
    for tensors in (["x", "r1"], ["r1"]):
        with pytest.raises(InputError) as caught:
            calibrate(proto, tensors, samples, algorithm=algorithm, workers=workers)
        found = "NaN" if np.isnan(bad) else "infinity"
        assert caught.value.message == f"image5.npy: tensor 'x': expected finite values, found {found}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_made_inside_is_found(algorithm: str) -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[4] x) => (float[4] out) { y = Log(x) out = Neg(y) }'
    )
    samples = [{"x": np.ones(4, np.float32)}, {"x": np.array([1, -1, 1, 1], np.float32)}]
    with pytest.raises(InputError, match=r"^sample 1: .*NaN"):
        calibrate(proto, ["y"], samples, algorithm=algorithm)


def test_sample_of_the_wrong_shape_is_named(proto: onnx.ModelProto) -> None:
    samples = [*images(2), {"x": np.zeros((1, 4, 16, 16), np.float32)}]
    with pytest.raises(InputError, match=r"^sample 2: the model does not take it: ") as caught:
        calibrate(proto, ["r1"], samples, algorithm="max")
    assert "\n" not in caught.value.message


def test_failure_of_the_reader_comes_through(proto: onnx.ModelProto) -> None:
    class Broken:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[object]:
            yield from images(2)
            raise InputError("image2.png: truncated")

    for workers in (1, 2):
        with pytest.raises(InputError, match="truncated"):
            calibrate(proto, ["r1"], Broken(), algorithm="max", workers=workers)


def test_no_samples(proto: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="expected at least one sample"):
        calibrate(proto, ["r1"], [], algorithm="max")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_degenerate_tensors(algorithm: str) -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> g (float[n,4] x, float[1] one, int64[m] i) => (float[n,4] out) {
          zero = Sub(x, x)
          same = Add(zero, one)
          low = Neg(same)
          out = Identity(x)
        }"""
    )
    sample = {"x": np.arange(4, dtype=np.float32).reshape(1, 4), "one": np.ones(1, np.float32), "i": np.array([1])}
    tensors = ["zero", "same", "low", "one", "i"]
    ranges = calibrate(proto, tensors, [sample, sample], algorithm=algorithm, percentile=100)
    assert {r.method for r in ranges.tensors.values()} == {"percentile" if algorithm in SEARCHES else algorithm}
    expected = {"zero": (0.0, 0.0), "same": (1.0, 1.0), "low": (-1.0, -1.0), "one": (1.0, 1.0)}
    assert list(ranges.tensors) == list(expected)
    for name, found in ranges.tensors.items():
        assert (found.min, found.max) == pytest.approx(expected[name], rel=0.01)
    assert ranges.details["left_out"] == {"i": "int64, not a floating-point tensor"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_tensors(algorithm: str) -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> g (float[n,4] x, float[0,4] e) => (float[n,4] out) {
          d = Neg(e)
          out = Neg(x)
        }"""
    )
    sample = {"x": np.ones((1, 4), np.float32), "e": np.zeros((0, 4), np.float32)}
    ranges = calibrate(proto, ["e", "d"], [sample], algorithm=algorithm)
    assert ranges.tensors == {"e": TensorRange(0.0, 0.0, "empty"), "d": TensorRange(0.0, 0.0, "empty")}


def test_progress_counts_every_sample(proto: onnx.ModelProto) -> None:
    seen: list[int] = []
    calibrate(proto, ["r1"], images(7), algorithm="max", workers=3, progress=seen.append)
    assert seen == list(range(1, 8))


def test_interruption_stops_the_workers(proto: onnx.ModelProto) -> None:
    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        calibrate(proto, ["r1"], images(50), algorithm="max", workers=2, progress=stop)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "entropyy"}, "calibration algorithm: expected one of max, "),
        ({"algorithm": "percentile", "percentile": 0}, "found 0"),
        ({"algorithm": "percentile", "percentile": 100.5}, "found 100.5"),
        ({"algorithm": "percentile", "percentile": float("nan")}, "found nan"),
        ({"algorithm": "max", "workers": 0}, "expected at least 1, found 0"),
        ({"algorithm": "legacy", "regression_cutoff": 1.5}, "expected a number from 0 to 1, found 1.5"),
        ({"algorithm": "entropy2", "bins": 1000}, "power of two from 256 on, found 1000"),
    ],
)
def test_wrong_options(proto: onnx.ModelProto, options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        calibrate(proto, ["r1"], images(1), **options)  # type: ignore[arg-type]
    assert words in caught.value.message


def hb_mapper_case() -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]], dict[str, dict[str, float]]]:
    """A trained model, its calibration samples, and the activation thresholds per method that the real tool wrote."""
    folder = Path(os.environ.get("PTQBRIDGE_CASES", "")) / "hb-mapper"
    if not os.environ.get("PTQBRIDGE_CASES") or not folder.is_dir():
        pytest.skip("no hb_mapper cases: set PTQBRIDGE_CASES to their folder")
    case = next(iter(json.loads((folder / "thresholds.json").read_text()).values()))
    data = np.load(folder / case["data"], allow_pickle=False)
    model = onnx.load(folder / case["model"])
    name = model.graph.input[0].name
    methods = {
        method: {
            tensor: entry["thresholds"][0]
            for tensor, entry in found["tensors"].items()
            if entry["kind"] == "activation" and entry["qtype"] == "int8"
        }
        for method, found in case["methods"].items()
    }
    return model, [{name: row[None]} for row in data["calib"]], methods


@pytest.mark.parametrize(
    ("theirs", "ours", "tolerance"),
    [
        ("max", {"algorithm": "max"}, 1e-5),
        ("max_p0.99", {"algorithm": "percentile", "percentile": 99}, 1e-4),
        ("max_p0.999", {"algorithm": "percentile", "percentile": 99.9}, 1e-4),
        ("max_p0.9999", {"algorithm": "percentile", "percentile": 99.99}, 1e-4),
        ("max_p0.99995", {"algorithm": "percentile", "percentile": 99.995}, 1e-4),
        ("kl", {"algorithm": "kl"}, 2e-3),  # one threshold is a bin of 1100 off
    ],
)
def test_thresholds_are_those_of_hb_mapper(theirs: str, ours: dict[str, Any], tolerance: float) -> None:
    model, samples, methods = hb_mapper_case()
    behind_a_pool = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "MaxPool"}
    expected = methods[theirs]
    sources = {name: behind_a_pool.get(name, name) for name in expected}  # as hb_mapper does
    ranges = calibrate(model, list(sources.values()), samples, scheme="horizon", **ours)
    assert expected
    for name, threshold in expected.items():
        assert ranges.tensors[sources[name]].amax == pytest.approx(threshold, rel=tolerance)


def test_default_chooses_what_hb_mapper_chose() -> None:
    model, samples, methods = hb_mapper_case()
    ranges = calibrate(model, list(methods["default"]), samples, scheme="horizon", algorithm="default")
    for name, threshold in methods["default"].items():
        assert ranges.tensors[name].amax == pytest.approx(threshold, rel=1e-4)


def test_mix_chooses_what_hb_mapper_chose() -> None:
    """Its base max, though here kl leads by 1e-7, since one of its thresholds is a bin off."""
    model, samples, methods = hb_mapper_case()
    ranges = calibrate(model, list(methods["mix"]), samples, scheme="horizon", algorithm="mix")
    assert ranges.details["base"] == "max"
    assert not ranges.details["sensitive"]
    for name, threshold in methods["mix"].items():
        assert ranges.tensors[name].amax == pytest.approx(threshold, rel=1e-5)
