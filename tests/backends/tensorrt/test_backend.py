"""The backend the registry finds: it plans without TensorRT, and says what building lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import parser

from ptqbridge.backends import load, resolve
from ptqbridge.backends.tensorrt import run
from ptqbridge.errors import InputError, ToolchainMissing
from ptqbridge.plan import Request
from ptqbridge.rulebook import Verdict


def test_plans_and_previews(request_of: Callable[..., Request]) -> None:
    target = resolve("trt")
    backend = load(target)
    assert backend.plan(request_of("--noTF32")).rows[-1].verdict is Verdict.EXACT
    assert backend.preview("noTF32", True, target).becomes == "config.clear_flag(trt.BuilderFlag.TF32)"
    assert backend.suffix == ".engine"


def test_building_and_running_say_what_is_missing(
    request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setattr(run, "missing_device", lambda: "looked for an NVIDIA GPU: the driver sees none")
    backend = load(resolve("trt"))
    plan = backend.plan(request_of(f"--onnx={root}/examples/mynet/mynet.onnx"))
    for action in (
        lambda: backend.build(plan, say=print, progress=None),
        lambda: backend.run(plan, "m.engine", say=print),
        lambda: backend.device_info(plan),
    ):
        with pytest.raises(ToolchainMissing, match="NVIDIA GPU"):
            action()


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("m.onnx", ("--onnx=m.onnx",), "model m.onnx is truncated: 2000 bytes found"),
        ("m.engine", ("--loadEngine=m.engine",), "expected a TensorRT engine"),
    ],
)
def test_a_broken_file_is_said_before_what_the_machine_lacks(
    name: str, words: tuple[str, ...], says: str, request_of: Callable[..., Request], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, root: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "missing_device", lambda: "looked for an NVIDIA GPU: the driver sees none")
    Path(name).write_bytes((root / "examples/mynet/mynet.onnx").read_bytes()[:2000])
    backend = load(resolve("trt"))
    plan = backend.plan(request_of(*words))
    assert any(says in note for note in plan.notes)
    for action in (lambda: backend.build(plan, say=print, progress=None), lambda: backend.device_info(plan)):
        with pytest.raises(InputError, match=says):
            action()


def test_a_model_that_only_we_do_not_know_is_left_to_tensorrt(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plugins may have the operator."""
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[4] x) => (float[4] y) { y = OurPlugin(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    monkeypatch.setattr(run, "missing_device", lambda: "looked for an NVIDIA GPU: the driver sees none")
    with pytest.raises(ToolchainMissing):
        backend = load(resolve("trt"))
        backend.device_info(backend.plan(request_of(f"--onnx={tmp_path}/m.onnx")))
