"""Each mistake of the data becomes a finding; good data gives none."""

from __future__ import annotations

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
        samples = open_samples(save_npy("data.npy", array), [spec], skip_broken=10**9)
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
    assert "data.npy[3]: inf" in found["broken"].reason
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


def test_layout(check: Check, rng: np.random.Generator) -> None:
    interleaved = np.ascontiguousarray(pictures(rng).transpose(0, 2, 3, 1)).reshape(24, 3, 32, 24)
    assert ("error", "layout") in names(check(interleaved))


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


def test_nv12_sizes(check: Check, rng: np.random.Generator) -> None:
    odd = TensorSpec("x", "float32", (1, 3, 31, 24))
    findings = check(pictures(rng)[:, :, :31], odd, nv12=frozenset({"x"}))
    assert [f.reason for f in findings if f.check == "nv12"] == ["nv12 needs even height and width, found 31x24"]
    assert ("error", "nv12") not in names(check(pictures(rng), nv12=frozenset({"x"})))


def test_samples_are_streamed(save_npy: Callable[..., Path], rng: np.random.Generator) -> None:
    samples = open_samples(save_npy("d.npy", pictures(rng)), [IMAGE])
    assert isinstance(samples, Samples)
    assert names(lint_data(samples, [IMAGE])) == UNSURE
