"""Print how well ONNX files do on the example's test set: top-1, and how close their outputs are to the first file's.

    python accuracy.py FP32.onnx [OTHER.onnx ...] [--json FILE]

Needs numpy, onnxruntime and PyYAML. Works for models of a fixed batch size and for those with a dynamic one. The
test images (test.npz) go through the preprocessing of calib/recipe.yaml. Exit status: 0, 2 for a
bad command line, 3 for a model or file that cannot be used, with one line that says why.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import yaml

HERE = Path(__file__).resolve().parent
BATCH = 100  # samples per call where the model leaves the choice
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Unusable(Exception):
    """A model or file that cannot be used; the text is the one line for the user."""


def load_recipe(path: Path = HERE / "calib" / "recipe.yaml") -> dict[str, Any]:
    """The preprocessing recipe: ``scale``, ``mean`` and ``std`` (per channel), ``layout``."""
    recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return recipe


def load_test(path: Path = HERE / "test.npz") -> tuple[Images, Labels]:
    """Test images uint8 (N, 28, 28, 3), channels R, G, B, and their classes int64 (N,)."""
    with np.load(path, allow_pickle=False) as data:
        return data["images"], data["labels"]


def preprocess(images: Images, recipe: dict[str, Any]) -> Floats:
    """uint8 (N, H, W, 3) -> float32 ``(pixel * scale - mean) / std`` of shape (N, 3, H, W), or unmoved for nhwc."""
    mean, std = (np.asarray(recipe[key], np.float32) for key in ("mean", "std"))
    values = (images.astype(np.float32) * np.float32(recipe["scale"]) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if recipe["layout"] == "nchw" else values)


def predict(model: Path, inputs: Floats) -> Floats:
    """The first output of ``model`` for each row of ``inputs`` (N, ...), flattened to float32 (N, values).

    A fixed batch size is served by repeating the last row until the last batch is full. Raises Unusable where ONNX
    Runtime cannot load or run the file, or where it does not have exactly one float32 or float16 input.
    """
    try:
        session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many classes without a common base
        raise Unusable(f"{model}: ONNX Runtime cannot load it: {first_line(error)}") from error
    declared = session.get_inputs()
    if len(declared) != 1 or declared[0].type not in FLOATS:
        found = ", ".join(f"{each.name} {each.type}" for each in declared)
        raise Unusable(f"{model}: expected one float32 or float16 input, found: {found}")
    fixed = declared[0].shape[0] if declared[0].shape else None
    batch = fixed if isinstance(fixed, int) and fixed > 0 else BATCH
    rows = inputs.astype(FLOATS[declared[0].type])
    missing = -len(rows) % batch
    padded = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
    name, output = declared[0].name, session.get_outputs()[0].name
    try:
        parts = [session.run([output], {name: padded[i : i + batch]})[0] for i in range(0, len(padded), batch)]
    except Exception as error:
        raise Unusable(f"{model}: ONNX Runtime cannot run it on the test images: {first_line(error)}") from error
    whole: Floats = np.concatenate(parts)[: len(rows)].reshape(len(rows), -1).astype(np.float32)
    return whole


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def top1(outputs: Floats, labels: Labels) -> float:
    """Share of rows whose largest output is the label, 0 to 1."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


def cosines(outputs: Floats, reference: Floats) -> npt.NDArray[np.float64]:
    """Cosine similarity of each row with the same row of ``reference``, computed in float64; shape (N,).

    Two zero rows count as 1, a zero row against any other as 0. Raises ValueError where the shapes differ.
    """
    a, b = outputs.astype(np.float64), reference.astype(np.float64)
    if a.shape != b.shape:
        raise ValueError(f"outputs of shape {a.shape} cannot be compared with {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    ratio = np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, 1)
    return np.where(both_zero, 1.0, ratio)


def compare(models: list[Path]) -> list[dict[str, Any]]:
    """One row per model: model, samples, correct, top1, and mean and least cosine against the first model's output."""
    images, labels = load_test()
    inputs = preprocess(images, load_recipe())
    rows: list[dict[str, Any]] = []
    reference: Floats | None = None
    for model in models:
        outputs = predict(model, inputs)
        reference = outputs if reference is None else reference
        try:
            likeness = cosines(outputs, reference)
        except ValueError as error:
            raise Unusable(f"{model}: {error} of {models[0]}") from error
        share = top1(outputs, labels)
        rows.append(
            {
                "model": str(model),
                "samples": len(labels),
                "correct": round(share * len(labels)),
                "top1": share,
                "cosine_mean": float(likeness.mean()),
                "cosine_min": float(likeness.min()),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description="Top-1 on the test set, and cosine against the first model.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="the first one is the reference")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    try:
        rows = compare(args.models)
        if args.json:
            versions = {"onnxruntime": ort.__version__, "numpy": np.__version__}
            args.json.write_text(json.dumps({"versions": versions, "models": rows}, indent=2) + "\n", encoding="utf-8")
    except (Unusable, OSError, zipfile.BadZipFile, yaml.YAMLError) as error:
        print(f"accuracy: {first_line(error)}", file=sys.stderr)
        return 3
    width = max(len(row["model"]) for row in rows)
    print(f"{'model':{width}}   top-1     right      cosine mean  min")
    for row in rows:
        right = f"{row['correct']}/{row['samples']}"
        print(
            f"{row['model']:{width}}  {row['top1']:7.2%}  {right:>8}   "
            f"{row['cosine_mean']:12.6f}  {row['cosine_min']:.6f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
