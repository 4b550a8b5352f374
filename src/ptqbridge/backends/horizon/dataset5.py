"""A whole data set through the quantized model of a .bin, so that its accuracy is known without a board."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.beside5 import Beside, look_beside
from ptqbridge.backends.horizon.infer5 import PIXELS, Feed, run_quantized
from ptqbridge.backends.horizon.request import RECIPE
from ptqbridge.backends.horizon.run5 import stage_quantized
from ptqbridge.backends.horizon.tools5 import MODEL
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.data.asked import asked_samples
from ptqbridge.data.recipe import Recipe
from ptqbridge.data.samples import Samples
from ptqbridge.data.writers import to_pixels
from ptqbridge.errors import InputError
from ptqbridge.files import atomic_path
from ptqbridge.spec import Calibration, Preprocess, TensorSpec
from ptqbridge.toolchains.select import select
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Say = Callable[[str], None]


def infer(artifact: str, wanted: Calibration, out: str, *, toolchain: str, say: Say) -> dict[str, Any]:
    """Run every sample of ``wanted.data`` and write the outputs to ``out``: .npz by name, .npy for a single output.

    Samples are what the float model takes, as for calibration; where the .bin takes pixels they are brought to its
    colour, layout and type. Returns what is to be told as JSON. Raises InputError, OptionError, ToolchainMissing,
    ToolchainFailed.
    """
    beside = look_beside(artifact)
    with workspace() as place, select(toolchain) as where:
        place.copy(artifact, MODEL)
        feeds, notes = stage_quantized(artifact, beside, place, where)
        wanted, remark = with_recipe(wanted, beside)
        if remark:
            say(f"note: {remark}")
        samples = asked_samples(wanted, [float_input(feed) for feed in feeds])
        for note in samples.notes:
            say(f"note: {note}")
        files = _write(place, feeds, samples, Recipe.from_mapping(vars(wanted.preprocess)))
        for reason in samples.skipped:
            say(f"note: left out: {reason}")
        say(f"running {counted(samples.used, 'sample')} in the tool's own runtime")
        outputs = run_quantized(place, where, files)
    write_outputs(out, outputs)
    return {
        "artifact": artifact,
        "samples": samples.used,
        "data_sha256": samples.fingerprint,
        "skipped": list(samples.skipped),
        "outputs": {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in outputs.items()},
        "how": "the quantized model in hb_mapper's own runtime, on this kind of machine",
        "performance_only": beside.record["build"]["performance_only"],
        "versions": dict(beside.facts.get("versions", {})),
        "notes": [*notes, *samples.notes],
    }


def with_recipe(wanted: Calibration, beside: Beside) -> tuple[Calibration, str]:
    """``wanted`` with the recipe that the artifact was calibrated with, where none is given, and a remark on that."""
    given = wanted.preprocess != Preprocess() or os.path.isfile(os.path.join(wanted.data, RECIPE))
    known = beside.facts.get("calibration", {}).get("recipes", {}).values()
    if given or not known or any(recipe != next(iter(known)) for recipe in known):
        return wanted, ""
    parts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in next(iter(known)).items()
    }
    parts.pop("dtype", None)
    recipe = Preprocess(**parts)
    return replace(wanted, preprocess=recipe), "no recipe was given: pixels are treated as when it was calibrated"


def float_input(feed: Feed) -> TensorSpec:
    """The input as the float model has it: pictures in its own layout, whatever the .bin takes."""
    if feed.info.kind not in PIXELS or feed.given.dtype != "uint8":
        return feed.given
    return TensorSpec(feed.given.name, "float32", feed.info.shape)


def _write(place: Workspace, feeds: Sequence[Feed], samples: Samples, asked: Recipe) -> dict[str, str]:
    """All samples as one .npy per input, row after row: they need not fit into memory."""
    import numpy as np

    files = {feed.given.name: f"in_{number}.npy" for number, feed in enumerate(feeds)}
    stores: dict[str, Array] = {}
    done = 0
    for sample in samples:
        for feed in feeds:
            name, spec = feed.given.name, float_input(feed)
            array = sample.arrays[name]
            if spec != feed.given:
                recipe = samples.recipes.get(name) or (None if asked == Recipe() else asked.resolve(spec))
                array = to_runtime(feed, array, recipe, sample.name)
            row = feed.convert(array)
            if name not in stores:
                shape = (len(samples) * len(row), *row.shape[1:])
                stores[name] = np.lib.format.open_memmap(place.job / files[name], "w+", row.dtype, shape)
            stores[name][done * len(row) : (done + 1) * len(row)] = row
        done += 1
    if not done:
        raise InputError(f"no sample is left: {samples.skipped[0] if samples.skipped else 'there was none'}")
    for feed in feeds:
        store = stores[feed.given.name]
        rows = done * (len(store) // len(samples))
        if rows < len(store):  # broken samples were left out
            np.save(place.job / files[feed.given.name], np.array(store[:rows]))
        else:
            store.flush()  # type: ignore[attr-defined]
    return files


def to_runtime(feed: Feed, array: Array, recipe: Recipe | None, shown: str) -> Array:
    """From what the float model takes to the bytes that the .bin takes, N x ... uint8.

    Raises InputError where the values are no pixels, or the .bin's colours cannot be made from the model's.
    """
    import numpy as np

    from ptqbridge.data.yuv import rgb_to_nv12, rgb_to_yuv444

    info = feed.info
    values = to_pixels(array, recipe, shown) if recipe else array
    if float(values.min()) < 0 or float(values.max()) > 255:
        raise InputError(
            f"{shown}: input {info.name!r} takes pixels of 0 to 255, found {values.min():g} to {values.max():g}",
            hint="--preset, or --mean, --std and --scale, say how the data were made from pixels",
        )
    pixels = np.rint(values).astype(np.uint8)
    if info.details.get("input_layout_train") == "NCHW":
        pixels = pixels.transpose(0, 2, 3, 1)
    train = info.details.get("input_type_train", info.kind)
    if train != info.kind:
        if train not in ("rgb", "bgr"):
            raise InputError(f"{shown}: pictures in {train} cannot be made {info.kind} here")
        rgb = pixels if train == "rgb" else pixels[..., ::-1]
        if info.kind == "nv12":
            return np.stack([rgb_to_nv12(picture) for picture in rgb])
        pixels = np.stack([rgb_to_yuv444(picture) for picture in rgb]) if info.kind == "yuv444" else rgb
        pixels = rgb[..., ::-1] if info.kind == "bgr" else pixels
    # Not by input_layout_rt: hb_mapper 1.24.3 keeps the model's own order for rgb, bgr and yuv444 whatever it says.
    first = feed.channels_first if pixels.shape[-1] == 3 else feed.taken.shape[1] == 1
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if first else pixels)


def write_outputs(out: str, outputs: Mapping[str, Array]) -> None:
    """Write a .npz whose members are named as the outputs, or the only output as .npy. Raises InputError."""
    import numpy as np

    if out.endswith(".npy"):
        if len(outputs) != 1:
            raise InputError(f"--out={out}: the model has {len(outputs)} outputs, which take an .npz")
        with atomic_path(out) as temporary, open(temporary, "wb") as file:
            np.lib.format.write_array(file, next(iter(outputs.values())), allow_pickle=False)
        return
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
