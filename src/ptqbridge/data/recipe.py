"""The preprocessing recipe: how an 8-bit picture becomes what the float model wants."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from ptqbridge.data.store import Store
from ptqbridge.errors import InputError, OptionError
from ptqbridge.spec.tensor import TensorSpec

FILTERS = ("bilinear", "bicubic", "nearest", "lanczos")
COLORS = ("rgb", "bgr", "gray")
LAYOUTS = ("nchw", "nhwc")
PAD = 114
"""Grey of letterbox borders when none is given, as YOLO's training code pads."""
_NUMBERS = ("mean", "std", "scale")
_MODES = ("stretch", "letterbox", "crop", "none")
_SIZE = re.compile("([0-9]{1,5})x([0-9]{1,5})")
_PIXELS = re.compile("[0-9]{1,5}")
_LONGEST = 1 << 20
"""Bytes that a recipe may have."""


@dataclass(frozen=True)
class Resize:
    """One parsed resize rule; ``size`` is (height, width), or None for the model's own.

    ``stretch``: to the size, ratio lost. ``letterbox``: largest fit, centred on a border of grey ``pad``.
    ``crop``: shorter side to ``shorter`` pixels (or so that the crop is ``share`` of it; neither: just covering),
    then the centre. ``none``: pictures already have the size.
    """

    mode: str
    size: tuple[int, int] | None = None
    pad: int = PAD
    shorter: int | None = None
    share: float | None = None

    def text(self) -> str:
        """The rule in the grammar of :func:`parse_resize`."""
        parts = [self.mode]
        if self.size:
            parts.append(f"{self.size[0]}x{self.size[1]}")
        if self.mode == "letterbox":
            parts.append(str(self.pad))
        elif self.shorter is not None:
            parts.append(str(self.shorter))
        elif self.share is not None:
            parts.append(f"{self.share * 100:g}%")
        return ":".join(parts)


