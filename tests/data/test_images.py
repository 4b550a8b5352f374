"""Pictures: decoding, damage, resize geometry, colour, layout, numbers."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptqbridge.data import images
from ptqbridge.data.arrays import NpyRows
from ptqbridge.data.images import ImageReader, PixelReader, apply, load_image, resize
from ptqbridge.data.recipe import Recipe, parse_resize
from ptqbridge.data.store import BrokenData, Folder
from ptqbridge.errors import InputError, ToolchainMissing
from ptqbridge.spec.tensor import TensorSpec

SavePicture = Callable[..., Path]
SPEC = TensorSpec("x", "float32", (1, 3, 8, 6))


def load(path: Path) -> Image.Image:
    return load_image(Folder(str(path.parent)), path.name)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "webp"])
def test_every_format_becomes_the_input(save_picture: SavePicture, suffix: str) -> None:
    path = save_picture(f"a.{suffix}", 16, 12)
    reader = ImageReader(Folder(str(path.parent)), path.name, SPEC, Recipe().resolve(SPEC))
    array = reader.read(0, 1)
    assert (array.shape, array.dtype) == ((1, 3, 8, 6), np.dtype("float32"))
    assert 0 <= array.min() < array.max() <= 1


def test_numbers_follow_the_formula(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (8, 6, 3), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (pixels / 255 - mean) / std
    for layout in ("nchw", "nhwc"):
        shape = (1, 3, 8, 6) if layout == "nchw" else (1, 8, 6, 3)
        recipe = Recipe(mean=tuple(mean), std=tuple(std), layout=layout).resolve(TensorSpec("x", "float32", shape))
        got = apply(Image.fromarray(pixels), recipe, "a")
        want = expected.transpose(2, 0, 1) if layout == "nchw" else expected
        assert got.flags.c_contiguous
        assert np.array_equal(got, want.astype(np.float32))


def test_bgr_swaps_pixels_and_keeps_the_order_of_mean() -> None:
    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[...] = (10, 20, 30)
    recipe = Recipe(color="bgr", mean=(1.0, 2.0, 3.0), scale=(1.0,)).resolve(SPEC)
    assert apply(Image.fromarray(pixels), recipe, "a")[:, 0, 0].tolist() == [29.0, 18.0, 7.0]


def test_integer_inputs_are_rounded_and_clipped() -> None:
    pixels = np.full((8, 6, 3), 255, np.uint8)
    spec = TensorSpec("x", "int8", (1, 3, 8, 6))
    assert apply(Image.fromarray(pixels), Recipe(mean=(128.0,)).resolve(spec), "a").max() == 127
    assert apply(Image.fromarray(pixels), Recipe().resolve(spec), "a").max() == 127
    assert apply(Image.fromarray(pixels), Recipe(scale=(0.01,)).resolve(spec), "a").max() == 3


def test_letterbox_keeps_the_ratio_on_a_centred_border() -> None:
    image = Image.new("RGB", (40, 20), (255, 255, 255))
    pixels = np.asarray(resize(image, parse_resize("letterbox:32x32:7"), "bilinear", "a"))
    white = np.argwhere(pixels[:, :, 0] == 255)
    assert white.min(0).tolist() == [8, 0]
    assert white.max(0).tolist() == [23, 31]
    assert set(np.unique(pixels)) == {7, 255}


def test_letterbox_on_gray() -> None:
    pixels = np.asarray(resize(Image.new("L", (10, 20), 1), parse_resize("letterbox:8x8:9"), "nearest", "a"))
    assert pixels.shape == (8, 8)
    assert (pixels[:, 0] == 9).all()
    assert (pixels[:, 2:6] == 1).all()


@pytest.mark.parametrize("size", [(300, 500), (500, 300), (256, 256), (224, 1000)])
def test_crop_as_in_torchvision(size: tuple[int, int], rng: np.random.Generator) -> None:
    """Shorter side to 256, then the centre 224x224: indices worked out by hand on a nearest-filter ramp."""
    height, width = size
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    new = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    top, left = round((new[1] - 224) / 2.0), round((new[0] - 224) / 2.0)
    expected = np.asarray(image.resize(new, Image.Resampling.BILINEAR))[top : top + 224, left : left + 224]
    for rule in ("crop:224x224:256", "crop:224x224:87.5%"):
        assert np.array_equal(np.asarray(resize(image, parse_resize(rule), "bilinear", "a")), expected)


def test_crop_always_covers() -> None:
    image = Image.new("RGB", (20, 20), (9, 9, 9))
    for rule in ("crop:10x40", "crop:10x40:10"):
        pixels = np.asarray(resize(image, parse_resize(rule), "bicubic", "a"))
        assert pixels.shape == (10, 40, 3)
        assert (pixels == 9).all()


def test_extreme_ratio_before_a_crop_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.png: 1x100000 would grow to 224x22400000"):
        resize(Image.new("L", (1, 100000)), parse_resize("crop:224x224"), "bilinear", "a.png")


def test_exif_orientation_turns_the_picture(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    image.save(tmp_path / "a.jpg", exif=exif)
    assert load(tmp_path / "a.jpg").size == (8, 12)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (6, 8)).save(path)
    assert apply(load(path), Recipe().resolve(SPEC), "a").shape == (3, 8, 6)


def test_palette_with_transparency_gives_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = Image.new("P", (6, 8))
    image.putpalette([1, 2, 3] * 256)
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert apply(load(tmp_path / "a.png"), Recipe(scale=(1.0,)).resolve(SPEC), "a")[:, 0, 0].tolist() == [1, 2, 3]
    assert not recwarn.list


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="expected 8 bits a channel, found mode I"):
        load(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_damage_is_named(save_picture: SavePicture, suffix: str) -> None:
    path = save_picture(f"a.{suffix}", 64, 64)
    whole = path.read_bytes()
    for content in (b"", b"no picture at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(BrokenData, match=rf"a\.{suffix}: not a readable picture") as caught:
            load(path)
        assert "\n" not in caught.value.message
        assert " at 0x" not in caught.value.message


def test_huge_pictures_are_refused_before_decoding(save_picture: SavePicture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_picture("a.png", 20, 20)
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    with pytest.raises(InputError, match="20x20 pixels, more than the limit of 399") as caught:
        load(path)
    assert "smaller copy" in caught.value.hint
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="more pixels than the limit"):
        load(path)


def test_wrong_size_without_resize(save_picture: SavePicture) -> None:
    path = save_picture("a.png", 9, 6)
    reader = ImageReader(Folder(str(path.parent)), path.name, SPEC, Recipe(resize="none").resolve(SPEC))
    with pytest.raises(InputError, match=r"a\.png: expected x: float32\[1,3,8,6\], found float32\[3, 9, 6\]"):
        reader.read(0, 1)


@pytest.mark.parametrize("shape", [(8, 6, 3), (3, 8, 6), (4, 8, 6, 3), (4, 3, 8, 6), (8, 6), (4, 8, 6), (4, 8, 6, 1)])
def test_pixel_arrays(save_npy: Callable[..., Path], rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    pixels = rng.integers(0, 256, shape, np.uint8)
    path = save_npy("a.npy", pixels)
    reader = PixelReader(NpyRows(Folder(str(path.parent)), path.name), SPEC, Recipe(scale=(1.0,)).resolve(SPEC))
    count = 4 if shape[0] == 4 else 1
    assert reader.units == count
    got = reader.read(count - 1, 1)[0]
    last = pixels[-1] if shape[0] == 4 else pixels
    want = last.transpose(2, 0, 1) if last.ndim == 3 and last.shape[2] in (1, 3) else last
    assert np.array_equal(got, np.broadcast_to(want, (3, 8, 6)))


def test_missing_pillow_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def blocked(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ToolchainMissing, match="Pillow, which is not installed") as caught:
        images.pillow()
    assert caught.value.hint == "pip install 'ptqbridge[images]'"
