"""Rules between keys of a vendor YAML that no single key shows: one function per rule, all of them always applied.

Sources: the order of checks and messages of hb_mapper 1.24.3; Horizon's OE-Skills 0.2.0 for hb_compile 3.5.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator

from ptqbridge.backends.horizon import compilerrules, schema5, schema6
from ptqbridge.backends.horizon.schema import TRAIN_TO_RUNTIME, dims, floats
from ptqbridge.backends.horizon.view import ERROR, WARNING, Finding, View
from ptqbridge.wording import counted

Rule = Callable[[View], Iterator[Finding]]
MODEL, INPUT, CAL = "model_parameters", "input_parameters", "calibration_parameters"
_TYPE_RT, _TYPE_TRAIN, _LAYOUT = f"{INPUT}.input_type_rt", f"{INPUT}.input_type_train", f"{INPUT}.input_layout_train"
_SHAPE = f"{INPUT}.input_shape"


def model_source(view: View) -> Iterator[Finding]:
    """Exactly one model: ONNX, or Caffe with both files."""
    onnx, caffe, proto = (view.has(f"{MODEL}.{key}") for key in ("onnx_model", "caffe_model", "prototxt"))
    if onnx and (caffe or proto):
        yield Finding(f"{MODEL}.onnx_model", view.get(f"{MODEL}.onnx_model"), "expected one model, not two", "model")
    elif not onnx and not (caffe and proto):
        found = "caffe_model without prototxt" if caffe else "prototxt without caffe_model" if proto else "none"
        yield Finding(f"{MODEL}.onnx_model", found, "expected onnx_model, or caffe_model and prototxt", "model")
    for key, suffix in (("onnx_model", ".onnx"), ("caffe_model", ".caffemodel"), ("prototxt", ".prototxt")):
        text = str(view.get(f"{MODEL}.{key}") or "")
        if text and not text.endswith(suffix):
            yield Finding(f"{MODEL}.{key}", text, f"expected a {suffix} file", "model")
        elif text and not os.path.isfile(view.path(text)):
            severity = WARNING if view.away else ERROR
            yield Finding(f"{MODEL}.{key}", text, "expected an existing file", "model", severity)


def prefix(view: View) -> Iterator[Finding]:
    """The tools hand the product's name to a shell."""
    value = view.get(f"{MODEL}.output_model_file_prefix")
    if value is None:
        return
    key = f"{MODEL}.output_model_file_prefix"
    if value == "":
        yield Finding(key, value, "expected a name, not an empty text", "prefix")
    elif not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(value)):
        yield Finding(key, value, "expected letters, digits, _ . - only: the name reaches a shell", "prefix", WARNING)


def names(view: View) -> Iterator[Finding]:
    """Names: unique, those of the model, all of them; needed with several inputs."""
    key, written = f"{INPUT}.input_name", view.words(f"{INPUT}.input_name")
    shown = view.get(key)
    if len(set(written)) < len(written) or None in written:
        yield Finding(key, shown, "expected every input's name once", "names")
    if not view.network:
        return
    known = [spec.name for spec in view.network.inputs]
    if not written and len(known) > 1:
        yield Finding(key, shown, f"expected all names, since the model has {len(known)} inputs", "names")
    for name in written:
        if name is not None and name not in known:
            yield Finding(key, name, f"expected an input of the model ({', '.join(known)})", "names")
    missing = [name for name in known if written and name not in written]
    if missing:
        yield Finding(key, shown, f"expected all inputs; {', '.join(missing)} is missing", "names")


_PER_INPUT = (
    "input_type_rt",
    "input_type_train",
    "input_layout_train",
    "input_layout_rt",
    "input_shape",
    "input_space_and_range",
    "mean_value",
    "scale_value",
    "std_value",
    "norm_type",
)


def counts(view: View) -> Iterator[Finding]:
    """Every list that is given has one entry per input."""
    for name in (*(f"{INPUT}.{key}" for key in _PER_INPUT), f"{CAL}.cal_data_type"):
        found = len(view.words(name))
        if found and found != view.count and not (view.journey6 and name.endswith(("layout_rt", "data_type"))):
            many = f"{view.count} entr{'y' if view.count == 1 else 'ies'}, one per input"
            yield Finding(name, view.get(name), f"expected {many}, not {found}", "list length")


