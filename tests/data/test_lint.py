"""Each mistake of the data becomes a finding; good data gives none."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.data import Recipe, Samples, open_samples
from ptqbridge.data.lint import Finding, lint_data
from ptqbridge.spec.tensor import TensorSpec

IMAGE = TensorSpec("x", "float32", (1, 3, 32, 24))
Check = Callable[..., list[Finding]]


def pictures(rng: np.random.Generator, count: int = 24) -> np.ndarray:
    """Smooth pictures 0..1, NCHW, red brighter than blue, as photographs are."""
    coarse = rng.random((count, 3, 5, 4)) * np.array([0.9, 0.7, 0.5]).reshape(1, 3, 1, 1)
    rows = np.linspace(0, 3.999, 32)
    columns = np.linspace(0, 2.999, 24)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None]
    upper = coarse[:, :, top][:, :, :, left] * (1 - right) + coarse[:, :, top][:, :, :, left + 1] * right
    lower = coarse[:, :, top + 1][:, :, :, left] * (1 - right) + coarse[:, :, top + 1][:, :, :, left + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


@pytest.fixture
def check(save_npy: Callable[..., Path]) -> Check:
    def run(array: np.ndarray, spec: TensorSpec = IMAGE, **options: object) -> list[Finding]:
        samples = open_samples(save_npy("data.npy", array), [spec], skip_broken=None)
        return lint_data(samples, [spec], **options)  # type: ignore[arg-type]

    return run


def names(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.level, finding.check) for finding in findings}


UNSURE = {("unsure", "color")}


def test_good_data_gives_only_what_cannot_be_told(check: Check, rng: np.random.Generator) -> None:
    data = pictures(rng)
    assert names(check(data)) == UNSURE
    assert names(check((data - 0.45) / 0.22)) == UNSURE
    text = check(data)[0].text()
    assert text == "unsure [color] input 'x': without the model, RGB and BGR cannot be told apart"


def test_good_data_of_other_kinds(check: Check, rng: np.random.Generator) -> None:
    spec = TensorSpec("ids", "int64", ("n", 16))
    assert check(rng.integers(0, 1000, (30, 16)), spec) == []
    assert check(rng.normal(size=(30, 16)).astype(np.float32), TensorSpec("f", "float32", (1, 16))) == []


def test_too_few(check: Check, rng: np.random.Generator) -> None:
    assert ("warning", "few") in names(check(pictures(rng, 19)))


def test_nan_and_constant_and_duplicate(check: Check, rng: np.random.Generator) -> None:
    data = pictures(rng, 30)
    data[3, 0, 0, 0] = np.inf
    data[5] = 0.25
    data[9] = data[2]
    found = {finding.check: finding for finding in check(data) if finding.check != "color"}
    assert set(found) == {"broken", "constant", "duplicate"}
    assert found["broken"].sample.endswith("data.npy[3]")
    assert found["broken"].reason == "inf in the data of input 'x' at [0, 0, 0, 0] (1 such)"
    assert found["constant"].sample.endswith("data.npy[5]")
    assert found["constant"].reason == "every value is 0.25"
    assert found["duplicate"].sample.endswith("[9]")
    assert found["duplicate"].reason.endswith("data.npy[2]")


def test_other_type_of_the_same_width(check: Check, rng: np.random.Generator) -> None:
    integers = rng.integers(0, 256, (24, 3, 32, 24)).astype(np.int32).view(np.float32)
    assert ("error", "type") in names(check(integers))
    halves = rng.random((24, 3, 32, 48)).astype(np.float16).view(np.float32)
    assert not np.isnan(halves).any()
    doubles = np.full((24, 3, 32, 24), 1e30, np.float32) * rng.random((24, 3, 32, 24), np.float32)
    assert ("error", "type") in names(check(doubles))


def test_scales(check: Check, rng: np.random.Generator) -> None:
    data = pictures(rng)
    assert ("unsure", "scale") in names(check(np.rint(data * 255)))
    assert ("error", "scaled-twice") in names(check(data / 255))
    mixed = data.copy()
    mixed[7] = np.rint(mixed[7] * 255)
    findings = [finding for finding in check(mixed) if finding.check == "scale"]
    assert [finding.sample.rpartition("[")[2] for finding in findings] == ["7]"]
    assert findings[0].level == "error"


def test_one_sample_scaled_twice_is_named(check: Check, rng: np.random.Generator) -> None:
    data = pictures(rng)
    data[4] /= 255
    (found,) = [finding for finding in check(data) if finding.check == "scale"]
    assert found.level == "warning" and found.sample.endswith("[4]")


def test_colours_normalised_twice(check: Check, rng: np.random.Generator) -> None:
    once = (pictures(rng) - 0.45) / 0.22
    assert ("unsure", "normalised-twice") in names(check((once - 0.45) / 0.22))


NHWC = TensorSpec("x", "float32", (1, 32, 24, 3))


def test_layout(check: Check, rng: np.random.Generator) -> None:
    planar = pictures(rng)
    interleaved = np.ascontiguousarray(planar.transpose(0, 2, 3, 1))
    assert ("error", "layout") in names(check(interleaved.reshape(24, 3, 32, 24)))
    assert ("error", "layout") in names(check(planar.reshape(24, 32, 24, 3), NHWC))
    assert names(check(interleaved, NHWC)) == UNSURE
    grey = planar[:, :1].repeat(3, axis=1)
    assert names(check(grey)) == UNSURE
    lying = np.ascontiguousarray(grey.transpose(0, 2, 3, 1))
    assert names(check(lying, NHWC)) == UNSURE
    assert ("error", "layout") in names(check(lying.reshape(24, 3, 32, 24)))


def test_a_sample_of_another_shape_is_a_finding(tmp_path: Path, rng: np.random.Generator) -> None:
    good = pictures(rng)
    (tmp_path / "d").mkdir()
    for index, array in enumerate(good):
        np.save(tmp_path / "d" / f"{index:02d}.npy", array if index != 7 else array.transpose(1, 2, 0))
    np.save(tmp_path / "d" / "30.npy", good[0][:, :31])
    np.save(tmp_path / "d" / "31.npy", np.rint(good[0] * 255).astype(np.uint8))
    (tmp_path / "d" / "32.npy").write_bytes(b"")
    samples = open_samples(tmp_path / "d", [IMAGE], skip_broken=None)
    found = {f.sample.rpartition("/")[2]: f.check for f in lint_data(samples, [IMAGE]) if f.level == "error"}
    assert found == {"07.npy": "layout", "30.npy": "shape", "31.npy": "type", "32.npy": "broken"}
    assert (samples.used, samples.found) == (23, 27)


def test_when_nothing_is_usable_all_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "d").mkdir()
    for index, array in enumerate(pictures(rng)[:3]):
        np.save(tmp_path / "d" / f"{index}.npy", array.transpose(1, 2, 0))
    findings = lint_data(open_samples(tmp_path / "d", [IMAGE], skip_broken=None), [IMAGE])
    assert [(f.check, f.sample[-5:]) for f in findings if f.level == "error"] == [
        ("layout", "0.npy"),
        ("layout", "1.npy"),
        ("layout", "2.npy"),
    ]


def test_constant_masks_and_states_are_no_warning(check: Check) -> None:
    assert check(np.ones((30, 16), np.int64), TensorSpec("mask", "int64", ("n", 16))) == []
    state = check(np.zeros((30, 16), np.float32), TensorSpec("h0", "float32", ("n", 16)))
    assert names(state) == {("unsure", "constant")}
    steps = np.arange(30, dtype=np.float32).reshape(30, 1)
    assert check(steps, TensorSpec("t", "float32", ("n", 1))) == []


def test_letterbox(check: Check, rng: np.random.Generator) -> None:
    data = pictures(rng)
    data[:, :, :6] = data[:, :, -6:] = 114 / 255
    assert ("unsure", "letterbox") in names(check(data))


def test_stretched_pictures(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    for index in range(3):
        save_picture(f"d/{index}.png", 32, 96)

    def findings(resize: str) -> set[tuple[str, str]]:
        return names(lint_data(open_samples(tmp_path / "d", [IMAGE], recipe=Recipe(resize=resize)), [IMAGE]))

    assert ("unsure", "stretch") in findings("stretch")
    assert ("unsure", "stretch") not in findings("letterbox")


def test_stretched_pictures_in_an_archive(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for index in range(3):
            archive.write(save_picture(f"d/{index}.png", 32, 96), f"{index}.png")
    samples = open_samples(tmp_path / "d.zip", [IMAGE], recipe=Recipe(resize="stretch"))
    assert ("unsure", "stretch") in names(lint_data(samples, [IMAGE]))


def test_nv12_sizes(check: Check, rng: np.random.Generator) -> None:
    odd = TensorSpec("x", "float32", (1, 3, 31, 24))
    findings = check(pictures(rng)[:, :, :31], odd, nv12=frozenset({"x"}))
    assert [f.reason for f in findings if f.check == "nv12"] == ["nv12 needs even height and width, found 31x24"]
    assert ("error", "nv12") not in names(check(pictures(rng), nv12=frozenset({"x"})))
    assert ("unsure", "nv12") in names(check(pictures(rng)[:, :, :31], odd, perhaps_nv12=frozenset({"x"})))


def test_nv12_sizes_that_the_model_leaves_open(tmp_path: Path, rng: np.random.Generator) -> None:
    spec = TensorSpec("x", "float32", (1, 3, "h", "w"))
    (tmp_path / "d").mkdir()
    for index, array in enumerate(pictures(rng)):
        np.save(tmp_path / "d" / f"{index:02d}.npy", array[:, : 31 if index == 3 else 32])
    findings = lint_data(open_samples(tmp_path / "d", [spec]), [spec], nv12=frozenset({"x"}))
    assert [(f.level, f.sample[-6:]) for f in findings if f.check == "nv12"] == [("error", "03.npy")]


def test_samples_are_streamed(save_npy: Callable[..., Path], rng: np.random.Generator) -> None:
    samples = open_samples(save_npy("d.npy", pictures(rng)), [IMAGE])
    assert isinstance(samples, Samples)
    assert names(lint_data(samples, [IMAGE])) == UNSURE


def test_rows_of_a_fixed_batch_count_as_samples(check: Check, rng: np.random.Generator) -> None:
    assert names(check(pictures(rng), TensorSpec("x", "float32", (4, 3, 32, 24)))) == UNSURE
