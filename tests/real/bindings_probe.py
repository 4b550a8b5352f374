"""Imports the real TensorRT bindings where neither TensorRT nor a GPU is, and answers questions about them.

The bindings-only wheel is a Python extension that links to a few C functions of TensorRT's libraries; they are called
only when an object is made. Empty functions of those names, compiled here, are enough to import it and look around.

Run as: python bindings_probe.py SITE AIDS < QUESTIONS: SITE holds the wheel's content, AIDS is the path of our aids.py,
QUESTIONS is {"names": [dotted names below the module], "calls": [[dotted name, number of arguments]]}; prints JSON.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def links(library: bytes) -> tuple[list[str], list[str]]:
    """Names of needed NVIDIA libraries, and of undefined functions without a version: those libraries' (ELF-64)."""
    start, size, count = struct.unpack_from("<Q10xHH", library, 0x28)[0], *struct.unpack_from("<HH", library, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", library, start + index * size) for index in range(count)]

    def text(section: Any, offset: int) -> str:
        begin = section[4] + offset
        return library[begin : library.index(b"\0", begin)].decode()

    symbols = next(section for section in sections if section[1] == 11)
    dynamic = next(section for section in sections if section[1] == 6)
    versions = next(section for section in sections if section[1] == 0x6FFFFFFF)
    needed = []
    for offset in range(0, dynamic[5], 16):
        tag, value = struct.unpack_from("<QQ", library, dynamic[4] + offset)
        if tag == 1:
            needed.append(text(sections[dynamic[6]], value))
    undefined = []
    for index in range(1, symbols[5] // 24):
        name, info, _, section = struct.unpack_from("<IBBH", library, symbols[4] + index * 24)
        version = struct.unpack_from("<H", library, versions[4] + index * 2)[0] & 0x7FFF
        if section == 0 and info >> 4 == 1 and version < 2:
            undefined.append(text(sections[symbols[6]], name))
    ours = [name for name in undefined if not name.startswith(("Py", "_Py"))]
    return [name for name in needed if name.startswith("libnv")], ours


def load(site: str) -> Any:
    """The real module, under its real name ``tensorrt``."""
    sys.path.insert(0, site)
    extension = next(Path(site).glob("tensorrt*/tensorrt.so"))
    needed, undefined = links(extension.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(needed):
            functions = undefined if number == 0 else [f"stub_{number}"]
            source = Path(folder) / f"{number}.c"
            source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions))
            target = str(Path(folder) / name)
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-w", "-o", target, str(source), f"-Wl,-soname,{name}"], check=True
            )
            ctypes.CDLL(target, mode=ctypes.RTLD_GLOBAL)
        module = importlib.import_module(extension.parent.name)
    sys.modules["tensorrt"] = module
    return module


def look(module: Any, dotted: str) -> bool:
    """Whether a dotted name exists below the module."""
    for part in dotted.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


def takes(module: Any, dotted: str, count: int) -> bool:
    """Whether one signature in the docstring takes this many arguments besides ``self``."""
    for part in dotted.split("."):
        module = getattr(module, part)
    if isinstance(module, type):
        module = module.__init__
    signatures = re.findall(r"\w+\((.*)\) -> ", module.__doc__ or "")
    for signature in signatures:
        plain = re.sub(r"<[^>]*>|\[[^\[\]]*\]|\[[^\[\]]*\]|\([^()]*\)", "", signature)
        plain = re.sub(r"\[[^\[\]]*\]", "", plain)
        words = [word for word in plain.split(",") if word.strip() and not word.strip().startswith("self")]
        required = [word for word in words if "=" not in word]
        if len(required) <= count <= len(words):
            return True
    return not signatures


def behaviour(trt: Any, aids: Any) -> dict[str, Any]:
    """What our helpers do with the real module, as far as it goes without a GPU."""
    said: list[str] = []
    logger = aids.message_log(trt, said.append)
    logger.log(trt.ILogger.Severity.ERROR, "an\nerror")
    found: dict[str, Any] = {"version": trt.__version__, "logged": [logger.errors, said]}
    try:
        trt.Builder(logger)
    except TypeError as error:
        found["builder"] = str(error).splitlines()[0]
    if hasattr(trt, "IInt8EntropyCalibrator2"):
        found["calibrators"] = {}
        for word, name in aids.CALIBRATORS.items():
            with tempfile.NamedTemporaryFile("w", suffix=".cache") as file:
                file.write(f"TRT-8600-{word}\nx: 3c010a14\n")
                file.flush()
                made = aids.cached_ranges(trt, file.name, said.append)
            right = isinstance(made, getattr(trt, name))
            found["calibrators"][word] = [right, made.get_batch_size(), made.get_batch(["x"]), made.asked_for_data]
            found["calibrators"][word].append(made.read_calibration_cache().decode().splitlines()[0])
        found["native"] = {kind: calibrator(trt, kind) for kind in ("entropy2", "entropy", "minmax", "legacy")}
    return found


class TwoBatches:
    """Stands for the feed of batches on the device: two addresses, then the end, or what it was told to raise."""

    def __init__(self) -> None:
        self.left: list[list[int]] = [[4096], [8192]]
        self.error: Exception | None = None

    def next(self, names: list[str]) -> list[int] | None:
        if self.error is not None:
            raise self.error
        return self.left.pop(0) if self.left else None


def calibrator(trt: Any, kind: str) -> dict[str, Any]:
    """A calibrator of ours that feeds data, made on the real class: what its callbacks answer and are called."""
    from ptqbridge.backends.tensorrt.native import CLASSES, native_calibrator

    base = getattr(trt, CLASSES[kind])
    feed = TwoBatches()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.cache"
        made = native_calibrator(trt, kind, 0.999, str(path), feed)
        batches = [made.get_batch(["x"]) for _ in range(3)]
        before = made.read_calibration_cache()
        made.write_calibration_cache(memoryview(b"TRT-8601-cache"))
        written = path.read_bytes().decode()
    feed.error = RuntimeError("no more disk")
    ended = made.get_batch(["x"])
    ours = {name for name in vars(type(made)) if not name.startswith("_")}
    theirs = {name for owner in base.__mro__ for name in vars(owner) if not name.startswith("_")}
    found = {
        "right": isinstance(made, base),
        "size": made.get_batch_size(),
        "algorithm": str(made.get_algorithm().name),
        "batches": batches,
        "cache": [before, written, bytes(made.read_calibration_cache()).decode()],
        "raised": [ended, str(made.error)],
        "callbacks": sorted(theirs & ours),
        "unanswered": sorted(name for name in theirs - ours if name != "get_algorithm"),
    }
    if kind == "legacy":
        found["legacy"] = [made.get_quantile(), made.get_regression_cutoff()]
    return found


def main() -> None:
    site, aids_path = sys.argv[1:]
    questions = json.load(sys.stdin)
    module = load(site)
    spec = importlib.util.spec_from_file_location("aids", aids_path)
    assert spec is not None and spec.loader is not None
    aids = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(aids)
    sys.path.insert(0, str(Path(aids_path).parents[3]))
    missing = [name for name in questions["names"] if not look(module, name)]
    misfits = [call for call in questions["calls"] if look(module, call[0]) and not takes(module, *call)]
    print(json.dumps({"missing": missing, "misfits": misfits, "behaviour": behaviour(module, aids)}))


if __name__ == "__main__":
    main()