def parse_resize(text: str) -> Resize:
    """Parse ``stretch[:HxW]``, ``letterbox[:HxW][:GREY]``, ``crop[:HxW][:SHORTER|P%]`` or ``none``.

    Raises OptionError naming the part that is wrong.
    """
    mode, *rest = text.strip().lower().split(":")

    def wrong(found: str) -> OptionError:
        return OptionError(
            f"resize '{text}': expected stretch[:HxW], letterbox[:HxW][:GREY], crop[:HxW][:SHORTER|P%] or none, "
            f"found '{found}'"
        )

    if mode not in _MODES:
        raise wrong(mode)
    size = None
    if rest and (match := _SIZE.fullmatch(rest[0])):
        size = (int(match[1]), int(match[2]))
        if 0 in size:
            raise wrong(rest[0])
        rest = rest[1:]
    if (mode == "none" and (rest or size)) or (mode == "stretch" and rest) or len(rest) > 1:
        raise wrong(rest[0] if rest else "a size")
    if not rest:
        return Resize(mode, size)
    last = rest[0]
    if mode == "letterbox" and _PIXELS.fullmatch(last) and int(last) <= 255:
        return Resize(mode, size, pad=int(last))
    if mode == "crop" and _PIXELS.fullmatch(last) and int(last) > 0:
        return Resize(mode, size, shorter=int(last))
    if mode == "crop" and last.endswith("%"):
        share = _number("resize", last[:-1]) / 100
        if 0 < share <= 1:
            return Resize(mode, size, share=share)
    raise wrong(last)


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Parse ``0.485,0.456,0.406`` (commas or spaces; ``1/255`` allowed). Raises OptionError naming ``option``."""
    return tuple(_number(option, word) for word in re.split(r"\s*,\s*|\s+", text.strip()))


def _number(option: str, text: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        raise OptionError(f"{option}: expected a finite number, found '{text}'") from None
    if not math.isfinite(value) or "_" in text:
        raise OptionError(f"{option}: expected a finite number, found '{text}'")
    return value


@dataclass(frozen=True)
class Recipe:
    """Decode, turn by EXIF, colour, resize, then ``value = (pixel * scale - mean) / std`` per channel, pixel 0..255.

    Empty fields are filled in from the model by :meth:`resolve`: ``resize`` stretches to the model's height and width
    (no resize where they are dynamic), ``filter`` is bilinear, ``color`` is rgb for three channels and gray for one,
    ``layout`` and ``dtype`` are the model's, ``mean`` 0 and ``std`` 1, ``scale`` 1/255 for a float input and 1 for an
    integer one.
    ``mean``, ``std`` and ``scale`` hold one number or one per channel, in the order of ``color``.
    """

    resize: str = ""
    filter: str = ""
    color: str = ""
    layout: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.resize:
            parse_resize(self.resize)
        for name, value, allowed in (
            ("filter", self.filter, ("", *FILTERS)),
            ("color", self.color, ("", *COLORS)),
            ("layout", self.layout, ("", *LAYOUTS)),
        ):
            if value not in allowed:
                raise OptionError(f"{name}: expected {', '.join(filter(None, allowed))}, found '{value}'")
        for name in _NUMBERS:
            numbers = getattr(self, name)
            if not all(math.isfinite(number) and (number or name == "mean") for number in numbers):
                wanted = "finite numbers" + ("" if name == "mean" else " other than 0")
                raise OptionError(f"{name}: expected {wanted}, found {_list(numbers, 0)}")

    @staticmethod
    def from_mapping(mapping: Mapping[str, object]) -> Recipe:
        """A recipe from option values or a YAML mapping: texts are parsed, empty values left out, ``preset`` names the
        recipe to start from.

        Raises OptionError for an unknown key, preset or value.
        """
        known = [field.name for field in fields(Recipe)]
        start = preset(str(mapping["preset"])) if mapping.get("preset") else Recipe()
        changes: dict[str, object] = {}
        for key, value in mapping.items():
            if key == "preset" or value is None or value in ("", (), []):
                continue
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                raise OptionError(
                    f"recipe: unknown key '{key}', expected {', '.join(known)}",
                    hint=f"did you mean '{near[0]}'?" if near else "",
                )
            if key in _NUMBERS:
                text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
                changes[key] = parse_numbers(key, text)
            else:
                changes[key] = str(value).strip().lower()
        return replace(start, **changes)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON or YAML; :meth:`from_mapping` reads them back unchanged."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def over(self, base: Recipe) -> Recipe:
        """This recipe, with its empty fields taken from ``base``."""
        return replace(base, **{key: value for key, value in vars(self).items() if value})

    def describe(self) -> str:
        """One line saying what is done to each picture."""
        parts = [
            f"resize {self.resize or 'stretch to the model size'} ({self.filter or FILTERS[0]})",
            self.color or "colour of the model",
            self.layout or "layout of the model",
            f"value = (pixel * {_list(self.scale, 1 / 255)} - {_list(self.mean, 0)}) / {_list(self.std, 1)}",
        ]
        return ", ".join(parts) + (f" as {self.dtype}" if self.dtype else "")

    def resolve(self, spec: TensorSpec) -> Recipe:
        """Fill every empty field in from the image input ``spec``.

        Raises OptionError where recipe and input contradict each other, or the input is no image.
        """
        layout = self.layout or _layout_of(spec)
        if len(spec.shape) != 4:
            raise OptionError(f"pictures need an input of four dimensions, found {spec.text()}")
        channels = spec.shape[1 if layout == "nchw" else 3]
        height, width = spec.shape[2:4] if layout == "nchw" else spec.shape[1:3]
        color = self.color or ("gray" if channels == 1 else "rgb")
        wanted = 1 if color == "gray" else 3
        if isinstance(channels, int) and channels != wanted:
            raise OptionError(
                f"color {color} in layout {layout} gives {wanted} channel(s), but the model has {spec.text()}"
            )
        for name in _NUMBERS:
            if len(getattr(self, name)) not in (0, 1, wanted):
                raise OptionError(f"{name}: expected 1 or {wanted} numbers, found {len(getattr(self, name))}")
        self._refuse_far_mean(wanted)
        if self.dtype and self.dtype != spec.dtype:
            raise OptionError(f"dtype: the model has {spec.text()}, the recipe says {self.dtype}")
        return replace(
            self,
            resize=self._resize_for(spec, height, width).text(),
            filter=self.filter or FILTERS[0],
            color=color,
            layout=layout,
            mean=_each(self.mean or (0.0,), wanted),
            std=_each(self.std or (1.0,), wanted),
            scale=_each(self.scale or (self._scale_for(spec.dtype),), wanted),
            dtype=spec.dtype,
        )

    def _resize_for(self, spec: TensorSpec, height: int | str, width: int | str) -> Resize:
        fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        if not self.resize:
            return Resize("stretch", fixed) if fixed else Resize("none")
        rule = parse_resize(self.resize)
        if rule.mode == "none":
            return rule
        if rule.size is None:
            if fixed is None:
                raise OptionError(f"resize '{self.resize}' needs HxW, as the model leaves them open: {spec.text()}")
            rule = replace(rule, size=fixed)
        assert rule.size is not None
        if any(isinstance(dim, int) and dim != got for dim, got in zip((height, width), rule.size, strict=True)):
            raise OptionError(f"resize '{self.resize}' does not give the model's size: {spec.text()}")
        if rule.shorter is not None and rule.shorter < min(rule.size):
            raise OptionError(
                f"resize '{self.resize}': the shorter side is below the crop {rule.size[0]}x{rule.size[1]}"
            )
        return rule

    def _refuse_far_mean(self, channels: int) -> None:
        """A mean of 0..255 beside a scale of 1/255 (one from an option, the other from a file) is never meant."""
        if not self.mean or not self.scale:
            return
        for mean, scale in zip(_each(self.mean, channels), _each(self.scale, channels), strict=True):
            if abs(mean) > 2 * 255 * abs(scale):
                raise OptionError(
                    f"mean {mean:g} is far outside of pixels times scale {_short(scale)}, 0 to {255 * scale:g}",
                    hint="value = (pixel * scale - mean) / std: say scale=1 for mean and std of 0..255 pixels",
                )

    def _scale_for(self, dtype: str) -> float:
        if not dtype.startswith("float"):
            return 1.0
        if any(abs(number) > 1 for number in (*self.mean, *self.std)):
            raise OptionError(
                f"mean/std {_list(self.mean, 0)} / {_list(self.std, 1)} look meant for pixels 0..255; give the scale",
                hint="say scale=1 for mean and std of 0..255 pixels, scale=1/255 for those of 0..1",
            )
        return 1 / 255


def _layout_of(spec: TensorSpec) -> str:
    if len(spec.shape) == 4 and spec.shape[1] in (1, 3):
        return "nchw"
    if len(spec.shape) == 4 and spec.shape[3] in (1, 3):
        return "nhwc"
    raise OptionError(
        f"pictures given, but {spec.text()} has no axis of 1 or 3 channels",
        hint="give layout nchw or nhwc, or calibrate from .npy files",
    )


def _short(number: float) -> str:
    return "1/255" if math.isclose(number, 1 / 255, rel_tol=1e-6) else f"{number:g}"


def _list(numbers: tuple[float, ...], default: float) -> str:
    values = numbers or (default,)
    if len(set(values)) == 1:
        return _short(values[0])
    return f"[{', '.join(map(_short, values))}]"


def _each(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number per channel; a single one stands for all."""
    return numbers * channels if len(numbers) == 1 else numbers


