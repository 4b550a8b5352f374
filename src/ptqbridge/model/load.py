"""Reads an ONNX model file and refuses, in one line, what is no usable ONNX model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ptqbridge.errors import InputError
from ptqbridge.model import check, external
from ptqbridge.model.interface import read_interface
from ptqbridge.spec.tensor import TensorSpec

PROTOBUF_LIMIT = 2**31 - 1
"""A protobuf message cannot be longer (bytes); larger models keep their weights in external data files."""

_OTHER_FORMATS = (
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint or .npz?)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89HDF", "an HDF5 (Keras?) file"),
    (0, b"ftrt", "a TensorRT engine"),
    (0, b"ptrt", "a TensorRT engine"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "an ONNX Runtime .ort model"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself (git lfs pull)"),
)


class Unreadable(InputError):
    """The file is missing, a folder, empty, truncated or no ONNX: nothing could use it, whatever it supports."""


@dataclass
class Model:
    """A checked ONNX model.

    ``inputs`` are the graph inputs that are no initializers. External data are checked at load and read when
    ``proto`` is first used, so looking at a large model's inputs costs nothing.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    _proto: onnx.ModelProto = field(repr=False)
    _files: tuple[Path, ...] = ()
    _digest: str = field(default="", repr=False)
    _pending: bool = field(default=False, repr=False)

    @property
    def proto(self) -> onnx.ModelProto:
        """The model with all its weights in memory. The caller must not change it: copy first."""
        if self._pending:
            external.read(self._proto, self.path)
            self._pending = False
        return self._proto

    @property
    def structure(self) -> onnx.ModelProto:
        """The model, perhaps without the weights that live in external data files."""
        return self._proto

    @property
    def external_files(self) -> tuple[Path, ...]:
        """The external data files, in order of name."""
        return self._files

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the model file's bytes followed by those of its external data files in order of name."""
        if not self._files:
            return self._digest
        digest = hashlib.sha256(bytes.fromhex(self._digest))
        for file in self._files:
            digest.update(_file_digest(file))
        return digest.hexdigest()


def load_model(path: str | os.PathLike[str], *, custom: Collection[str] = ()) -> Model:
    """Read, parse and check the ONNX file ``path``; ``custom``: operator domains that are not looked into.

    Raises Unreadable (one line) for a file that is missing, a folder, empty, truncated or no ONNX, and InputError for
    one that is newer than the installed onnx or ONNX Runtime, or whose graph or external data are unusable.
    """
    path = Path(path)
    data = _read(path)
    proto = _parse(path, data)
    check.check_versions(proto, path)
    check.check_graph(proto, path, custom)
    files = external.check(proto, path, len(data))
    inputs, outputs = read_interface(proto, path)
    return Model(
        path=path,
        inputs=inputs,
        outputs=outputs,
        opset=check.opset_of(proto),
        _proto=proto,
        _files=files,
        _digest=hashlib.sha256(data).hexdigest(),
        _pending=bool(files),
    )


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise Unreadable(f"model {path} is a folder; expected an .onnx file")
    try:
        size = path.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise Unreadable(
                f"model {path} is {size} bytes; an ONNX file cannot exceed {PROTOBUF_LIMIT} (2 GiB)",
                hint="save the model with external data",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise Unreadable(f"model {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"model {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise Unreadable(f"model {path} is empty (0 bytes)")
    return data


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    for offset, magic, what in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise Unreadable(f"model {path} is not ONNX but {what}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; its class moves between protobuf versions
        missing = _missing_bytes(data)
        if missing:
            raise Unreadable(
                f"model {path} is truncated: {len(data)} bytes found, at least {missing} more expected"
            ) from error
        raise Unreadable(f"model {path} is not an ONNX file, or is corrupt: protobuf cannot read it") from error
    if not proto.HasField("graph"):
        raise Unreadable(f"model {path} is not an ONNX model: it holds no graph")
    if not proto.opset_import and not proto.functions:
        raise Unreadable(f"model {path} is truncated or no ONNX model: it states no opset")
    return proto


def _missing_bytes(data: bytes) -> int:
    """How many bytes the last top-level field lacks; 0 when the wire format itself is broken.

    Wire format: https://protobuf.dev/programming-guides/encoding/ (tag = field << 3 | type; type 2 carries a length).
    ModelProto's fields lie below 32, so another field number means that this is no cut-off ONNX model.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if not 0 < tag >> 3 < 32 or kind not in (0, 2):
            return 0
        value, position = _varint(data, position)
        if position > len(data):
            return 1
        if kind == 2:
            position += value
    excess = position - len(data)
    return excess if excess <= PROTOBUF_LIMIT else 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at ``position`` and where it ends (past the end of ``data`` when it is cut off)."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, len(data) + 1


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"external data {path} cannot be read: {error.strerror}") from error
    return digest.digest()
