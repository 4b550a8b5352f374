"""Clocks and throttling on a stand-in for NVML (nvidia-ml-py, module pynvml)."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from ptqbridge.backends.tensorrt.gpu_state import GpuState, warnings


class NVMLError(Exception):
    pass


def nvml(**answers: Any) -> Any:
    """A module whose calls answer with ``answers``; an exception among them is raised, a list gives one by one."""
    module: Any = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM, module.NVML_TEMPERATURE_GPU = 1, 2, 0
    defaults = {
        "nvmlInit": None,
        "nvmlDeviceGetHandleByPciBusId": "handle",
        "nvmlSystemGetDriverVersion": b"570.1",
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetCurrentClocksThrottleReasons": 1,
        "nvmlDeviceGetPowerUsage": 71_500,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetViolationStatus": types.SimpleNamespace(violationTime=0),
    }
    for name, answer in (defaults | answers).items():

        def call(*arguments: Any, answer: Any = answer) -> Any:
            found = answer.pop(0) if isinstance(answer, list) else answer
            if isinstance(found, Exception):
                raise found
            return found

        setattr(module, name, call)
    return module


def facts(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**answers))
    state = GpuState("0000:17:00.0")
    state.start()
    return state.facts()


def test_a_cool_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(monkeypatch)
    reading = {"sm_mhz": 1980, "memory_mhz": 1980, "max_sm_mhz": 1980, "celsius": 41, "watts": 71.5}
    assert found == {"driver": "570.1", "uuid": "GPU-1", "before": reading, "after": reading, "throttled": []}
    assert warnings(found) == ()


def test_throttling_is_named_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(monkeypatch, nvmlDeviceGetCurrentClocksThrottleReasons=0x60 | 0x1)
    assert found["throttled"] == ["thermal slowdown (software)", "thermal slowdown (hardware)"]
    (text,) = warnings(found)
    assert "throttled (thermal slowdown (software); thermal slowdown (hardware))" in text


def test_the_newer_name_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts(monkeypatch, nvmlDeviceGetCurrentClocksEventReasons=0x4)["throttled"] == ["power cap"]


def test_throttling_that_is_over_again_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [types.SimpleNamespace(violationTime=number) for number in (5, 7, 2_000_005, 7)]
    found = facts(monkeypatch, nvmlDeviceGetViolationStatus=times)
    assert found["throttled"] == ["power kept the clocks down for 2 ms"]


def test_what_a_gpu_does_not_tell_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = NVMLError("Not Supported")
    found = facts(
        monkeypatch,
        nvmlDeviceGetPowerUsage=unknown,
        nvmlDeviceGetViolationStatus=unknown,
        nvmlDeviceGetCurrentClocksThrottleReasons=unknown,
    )
    assert found["after"]["watts"] is None and found["throttled"] == []


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByPciBusId"])
def test_nvml_that_does_not_work(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(monkeypatch, **{failing: NVMLError("Driver Not Loaded")})
    assert found == {"nvml": "not told: Driver Not Loaded"} and warnings(found) == ()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    state = GpuState("0000:17:00.0")
    state.start()
    assert "not installed" in state.facts()["nvml"]
