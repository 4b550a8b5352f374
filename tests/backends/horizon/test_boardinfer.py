"""``infer`` and ``info`` on a board, from the command line to the double of hrt_model_exec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.horizon import boardinfer
from ptqbridge.cli import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def answer(capsys: Captured, *words: str, status: int = 0) -> dict[str, Any]:
    """The JSON of a command on the local board."""
    assert main([*words, "--board=local", "--json"]) == status, capsys.readouterr()
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def model(name: str, board_model: dict[str, Any], **changes: Any) -> str:
    """Write a model for the double."""
    Path(name).write_text(json.dumps({**board_model, **changes}))
    return f"--loadEngine={name}"


def clean() -> bool:
    """Whether nothing of a run is left but what may be used again."""
    return not [*Path("board").glob("run.*"), *Path("board").glob(".part*")] and not Path("lock").is_symlink()


def test_one_inference(board_model: dict[str, Any], capsys: Captured) -> None:
    np.save("x.npy", np.arange(4, dtype=np.float32)[None])
    load = model("net.hbm", board_model)
    words = ("infer", load, "--target=nash-m", "--loadInputs=x:x.npy")
    record = answer(capsys, *words, "--exportOutput=out.json", "--dumpRawBindingsToFile", "--device=0")
    assert record["outputs"] == {"out": {"dtype": "float32", "shape": [1, 3]}}
    assert record["infer_ms"] == pytest.approx(2.5) and record["load_s"] == pytest.approx(0.017637)
    (command,) = record["policy"]["commands"]
    assert {"--core_id=1", "--dequantize_process=true", "--remove_padding_process=true"} < set(command)
    assert json.loads(Path("out.json").read_text()) == [{"name": "out", "dimensions": "1x3", "values": [0, 0, 0]}]
    assert np.fromfile("x.input.1.4.Float.raw", np.float32).tolist() == [0, 1, 2, 3]
    assert main([*words, "--board=local", "--dumpOutput"]) == 0
    said = capsys.readouterr().out
    assert "one frame took 2.500 ms on local" in said and "out: (1x3)\n0 0 0" in said and clean()


QUANTIZED = {
    "name": "out", "shape": [1, 2, 3], "type": "S32", "pad": 16, "scale": [0.5, 2.0], "axis": 1, "zero_point": [0, 1],
}  # fmt: skip
BYTES = np.array([[[1, 2, 3], [4, 5, 6]]], np.float32)
FLOATS = (BYTES - np.array([[0], [1]], np.float32)) * np.array([[0.5], [2.0]], np.float32)


@pytest.mark.parametrize(("name", "march"), [("net.hbm", "nash-m"), ("net.bin", "bayes-e")])
def test_quantized_and_padded_outputs(name: str, march: str, board_model: dict[str, Any], capsys: Captured) -> None:
    """Journey 6's tool makes floats itself, Journey 5's leaves that to us: the result is the same."""
    Path("x.bin").write_bytes(bytes([1, 2, 3, 4, 5, 6]))
    inputs = [{"name": "x", "shape": [1, 6], "type": "U8"}]
    load = model(name, board_model, desc={"MARCH": march}, inputs=inputs, outputs=[QUANTIZED])
    answer(capsys, "infer", load, f"--target={march}", "--loadInputs=x:x.bin", "--exportOutput=o.json")
    assert json.loads(Path("o.json").read_text())[0]["values"] == FLOATS.ravel().tolist()


PARTS = [
    {"name": "img_y", "shape": [1, 4, 6, 1], "type": "U8"},
    {"name": "img_uv", "shape": [1, 2, 3, 2], "type": "U8"},
]
PACKED = [{"name": "img", "shape": [1, 3, 4, 6], "type": "NV12"}]


@pytest.mark.parametrize(("name", "inputs"), [("net.hbm", PARTS), ("net.bin", PACKED)])
def test_a_data_set(name: str, inputs: Any, board_model: dict[str, Any], capsys: Captured, monkeypatch: Any) -> None:
    monkeypatch.setattr(boardinfer, "CHUNK", 2)
    load = model(name, board_model, desc={"MARCH": "x"}, inputs=inputs)
    Path("data").mkdir()
    for number in range(5):
        np.save(f"data/{number}.npy", np.full((3, 4, 6), number / 255, np.float32))
    words = ("infer", load, "--calibData=data", "--scale=1/255", "--out=o.npz")
    record = answer(capsys, *words)
    assert record["samples"] == 5 and record["infer_ms"]["mean"] == pytest.approx(2.5)
    assert np.load("o.npz")["out"].tolist() == [[number / 2] * 3 for number in range(5)]  # the luma of a grey
    assert clean() and len(list(Path("board").iterdir())) == 1  # the model


def test_a_data_set_that_fails_leaves_nothing(
    board_model: dict[str, Any], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRT_FULL", "1")
    np.save("data.npy", np.zeros((3, 4), np.float32))
    load = model("net.hbm", board_model)
    record = answer(capsys, "infer", load, "--calibData=data.npy", "--out=o.npz", status=5)
    assert "the board's disk is full" in record["error"]
    assert clean() and not list(Path("board").iterdir()) and not Path("o.npz").exists()


def test_expected_outputs(board_model: dict[str, Any], capsys: Captured) -> None:
    load = model("net.hbm", board_model)
    np.save("good.npy", np.zeros((1, 3), np.float32))
    np.save("bad.npy", np.ones((1, 3), np.float32))
    words = ("infer", load, "--loadInputs=x:x.bin", "--accuracyAlgorithm=lInf", "--accuracyThreshold=0.5")
    good = answer(capsys, *words, "--loadRefOutputs=out:good.npy")
    assert good["accuracy"]["out"]["loss"] == 0.0
    bad = answer(capsys, *words, "--loadRefOutputs=out:bad.npy", status=6)
    assert bad["ok"] is False and bad["accuracy"]["out"]["met"] is False and "LInf loss 1" in bad["error"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--loadEngine=net.hbm", "--calibData=x.npy"], 2, "--calibData=DATA and --out=FILE.npz belong together"),
        (["--loadEngine=net.hbm", "--calibData=x", "--out=o.npz", "--dumpOutput"], 2, "--dumpOutput is for one"),
        (["--loadEngine=net.hbm", "--target=cpu"], 2, "boards belong to the Horizon targets"),
        (["--loadEngine=net.hbm", "--target=nash-e"], 3, "net.hbm was built for nash-m, not for nash-e"),
        (["--loadEngine=net.hbm", "--loadInputs=z:x.bin"], 3, "the model has no input 'z'"),
        (["--loadEngine=net.hbm", "--toolchain=docker:x"], 2, "--toolchain: infer has no use for it"),
        (["--loadEngine=none.hbm"], 3, "none.hbm does not exist"),
        ([], 2, "expected --onnx=MODEL (or --loadEngine=ARTIFACT)"),
    ],
)
def test_infer_refuses(words: list[str], status: int, said: str, capsys: Captured) -> None:
    assert main(["infer", "--board=local", *words]) == status
    assert said in capsys.readouterr().err
    assert clean()


@pytest.mark.parametrize(("name", "march"), [("net.hbm", "nash-p"), ("net.bin", "bayes")])
def test_info(name: str, march: str, board_model: dict[str, Any], capsys: Captured) -> None:
    inputs = PARTS if name == "net.hbm" else PACKED
    model(name, board_model, desc={"MARCH": march}, inputs=inputs, outputs=[QUANTIZED])
    record = answer(capsys, "info", name)
    assert [tensor["name"] for tensor in record["model"]["inputs"]] == [tensor["name"] for tensor in inputs]
    out = record["model"]["outputs"][0]
    assert (out["scale"], out["axis"], out["zero_point"], out["dtype"]) == ([0.5, 2.0], 1, [0, 1], "S32")
    assert record["board"] == "local" and record["model"]["runtime"]
    assert main(["info", name, "--board=local"]) == 0
    assert "- out: S32 1x2x3" in capsys.readouterr().out
    Path("m.onnx").write_bytes(b"")
    assert main(["info", "m.onnx", "--board=local"]) == 2
