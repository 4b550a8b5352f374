"""The backend the registry finds: it plans without TensorRT, and says what building lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends import load, resolve
from ptqbridge.backends.tensorrt import run
from ptqbridge.errors import ToolchainMissing
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
