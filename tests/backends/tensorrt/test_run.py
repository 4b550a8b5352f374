"""What is missing is named, with the way out; the probe talks to the driver only."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import run
from ptqbridge.errors import ToolchainMissing


def driver(init: int, devices: int) -> Any:
    """A driver at its border: cuInit and cuDeviceGetCount as the CUDA driver API defines them."""

    def count(pointer: Any) -> int:
        pointer._obj.value = devices
        return 0

    return SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=count)


@pytest.mark.parametrize(
    ("init", "devices", "says"),
    [(100, 0, "error 100 (no device)"), (35, 0, "error 35 (driver too old)"), (0, 0, "sees none"), (0, 2, "")],
)
def test_device_probe(init: int, devices: int, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(init, devices))
    found = run.missing_device()
    assert says in found if says else found == ""


def test_no_driver() -> None:
    assert "libno-such-driver.so" in run.missing_device("libno-such-driver.so")


def test_everything_missing_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "missing_device", lambda: "looked for an NVIDIA GPU: the driver sees none")
    with pytest.raises(ToolchainMissing) as caught:
        run.require()
    assert caught.value.exit_status == 4
    assert "Python module tensorrt" in caught.value.message and "NVIDIA GPU" in caught.value.message
    for way in ('pip install "ptqbridge[trt]"', "--target cpu", "explain"):
        assert way in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_complete_machine_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(run, "missing_module", lambda: asked.append("module") or "")
    monkeypatch.setattr(run, "missing_device", lambda: asked.append("device") or "")
    run.require()
    assert asked == ["module", "device"]


def test_the_module_is_looked_for_but_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert run.missing_module() == ""
    assert "tensorrt" not in sys.modules
