"""What is said of the CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from ptqbridge.backends.onnxruntime import device
from ptqbridge.measure.echo import device_lines


def test_cpu_info_avoids_the_names_of_gpu_numbers() -> None:
    info = device.cpu_info()
    assert info["Selected Device"]
    assert info["Usable Cores"] == device.usable_cores() >= 1
    assert info["ONNX Runtime"] == onnxruntime.__version__
    numbers = {"Compute Clock Rate", "Memory Bus Width", "Memory Clock Rate", "Compute Capability", "SMs"}
    assert not numbers & set(info)
    assert all(": " not in str(name) for name in info)
    assert device_lines(info)[1].startswith("Selected Device: ")


def test_instructions_for_int8() -> None:
    assert device.instructions({"flags": "fpu avx2 avx512_vnni amx_int8"}) == ["AVX2", "AVX512-VNNI", "AMX-INT8"]
    assert device.instructions({"Features": "fp asimd asimddp i8mm"}) == ["dot product", "I8MM"]
    assert device.instructions({}) == []


@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        ({}, "", 4),
        ({"cpu0": "0-1", "cpu1": "0-1", "cpu2": "2-3", "cpu3": "2-3"}, "", 2),
        ({}, "max 100000", 4),
        ({}, "150000 100000", 2),
        ({}, "20000 100000", 1),
    ],
)
def test_usable_cores(monkeypatch: pytest.MonkeyPatch, siblings: dict[str, str], quota: str, cores: int) -> None:
    def text(path: Path) -> str:
        return quota if path.name == "cpu.max" else siblings.get(path.parent.parent.name, "")

    monkeypatch.setattr(device, "_allowed", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(device, "_text", text)
    assert device.usable_cores() == cores