def shapes(view: View) -> Iterator[Finding]:
    """Shapes: readable, of the model's rank, complete for a dynamic model."""
    for index, word in enumerate(view.words(_SHAPE)):
        try:
            values = dims(word or "")
            readable = all(dim > 0 for dim in values)
        except ValueError:
            readable = False
        if not readable:
            yield Finding(_SHAPE, word or "no value", "expected a shape such as 1x3x224x224", "shape")
        elif view.network and index < len(view.names):
            yield from _fits(view, view.names[index], values)
    if view.network and not view.words(_SHAPE):
        moving = [spec.text() for spec in view.network.inputs if spec.is_dynamic]
        if moving:
            yield Finding(_SHAPE, None, f"expected a shape for every input, since {moving[0]} is dynamic", "dynamic")


def _fits(view: View, name: str, values: tuple[int, ...]) -> Iterator[Finding]:
    spec = next((spec for spec in view.network.inputs if spec.name == name), None) if view.network else None
    if spec is None:
        return
    text = "x".join(map(str, values))
    if len(values) != len(spec.shape):
        yield Finding(_SHAPE, text, f"expected {len(spec.shape)} dimensions, as in {spec.text()}", "rank")
    elif any(isinstance(own, int) and own > 0 and own != dim for own, dim in zip(spec.shape, values, strict=True)):
        yield Finding(_SHAPE, text, f"replaces a fixed dimension of {spec.text()}", "fixed dimension", WARNING)


def images(view: View) -> Iterator[Finding]:
    """Image inputs: rank 4, three channels (one for gray) where the layout says, even sides for nv12."""
    for index in range(view.count):
        shape, kind = view.shape(index), view.entry(_TYPE_RT, index)
        if not view.is_image(index) or shape is None:
            continue
        text = "x".join(map(str, shape))
        if len(shape) != 4:
            yield Finding(_TYPE_RT, kind, f"expected featuremap for an input of shape {text}", "image rank")
            continue
        train = view.entry(_TYPE_TRAIN, index)
        wanted = 1 if "gray" in (kind, train) else 3
        layout, channels = view.entry(_LAYOUT, index), view.channels(index)
        if channels is not None and channels != wanted:
            where = f"{counted(wanted, 'channel')} where {layout} has them"
            yield Finding(_LAYOUT, layout, f"expected {where}, and the shape is {text}", "image channels")
        sides = shape[2:] if layout != "NHWC" else shape[1:3]
        if kind == "nv12" and any(side % 2 for side in sides):
            yield Finding(_TYPE_RT, kind, f"expected even height and width for nv12, and the shape is {text}", "nv12")


def conversions(view: View) -> Iterator[Finding]:
    """What the tool can insert between the pixels it gets and those the model was trained on."""
    for index in range(view.count):
        train, kind = view.entry(_TYPE_TRAIN, index), view.entry(_TYPE_RT, index)
        if train is None or kind is None or train == kind:
            continue
        able = TRAIN_TO_RUNTIME.get(train)
        if able is not None and kind not in able:
            yield Finding(_TYPE_RT, kind, f"expected {' or '.join(able)} for a model trained on {train}", "conversion")


def blanks(view: View) -> Iterator[Finding]:
    """Lists that say something of every input: no entry may be missing."""
    keys = (_TYPE_RT, _TYPE_TRAIN, *((_LAYOUT,) if view.journey6 else ()))
    for key in keys:
        if None in view.words(key):
            expected = "expected a word for every input, and one is blank or None"
            yield Finding(key, view.get(key), expected, "blank entry")


