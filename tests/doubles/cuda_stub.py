"""Compiles cuda_stub.c, the stand-in for the NVIDIA driver library that real CUDA packages can be run on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("cuda_stub.c")


def compile_stub(folder: Path, linked_by: Iterable[Path] = (), *, copies: bool = True) -> Path:
    """Make ``folder``/libcuda.so.1 with the C compiler; ``linked_by`` are modules whose further names it must have.

    Without ``copies`` the asynchronous copies do nothing: on a GPU they cost the host nothing either.
    """
    text = SOURCE.read_text()
    there = set(re.findall(r"^int (cu\w+)\(", text, re.MULTILINE))
    wanted: set[str] = set()
    for path in linked_by:
        listed = subprocess.run(["nm", "-D", "--undefined-only", str(path)], capture_output=True, text=True, check=True)
        wanted |= set(re.findall(r"\bU (cu[A-Z]\w+)$", listed.stdout, re.MULTILINE))
    library = folder / "libcuda.so.1"
    more = "".join(f"E({name})" for name in sorted(wanted - there))
    flags = ["-O2", "-shared", "-fPIC", "-w", f"-DMORE={more}", f"-DCOPIES={int(copies)}", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library
