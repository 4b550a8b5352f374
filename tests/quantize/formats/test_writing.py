"""Writing and reading back every form; what is lost on the way is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.formats import Form, form_of, read_ranges, render, write_ranges
from ptqbridge.quantize.formats.reading import ranges_of
from ptqbridge.quantize.formats.trt_cache import TrtCache, parse_cache
from ptqbridge.quantize.formats.writing import require_form
from ptqbridge.quantize.ranges import Ranges, TensorRange

NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), max_size=12)
AMAX = st.floats(2.0**-100, 2.0**100, width=32)


def whats(losses: object) -> list[str]:
    """The short words of losses."""
    return [loss.what for loss in losses]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("a.json", Form.RANGES),
        ("a.ranges.json", Form.RANGES),
        ("A.ORT.JSON", Form.ORT_CACHE),
        ("a.table.json", Form.ORT_TABLE),
        ("a.cache", Form.TRT_CACHE),
        ("b/a.calib", Form.TRT_CACHE),
        ("folder", None),
        ("a.txt", None),
    ],
)
def test_the_ending_says_the_form(path: str, form: Form | None) -> None:
    assert form_of(path) is form
    if form is None:
        with pytest.raises(OptionError, match=r"\.cache"):
            require_form(path)


def test_our_own_form_keeps_everything(ranges: Ranges, tmp_path: Path) -> None:
    written = write_ranges(ranges, str(tmp_path / "r.json"), Form.RANGES)
    loaded = read_ranges(tmp_path / "r.json")
    assert (loaded.form, loaded.ranges, written.losses) == (Form.RANGES, ranges, ())


def test_a_cache_says_what_it_cannot_hold(ranges: Ranges) -> None:
    written = render(ranges, Form.TRT_CACHE)
    assert written.text.startswith("TRT-8601-EntropyCalibration2\ninput: ")
    assert whats(written.losses) == ["method_word", "asymmetry", "provenance"]
    asymmetry = written.losses[1]
    assert asymmetry.count == 2
    assert "[0, 6] is now ±6" in asymmetry.text
    assert "100 samples" in written.losses[2].text and "constant" in written.losses[2].text


@pytest.mark.parametrize(
    ("method", "word", "noted"),
    [
        ("entropy2", "EntropyCalibration2", False),
        ("entropy", "EntropyCalibration", True),
        ("max", "MinMaxCalibration", True),
        ("minmax", "MinMaxCalibration", True),
        ("legacy", "LegacyCalibration", True),
        ("percentile", "EntropyCalibration2", False),
        ("mse", "EntropyCalibration2", False),
        ("", "EntropyCalibration2", False),
    ],
)
def test_the_header_fits_the_method(ranges: Ranges, method: str, word: str, noted: bool) -> None:
    written = render(replace(ranges, method=method), Form.TRT_CACHE, version="10.13.3")
    assert written.text.partition("\n")[0] == f"TRT-101303-{word}"
    assert bool(written.notes) == noted
    assert ("method_word" in whats(written.losses)) == (method in ("percentile", "mse", ""))


def test_the_header_can_be_chosen(ranges: Ranges) -> None:
    written = render(replace(ranges, method="max"), Form.TRT_CACHE, calibrator="entropy2")
    assert "EntropyCalibration2" in written.text and not written.notes
    with pytest.raises(OptionError, match="--trtCalibrator"):
        render(ranges, Form.TRT_CACHE, calibrator="best")


@given(st.dictionaries(NAMES, AMAX, min_size=1))
def test_ranges_to_cache_to_ranges_within_one_step(pairs: dict[str, float]) -> None:
    tensors = {name: TensorRange(-amax, amax, "entropy2") for name, amax in pairs.items()}
    ranges = Ranges("entropy2", "tensorrt", 0, "", "", {}, tensors)
    written = render(ranges, Form.TRT_CACHE)
    again = parse_cache(written.text.encode()).amax()
    assert all(abs(again[name] - amax) <= amax * 2.0**-23 for name, amax in pairs.items())
    assert set(whats(written.losses)) <= {"rounding"}


@given(st.dictionaries(NAMES, st.integers(0, 0x7F7FFFFF), min_size=1))
def test_cache_to_ranges_json_to_cache_is_bit_exact(bits: dict[str, int]) -> None:
    text = TrtCache(101303, "MinMaxCalibration", bits).text()
    ranges = Ranges.from_json(ranges_of(parse_cache(text.encode())).to_json())
    written = render(ranges, Form.TRT_CACHE)
    assert written.text == text
    assert whats(written.losses) == []


def test_names_that_no_line_holds_are_left_out(ranges: Ranges) -> None:
    odd = {
        "a\nb": TensorRange(-1.0, 1.0, "max"),
        "c\r": TensorRange(-1.0, 1.0, "max"),
        "\ud800": ranges.tensors["dead"],
    }
    written = render(replace(ranges, tensors={**ranges.tensors, **odd}), Form.TRT_CACHE)
    names = next(loss for loss in written.losses if loss.what == "names")
    assert names.count == 3
    assert set(parse_cache(written.text.encode()).bits) == set(ranges.tensors)


def test_numbers_out_of_reach(ranges: Ranges) -> None:
    tiny = replace(ranges, tensors={"x": TensorRange(-1e-45, 1e-45, "max")})
    assert "underflow" in whats(render(tiny, Form.TRT_CACHE).losses)
    huge = replace(ranges, tensors={"x": TensorRange(-1e300, 1e300, "max")})
    with pytest.raises(InputError, match="beyond float32"):
        render(huge, Form.TRT_CACHE)


def test_onnxruntime_forms_keep_the_ends_but_not_the_origin(ranges: Ranges, tmp_path: Path) -> None:
    for name, form, losses in (
        ("a.ort.json", Form.ORT_CACHE, ["rounding", "provenance"]),
        ("a.table.json", Form.ORT_TABLE, ["provenance"]),
    ):
        written = write_ranges(ranges, str(tmp_path / name), form)
        assert whats(written.losses) == losses
        loaded = read_ranges(tmp_path / name)
        assert loaded.form is form
        assert loaded.ranges.tensors["relu:0"].min == 0.0


def test_nothing_is_written_when_it_cannot_be_rendered(ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    path.write_text("the last good one")
    with pytest.raises(OptionError):
        write_ranges(ranges, str(path), Form.TRT_CACHE, version="11.0")
    assert path.read_text() == "the last good one"


def test_the_reported_loss_of_a_broken_header_is_ignored(ranges: Ranges) -> None:
    odd = replace(ranges, details={"cache_header": "no-header-atall"})
    assert render(odd, Form.TRT_CACHE).text.startswith("TRT-8601-EntropyCalibration2\n")
