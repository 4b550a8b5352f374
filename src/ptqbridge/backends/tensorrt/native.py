"""TensorRT's own calibrators (8.6 to 10), fed by our data readers: batches in device memory, one at a time.

Callbacks and their meaning: NvInfer.h (IInt8Calibrator and its four kinds), v8.6.1. The bindings swallow what a
callback raises and take it for the end of the data, so it is kept here and raised once the builder returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptqbridge.errors import InputError
from ptqbridge.files import write_atomic
from ptqbridge.plan import Plan

if TYPE_CHECKING:
    from ptqbridge.backends.tensorrt.device import Buffer, Device, Stream
    from ptqbridge.data import Samples

CLASSES = {
    "entropy2": "IInt8EntropyCalibrator2",
    "entropy": "IInt8EntropyCalibrator",
    "minmax": "IInt8MinMaxCalibrator",
    "legacy": "IInt8LegacyCalibrator",
}
"""The value of ``--trtCalibrator`` and the class of TensorRT."""
CUTOFF = 1.0
"""Of the legacy calibrator where --calibCutoff does not say: the whole range."""
TYPES = {"FLOAT": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}


class Feed:
    """Batches on their way to the device: one buffer per input, filled anew for each batch."""

    def __init__(
        self,
        samples: Iterable[Any],
        device: Device,
        types: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        told: Callable[[int], None],
    ) -> None:
        """``types`` and ``shapes`` are those of the network's inputs; ``told`` gets the number of batches so far."""
        self.device, self.types, self.shapes, self.told = device, types, shapes, told
        self.source: Iterator[Any] = iter(samples)
        self.buffers: dict[str, Buffer] = {}
        self.stream: Stream | None = None
        self.batches = 0

    def next(self, names: Sequence[str]) -> list[int] | None:
        """Device addresses of the next batch, in the order of ``names``; None when there is no more whole one.

        Raises InputError for an input without data, and what the readers and the driver raise.
        """
        import numpy as np

        sample = next(self.source, None)
        if sample is None:
            return None
        if self.stream is None:
            self.stream = self.device.stream()
        for name in names:
            if name not in sample.arrays:
                raise InputError(f"--calibData holds nothing for the input {name!r}")
            data = np.ascontiguousarray(sample.arrays[name], np.dtype(self.types.get(name, "float32")))
            if data.shape != self.shapes[name]:
                if self.batches and data.shape[1:] == self.shapes[name][1:]:
                    return None  # the rest that fills no batch
                found, expected = list(data.shape), list(self.shapes[name])
                raise InputError(
                    f"--calibData: expected batches of {name} {expected} (its optimal shape), found {found}"
                )
            if name not in self.buffers:
                self.buffers[name] = self.device.buffer(data.nbytes)
            buffer = self.buffers[name]
            buffer.host[:] = data.reshape(-1).view(np.uint8)
            self.device.batch([buffer.uploader(self.stream)])()
        self.stream.synchronize()
        self.batches += 1
        self.told(self.batches)
        return [self.buffers[name].address for name in names]

    def close(self) -> None:
        """Give the memory back."""
        for buffer in self.buffers.values():
            buffer.close()
        if self.stream is not None:
            self.stream.close()
        self.buffers, self.stream = {}, None


def native_calibrator(trt: Any, kind: str, quantile: float, path: str, feed: Feed, cutoff: float = CUTOFF) -> Any:
    """A calibrator of ``kind`` (see CLASSES) that takes batches from ``feed`` and writes its cache to ``path``.

    ``error`` holds what a callback raised, or None. ``quantile`` and ``cutoff`` (0 to 1) serve the legacy kind only.
    """
    base = getattr(trt, CLASSES[kind])

    class Calibrator(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.error: Exception | None = None
            self.cache = b""

        def get_batch_size(self) -> int:
            return 1  # ONNX networks hold their batch in the shape, as in trtexec

        def get_batch(self, names: Sequence[str], *rest: Any) -> list[int] | None:
            if self.error is not None:
                return None
            try:
                return feed.next(list(names))
            except Exception as error:
                self.error = error
                return None

        def read_calibration_cache(self) -> bytes | None:
            return self.cache or None  # what this very build found; earlier ranges are for --calib

        def write_calibration_cache(self, cache: Any) -> None:
            try:
                self.cache = bytes(memoryview(cache))
                write_atomic(path, self.cache)
            except Exception as error:
                self.error = self.error or error

        def get_quantile(self) -> float:
            return quantile

        def get_regression_cutoff(self) -> float:
            return cutoff

        def read_histogram_cache(self, length: int) -> None:
            return None

        def write_histogram_cache(self, pointer: Any, length: int) -> None:
            pass

    return Calibrator()


class Native:
    """The ``native_calibrator`` that a plan's call names, and what became of it."""

    def __init__(self, plan: Plan, say: Callable[[str], None], progress: Callable[[int, int], None] | None) -> None:
        self.plan, self.say, self.progress = plan, say, progress
        self.made: Any = None
        self.feed: Feed | None = None
        self.samples: Samples | None = None
        self.kind = ""

    def __call__(
        self, trt: Any, network: Any, device: Device, kind: str, quantile: float, path: str, cutoff: float = CUTOFF
    ) -> Any:
        """As in the plan's call. Raises InputError for data that do not fit."""
        from ptqbridge.backends.tensorrt.prepare import calibration_batches

        samples, shapes = calibration_batches(self.plan)
        self.samples = samples
        total, progress = len(samples), self.progress
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        types = {tensor.name: TYPES.get(tensor.dtype.name, "float32") for tensor in inputs}
        self.feed = Feed(samples, device, types, shapes, lambda done: progress(done, total) if progress else None)
        self.made, self.kind = native_calibrator(trt, kind, quantile, path, self.feed, cutoff), kind
        self.say(f"TensorRT's {CLASSES[kind]} calibrates with {total} batch{'es' * (total != 1)} on the GPU")
        return self.made

    def check(self) -> None:
        """Raise what a callback raised."""
        if self.made is not None and self.made.error is not None:
            raise self.made.error

    def facts(self) -> dict[str, Any]:
        """What the account of the build holds of it; empty when nothing was calibrated."""
        if self.made is None or self.feed is None or self.samples is None:
            return {}
        return {
            "calibration": {
                "algorithm": f"TensorRT {CLASSES[self.kind]}",
                "method": f"TensorRT {CLASSES[self.kind]}",
                "samples": self.samples.used,
                "batches": self.feed.batches,
                "tensors": max(0, self.made.cache.count(b"\n") - 1),
                "data": self.plan.build.calibration.data,
                "data_sha256": self.samples.fingerprint,
                "skipped": list(self.samples.skipped),
            }
        }

    def notes(self) -> list[str]:
        """What is to be told of the data; empty when nothing was calibrated."""
        from ptqbridge.backends.tensorrt.prepare import remarks

        return remarks(self.samples) if self.samples is not None else []

    def close(self) -> None:
        """Give device memory back."""
        if self.feed is not None:
            self.feed.close()
