"""The version in an engine file's head."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbridge.backends.tensorrt.planfile import plan_version
from ptqbridge.errors import InputError

HEAD = b"ftrt" + bytes(20) + bytes((8, 6, 1, 6))


def test_version(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(HEAD + b"rest")
    assert plan_version(path) == "8.6.1.6"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"\x08\x07onnx" + bytes(40), "begins with"),
        (HEAD[:20], "expected a TensorRT engine, found one of 20 bytes that begins with"),
        (b"ftrt\x01" + bytes(30), "serialization 1"),
        (b"ptrt" + bytes(30), "an unknown form .tag ptrt."),
    ],
)
def test_what_is_no_engine(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        plan_version(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        plan_version(tmp_path / "gone.engine")
