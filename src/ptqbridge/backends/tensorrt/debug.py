"""Debug tensors of TensorRT 10 and later: written to files as trtexec's --saveDebugTensors does.

After NVIDIA/TensorRT samples/common/debugTensorWriter.cpp, v10.13.3: raw bytes under the name asked for, and per form
a file ``<number>_<name>.<raw|npy|str>`` or a share of tensor_summary.json. On purpose different: each tensor is written
once, when it comes first, and not in every query; queries on the same data would only write the same again.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.tensors import NUMPY, from_bf16
from ptqbridge.files import write_atomic
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.backends.tensorrt.device import Device

SUMMARY = "tensor_summary.json"
EDGE = 5
"""Elements that the summary shows of either end."""


class DebugWriter:
    """Writes what the listener brings. ``error`` is the first thing that went wrong: the bindings swallow it."""

    def __init__(self, files: Mapping[str, str], forms: Sequence[str], device: Device, engine: str = "") -> None:
        """``files``: tensor to file of raw bytes. ``forms``: some of summary, numpy, string, raw, for every tensor."""
        self.files, self.forms, self.device, self.engine = files, forms, device, engine
        self.seen: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None

    def take(self, address: int, on_host: bool, kind: str, shape: tuple[int, ...], name: str) -> None:
        """One tensor, complete in memory. Raises CudaError and InputError."""
        import numpy as np

        if name in self.seen:
            return
        dtype = np.dtype(NUMPY.get(kind, "uint8"))
        count = int(np.prod(shape, dtype=np.int64))
        half = kind in ("INT4", "FP4")  # two elements in a byte
        size = (count + 1) // 2 if half else count * dtype.itemsize
        data = np.frombuffer(ctypes.string_at(address, size), np.uint8) if on_host else self.device.fetch(address, size)
        written: dict[str, str] = {}
        if name in self.files:
            written["assigned"] = self.files[name]
            write_atomic(self.files[name], data.tobytes())
        stem = re.sub(r"[^A-Za-z0-9._,-]", "_", f"{len(self.seen):04}_{name}")
        values = None if half else data.view(dtype).reshape(shape)
        if kind == "BF16" and values is not None:
            values = from_bf16(values)
        if "raw" in self.forms:
            written["raw"] = f"{stem}.raw"
            write_atomic(written["raw"], data.tobytes())
        if values is not None and kind != "FP8":
            written |= self._forms(values, stem + ("_to_float" if kind == "BF16" else ""), stem)
        self.seen[name] = {
            "name": name,
            "shape": list(shape),
            "type": kind,
            "statistics": {} if values is None or kind == "FP8" else statistics(values),
            "files": written,
        }

    def _forms(self, values: NDArray[Any], numpy_stem: str, stem: str) -> dict[str, str]:
        import numpy as np

        written: dict[str, str] = {}
        if "numpy" in self.forms:
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            written["numpy"] = f"{numpy_stem}.npy"
            write_atomic(written["numpy"], content.getvalue())
        if "string" in self.forms:
            written["string"] = f"{stem}.str"
            with np.printoptions(
                threshold=values.size + 1, linewidth=10**9, formatter={"float_kind": "{:13.6e}".format}
            ):
                write_atomic(written["string"], f"{values}\n")
        return written

    def finish(self) -> tuple[str, ...]:
        """Write the summary; notes on what was written, and on tensors asked for that never came. Raises InputError."""
        if "summary" in self.forms:
            head = {"title": "Tensor Summary Report", "time_generated": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            record = {"metadata": head | {"engine_name": self.engine}, "tensors": list(self.seen.values())}
            write_atomic(SUMMARY, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
        missing = [name for name in self.files if name not in self.seen]
        notes = [f"{counted(len(self.seen), 'debug tensor')} written, each once"]
        if missing:
            notes.append(f"no debug tensor came for {', '.join(missing)}: mark it with --markDebug when building")
        return tuple(notes)


def statistics(values: NDArray[Any]) -> dict[str, Any]:
    """Smallest, largest and mean value, and the elements at both ends; nan and inf as texts, since JSON has none."""
    import numpy as np

    if not values.size:
        return {}
    flat = values.reshape(-1)
    wide = flat.astype(np.float64 if flat.dtype.kind == "f" else np.int64)
    shown = [*flat[:EDGE], "...", *flat[-EDGE:]] if flat.size > 2 * EDGE else list(flat)
    texts = (f"{value:g}" if isinstance(value, np.floating) else f"{value}" for value in shown)
    whole = flat.dtype.kind != "f"
    found = {"min": _number(wide.min(), whole), "max": _number(wide.max(), whole), "avg": _number(wide.mean(), False)}
    return {**found, "elements": ", ".join(texts)}


def _number(value: Any, whole: bool) -> float | int | str:
    return int(value) if whole else float(value) if math.isfinite(value) else str(float(value))


def debug_listener(trt: Any, writer: DebugWriter) -> Any:
    """TensorRT's callback (NvInferRuntime.h, IDebugListener); the bindings hand over plain numbers for pointers."""

    class Listener(trt.IDebugListener):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(
            self, address: int, location: Any, kind: Any, shape: Any, name: str, stream: int
        ) -> bool:
            try:
                if name not in writer.seen:
                    writer.device.wait(stream)
                    on_host = location == trt.TensorLocation.HOST
                    writer.take(address, on_host, kind.name, tuple(int(size) for size in shape), name)
            except Exception as error:
                writer.error = writer.error or error
            return True

    return Listener()
