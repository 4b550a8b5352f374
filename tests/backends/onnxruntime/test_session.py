"""Sessions: their policy, their silence, and one line for each failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from ptqbridge.backends.onnxruntime import device
from ptqbridge.backends.onnxruntime.session import SessionPolicy, default_threads, open_session, reason, runtime_errors
from ptqbridge.errors import InputError


def test_a_session_uses_the_cpu_and_the_policy(doubler: Callable[..., str]) -> None:
    session = open_session(doubler(), SessionPolicy(1, spin=False, level="basic"))
    assert session.get_providers() == ["CPUExecutionProvider"]
    options = session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"


def test_a_session_of_bytes(doubler: Callable[..., str]) -> None:
    session = open_session(Path(doubler()).read_bytes(), SessionPolicy())
    assert session.get_inputs()[0].shape == ["batch", 3]


@pytest.mark.parametrize("content", [b"garbage", b"\x08\x07\x12", b""])
def test_what_is_no_model_is_one_line_with_the_file(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_session(file, SessionPolicy())
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message
    assert "ONNXRuntimeError" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx"):
        open_session(tmp_path / "absent.onnx", SessionPolicy())


def test_an_operator_without_a_kernel(write_model: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    double = TensorProto.DOUBLE
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="wide")
    path = write_model([node], [("x", double, [1, 1, 4, 4]), ("w", double, [1, 1, 1, 1])], [("y", double, None)])
    with pytest.raises(InputError, match=r"model\.onnx: ONNX Runtime cannot load it: .*Conv.*wide"):
        open_session(path, SessionPolicy())
    assert capfd.readouterr() == ("", "")


def test_reason_leaves_out_codes_and_places_in_source() -> None:
    text = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape node. "
        "Name:'r' Status Message: /build/core/reshape_helper.h:44 onnxruntime::A(const B&, bool) size == n was false. "
        "The input tensor cannot be reshaped\nto the requested shape.\n"
    )
    assert reason(Exception(text)) == (
        "Non-zero status code returned while running Reshape node. Name:'r' Status Message: "
        "The input tensor cannot be reshaped to the requested shape."
    )
    assert reason(Exception("")) == "Exception"
    assert len(reason(Exception("x" * 9999))) <= 400


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), runtime_errors("model"):
        raise KeyError("x")
    with pytest.raises(KeyboardInterrupt), runtime_errors("model"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("cores", "streams", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 8, 1)])
def test_streams_share_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, streams: int, threads: int) -> None:
    monkeypatch.setattr("ptqbridge.backends.onnxruntime.session.usable_cores", lambda: cores)
    assert default_threads(streams) == threads


def test_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_allowed", lambda: {3})
    assert device.usable_cores() == 1
