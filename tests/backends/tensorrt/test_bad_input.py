"""What goes wrong when an engine is run: one clear line, the right exit status, and TensorRT not touched too early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import gpu_state, run, version
from ptqbridge.cli import main

GOOD = b"ftrt" + bytes(20) + bytes((8, 6, 1, 6)) + b"rest"
WORDS = (
    "run",
    "--target=trt",
    "--loadEngine=m.engine",
    "--duration=0",
    "--warmUp=0",
    "--iterations=3",
    "--shapes=x:1x4",
)

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tensorrt: Callable[..., Any],
) -> Ran:
    """Exit status, errors and all other text of a command line, run with the stand-in for TensorRT 8.6.1."""
    monkeypatch.chdir(tmp_path)
    Path("m.engine").write_bytes(GOOD)

    def go(*words: str, installed: str = "8.6.1", fail: str = "", content: bytes = GOOD) -> tuple[int, str, str]:
        api = tensorrt(installed)
        api.FAIL.update([fail] if fail else [])
        go.api = api  # type: ignore[attr-defined]
        monkeypatch.setattr(version, "detect", lambda: version.Found("8.6.1", "TensorRT 8.6.1 is installed"))
        Path("m.engine").write_bytes(content)
        status = main([*WORDS, *words])
        out, err = capsys.readouterr()
        return status, err, out

    return go


def errors(err: str) -> list[str]:
    return [line for line in err.splitlines() if "[E]" in line and "hint:" not in line]


def test_nothing_wrong(ran: Ran) -> None:
    status, err, out = ran()
    assert (status, errors(err)) == (0, [])
    assert "=== Performance summary ===" in out


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("looked for the NVIDIA driver (libcuda.so.1) and did not find it", 4),
        ("looked for an NVIDIA GPU: the driver's cuInit failed with error 100 (no device)", 4),
        ("looked for an NVIDIA GPU: the driver sees none", 4),
    ],
)
def test_no_driver_or_device(said: str, status: int, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "missing_device", lambda: said)
    found, err, _ = ran()
    assert found == status and said in errors(err)[0]
    assert ran.api.CALLS == []  # type: ignore[attr-defined]


def test_no_module(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "missing_module", lambda: "looked for the Python module tensorrt and did not find it")
    status, err, _ = ran()
    assert status == 4 and "Python module tensorrt" in errors(err)[0]


@pytest.mark.parametrize("number", ["3", "-1"])
def test_a_device_that_is_not_there(number: str, ran: Ran) -> None:
    status, err, _ = ran(f"--device={number}")
    assert status == 4 and f"--device={number}: there is 1, counted from 0" in errors(err)[0]
    assert ran.api.CALLS == []  # type: ignore[attr-defined]


def test_a_module_of_another_generation(ran: Ran) -> None:
    status, err, _ = ran(installed="10.13.3")
    assert status == 4 and "the plan is for TensorRT 8.6.1, the module tensorrt is 10.13.3" in errors(err)[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "found an empty file"),
        (b"\x08\x07onnx" + bytes(40), "expected a TensorRT engine, found one that begins with"),
        (GOOD[:20], "expected a TensorRT engine"),
    ],
)
def test_no_engine(content: bytes, says: str, ran: Ran) -> None:
    status, err, _ = ran(content=content, fail="deserialize")
    assert status == 3 and says in errors(err)[0]


def test_the_head_of_an_engine_is_read_without_a_gpu(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbridge.backends.tensorrt.run.missing_device", lambda: "no GPU")
    status, _, out = ran("--getPlanVersionOnly", content=b"ftrt" + bytes(20) + bytes((10, 3, 0, 1)))
    assert status == 0 and "Plan was created with TensorRT version 10.3.0.1" in out
    status, err, _ = ran("--getPlanVersionOnly", content=b"no engine at all, but long enough")
    assert status == 3 and "expected a TensorRT engine" in errors(err)[0]


def test_a_dry_run_needs_no_gpu(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbridge.backends.tensorrt.run.missing_device", lambda: "no GPU")
    status, err, out = ran("--dryRun")
    assert (status, errors(err)) == (0, []) and "Dry run: nothing was built or run." in out


def test_an_engine_of_another_version_or_gpu(ran: Ran) -> None:
    status, err, _ = ran(content=b"ftrt" + bytes(20) + bytes((10, 3, 0, 1)) + b"x", fail="deserialize")
    assert status == 3
    assert "m.engine cannot be used here (made by TensorRT 10.3.0.1, this is 8.6.1)" in errors(err)[0]
    assert "magicTag mismatch" in errors(err)[0]


@pytest.mark.parametrize("fail", ["memory", "context"])
def test_memory_that_ends(fail: str, ran: Ran) -> None:
    status, err, _ = ran(fail=fail)
    assert status == 5 and "could not be allocated" in errors(err)[0]
    assert "hint: the GPU has too little free memory" in err


def test_memory_of_the_driver_that_ends(ran: Ran, driver: Any) -> None:
    driver.fail["cuMemAlloc_v2"] = 2
    status, err, _ = ran()
    assert status == 5 and "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2)" in errors(err)[0]


def test_a_query_that_fails(ran: Ran) -> None:
    status, err, _ = ran(fail="execute")
    assert status == 5 and "the query failed" in errors(err)[0]


def test_loading_and_saving_at_once(ran: Ran) -> None:
    status, err, _ = ran("--saveEngine=n.engine")
    assert status == 2 and "--saveEngine" in err and not Path("n.engine").exists()


def test_a_graph_that_cannot_be_captured_is_a_warning(ran: Ran, driver: Any) -> None:
    driver.fail["cuStreamEndCapture"] = 901
    status, err, out = ran("--useCudaGraph")
    assert status == 0 and "cannot be captured as a CUDA graph and runs without" in err
    assert "=== Performance summary ===" in out


def test_throttling_is_a_warning_and_in_the_result(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    class State:
        def __init__(self, pci: str) -> None:
            assert pci == "0000:17:00.0"

        def start(self) -> None:
            pass

        def facts(self) -> dict[str, Any]:
            return {"throttled": ["power cap"]}

    monkeypatch.setattr(gpu_state, "GpuState", State)
    status, err, out = ran("--json")
    assert status == 0 and "throttled (power cap)" in err
    assert '"throttled": [\n' in out
