"""``lint-data``: findings as text and JSON, and the exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Ptq = Callable[..., object]


@pytest.fixture
def pictures(mynet: Path, tmp_path: Path) -> Path:
    """Some of the example's pictures, without their recipe."""
    (tmp_path / "pictures").mkdir()
    for path in sorted((mynet / "calib").glob("*.png"))[:30]:
        shutil.copy(path, tmp_path / "pictures")
    return tmp_path / "pictures"


def test_good_data_have_no_errors(ptq: Ptq, mynet: Path) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={mynet}/calib")
    assert answer.status == 0, answer.err
    assert "error [" not in answer.out and "warning [" not in answer.out
    assert "100 of 100 samples could be read" in answer.out


def test_a_missing_recipe_is_an_error(ptq: Ptq, mynet: Path, pictures: Path) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}")
    assert answer.status == 6
    assert "error [statistics] input 'input1'" in answer.out
    mean, std = "--mean=0.3053,0.3053,0.3053", "--std=0.3243,0.3243,0.3243"
    right = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}", mean, std, "--scale=1/255")
    assert right.status == 0, right.out


def test_broken_and_repeated_samples_are_named(ptq: Ptq, mynet: Path, pictures: Path) -> None:
    names = sorted(path.name for path in pictures.iterdir())
    (pictures / names[3]).write_bytes(b"no picture")
    shutil.copy(pictures / names[0], pictures / "zz_again.png")
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", f"--calibData={pictures}", "--json")
    record = json.loads(answer.out)
    assert answer.status == record["exit_status"] == 6 and not record["ok"]
    assert record["readable"] == record["samples"] - 1
    broken = next(finding for finding in record["findings"] if finding["check"] == "broken")
    assert names[3] in broken["sample"] + broken["reason"]
    twice = next(finding for finding in record["findings"] if finding["check"] == "duplicate")
    assert "zz_again.png" in twice["sample"] and names[0] in twice["reason"]
    assert record["counts"]["error"] == sum(finding["level"] == "error" for finding in record["findings"])


def test_constant_and_few_samples_warn(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", input1=np.zeros((4, 3, 28, 28), np.float32))
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", "--calibData=flat.npz")
    assert "warning [constant]" in answer.out and "warning [few]" in answer.out


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "--calibData"),
        (["--calibData=missing"], 3, "missing: no such"),
        (["--calibData=.", "--int8"], 2, "--int8: lint-data has no use for it"),
        (["--calibData=.", "--skipBroken=3"], 2, "--skipBroken"),
        (["--calibData=.", "--target=cpu", "--target=trt"], 2, "one target"),
    ],
)
def test_wrong_options_are_one_line(ptq: Ptq, mynet: Path, words: list[str], status: int, text: str) -> None:
    answer = ptq("lint-data", f"--onnx={mynet}/mynet.onnx", *words)
    assert answer.status == status
    assert text in answer.err
    assert len([line for line in answer.err.splitlines() if not line.startswith("  hint")]) == 1


def test_help_lists_its_options_only(ptq: Ptq) -> None:
    answer = ptq("lint-data", "--help")
    assert answer.status == 0
    assert "--preset" in answer.out and "--saveEngine" not in answer.out and "--skipBroken" not in answer.out
