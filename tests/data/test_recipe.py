"""The recipe: its grammar, its defaults, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.data.recipe import PRESETS, Recipe, Resize, load_recipe, parse_numbers, parse_resize, preset
from ptqbridge.errors import InputError, OptionError
from ptqbridge.spec.tensor import TensorSpec

FLOAT = TensorSpec("x", "float32", (1, 3, 224, 224))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stretch", Resize("stretch")),
        ("stretch:224x320", Resize("stretch", (224, 320))),
        ("Letterbox:640X640", Resize("letterbox", (640, 640), pad=114)),
        ("letterbox:640x640:0", Resize("letterbox", (640, 640), pad=0)),
        ("letterbox:128", Resize("letterbox", pad=128)),
        ("crop:224x224:256", Resize("crop", (224, 224), shorter=256)),
        ("crop:87.5%", Resize("crop", share=0.875)),
        ("none", Resize("none")),
    ],
)
def test_resize_grammar(text: str, expected: Resize) -> None:
    assert parse_resize(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "fit", "stretch:224", "stretch:0x5", "stretch:2x2:3", "letterbox:2x2:256", "letterbox:2x2:-1", "none:2x2",
     "crop:2x2:0", "crop:101%", "crop:0%", "crop:2x2:3:4", "stretch:2x", "stretch:1e3x5", "crop:٣", "letterbox:2x2:"],
)  # fmt: skip
def test_wrong_resize_names_the_text(text: str) -> None:
    with pytest.raises(OptionError, match=r"resize '.*': expected stretch") as caught:
        parse_resize(text)
    assert text in caught.value.message


SIZES = st.none() | st.tuples(st.integers(1, 99999), st.integers(1, 99999))
RULES = (
    st.builds(Resize, st.just("stretch"), SIZES)
    | st.builds(Resize, st.just("letterbox"), SIZES, pad=st.integers(0, 255))
    | st.builds(Resize, st.just("crop"), SIZES, shorter=st.integers(1, 99999))
    | st.builds(Resize, st.just("crop"), SIZES, share=st.integers(1, 100).map(lambda percent: percent / 100))
    | st.just(Resize("none"))
)


@given(RULES)
def test_resize_text_round_trip(rule: Resize) -> None:
    assert parse_resize(rule.text()) == rule


@given(st.text(max_size=20))
def test_any_resize_text_parses_or_says_why(text: str) -> None:
    try:
        rule = parse_resize(text)
    except OptionError as error:
        assert "\n" not in error.message.replace(text, "")
    else:
        assert parse_resize(rule.text()) == rule


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.5", (0.5,)),
        ("0.485,0.456, 0.406", (0.485, 0.456, 0.406)),
        ("123 117 104", (123, 117, 104)),
        ("1/255", (1 / 255,)),
    ],
)
def test_numbers(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_numbers("mean", text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1;2", "nan", "inf", "1/0", "1_0", "0x1"])
def test_wrong_numbers(text: str) -> None:
    with pytest.raises(OptionError, match="mean: expected a finite number"):
        parse_numbers("mean", text)


@given(
    st.builds(
        Recipe,
        resize=RULES.map(Resize.text),
        filter=st.sampled_from(["", "nearest"]),
        color=st.sampled_from(["", "rgb", "bgr", "gray"]),
        mean=st.lists(st.floats(-300, 300), max_size=3).map(tuple),
        std=st.lists(st.floats(0.001, 300), max_size=3).map(tuple),
        scale=st.lists(st.floats(0.001, 1), max_size=3).map(tuple),
    )
)
def test_mapping_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_mapping(recipe.to_dict()) == recipe


def test_mapping_starts_from_the_preset_and_leaves_empty_values_out() -> None:
    recipe = Recipe.from_mapping({"preset": "imagenet", "resize": "crop:232", "mean": (), "color": ""})
    assert recipe.resize == "crop:232"
    assert recipe.mean == (0.485, 0.456, 0.406)
    assert recipe.color == "rgb"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"means": "1"}, "unknown key 'means'"),
        ({"preset": "resnet"}, "preset: expected imagenet"),
        ({"filter": "area"}, "filter: expected bilinear"),
        ({"color": "nv12"}, "color: expected rgb"),
        ({"std": "0"}, "std: expected finite numbers other than 0"),
        ({"scale": 0}, "scale: expected finite numbers other than 0"),
    ],
)
def test_wrong_mapping(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recipe.from_mapping(mapping)


def test_unknown_key_gets_a_suggestion() -> None:
    with pytest.raises(OptionError) as caught:
        Recipe.from_mapping({"rezise": "none"})
    assert caught.value.hint == "did you mean 'resize'?"


def test_resolve_fills_in_from_the_model() -> None:
    recipe = Recipe().resolve(FLOAT)
    assert recipe == Recipe(
        "stretch:224x224", "bilinear", "rgb", "nchw", (0.0,) * 3, (1.0,) * 3, (1 / 255,) * 3, "float32"
    )
    assert recipe.describe() == (
        "resize stretch:224x224 (bilinear), rgb, nchw, value = (pixel * 1/255 - 0) / 1 as float32"
    )


def test_resolve_of_other_inputs() -> None:
    assert Recipe().resolve(TensorSpec("x", "float32", ("n", 28, 28, 1))).layout == "nhwc"
    assert Recipe().resolve(TensorSpec("x", "float32", (1, 1, 28, 28))).color == "gray"
    assert Recipe().resolve(TensorSpec("x", "float32", (1, 3, "h", "w"))).resize == "none"
    assert Recipe().resolve(TensorSpec("x", "uint8", (1, 3, 8, 8))).scale == (1.0,) * 3


def test_presets_resolve() -> None:
    resolved = {name: preset(name).resolve(FLOAT) for name in PRESETS}
    assert resolved["imagenet"].resize == "crop:224x224:87.5%"
    assert resolved["coco-letterbox"].resize == "letterbox:224x224:114"
    assert resolved["raw"].scale == (1.0,) * 3


@pytest.mark.parametrize(
    ("recipe", "spec", "message"),
    [
        (Recipe(color="gray"), FLOAT, "gives 1 channel"),
        (Recipe(mean=(1.0, 2.0), scale=(1.0,)), FLOAT, "mean: expected 1 or 3 numbers, found 2"),
        (Recipe(mean=(123.0,)), FLOAT, "meant for pixels 0..255"),
        (Recipe(std=(255.0,)), FLOAT, "meant for pixels 0..255"),
        (Recipe(dtype="uint8"), FLOAT, "the recipe says uint8"),
        (Recipe(resize="stretch:32x32"), FLOAT, "does not give the model's size"),
        (Recipe(resize="crop:100"), FLOAT, "below the crop"),
        (Recipe(resize="letterbox"), TensorSpec("x", "float32", (1, 3, "h", "w")), "needs HxW"),
        (Recipe(), TensorSpec("x", "float32", (1, 10)), "no axis of 1 or 3 channels"),
        (Recipe(layout="nchw"), TensorSpec("x", "float32", (1, 10)), "four dimensions"),
    ],
)
def test_contradictions_are_refused(recipe: Recipe, spec: TensorSpec, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        recipe.resolve(spec)


def test_a_mean_of_pixels_beside_a_scale_to_one_is_refused() -> None:
    spec = TensorSpec("x", "float32", (1, 3, 8, 8))
    with pytest.raises(OptionError, match=r"mean 123\.675 is far outside of pixels times scale 1/255, 0 to 1"):
        Recipe(mean=(123.675, 116.28, 103.53), scale=(1 / 255,)).resolve(spec)
    assert Recipe(mean=(1.0,), scale=(1 / 127.5,)).resolve(spec).mean == (1.0, 1.0, 1.0)
    assert Recipe(mean=(123.675,), scale=(1.0,)).resolve(spec).scale == (1.0, 1.0, 1.0)


def test_load_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("preset: imagenet\nmean: [0.5]\nscale: 1/255\n")
    recipe = load_recipe(str(path))
    assert (recipe.mean, recipe.scale, recipe.color) == ((0.5,), (1 / 255,), "rgb")


@pytest.mark.parametrize(
    ("text", "error"),
    [("- 1", InputError), ("a: [", InputError), ("", InputError), ("colour: rgb", OptionError), (None, InputError)],
)
def test_load_recipe_names_the_file(tmp_path: Path, text: str | None, error: type[Exception]) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=r"recipe\.yaml: ") as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)
