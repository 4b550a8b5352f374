"""``ptqbridge info`` and ``ptqbridge infer`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptqbridge.cli import main


def test_info_in_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(root / "examples/mynet/mynet.onnx"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["command"], answer["kind"]) == (True, "info", "ONNX model")


def test_info_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "none.bin"]) == 3
    assert "none.bin: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--loadEngine=m.bin"], 2, "expected --loadEngine=FILE.bin, --calibData=DATA and --out=FILE.npz"),
        (["--loadEngine=m.bin", "--calibData=x.npy", "--out=o.txt"], 2, "expected a name that ends in .npz or .npy"),
        (["--loadEngine=m.bin", "--calibData=x.npy", "--out=o.npz"], 3, "--loadEngine: m.bin does not exist"),
        (["--loadEngine=m.hbm", "--calibData=x.npy", "--out=o.npz"], 2, "m.hbm runs on its board only"),
        (["--loadEngine=m.onnx", "--calibData=x.npy", "--out=o.npz"], 2, "expected an artifact for a Horizon chip"),
        (["--loadEngine=m.bin", "--fp16"], 2, "--fp16: infer has no use for it"),
    ],
)
def test_infer_refuses(
    words: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["infer", *words]) == status
    assert said in capsys.readouterr().err


def test_help_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "--help"]) == 0
    assert "--skipBroken" in capsys.readouterr().out
    assert main(["info", "--help"]) == 0
    assert "hb_model_info" in capsys.readouterr().out
