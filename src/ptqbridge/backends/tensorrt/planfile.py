"""The head of an engine file, read without TensorRT: which version made it.

Layout after NVIDIA/TensorRT samples/common/sampleEngines.cpp (printPlanVersion), v10.13.3: a tag, a serialization
version (0), and in bytes 24 to 27 the version of TensorRT.
"""

from __future__ import annotations

import os

from ptqbridge.errors import InputError

TAG = b"ftrt"
OTHER_TAG = b"ptrt"
"""Of engines of other releases; nothing public tells where their version stands."""
HEAD = 28


class OtherForm(InputError):
    """An engine by its tag, of a form that is not known here."""


def plan_version(path: str | os.PathLike[str], option: str = "--loadEngine: ") -> str:
    """``8.6.1.6``: the TensorRT that made the engine.

    Raises InputError, naming ``option``, for what is no engine, and its kind OtherForm for one not read here.
    """
    shown = os.fspath(path)
    try:
        with open(shown, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(f"{option}cannot read {shown}: {error.strerror}") from None
    if len(head) == HEAD and head.startswith(OTHER_TAG):
        raise OtherForm(f"{option}{shown} has an unknown form (tag {OTHER_TAG.decode()})")
    if len(head) < HEAD or not head.startswith(TAG):
        found = "an empty file" if not head else f"one of {len(head)} bytes that begins with {head[:4]!r}"
        if len(head) == HEAD:
            found = f"one that begins with {head[:4]!r}"
        raise InputError(f"{option}expected a TensorRT engine, found {found}: {shown}")
    if head[4:8] != b"\0\0\0\0":
        raise OtherForm(f"{option}{shown} has an unknown form (serialization {int.from_bytes(head[4:8], 'little')})")
    return ".".join(str(number) for number in head[24:28])
