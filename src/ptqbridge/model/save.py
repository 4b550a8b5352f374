"""Writes ONNX models atomically, and hands them to ONNX Runtime; above 2 GiB the weights go beside the model."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import onnx

from ptqbridge.files import atomic_path, write_atomic, write_failure
from ptqbridge.model.external import is_external, tensor_bytes
from ptqbridge.model.walk import all_tensors

INLINE_LIMIT = 2**31 - 2**24
"""Models of more bytes get external data. 16 MiB below protobuf's limit of 2 GiB leaves room for the graph itself."""

MAPPED_FROM = 2**22
"""From so many bytes of weights on, making a session of a file is faster than of bytes."""

_SMALL = 1024  # shape tensors and scales stay in the model, so that shape inference can see them
_ALIGNMENT = 4096  # a page, so that the file can be mapped

_Placed = tuple[onnx.TensorProto, int, int]
"""An initializer without its bytes, and where they start in the data file, and their number."""


def payload_bytes(proto: onnx.ModelProto) -> int:
    """The bytes the constants inside the model take, by shape and type (protobuf's own count would serialise them)."""
    return sum(tensor_bytes(tensor) or 0 for tensor in all_tensors(proto) if not is_external(tensor))


def save_model(
    proto: onnx.ModelProto, path: str | os.PathLike[str], *, inline_limit: int = INLINE_LIMIT
) -> tuple[Path, ...]:
    """Write ``proto`` to ``path`` and return the files written, the model first.

    Above ``inline_limit`` bytes the weights go to ``NAME.HASH.data`` in the same folder. The hash of the content is
    in the name, so the data of the last good model are not touched before the new model is in place; they are removed
    after that. ``proto`` is not changed. Raises InputError when a file cannot be written.
    """
    path = Path(path)
    old = _own_data_files(path)
    if payload_bytes(proto) <= inline_limit:
        write_atomic(path, proto.SerializeToString())
        written: tuple[Path, ...] = (path,)
    else:
        light, data = _write_data(proto, path)
        try:
            write_atomic(path, light.SerializeToString())
        except BaseException:
            if data not in old:
                data.unlink(missing_ok=True)
            raise
        written = (path, data)
    for file in old:
        if file not in written:
            with suppress(OSError):
                file.unlink()
    return written


@contextmanager
def session_model(
    proto: onnx.ModelProto, *, mapped_from: int = INLINE_LIMIT, inline_limit: int = INLINE_LIMIT
) -> Iterator[bytes | str]:
    """What ``onnxruntime.InferenceSession`` takes for ``proto``: its bytes, or for a large model a temporary file.

    The file has the weights beside it: ONNX Runtime maps those, where of bytes it makes several copies. It is written
    above ``mapped_from`` bytes; where it cannot be, the bytes must do, or above ``inline_limit`` InputError is raised.
    It lives until the block ends; a session made inside may be used after it, but not save its optimized model.
    """
    size = payload_bytes(proto)
    if size <= min(mapped_from, inline_limit):
        yield proto.SerializeToString()
        return
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ptqbridge-")))
            model: bytes | str = str(_write_temporary(proto, folder))
        except OSError as error:
            if size > inline_limit:
                raise write_failure(tempfile.gettempdir(), error) from error
            model = proto.SerializeToString()
        del proto  # where the caller lets go of it too, its memory is free when the session is made
        yield model
        del model


def _write_temporary(proto: onnx.ModelProto, folder: Path) -> Path:
    """The model and its weights in ``folder``, not synced to the disk: they are gone soon."""
    path, data = folder / "model.onnx", folder / "model.data"
    with open(data, "wb") as stream:
        light, placed = _detach(proto, stream)
    _refer(placed, data.name)
    path.write_bytes(light.SerializeToString())
    return path


def _own_data_files(path: Path) -> tuple[Path, ...]:
    """Data files that an earlier `save_model` to the same path left (12 hex digits in the name)."""
    return tuple(sorted(path.parent.glob(f"{_escape(path.name)}.{'[0-9a-f]' * 12}.data")))


def _escape(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _write_data(proto: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, Path]:
    """Write the large initializers' bytes; returns a model that refers to them, and the data file."""
    digest = hashlib.sha256()
    staging = path.with_name(f"{path.name}.data")
    with atomic_path(staging) as temporary, open(temporary, "wb") as stream:
        light, placed = _detach(proto, stream, digest.update)
    final = path.with_name(f"{path.name}.{digest.hexdigest()[:12]}.data")
    os.replace(staging, final)
    _refer(placed, final.name)
    return light, final


def _detach(
    proto: onnx.ModelProto, stream: BinaryIO, see: Callable[[bytes], object] | None = None
) -> tuple[onnx.ModelProto, list[_Placed]]:
    """Write the large initializers' bytes to ``stream``, and show them to ``see``; the rest of the model, and where."""
    light = onnx.ModelProto(
        ir_version=proto.ir_version,
        producer_name=proto.producer_name,
        producer_version=proto.producer_version,
        domain=proto.domain,
        model_version=proto.model_version,
        doc_string=proto.doc_string,
    )
    light.opset_import.extend(proto.opset_import)
    light.metadata_props.extend(proto.metadata_props)
    light.functions.extend(proto.functions)
    graph = light.graph
    graph.name, graph.doc_string = proto.graph.name, proto.graph.doc_string
    for name in ("node", "input", "output", "value_info", "sparse_initializer", "quantization_annotation"):
        getattr(graph, name).extend(getattr(proto.graph, name))
    placed: list[_Placed] = []
    for tensor in proto.graph.initializer:
        if (tensor_bytes(tensor) or 0) <= _SMALL or not tensor.HasField("raw_data"):
            graph.initializer.append(tensor)
            continue
        data = tensor.raw_data
        stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
        offset = stream.tell()
        stream.write(data)
        if see is not None:
            see(data)
        entry = graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        entry.data_location = onnx.TensorProto.EXTERNAL
        placed.append((entry, offset, len(data)))
    return light, placed


def _refer(placed: list[_Placed], location: str) -> None:
    """Write into the initializers of ``placed`` where their bytes are."""
    for entry, offset, length in placed:
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            entry.external_data.add(key=key, value=value)
