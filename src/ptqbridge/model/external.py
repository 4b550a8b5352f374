"""External data of ONNX models: checks before reading, and reading.

Format: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md (location, offset, length per tensor; location is
relative to the model's folder and must stay inside it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.walk import all_tensors

_TYPE = onnx.TensorProto
_CHEAP = 1 << 16
_HALF_BYTE = {"UINT4", "INT4", "FLOAT4E2M1"}
_QUARTER_BYTE = {"UINT2", "INT2"}
_BYTES = {
    "FLOAT": 4, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "INT32": 4, "INT64": 8, "BOOL": 1, "FLOAT16": 2,
    "DOUBLE": 8, "UINT32": 4, "UINT64": 8, "COMPLEX64": 8, "COMPLEX128": 16, "BFLOAT16": 2, "FLOAT8E4M3FN": 1,
    "FLOAT8E4M3FNUZ": 1, "FLOAT8E5M2": 1, "FLOAT8E5M2FNUZ": 1, "FLOAT8E8M0": 1,
}  # fmt: skip


@dataclass(frozen=True)
class _Region:
    """Where one tensor's bytes lie."""

    file: Path
    offset: int
    length: int


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes live in another file."""
    return tensor.data_location == _TYPE.EXTERNAL


def tensor_bytes(tensor: onnx.TensorProto) -> int | None:
    """The size of the tensor's raw data by shape and type; None for strings and types unknown here."""
    name: str = _TYPE.DataType.Name(tensor.data_type)
    count: int = math.prod(tensor.dims)
    if name in _HALF_BYTE:
        return (count + 1) // 2
    if name in _QUARTER_BYTE:
        return (count + 3) // 4
    size = _BYTES.get(name)
    return None if size is None else count * size


def check(proto: onnx.ModelProto, path: Path, size: int) -> tuple[Path, ...]:
    """The external data files of the model at ``path``, sorted; none of them is read. ``size``: bytes of that file.

    Raises InputError when one is missing, lies outside the model's folder or is too short for its tensors, and when
    a tensor inside the model file has fewer bytes than its shape needs.
    """
    files: set[Path] = set()
    inline = []
    for tensor in all_tensors(proto):
        if is_external(tensor):
            files.add(_region(tensor, path).file)
        elif tensor.HasField("raw_data"):
            inline.append((tensor, tensor_bytes(tensor) or 0))
    # Asking protobuf for a length copies the bytes, so large tensors are only asked when the file is too small for all.
    suspicious = sum(expected for _, expected in inline) > size
    for tensor, expected in inline:
        if (suspicious or expected <= _CHEAP) and len(tensor.raw_data) < expected:
            raise InputError(
                f"model {path} is corrupt: tensor {tensor.name!r} of shape {list(tensor.dims)} needs {expected} bytes, "
                f"found {len(tensor.raw_data)}"
            )
    return tuple(sorted(files))


def read(proto: onnx.ModelProto, path: Path) -> None:
    """Bring all external data of the model at ``path`` into ``proto`` (in place). Raises InputError like `check`."""
    for tensor in all_tensors(proto):
        if not is_external(tensor):
            continue
        region = _region(tensor, path)
        try:
            with region.file.open("rb") as stream:
                stream.seek(region.offset)
                data = stream.read(region.length)
        except OSError as error:
            raise InputError(f"external data {region.file} cannot be read: {error.strerror}") from error
        if len(data) != region.length:
            raise InputError(f"external data {region.file} changed while it was read")
        tensor.raw_data = data
        tensor.data_location = _TYPE.DEFAULT
        del tensor.external_data[:]


def _region(tensor: onnx.TensorProto, path: Path) -> _Region:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    who = f"model {path}: tensor {tensor.name!r}"
    file = _inside(entries.get("location", ""), path, who)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if entries.get("length") else None
    except ValueError:
        raise InputError(f"{who} has external data with an offset or length that is no number") from None
    expected = tensor_bytes(tensor)
    if expected is None:
        raise InputError(f"{who} has a type that external data cannot hold")
    if offset < 0 or (length is not None and length != expected):
        raise InputError(
            f"{who} of shape {list(tensor.dims)} needs {expected} bytes; its external data entry says "
            f"offset {offset}, length {length}"
        )
    if not file.is_file():
        raise InputError(f"{who} has its data in {file}, which does not exist")
    found = file.stat().st_size
    if found < offset + expected:
        need = offset + expected
        raise InputError(f"external data {file} is too short: {who} needs bytes up to {need}, found {found}")
    return _Region(file, offset, expected)


def _inside(location: str, path: Path, who: str) -> Path:
    """The data file, refused when it (or what a link points to) lies outside the model's folder.

    A model that is itself a link (a download cache of blobs and links) may have its data beside the link's target.
    """
    escapes = (
        not location
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).is_absolute()
        or ".." in PurePosixPath(location).parts
        or ".." in PureWindowsPath(location).parts
        or "\0" in location
    )
    if not escapes:
        file = path.parent / location
        real = file.resolve()
        homes = (path.parent.resolve(), path.resolve().parent)
        if any(real.is_relative_to(home) for home in homes):
            return file
    raise InputError(f"{who} has its data in {location!r}, which is outside the model's folder; refused")
