"""Samples: rows into inferences, selection, damage, fingerprint."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.data import Recipe, open_samples
from ptqbridge.data.samples import Samples, spread
from ptqbridge.data.store import BrokenData
from ptqbridge.errors import InputError, OptionError
from ptqbridge.spec.tensor import TensorSpec

SaveNpy = Callable[[str, np.ndarray], Path]
SavePicture = Callable[..., Path]


def shapes(samples: Samples) -> list[tuple[int, ...]]:
    return [sample.arrays["input1"].shape for sample in samples]


def stacked(samples: Samples, name: str = "input1") -> np.ndarray:
    return np.concatenate([sample.arrays[name] for sample in samples])


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    return rng.random((10, 3, 8, 6), np.float32)


@pytest.mark.parametrize(
    "form", ["folder", "bare", "stacks", "npz", "npz packed", "sample axis", "bin", "bins", "zip", "txt"]
)
def test_every_form_gives_the_same_samples(
    tmp_path: Path, save_npy: SaveNpy, data: np.ndarray, dynamic_input: TensorSpec, image_input: TensorSpec, form: str
) -> None:
    path = tmp_path / "d"
    path.mkdir()
    if form == "folder" or form == "txt":
        for index, row in enumerate(data):
            save_npy(f"d/{index}.npy", row[None])
    if form == "txt":
        (path / "list.txt").write_text("".join(f"{index}.npy\n" for index in range(10)))
        path = path / "list.txt"
    if form == "bare":
        for index, row in enumerate(data):
            save_npy(f"d/{index}.npy", row)
    if form == "stacks":
        save_npy("d/0.npy", data[:3])
        save_npy("d/1.npy", data[3:])
    if form.startswith("npz"):
        path = tmp_path / "d.npz"
        (np.savez_compressed if "packed" in form else np.savez)(path, input1=data, labels=np.arange(10))
    if form == "sample axis":
        save_npy("d/0.npy", data[:, None])
    if form == "bin":
        path = tmp_path / "d.bin"
        data.tofile(path)
    if form == "bins":
        for index, row in enumerate(data):
            row.tofile(path / f"{index}.raw")
    if form == "zip":
        for index, row in enumerate(data):
            save_npy(f"z/{index}.npy", row)
        path = tmp_path / "d.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((tmp_path / "z").iterdir()):
                archive.write(file, file.name)
    for spec in (image_input, dynamic_input):
        samples = open_samples(path, [spec])
        assert len(samples) == 10
        assert shapes(samples) == [(1, 3, 8, 6)] * 10
        assert np.array_equal(stacked(samples), data)
        assert np.array_equal(stacked(samples), data)  # and once more
        assert samples.skipped == []
    batches = open_samples(path, [dynamic_input], batch=4)
    assert len(batches) == 3
    assert shapes(batches) == [(4, 3, 8, 6), (4, 3, 8, 6), (2, 3, 8, 6)]
    assert np.array_equal(stacked(batches), data)


def test_a_fixed_batch_takes_that_many_rows(save_npy: SaveNpy, data: np.ndarray) -> None:
    spec = TensorSpec("input1", "float32", (4, 3, 8, 6))
    save_npy("a/0.npy", data[:4])
    save_npy("a/1.npy", data[4:8])
    assert shapes(open_samples(save_npy("a/2.npy", data[2:6]).parent, [spec])) == [(4, 3, 8, 6)] * 3
    for index, row in enumerate(data):
        path = save_npy(f"b/{index}.npy", row)
    samples = open_samples(path.parent, [spec])
    assert np.array_equal(stacked(samples), data[:8])
    assert samples.notes == ("input 'input1': 2 rows left over, 4 make a sample",)
    with pytest.raises(InputError, match=r"expected input1: float32\[4,3,8,6\], found float32\[10, 3, 8, 6\]"):
        open_samples(save_npy("c.npy", data), [spec])
    with pytest.raises(InputError, match=r"1 rows found, one sample of .* takes 4"):
        open_samples(save_npy("d.npy", data[0]), [spec])


def test_other_symbolic_dimensions_take_what_the_data_has(save_npy: SaveNpy) -> None:
    spec = TensorSpec("ids", "int64", ("batch", "len"))
    save_npy("d/0.npy", np.zeros((1, 5), np.int64))
    folder = save_npy("d/1.npy", np.zeros((1, 7), np.int64)).parent
    assert [sample.arrays["ids"].shape for sample in open_samples(folder, [spec])] == [(1, 5), (1, 7)]
    with pytest.raises(InputError, match=r"0\.npy \[1, 5\] and .*1\.npy \[1, 7\] do not go into one batch"):
        list(open_samples(folder, [spec], batch=2))


def test_several_inputs_stay_together(save_npy: SaveNpy, rng: np.random.Generator) -> None:
    left, right = TensorSpec("left", "float32", ("n", 4)), TensorSpec("right", "int64", ("n", 2))
    for key in ("b", "a", "c"):
        save_npy(f"left/{key}.npy", np.full((1, 4), ord(key), np.float32))
        root = save_npy(f"right/{key}.npy", np.full((2,), ord(key), np.int64)).parent.parent
    samples = list(open_samples(root, [left, right], batch=2))
    assert [sample.arrays["left"][:, 0].tolist() for sample in samples] == [[97, 98], [99]]
    assert [sample.arrays["right"][:, 0].tolist() for sample in samples] == [[97, 98], [99]]
    save_npy("right/b.npy", np.zeros((3, 2), np.int64))
    with pytest.raises(InputError, match=r"left.b\.npy holds 1 sample, its partner .*right.b\.npy holds 3"):
        open_samples(root, [left, right])


def test_a_shared_dimension_must_agree(save_npy: SaveNpy) -> None:
    ids, mask = TensorSpec("ids", "int64", ("n", "len")), TensorSpec("mask", "int64", ("n", "len"))
    save_npy("ids/0.npy", np.zeros((1, 5), np.int64))
    root = save_npy("mask/0.npy", np.zeros((1, 6), np.int64)).parent.parent
    with pytest.raises(InputError, match=r"dimension 'len' is 5 in .*ids.0\.npy but 6 in .*mask.0\.npy"):
        list(open_samples(root, [ids, mask]))


def test_scalars_and_vectors_go_with_batched_inputs(
    save_npy: SaveNpy, data: np.ndarray, image_input: TensorSpec
) -> None:
    limit, size = TensorSpec("limit", "float32", ()), TensorSpec("size", "int64", (2,))
    root = save_npy("input1.npy", data).parent
    save_npy("limit.npy", np.arange(10, dtype=np.float32))
    save_npy("size.npy", np.arange(20).reshape(10, 2))
    samples = list(open_samples(root, [image_input, limit, size]))
    assert [float(sample.arrays["limit"]) for sample in samples] == list(range(10))
    assert samples[3].arrays["limit"].shape == ()
    assert samples[3].arrays["size"].tolist() == [6, 7]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
def test_spread_is_even_and_seeded(total: int, wanted: int, seed: int) -> None:
    chosen = spread(total, wanted, seed)
    assert chosen == spread(total, wanted, seed)
    assert len(chosen) == min(total, wanted)
    assert all(0 <= index < total for index in chosen)
    assert all(low < high for low, high in pairwise(chosen))
    if wanted <= total:
        stretches = [index * wanted // total for index in chosen]
        assert all(abs(stretch - place) <= 1 for place, stretch in enumerate(stretches))


def test_selection(save_npy: SaveNpy, data: np.ndarray, image_input: TensorSpec) -> None:
    path = save_npy("d.npy", data)
    three = open_samples(path, [image_input], samples=3)
    assert len(three) == len(list(three)) == 3
    assert open_samples(path, [image_input], samples=3, seed=1).fingerprint != three.fingerprint
    many = open_samples(path, [image_input], samples=99)
    assert len(many) == 10
    assert many.notes == (f"{path}: 99 samples asked for, 10 found",)


@pytest.mark.parametrize("options", [{"samples": 0}, {"batch": 0}, {"skip_broken": -1}, {"batch": 2}])
def test_wrong_counts(save_npy: SaveNpy, data: np.ndarray, image_input: TensorSpec, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=r"calibSamples|calibBatch|skipBroken"):
        open_samples(save_npy("d.npy", data), [image_input], **options)  # type: ignore[arg-type]


def test_pictures_and_their_recipe(tmp_path: Path, save_picture: SavePicture, image_input: TensorSpec) -> None:
    for index in range(3):
        save_picture(f"d/{index}.png")
    default = open_samples(tmp_path / "d", [image_input])
    assert default.notes == (
        "pictures of input 'input1': resize stretch:8x6 (bilinear), rgb, nchw, "
        "value = (pixel * 1/255 - 0) / 1 as float32 (default: no recipe was given)",
    )
    raw = open_samples(tmp_path / "d", [image_input], recipe=Recipe(scale=(1.0,)))
    assert np.allclose(stacked(raw), stacked(default) * 255)
    assert raw.fingerprint != default.fingerprint
    (tmp_path / "d/recipe.yaml").write_text("scale: 1\n")
    beside = open_samples(tmp_path / "d", [image_input])
    assert np.array_equal(stacked(beside), stacked(raw))
    assert beside.notes[0].endswith(f"(from {tmp_path / 'd' / 'recipe.yaml'})")
    assert beside.fingerprint == raw.fingerprint
    both = open_samples(tmp_path / "d", [image_input], recipe=Recipe(mean=(0.5,)))
    assert np.allclose(stacked(both), stacked(raw) - 0.5)
    assert both.notes[0].endswith("recipe.yaml, where options say nothing else)")


def test_pixel_arrays_need_a_recipe(save_npy: SaveNpy, rng: np.random.Generator, image_input: TensorSpec) -> None:
    pixels = rng.integers(0, 256, (5, 8, 6, 3), np.uint8)
    path = save_npy("d.npy", pixels)
    with pytest.raises(InputError, match="found uint8") as caught:
        open_samples(path, [image_input])
    assert "recipe" in caught.value.hint
    samples = open_samples(path, [image_input], recipe=Recipe(scale=(1.0,)))
    assert np.array_equal(stacked(samples), pixels.transpose(0, 3, 1, 2))


def test_a_recipe_leaves_tensors_alone_and_says_so(
    save_npy: SaveNpy, data: np.ndarray, image_input: TensorSpec
) -> None:
    samples = open_samples(save_npy("d.npy", data), [image_input], recipe=Recipe(mean=(0.5,)))
    assert np.array_equal(stacked(samples), data)
    assert samples.notes == ("input 'input1': the recipe is for pictures; these arrays are taken as they are",)


def test_broken_pictures(tmp_path: Path, save_picture: SavePicture, image_input: TensorSpec) -> None:
    for index in range(5):
        save_picture(f"d/{index}.png")
    (tmp_path / "d/2.png").write_bytes(b"broken")
    with pytest.raises(BrokenData, match=r"2\.png: not a readable picture"):
        list(open_samples(tmp_path / "d", [image_input]))
    samples = open_samples(tmp_path / "d", [image_input], skip_broken=1)
    for _ in range(2):
        assert [Path(sample.name).name for sample in samples] == ["0.png", "1.png", "3.png", "4.png"]
        assert len(samples.skipped) == 1
    (tmp_path / "d/4.png").write_bytes(b"")
    with pytest.raises(BrokenData, match=r"4\.png: not a readable picture \(the file is empty\)"):
        list(samples)
    for index in (0, 1, 3):
        (tmp_path / f"d/{index}.png").write_bytes(b"")
    with pytest.raises(InputError, match="no other sample is left"):
        list(open_samples(tmp_path / "d", [image_input], skip_broken=9))


def test_broken_arrays_take_their_partners_along(save_npy: SaveNpy) -> None:
    specs = [TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (1, 2))]
    for key in range(3):
        save_npy(f"a/{key}.npy", np.full((1, 2), key, np.float32))
        root = save_npy(f"b/{key}.npy", np.full((1, 2), key, np.float32)).parent.parent
    (root / "a/1.npy").write_bytes(b"x")
    with pytest.raises(BrokenData, match=r"a.1\.npy: not a readable"):
        open_samples(root, specs)
    samples = open_samples(root, specs, skip_broken=1)
    assert [s.arrays["b"][0, 0] for s in samples] == [0, 2]
    assert len(samples.skipped) == 1


def test_nan_names_file_and_row(save_npy: SaveNpy, data: np.ndarray, image_input: TensorSpec) -> None:
    data[7, 0, 1, 2] = np.nan
    path = save_npy("d.npy", data)
    with pytest.raises(BrokenData, match=r"d\.npy\[7\]: nan in the data of input 'input1' at \[0, 0, 1, 2\]"):
        list(open_samples(path, [image_input]))
    assert len(list(open_samples(path, [image_input], skip_broken=1))) == 9
    big = save_npy("big.npy", np.full((1, 3, 8, 6), 1e300))
    with pytest.raises(BrokenData, match="inf in the data"):
        list(open_samples(big, [image_input]))


def test_fingerprint_depends_on_content_not_on_place(tmp_path: Path, save_npy: SaveNpy, data: np.ndarray) -> None:
    spec = TensorSpec("input1", "float32", (1, 3, 8, 6))
    for folder in ("p", "q", "r", "s"):
        for index, row in enumerate(data[:3]):
            save_npy(f"{folder}/{index}.npy", row if folder != "r" or index else row + 1)
    (tmp_path / "s/0.npy").rename(tmp_path / "s/00.npy")
    prints = {folder: open_samples(tmp_path / folder, [spec]).fingerprint for folder in "pqrs"}
    assert prints["p"] == prints["q"]
    assert len({prints["p"], prints["r"], prints["s"]}) == 3
    assert len(prints["p"]) == 64


def test_memory_is_flat(save_npy: SaveNpy, image_input: TensorSpec) -> None:
    spec = TensorSpec("x", "float32", (1, 256, 256))
    path = save_npy("d.npy", np.ones((64, 256, 256), np.float32))  # 16 MiB, 256 KiB a sample
    np.savez_compressed(path.with_suffix(".npz"), np.ones((64, 256, 256), np.float32))
    for file in (path, path.with_suffix(".npz")):
        tracemalloc.start()
        samples = open_samples(file, [spec])
        assert sum(int(sample.arrays["x"].size) for sample in samples) == 64 * 256 * 256
        assert samples.fingerprint
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def test_no_inputs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model has no inputs"):
        open_samples(tmp_path, [])


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.yml", "recipe.json"])
@pytest.mark.parametrize("packed", ["folder", "zip", "zipped folder", "list"])
def test_a_recipe_beside_the_data_is_found(
    tmp_path: Path, image_input: TensorSpec, save_picture: Callable[..., Path], name: str, packed: str
) -> None:
    import zipfile

    picture = save_picture("d/a.png")
    (tmp_path / "d" / name).write_text('{"mean": 0.5, "std": 0.25}')
    path = tmp_path / "d"
    if packed == "list":
        (tmp_path / "d" / "all.txt").write_text("a.png\n")
        path = tmp_path / "d" / "all.txt"
    elif packed != "folder":
        path = tmp_path / "d.zip"
        top = "d/" if packed == "zipped folder" else ""
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(picture, f"{top}a.png")
            archive.write(tmp_path / "d" / name, f"{top}{name}")
    samples = open_samples(path, [image_input])
    (recipe,) = samples.recipes.values()
    assert (recipe.mean, recipe.std) == ((0.5,) * 3, (0.25,) * 3)
    assert any(name in note for note in samples.notes)


def test_two_recipes_are_one_too_many(
    tmp_path: Path, image_input: TensorSpec, save_picture: Callable[..., Path]
) -> None:
    save_picture("d/a.png")
    for name in ("recipe.yaml", "recipe.json"):
        (tmp_path / "d" / name).write_text('{"mean": 0.5}')
    with pytest.raises(InputError, match=r"found recipe\.yaml and recipe\.json"):
        open_samples(tmp_path / "d", [image_input])


def test_a_zip_of_one_file(tmp_path: Path, image_input: TensorSpec, save_npy: Callable[..., Path]) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(save_npy("x.npy", np.ones((5, 3, 8, 6), np.float32)), "x.npy")
    assert len(open_samples(tmp_path / "d.zip", [image_input])) == 5


def test_a_damaged_picture_in_a_zip_is_broken(
    tmp_path: Path, image_input: TensorSpec, save_picture: Callable[..., Path]
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.write(save_picture(name), name)
    content = bytearray((tmp_path / "d.zip").read_bytes())
    content[80:90] = bytes(10)
    (tmp_path / "d.zip").write_bytes(content)
    samples = open_samples(tmp_path / "d.zip", [image_input], skip_broken=1)
    assert len(list(samples)) == 1 and "a.png" in samples.left[0].sample


def test_those_left_out_are_counted_once(
    tmp_path: Path, image_input: TensorSpec, save_npy: Callable[..., Path]
) -> None:
    for index in range(4):
        save_npy(f"d/{index}.npy", np.full((1, 3, 8, 6), np.nan if index == 1 else 1, np.float32))
    (tmp_path / "d" / "3.npy").write_bytes(b"cut")
    samples = open_samples(tmp_path / "d", [image_input], skip_broken=2)
    assert len(list(samples)) == 2
    assert (samples.used, samples.found) == (2, 4)
    assert [left.sample.rpartition("/")[2] for left in samples.left] == ["3.npy", "1.npy"]


def test_headerless_data_of_another_type_are_doubted(tmp_path: Path, image_input: TensorSpec) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 6))
    for name, dtype in (("whole", np.int32), ("good", np.float32)):
        (tmp_path / name).mkdir()
        pixels.astype(dtype).tofile(tmp_path / name / "0.bin")
    (note,) = open_samples(tmp_path / "whole", [image_input]).notes
    assert note.endswith("0.bin: its bytes look like int32, not float32; lint-data looks at all")
    assert open_samples(tmp_path / "good", [image_input]).notes == ()


def test_samples_by_name_are_read_alone(tmp_path: Path, image_input: TensorSpec, save_picture: SavePicture) -> None:
    for index in range(4):
        save_picture(f"d/{index}.png")
    samples = open_samples(tmp_path / "d", [image_input])
    every = {sample.name: sample.arrays for sample in samples}
    (tmp_path / "d" / "0.png").write_bytes(b"not read")
    wanted = sorted(every)[1::2]
    found = list(samples.named(wanted))
    assert [sample.name for sample in found] == wanted
    for sample in found:
        assert np.array_equal(sample.arrays["input1"], every[sample.name]["input1"])


def test_a_broken_sample_tells_the_way_on(tmp_path: Path, image_input: TensorSpec, save_picture: SavePicture) -> None:
    save_picture("d/0.png")
    (tmp_path / "d" / "1.png").write_bytes(b"")
    with pytest.raises(BrokenData, match=r"1\.png") as caught:
        list(open_samples(tmp_path / "d", [image_input]))
    assert "--skipBroken" in caught.value.hint