def layouts(view: View) -> Iterator[Finding]:
    """Layouts that must be given."""
    kinds = [view.entry(_TYPE_RT, index) for index in range(view.count)]
    if view.journey6:
        if not view.words(_LAYOUT) and any(kind not in (None, "featuremap") for kind in kinds):
            yield Finding(_LAYOUT, None, "expected NCHW or NHWC, since there are image inputs", "layout")
        return
    key = f"{INPUT}.input_layout_rt"
    if not view.words(key) and any(kind not in (None, "nv12") for kind in kinds):
        yield Finding(key, None, "expected NCHW or NHWC for every input that is not nv12", "layout")
    for index, kind in enumerate(kinds):
        if view.march.name == "bernoulli2" and kind == "yuv444" and view.entry(key, index) == "NCHW":
            yield Finding(key, "NCHW", "expected NHWC for yuv444 on bernoulli2", "layout")


def spaces(view: View) -> Iterator[Finding]:
    """bt601_video is a way to read nv12."""
    key = f"{INPUT}.input_space_and_range"
    for index, word in enumerate(view.words(key)):
        kind, train = view.entry(_TYPE_RT, index), view.entry(_TYPE_TRAIN, index)
        if word == "bt601_video" and (kind != "nv12" or train not in ("rgb", "bgr")):
            yield Finding(key, word, "expected regular: bt601_video is for nv12 of an rgb or bgr model", "bt601")


def normalisation(view: View) -> Iterator[Finding]:
    """mean, scale and std: numbers per channel, only on images, scale or std, and as norm_type says on Journey 5."""
    for name in ("mean_value", "scale_value", "std_value"):
        key = f"{INPUT}.{name}"
        for index, word in enumerate(view.words(key)):
            if word is None:
                continue
            yield from _numbers(view, key, index, word)
    for index in range(view.count):
        scale, std = (view.entry(f"{INPUT}.{name}_value", index) for name in ("scale", "std"))
        if scale and std:
            yield Finding(f"{INPUT}.std_value", std, "expected scale_value or std_value, not both", "scale or std")
        if not view.journey6:
            yield from _norm_type(view, index)


def _numbers(view: View, key: str, index: int, word: str) -> Iterator[Finding]:
    try:
        found = floats(word)
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        yield Finding(key, word, "expected numbers separated by blanks", "numbers")
        return
    channels = view.channels(index)
    if channels is not None and len(found) not in (1, channels):
        many = "1 number" if channels == 1 else f"1 or {channels} numbers, one per channel"
        yield Finding(key, word, f"expected {many}", "channel numbers")
    if key.endswith("std_value") and not all(found):
        yield Finding(key, word, "expected numbers other than 0: it divides", "numbers")
    if view.entry(_TYPE_RT, index) == "featuremap":
        expected = "expected no normalisation (None) on a featuremap input"
        yield Finding(key, word, expected, "featuremap normalisation")


_NEEDS = {"data_mean": ("mean",), "data_scale": ("scale",), "data_mean_and_scale": ("mean", "scale")}


def _norm_type(view: View, index: int) -> Iterator[Finding]:
    key = f"{INPUT}.norm_type"
    word = view.entry(key, index) or "no_preprocess"
    if view.entry(_TYPE_RT, index) == "featuremap" and word != "no_preprocess":
        yield Finding(key, word, "expected no_preprocess for a featuremap input", "featuremap normalisation")
    for name in _NEEDS.get(word, ()):
        if not view.entry(f"{INPUT}.{name}_value", index):
            yield Finding(f"{INPUT}.{name}_value", None, f"expected numbers, since norm_type is {word}", "norm_type")
    for name in ("mean", "scale"):
        value = view.entry(f"{INPUT}.{name}_value", index)
        if value and name not in _NEEDS.get(word, ()) and f"{INPUT}.norm_type" not in view.bad:
            yield Finding(f"{INPUT}.{name}_value", value, f"is not used: norm_type is {word}", "norm_type", WARNING)


