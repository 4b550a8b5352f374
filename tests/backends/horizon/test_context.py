"""Normalisation in the tools' order, safe names, and how layout and colour are settled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.horizon.context import Context, data_types, normalisation, safe, with_preset
from ptqbridge.backends.horizon.lookup import Network
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.plan import Request
from ptqbridge.spec import Preprocess, TensorSpec

_PER_CHANNEL = st.lists(st.floats(0.01, 10), min_size=3, max_size=3).map(tuple) | st.tuples(st.floats(0.01, 10))


@given(_PER_CHANNEL, _PER_CHANNEL, _PER_CHANNEL, st.floats(0, 255))
def test_normalisation_means_the_same(mean: tuple, std: tuple, scale: tuple, pixel: float) -> None:
    means, scales, stds = normalisation(Preprocess(mean=mean, std=std, scale=scale))
    for channel in range(3):
        m, d, s = (values[channel % len(values)] for values in (mean, std, scale))
        ours = (pixel * s - m) / d
        m5, s5, d6 = (values[channel % len(values)] for values in (means, scales, stds))
        assert math.isclose((pixel - m5) * s5, ours, rel_tol=1e-9, abs_tol=1e-6)
        assert math.isclose((pixel - m5) / d6, ours, rel_tol=1e-9, abs_tol=1e-6)


def test_normalisation_leaves_out_what_was_not_given() -> None:
    assert normalisation(Preprocess()) == ((), (), ())
    assert normalisation(Preprocess(mean=(2.0,))) == ((2.0,), (), ())
    assert normalisation(Preprocess(scale=(0.5,))) == ((), (0.5,), ())
    assert normalisation(Preprocess(std=(2.0,))) == ((), (0.5,), (2.0,))


def test_small_mean_and_std_are_for_pixels_of_0_to_1() -> None:
    """As in data.recipe, so that the samples written and the YAML agree."""
    means, scales, stds = normalisation(Preprocess(mean=(0.5,), std=(0.25,)))
    assert (means, stds) == ((127.5,), (63.75,))
    assert scales == pytest.approx((1 / 63.75,))
    assert normalisation(Preprocess(mean=(0.5,)))[1] == pytest.approx((1 / 255,))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model", "model"),
        ("a b;c", "a_b_c"),
        ("a$(touch x)", "a__touch_x_"),
        ("-rf", "rf"),
        ("../x", "_x"),
        ("模型", "__"),
    ],
)
def test_safe_names_cannot_reach_a_shell(name: str, expected: str) -> None:
    assert safe(name) == expected


def test_prefix_is_the_artifacts_name_except_in_fast_perf(ask: Callable[..., Request]) -> None:
    request = ask("--onnx=/models/net.onnx --saveEngine=out/n$1.engine")
    context = Context(MARCHES["bayes"], request)
    assert (context.prefix, context.product) == ("n_1", "model_output/n_1.bin")
    assert replace(context, fast_perf=True).product == "model_output/net.bin"


@pytest.mark.parametrize(
    ("shape", "layout", "color"),
    [
        ((1, 3, 8, 8), "nchw", "rgb"),
        ((1, 8, 8, 3), "nhwc", "rgb"),
        ((1, 1, 8, 8), "nchw", "gray"),
        ((1, 8, 8, 1), "nhwc", "gray"),
        ((1, 10), "nchw", "rgb"),
    ],
)
def test_layout_and_color_follow_the_model(
    ask: Callable[..., Request], shape: tuple[int, ...], layout: str, color: str
) -> None:
    network = Network((TensorSpec("x", "float32", shape),), frozenset(), 11, 6)
    context = Context(MARCHES["bayes"], ask("--onnx=m.onnx"), network=network)
    assert (context.layout, context.color) == (layout, color)
    asked = ask("--onnx=m.onnx --layout=nhwc --color=bgr")
    assert Context(MARCHES["bayes"], asked, network=network).layout == "nhwc"
    assert Context(MARCHES["bayes"], asked, network=network).color == "bgr"


def test_a_float_input_format_keeps_normalisation_out_of_the_model(ask: Callable[..., Request]) -> None:
    assert Context(MARCHES["bayes"], ask("--onnx=m.onnx --mean=1")).image
    assert not Context(MARCHES["bayes"], ask("--onnx=m.onnx --mean=1 --inputIOFormats=fp32:chw")).image
    assert not Context(MARCHES["bayes"], ask("--onnx=m.onnx --color=bgr")).image


def test_only_a_picture_is_normalised_by_the_tool(ask: Callable[..., Request]) -> None:
    request = ask("--onnx=m.onnx --mean=1")
    table = Network((TensorSpec("x", "float32", (1, 10)),), frozenset(), 11, 6)
    assert not Context(MARCHES["bayes"], request, network=table).image
    picture = Network((TensorSpec("x", "float32", (1, 3, 8, 8)),), frozenset(), 11, 6)
    assert Context(MARCHES["bayes"], request, network=picture).image


def test_element_types_of_sample_files() -> None:
    inputs = tuple(TensorSpec(kind, kind, (1,)) for kind in ("float32", "int32", "int64", "float16"))
    assert data_types(Network(inputs, frozenset(), 11, 6)) == "float32;int32;float32;float32"
    assert data_types(None) == "float32"


def test_a_preset_fills_what_was_not_said() -> None:
    filled = with_preset(Preprocess(preset="imagenet", mean=(0.5,)))
    assert (filled.mean, filled.resize, filled.color) == ((0.5,), "crop:87.5%", "rgb")
    assert normalisation(with_preset(Preprocess(preset="imagenet")))[0] == pytest.approx((123.675, 116.28, 103.53))
    assert normalisation(with_preset(Preprocess(preset="raw"))) == ((), (), ())
    assert with_preset(Preprocess(mean=(1.0,))) == Preprocess(mean=(1.0,))
