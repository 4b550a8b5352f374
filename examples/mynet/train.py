"""Make everything in this folder: train the example network, export it to ONNX, write its calibration and test data.

Rerun (Python 3.11, a minute on two CPU cores; overwrites the files next to this script)::

    python -m venv venv && venv/bin/pip install torch scikit-learn onnx pillow pyyaml
    venv/bin/python train.py

torch and scikit-learn are needed here only: whoever uses the example needs neither. The seed, the thread count and
the number of epochs are fixed and nothing is chosen by looking at the test split, so a rerun with the same library
versions gives the same files; other versions give a slightly different but equally good model.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 1
SIDE = 28  # pixels; the data set has 8
TEST_SAMPLES = 600  # of 1797
CALIB_PER_CLASS = 10
EPOCHS, BATCH, TOP_RATE = 30, 64, 0.004
JITTER = 2  # pixels of random shift while training
FLOOR = 0.97  # a model below this test top-1 is not written


class MyNet(nn.Module):
    """Two convolutions with BatchNorm, one pooling, one linear layer: (N, 3, 28, 28) -> (N, 10) logits."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=3, stride=1, padding=1),  # 32 x 28 x 28
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),  # 64 x 14 x 14
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),  # 64 x 7 x 7
        )
        self.fc = nn.Linear(64 * 7 * 7, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of normalised images."""
        return self.fc(torch.flatten(self.features(x), start_dim=1))


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """The digits data set as RGB pictures: uint8 (1797, 28, 28, 3), and labels int64 (1797,).

    The grey levels 0..16 of the 8x8 originals become 0..255, are enlarged bilinearly, and fill all three channels.
    """
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(g).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for g in grey]
    return np.repeat(np.stack(large)[..., None], 3, axis=3), digits.target.astype(np.int64)


def make_recipe(train: np.ndarray) -> dict[str, object]:
    """Preprocessing that gives the training pixels mean 0 and deviation 1 per channel, rounded to four digits."""
    unit = train.astype(np.float64) / 255
    return {
        "color": "rgb",
        "layout": "nchw",
        "resize": f"stretch:{SIDE}x{SIDE}",
        "scale": 1 / 255,
        "mean": [round(float(m), 4) for m in unit.mean(axis=(0, 1, 2))],
        "std": [round(float(s), 4) for s in unit.std(axis=(0, 1, 2))],
    }


def preprocess(images: np.ndarray, recipe: dict[str, object]) -> torch.Tensor:
    """uint8 (N, 28, 28, 3) -> float32 (N, 3, 28, 28) by ``(pixel * scale - mean) / std``."""
    mean, std = (np.asarray(recipe[key], np.float32) for key in ("mean", "std"))
    values = (images.astype(np.float32) * np.float32(recipe["scale"]) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def train_net(x: torch.Tensor, y: torch.Tensor, seed: int) -> MyNet:
    """Train on normalised images ``x`` with classes ``y``; every batch is shifted by up to JITTER pixels."""
    torch.manual_seed(seed)
    net = MyNet()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=TOP_RATE, total_steps=steps)
    lowest = x.amin(dim=(0, 2, 3)).view(1, 3, 1, 1)  # a normalised black pixel
    padded = lowest.repeat(len(x), 1, SIDE + 2 * JITTER, SIDE + 2 * JITTER)
    padded[:, :, JITTER:-JITTER, JITTER:-JITTER] = x
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            top, left = torch.randint(0, 2 * JITTER + 1, (2,)).tolist()
            loss = nn.functional.cross_entropy(
                net(padded[rows, :, top : top + SIDE, left : left + SIDE]), y[rows], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d}/{EPOCHS}  loss {total / (len(x) // BATCH):.4f}")
    return net.eval()


def export(net: MyNet, path: Path, *, dynamic: bool) -> None:
    """Write opset 11 ONNX, ``input1`` -> ``output1``; with ``dynamic`` the first dimension is called ``batch``.

    TrainingMode.PRESERVE with a net in eval mode keeps each BatchNormalization as a node of its own (the default mode
    folds it into the convolution before it), so that the folding of the build tools has something to fold.
    """
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(path),
        dynamo=False,
        opset_version=11,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["input1"],
        output_names=["output1"],
        dynamic_axes={"input1": {0: "batch"}, "output1": {0: "batch"}} if dynamic else None,
    )
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)


def write_data(
    images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, recipe: dict[str, object]
) -> None:
    """Write calib/ with its recipe.yaml (from the rows ``train``), test.npz (the rows ``test``) and test_small/."""
    header = "# Preprocessing of mynet: value = (pixel * scale - mean) / std, channels in the order R, G, B.\n"
    text = header + yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None)
    calib = HERE / "calib"
    shutil.rmtree(calib, ignore_errors=True)
    calib.mkdir()
    (calib / "recipe.yaml").write_text(text, encoding="utf-8")
    for digit in range(10):
        for row in train[labels[train] == digit][:CALIB_PER_CLASS]:
            Image.fromarray(images[row]).save(calib / f"digit{digit}_{row:04d}.png", optimize=True)
    np.savez_compressed(HERE / "test.npz", images=images[test], labels=labels[test])
    small = HERE / "test_small"
    small.mkdir(exist_ok=True)
    sample = preprocess(images[test[:1]], recipe).numpy()
    np.save(small / "sample.npy", sample)
    (small / "sample.bin").write_bytes(sample.tobytes())


def main() -> None:
    """Train, check, export, write."""
    parser = argparse.ArgumentParser(description="Make the example model and its data.")
    parser.add_argument("--seed", type=int, default=SEED, help="of the weights; the split stays (default %(default)s)")
    seed = parser.parse_args().seed
    torch.set_num_threads(1)  # the order of float additions depends on the thread count
    torch.use_deterministic_algorithms(True)
    images, labels = load_images()
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_SAMPLES, stratify=labels, random_state=SEED)
    recipe = make_recipe(images[train])
    net = train_net(preprocess(images[train], recipe), torch.from_numpy(labels[train]), seed)
    with torch.no_grad():
        guesses = net(preprocess(images[test], recipe)).argmax(dim=1).numpy()
    right = int((guesses == labels[test]).sum())
    print(f"test top-1 {right / len(test):.4f} ({right} of {len(test)})")
    if right / len(test) < FLOOR:
        raise SystemExit(f"top-1 is below {FLOOR}; nothing was written")
    export(net, HERE / "mynet.onnx", dynamic=False)
    export(net, HERE / "mynet_dynamic.onnx", dynamic=True)
    write_data(images, labels, train, test, recipe)


if __name__ == "__main__":
    main()
