"""Calibration on its own: the schemes, the memory line, and data folders for Horizon's compilers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.alone import find_ranges, write_horizon_data
from ptqbridge.spec.build import BuildSpec, Calibration, ModelFile, Preprocess


@pytest.fixture
def spec(root: Path) -> BuildSpec:
    """The example network with ten of its samples."""
    net = root / "examples" / "mynet"
    return BuildSpec(
        ModelFile(str(net / "mynet.onnx"), "onnx"), calibration=Calibration(str(net / "calib"), samples=10)
    )


def silent(text: str) -> None:
    """A ``say`` that says nothing."""


@pytest.mark.parametrize(("scheme", "count"), [("tensorrt", 10), ("horizon", 10), ("onnxruntime", 3)])
def test_schemes_choose_the_tensors(spec: BuildSpec, scheme: str, count: int) -> None:
    said: list[str] = []
    done: list[tuple[int, int]] = []
    found = find_ranges(spec, scheme, default_algorithm="max", say=said.append, progress=lambda *now: done.append(now))
    assert len(found.ranges.tensors) == count
    assert (found.ranges.scheme, found.ranges.method, found.ranges.samples) == (scheme, "max", 10)
    assert len(found.ranges.data_fingerprint) == len(found.ranges.model_fingerprint) == 64
    assert f"calibrating {count} tensors with 10 samples (max, the default)" in said
    assert any(line.startswith("memory: about ") for line in said)
    assert done[-1] == (10, 10)
    assert any("recipe.yaml" in note for note in found.notes)


def test_a_memory_cap_changes_no_range(spec: BuildSpec) -> None:
    free = find_ranges(spec, "tensorrt", default_algorithm="entropy2", say=silent).ranges
    said: list[str] = []
    wanted = replace(spec.calibration, memory_cap=3 * 2**20)
    capped = find_ranges(replace(spec, calibration=wanted), "tensorrt", default_algorithm="entropy2", say=said.append)
    assert dict(capped.ranges.tensors) == dict(free.tensors)
    assert any("at most 3 MiB" in line for line in said)


def test_samples_are_counted_not_inferences(spec: BuildSpec) -> None:
    said: list[str] = []
    dynamic = replace(spec, model=ModelFile(spec.model.path.replace("mynet.onnx", "mynet_dynamic.onnx"), "onnx"))
    batched = replace(dynamic, calibration=replace(spec.calibration, batch=4))
    found = find_ranges(batched, "tensorrt", default_algorithm="max", say=said.append)
    assert found.ranges.samples == 10
    assert "calibrating 10 tensors with 10 samples in 3 inferences (max, the default)" in said
    assert found.ranges.tensors == find_ranges(dynamic, "tensorrt", default_algorithm="max", say=silent).ranges.tensors


def test_no_model_no_data(spec: BuildSpec) -> None:
    with pytest.raises(OptionError, match="--onnx"):
        find_ranges(replace(spec, model=ModelFile()), "tensorrt", default_algorithm="max", say=silent)
    with pytest.raises(OptionError, match="--calibData"):
        find_ranges(replace(spec, calibration=Calibration()), "tensorrt", default_algorithm="max", say=silent)


def test_journey6_gets_what_the_model_takes(spec: BuildSpec, tmp_path: Path) -> None:
    written = write_horizon_data(spec, str(tmp_path / "j6"), journey6=True, say=silent)
    arrays = [np.load(path) for path in sorted((tmp_path / "j6" / "input1").iterdir())]
    assert len(arrays) == written.samples == 10
    assert arrays[0].shape == (1, 3, 28, 28) and arrays[0].dtype == np.float32
    assert min(array.min() for array in arrays) < 0
    assert written.yaml == {"cal_data_dir": str(tmp_path / "j6" / "input1")}


def test_journey5_gets_pixels_and_the_yaml_says_mean_and_scale(spec: BuildSpec, tmp_path: Path) -> None:
    normal = write_horizon_data(spec, str(tmp_path / "j6"), journey6=True, say=silent)
    written = write_horizon_data(spec, str(tmp_path / "j5"), journey6=False, say=silent)
    assert written.fingerprint == normal.fingerprint
    assert written.yaml["cal_data_type"] == "float32"
    mean, scale = (float(written.yaml[key].split()[0]) for key in ("mean_value", "scale_value"))
    for raw, npy in zip(
        sorted((tmp_path / "j5" / "input1_f32").iterdir()), sorted((tmp_path / "j6" / "input1").iterdir()), strict=True
    ):
        pixels = np.fromfile(raw, np.float32).reshape(1, 3, 28, 28)
        assert pixels.min() >= 0 and pixels.max() <= 255 and pixels.max() > 2
        # hb_mapper computes (pixel - mean) * scale: what the float model takes
        np.testing.assert_allclose((pixels - mean) * scale, np.load(npy), atol=1e-5)
    assert json.loads((tmp_path / "j5" / "data.json").read_text())["fingerprint"] == written.fingerprint


def test_arrays_are_written_as_they_are(spec: BuildSpec, tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    array = np.linspace(-1, 1, 3 * 28 * 28, dtype=np.float32).reshape(1, 3, 28, 28)
    np.save(tmp_path / "npy" / "a.npy", array)
    own = replace(spec, calibration=Calibration(str(tmp_path / "npy")))
    written = write_horizon_data(own, str(tmp_path / "j5"), journey6=False, say=silent)
    assert "norm_type" not in written.yaml
    assert any("no_preprocess" in note for note in written.notes)
    assert np.array_equal(np.fromfile(tmp_path / "j5" / "input1_f32" / "00000.bin", np.float32), array.ravel())


def test_a_wrong_recipe_is_refused(spec: BuildSpec, tmp_path: Path) -> None:
    wrong = replace(spec.calibration, preprocess=Preprocess(mean=(0.1, 0.2)))
    with pytest.raises((OptionError, InputError), match="mean"):
        write_horizon_data(replace(spec, calibration=wrong), str(tmp_path / "j5"), journey6=False, say=silent)
    assert not (tmp_path / "j5").exists()
