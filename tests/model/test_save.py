"""Writing models: atomic, with weights beside the model when it is large, the last good model never harmed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ptqbridge.errors import InputError
from ptqbridge.model import save
from ptqbridge.model.load import load_model
from ptqbridge.model.save import payload_bytes, save_model, session_model

FEED = {"input": np.ones((2, 4), np.float32)}


def run(source: bytes | str) -> np.ndarray:
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, FEED)[0]


def test_small_model_is_one_file(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    assert save_model(tiny, tmp_path / "m.onnx") == (tmp_path / "m.onnx",)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert onnx.load(tmp_path / "m.onnx") == tiny


def test_large_model_has_its_weights_beside(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    before = tiny.SerializeToString()
    path, data = save_model(tiny, tmp_path / "m.onnx", inline_limit=1000)
    assert tiny.SerializeToString() == before
    assert path.stat().st_size < 1000
    assert data.stat().st_size >= 6000
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, data.name]
    np.testing.assert_array_equal(run(str(path)), run(before))


def test_replacing_leaves_no_old_data(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    _, old = save_model(tiny, tmp_path / "m.onnx", inline_limit=1000)
    other = tmp_path / "other.onnx.0123456789ab.data"
    other.write_bytes(b"of another model")
    tiny.graph.initializer[1].raw_data = np.zeros(300, np.float32).tobytes()
    _, new = save_model(tiny, tmp_path / "m.onnx", inline_limit=1000)
    assert new != old
    assert not old.exists()
    assert other.exists()
    assert save_model(tiny, tmp_path / "m.onnx", inline_limit=1000)[1] == new
    save_model(tiny, tmp_path / "m.onnx")
    assert not new.exists()


def test_failure_leaves_the_last_model_whole(
    tiny: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = save_model(tiny, tmp_path / "m.onnx", inline_limit=1000)
    expected, files = run(str(path)), sorted(tmp_path.iterdir())
    tiny.graph.initializer[1].raw_data = np.zeros(300, np.float32).tobytes()

    def full_disk(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(save, "write_atomic", full_disk)
    with pytest.raises(KeyboardInterrupt):
        save_model(tiny, path, inline_limit=1000)
    assert sorted(tmp_path.iterdir()) == files
    np.testing.assert_array_equal(run(str(path)), expected)
    load_model(path)


def test_unwritable(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    for limit in (1000, 10**9):
        with pytest.raises(InputError, match=r"no.m\.onnx"):
            save_model(tiny, tmp_path / "no" / "m.onnx", inline_limit=limit)


def test_odd_name(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    _, old = save_model(tiny, tmp_path / "m[1]*.onnx", inline_limit=1000)
    tiny.graph.initializer[1].raw_data = np.zeros(300, np.float32).tobytes()
    save_model(tiny, tmp_path / "m[1]*.onnx", inline_limit=1000)
    assert not old.exists()


def test_session_model(tiny: onnx.ModelProto) -> None:
    with session_model(tiny) as source:
        assert isinstance(source, bytes)
        expected = run(source)
    with session_model(tiny, inline_limit=1000) as source:
        assert isinstance(source, str)
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    assert not Path(source).exists()
    np.testing.assert_array_equal(session.run(None, FEED)[0], expected)


def test_payload(tiny: onnx.ModelProto) -> None:
    assert payload_bytes(tiny) == 4 * (1200 + 300)


def test_session_model_of_a_mapped_file(tiny: onnx.ModelProto) -> None:
    with session_model(tiny, mapped_from=1000) as source:
        assert isinstance(source, str)
        folder = Path(source).parent
        assert len(list(folder.iterdir())) == 2
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    assert not folder.exists()
    np.testing.assert_array_equal(session.run(None, FEED)[0], run(tiny.SerializeToString()))


def test_session_model_without_a_place_for_files(
    tiny: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with session_model(tiny, mapped_from=1000) as source:
        assert isinstance(source, bytes)
    with pytest.raises(InputError, match="cannot write"), session_model(tiny, inline_limit=1000):
        pass
