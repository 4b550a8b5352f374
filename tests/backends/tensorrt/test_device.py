"""The three ways to the GPU on the stand-in for the driver: the same behaviour, the same errors, and the choice."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.tensorrt import device
from ptqbridge.backends.tensorrt.cuda import ATTRIBUTES, CudaError
from ptqbridge.backends.tensorrt.device import Device, open_device


@pytest.fixture(params=list(device.LAYERS))
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gpu(driver: Any) -> Device:
    return open_device(0)


def test_copies_there_and_back(gpu: Device, driver: Any) -> None:
    stream = gpu.stream()
    buffer = gpu.buffer(8)
    buffer.host[:] = range(8)
    gpu.batch([buffer.uploader(stream), None])()
    stream.synchronize()
    assert gpu.fetch(buffer.address, 8).tolist() == list(range(8))
    buffer.host[:] = 0
    gpu.batch([buffer.downloader(stream)])()
    assert buffer.host.tolist() == list(range(8))
    buffer.close()
    assert driver.memory == {}


def test_managed_memory_is_one_and_never_copied(gpu: Device, driver: Any) -> None:
    buffer = gpu.buffer(4, managed=True)
    buffer.host[:] = 9
    assert gpu.fetch(buffer.address, 4).tolist() == [9] * 4
    assert buffer.uploader(gpu.stream()) is None and buffer.downloader(gpu.stream()) is None
    buffer.close()
    assert driver.memory == {}


def test_nothing_is_copied_of_an_empty_tensor(gpu: Device) -> None:
    buffer = gpu.buffer(0)
    assert buffer.address and buffer.host.shape == (0,)
    assert buffer.uploader(gpu.stream()) is None and buffer.downloader(gpu.stream()) is None


def test_events_measure(gpu: Device) -> None:
    stream, first, last = gpu.stream(), gpu.event(spin=False), gpu.event(spin=True)
    gpu.batch([first.recorder(stream), last.recorder(stream), last.waiter(stream), last.synchronizer()])()
    assert 0 <= last.since(first) < 1000
    for made in (first, last, stream):
        made.close()


def test_memory_alone(gpu: Device, driver: Any) -> None:
    memory = gpu.memory(100)
    assert memory.address in driver.memory and memory.size == 100
    memory.close()
    assert driver.memory == {}


def test_a_graph_repeats_what_was_captured(gpu: Device, driver: Any) -> None:
    runs: list[int] = []

    def launch() -> bool:
        driver.captured = lambda: runs.append(1)
        return True

    graph = gpu.graph(gpu.stream(), launch)
    again = gpu.batch([graph.launcher])
    again()
    again()
    assert runs == [1, 1]
    graph.close()
    assert driver.calls.count("cuGraphDestroy") == driver.calls.count("cuGraphExecDestroy") == 1


@pytest.mark.parametrize("raised", [True, False])
def test_a_failed_capture_leaves_the_stream_free(raised: bool, gpu: Device, driver: Any) -> None:
    def launch() -> bool:
        if raised:
            raise ValueError("no")
        return False

    with pytest.raises(ValueError if raised else CudaError):
        gpu.graph(gpu.stream(), launch)
    assert not driver.capturing


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_what_cannot_be_captured_is_a_cuda_error(call: str, gpu: Device, driver: Any) -> None:
    driver.fail[call] = 901
    with pytest.raises(CudaError) as caught:
        gpu.graph(gpu.stream(), lambda: True)
    assert "901" in str(caught.value)


def test_out_of_memory_is_known_by_its_status(gpu: Device, driver: Any) -> None:
    driver.fail["cuMemAlloc_v2"] = 2
    for take in (lambda: gpu.memory(1), lambda: gpu.buffer(1)):
        with pytest.raises(CudaError) as caught:
            take()
        assert caught.value.status == device.OUT_OF_MEMORY
        assert "cuMemAlloc" in str(caught.value) and "memory" in str(caught.value).lower()


def test_a_failed_step_is_named(gpu: Device, driver: Any) -> None:
    stream, event = gpu.stream(), gpu.event(spin=False)
    steps = gpu.batch([event.recorder(stream), event.synchronizer()])
    steps()
    driver.fail["cuEventSynchronize"] = 700
    with pytest.raises(CudaError, match="cuEventSynchronize"):
        steps()


def test_facts(gpu: Device) -> None:
    found = gpu.info()
    assert set(found) == {"name", "memory_bytes", "driver_cuda", "pci", *ATTRIBUTES}
    assert found["name"] == "Stand-in GPU" and found["pci"] == "0000:17:00.0" and found["driver_cuda"] == "12.4"
    assert (found["compute_major"], found["compute_minor"]) == (9, 0)
    assert gpu.attribute("persisting_l2_bytes") == 31_457_280


def test_contexts_are_left_as_often_as_entered(gpu: Device, driver: Any) -> None:
    gpu.enter()
    gpu.leave()
    gpu.close()
    assert driver.calls.count("cuCtxPushCurrent_v2") == driver.calls.count("cuCtxPopCurrent_v2") == 2
    assert driver.calls.count("cuDevicePrimaryCtxRelease_v2") == 1


@pytest.mark.parametrize("index", [-1, 1, 7])
def test_a_device_that_is_not_there(index: int, driver: Any) -> None:
    with pytest.raises(CudaError, match=rf"--device={index}: there is 1, counted from 0"):
        open_device(index)


def test_no_device_at_all(driver: Any) -> None:
    driver.devices = 0
    with pytest.raises(CudaError, match="there are 0"):
        open_device(0)


def test_a_driver_that_does_not_start(driver: Any, layer: str) -> None:
    driver.fail["cuInit"] = 100
    with pytest.raises(CudaError, match="cuInit"):
        open_device(0)


def test_the_first_way_that_is_installed_is_taken(driver: Any, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(device.CHOICE)
    for name in {"pycuda": (), "cuda-python": ("pycuda",), "driver": ("pycuda", "cuda", "cuda.bindings")}[layer]:
        monkeypatch.setitem(sys.modules, name, None)
    assert open_device(0).layer.startswith({"driver": "the driver itself"}.get(layer, layer))


def test_a_broken_package_is_passed_over_and_said(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pycuda built for another CUDA: the import fails with an undefined symbol."""
    real = importlib.import_module

    def fail(name: str) -> Any:
        if name.endswith("gpu_pycuda"):
            raise ImportError("undefined symbol: cuCtxCreate_v4")
        return real(name)

    monkeypatch.delenv(device.CHOICE)
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(importlib, "import_module", fail)
    assert open_device(0).layer == (
        "the driver itself (ctypes); pycuda cannot be used: undefined symbol: cuCtxCreate_v4"
    )


def test_a_way_asked_for_that_is_not_there(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.CHOICE, "cupy")
    with pytest.raises(CudaError, match="expected pycuda, cuda-python, driver, found 'cupy'"):
        open_device(0)
    monkeypatch.setenv(device.CHOICE, "pycuda")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, device.LAYERS["pycuda"][0], raising=False)
    with pytest.raises(CudaError, match="PTQBRIDGE_CUDA=pycuda: cannot be imported"):
        open_device(0)


def test_all_ways_give_all_calls() -> None:
    """Each has every method of the protocols; the modules' own packages stand in for themselves above."""
    wanted = {name for name in vars(Device) if not name.startswith("_") and name != "layer"}
    from ptqbridge.backends.tensorrt.gpu import DriverDevice

    assert wanted <= set(dir(DriverDevice))
    assert isinstance(np.zeros(1, np.uint8), np.ndarray)