def batch(view: View) -> Iterator[Finding]:
    """input_batch repeats a model built for one sample."""
    key = f"{INPUT}.input_batch"
    words = view.words(key)
    if words:
        most = None if view.journey6 else 128 if view.march.name == "bernoulli2" else 4096
        word = words[0] or ""
        bound = f" from 1 to {most}" if most else ""
        if len(words) > 1 or not word.isdigit() or int(word) < 1 or (most and int(word) > most):
            yield Finding(key, view.get(key), f"expected one whole number{bound} for all inputs", "batch")
        for index in range(view.count):
            shape = view.shape(index)
            if shape and shape[0] != 1:
                text = "x".join(map(str, shape))
                yield Finding(key, view.get(key), f"expected shapes that start with 1, and one is {text}", "batch")
    if view.get(f"{INPUT}.separate_batch") is True:
        if not words:
            yield Finding(f"{INPUT}.separate_batch", True, "expected input_batch with it", "separate_batch")
        if view.words(f"{INPUT}.separate_name"):
            expected = "expected separate_batch or separate_name, not both"
            yield Finding(f"{INPUT}.separate_name", view.get(f"{INPUT}.separate_name"), expected, "separate")
    for name in view.words(f"{INPUT}.separate_name"):
        if view.names and name not in view.names:
            expected = f"expected an input ({', '.join(view.names)})"
            yield Finding(f"{INPUT}.separate_name", name, expected, "separate")


def calibration(view: View) -> Iterator[Finding]:
    """Calibration folders: one per input and there; none is a silent skip on Journey 6 and an error on Journey 5."""
    key = f"{CAL}.cal_data_dir"
    found, method = view.words(key), view.get(f"{CAL}.calibration_type") or ""
    if found and len(found) != view.count:
        many = f"{counted(view.count, 'folder')}, one per input"
        yield Finding(key, view.get(key), f"expected {many}, not {len(found)}", "calibration folders")
    for folder in found:
        if folder is None or not os.path.isdir(view.path(folder)):
            severity = WARNING if view.away and folder else ERROR
            yield Finding(key, folder, "expected an existing folder", "calibration folders", severity)
    if found:
        return
    if not view.journey6 and method not in ("skip", "load"):
        yield Finding(key, view.get(key), "expected a folder per input", "calibration folders")
    if view.journey6 and method != "skip":
        yield Finding(key, view.get(key), "is not given: the tool skips calibration silently", "calibration", WARNING)


def methods(view: View) -> Iterator[Finding]:
    """Methods and percentiles that the quantiser changes by itself; optimisation words."""
    method, share = view.get(f"{CAL}.calibration_type"), view.get(f"{CAL}.max_percentile")
    if view.journey6 and method in ("default", "mix"):
        expected = "is out of date: leaving it out searches as well"
        yield Finding(f"{CAL}.calibration_type", method, expected, "deprecated", WARNING)
    if method == "load":
        expected = "is for models from quantization-aware training: on others every threshold becomes 1.0"
        yield Finding(f"{CAL}.calibration_type", method, expected, "load", WARNING)
    least = 0.5 if view.journey6 else 0.995
    if isinstance(share, (int, float)) and (share >= 0 if view.journey6 else share > 0) and share < least:
        yield Finding(f"{CAL}.max_percentile", share, f"works as {least:g}", "max_percentile", WARNING)
    yield from _optimization(view)


def _optimization(view: View) -> Iterator[Finding]:
    key = f"{CAL}.optimization"
    words = (word.strip() for word in re.split(r"[;,]", str(view.get(key) or "")))
    for word in filter(None, words):
        of_journey5 = word in schema5.OPTIMIZATION or bool(re.fullmatch(schema5.OPTIMIZATION_PATTERN, word))
        if view.journey6 and of_journey5 and word not in schema6.OPTIMIZATION:
            expected = "is a word of hb_mapper that no document of hb_compile lists; quant_config says the same"
            yield Finding(key, word, expected, "optimization", WARNING)
        elif not of_journey5:
            known = ", ".join(schema6.OPTIMIZATION if view.journey6 else schema5.OPTIMIZATION)
            more = "" if view.journey6 else " or set_<OpType>_input_int8 and the like"
            yield Finding(key, word, f"expected {known}{more}", "optimization")
        elif "int16" in word and "int16" not in view.march.types:
            yield Finding(key, word, f"expected int8 only: {view.march.name} has no int16", "optimization")


RULES: tuple[Rule, ...] = (
    model_source,
    prefix,
    names,
    counts,
    shapes,
    batch,
    images,
    blanks,
    layouts,
    conversions,
    spaces,
    normalisation,
    calibration,
    methods,
    *compilerrules.RULES,
)
"""In the order in which the vendor's tools look."""