_PRESETS = {
    # torchvision's published evaluation transform of its ImageNet classifiers (references/classification/presets.py).
    "imagenet": Recipe(
        resize="crop:87.5%", color="rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=(1 / 255,)
    ),
    # Ultralytics' YOLO inference: letterbox on grey 114, RGB in 0..1 (ultralytics/data/augment.py).
    "coco-letterbox": Recipe(resize=f"letterbox:{PAD}", color="rgb", scale=(1 / 255,)),
    # Pixels 0..255 as they are, stretched to the model's size.
    "raw": Recipe(resize="stretch", mean=(0.0,), std=(1.0,), scale=(1.0,)),
}
PRESETS = tuple(_PRESETS)


def load_recipe(path: str) -> Recipe:
    """The recipe in a YAML or JSON file, keys as in :class:`Recipe` plus ``preset``.

    Raises InputError for a file that cannot be read, OptionError (naming the file) for a wrong key or value.
    """
    try:
        with open(path, "rb") as file:
            return parse_recipe(file.read(_LONGEST), path)
    except OSError as error:
        raise InputError(f"{path}: not a readable recipe ({error.strerror or error})") from None


def parse_recipe(content: bytes, shown: str) -> Recipe:
    """The recipe in the content of a file that messages call ``shown``. Raises as ``load_recipe``."""
    import yaml

    try:
        mapping = yaml.safe_load(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{shown}: not a readable recipe ({reason})") from None
    if not isinstance(mapping, dict):
        raise InputError(f"{shown}: expected keys such as mean and std, found {type(mapping).__name__}")
    try:
        return Recipe.from_mapping({str(key): value for key, value in mapping.items()})
    except OptionError as error:
        raise OptionError(f"{shown}: {error.message}", hint=error.hint) from None


NAMES = ("recipe.yaml", "recipe.yml", "recipe.json")
"""Under one of these names a recipe lies beside the data and is found by itself."""


def recipe_beside(store: Store, folder: str) -> tuple[str, Recipe] | None:
    """The recipe in ``folder`` of ``store``, and its name in messages; None when there is none.

    Raises InputError when there are several, or as ``load_recipe`` does.
    """
    present = [name for name in NAMES if store.holds(f"{folder}{name}")]
    if len(present) > 1:
        raise InputError(f"{store.shown(folder)}: expected one recipe, found {' and '.join(present)}")
    if not present:
        return None
    name = f"{folder}{present[0]}"
    with store.open(name) as file:
        return store.shown(name), parse_recipe(file.read(_LONGEST), store.shown(name))


def preset(name: str) -> Recipe:
    """The ready recipe ``name`` (one of PRESETS). Raises OptionError for another name."""
    if name not in _PRESETS:
        raise OptionError(f"preset: expected {', '.join(PRESETS)}, found '{name}'")
    return _PRESETS[name]
