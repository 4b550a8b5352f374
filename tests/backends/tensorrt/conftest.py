"""Requests and plans made from command lines, as the command line makes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import cuda, device, run
from ptqbridge.backends.tensorrt.plan import plan
from ptqbridge.options.parse import parse
from ptqbridge.options.shapes import later_profiles
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request, Row, Target

TARGET = Target("trt", "tensorrt", "trt")


@pytest.fixture
def request_of() -> Callable[..., Request]:
    """A request from option words; ``--onnx=absent.onnx`` is added unless an engine is loaded."""

    def make(*words: str, command: str = "trtexec") -> Request:
        model = [] if any(word.startswith(("--loadEngine", "--onnx")) for word in words) else ["--onnx=absent.onnx"]
        options = parse([*model, *words])
        asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
        return Request(TARGET, build_spec(options), run_spec(options), asked, command, later_profiles(options))

    return make


@pytest.fixture
def plan_of(request_of: Callable[..., Request]) -> Callable[..., Plan]:
    """The plan of a command line for one TensorRT version."""

    def make(version: str, *words: str, command: str = "trtexec") -> Plan:
        return plan(request_of(*words, command=command), version)

    return make


@pytest.fixture
def row_of(plan_of: Callable[..., Plan]) -> Callable[..., Row]:
    """The mapping report's row of the last option of a command line."""

    def make(version: str, *words: str, command: str = "trtexec") -> Row:
        return plan_of(version, *words, command=command).rows[-1]

    return make


def double(name: str) -> Any:
    """A module of tests/doubles, fresh each time."""
    path = Path(__file__).parents[2] / "doubles" / f"{name}.py"
    module = ModuleType(name)
    module.__file__ = str(path)
    exec(_code(path), module.__dict__)
    return module


@cache
def _code(path: Path) -> CodeType:
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.fixture
def layer() -> str:
    """The way to the GPU that ``driver`` stands behind; tests that take all of them override it."""
    return "driver"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, layer: str) -> Any:
    """The stand-in for the NVIDIA driver, in place of the library, behind the way to the GPU that ``layer`` names."""
    made = double("cuda_double").CudaDouble()
    monkeypatch.setattr(cuda, "load_library", lambda: made)
    monkeypatch.setattr(run, "missing_device", lambda: "")
    monkeypatch.setenv(device.CHOICE, layer)
    modules = {"pycuda": "pycuda_double", "cuda-python": "cuda_python_double"}
    if layer in modules:
        for name, module in double(modules[layer]).make(made).items():
            monkeypatch.setitem(sys.modules, name, module)
    for name, _ in device.LAYERS.values():  # each holds the module it was imported with
        monkeypatch.delitem(sys.modules, name, raising=False)
    return made


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, driver: Any) -> Callable[..., Any]:
    """Puts the stand-in for the TensorRT module of a version in place of the real one."""

    def install(version: str = "8.6.1") -> Any:
        made = double("tensorrt_double").make(version)
        made.DRIVER = driver
        monkeypatch.setitem(sys.modules, "tensorrt", made)
        return made

    return install


@pytest.fixture
def runs_network() -> Callable[[Any], None]:
    """Lets engines of the stand-in have the inputs and outputs of the network that was parsed last."""
    install: Callable[[Any], None] = double("tensorrt_network").install
    return install
