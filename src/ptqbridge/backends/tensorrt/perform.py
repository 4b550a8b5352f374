"""Carrying out the calls of a plan on the real ``tensorrt`` module, one by one, each result checked."""

from __future__ import annotations

import ctypes
import importlib
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt import aids, cuda, device
from ptqbridge.backends.tensorrt.call import Call, read_call
from ptqbridge.backends.tensorrt.version import generation
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed, ToolchainMissing

if TYPE_CHECKING:
    from ptqbridge.backends.tensorrt.native import Native

HELPERS = (
    *("read_file", "read_or_empty", "write_engine", "merge_timing_cache", "require_dla_core", "load_plugins"),
    *("serialize_plugins", "set_input_range", "require_valid", "mark_debug", "make_decomposable"),
    *("set_made_up_ranges", "set_io_ranges", "set_layer_precisions", "set_layer_output_types", "set_layer_devices"),
    *("engine_reader", "allow_bf16"),
)
"""Functions of ``aids`` that calls may use by their own name."""
OURS = frozenset({"parse_from_file", "read_calibration_cache", "set_dynamic_range", "is_valid", "set_output_type"})
"""Failures that the user's model, cache or options cause rather than TensorRT."""
LAST_OF_BUILD = "engine = "


def build_part(calls: Iterable[str]) -> tuple[str, ...]:
    """The calls up to the one that loads the finished engine."""
    texts = tuple(calls)
    last = next((index for index, text in enumerate(texts) if text.startswith(LAST_OF_BUILD)), len(texts) - 1)
    return texts[: last + 1]


class Performer:
    """Carries out calls; ``names`` holds the variables of the plan by then: ``builder``, ``config``, ``engine``..."""

    def __init__(self, version: str, say: Callable[[str], None], native: Native | None = None) -> None:
        """``version`` is what the plan was made for; TensorRT's warnings and errors go to ``say``."""
        self.native = native
        self.version = version
        self.names: dict[str, Any] = {name: getattr(aids, name) for name in HELPERS}
        self.names |= {
            "int": int,
            "ctypes": ctypes,
            "open_device": device.open_device,
            "message_log": lambda trt: aids.message_log(trt, say),
            "cached_ranges": lambda trt, path: aids.cached_ranges(trt, path, say),
            "native_calibrator": native,
        }

    def perform(self, texts: Iterable[str]) -> None:
        """Carry out these calls in order.

        Raises ToolchainMissing when the module, its version or the device is not there, InputError when the model, a
        file or a shape does not fit, ToolchainFailed when TensorRT fails; the message ends in TensorRT's own words.
        """
        for text in texts:
            call = read_call(text)
            try:
                with warnings.catch_warnings():
                    # 10 and later call their weakly typed ways deprecated; the plan says so already.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    self._one(call)
            except PtqbridgeError:
                raise
            except Exception as error:
                raise self._failure(call, error) from error

    def _one(self, call: Call) -> None:
        if call.module:
            self.names[call.result] = self._module(call.module)
            return
        try:
            value = call.carry_out(self.names)
        finally:
            # The builder goes on without a batch when a callback raises: the reason comes before its outcome.
            if self.native is not None:
                self.native.check()
        if call.target is None:
            aids.check(call.member, value, self.names.get("logger"), self.names.get("parser"))

    def _module(self, name: str) -> Any:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ToolchainMissing(f"target trt: the Python module {name} cannot be imported: {error}") from None
        installed = str(getattr(module, "__version__", "of an unknown version"))
        try:
            fits = generation(installed) == generation(self.version)
        except ValueError:
            fits = False
        if not fits:
            raise ToolchainMissing(
                f"target trt: the plan is for TensorRT {self.version}, the module {name} is {installed}",
                hint=f"leave --trtVersion out, or install TensorRT {self.version}",
            )
        return module

    def _failure(self, call: Call, error: Exception) -> PtqbridgeError:
        """The one-line error for a call that failed."""
        if isinstance(error, cuda.CudaError):
            kind = ToolchainMissing if call.member == "open_device" else ToolchainFailed
            return kind(f"target trt: {error}")
        if isinstance(error, aids.CallFailed):
            if error.member in OURS:
                return InputError(f"target trt: {error}")
            return ToolchainFailed(f"target trt: {error}", hint=self._hint(str(error)))
        if isinstance(error, OSError):
            place = f" {error.filename}" if error.filename else ""
            return InputError(f"target trt: {call.member}{place}: {error.strerror or error}")
        said = "; ".join(getattr(self.names.get("logger"), "errors", ())[-5:])
        if isinstance(error, AttributeError):
            return ToolchainFailed(f"target trt: the installed TensorRT lacks what {call.text!r} needs: {error}")
        text = f"target trt: {call.text}: {' '.join(str(error).split())}" + (f" ({said})" if said else "")
        # The bindings raise RuntimeError for shapes that do not fit the network, TypeError when nothing can be made.
        return InputError(text) if call.member.startswith("set_shape") else ToolchainFailed(text, hint=self._hint(said))

    def _hint(self, said: str) -> str:
        calibrator = getattr(self.names.get("config"), "int8_calibrator", None)
        if getattr(calibrator, "asked_for_data", False):
            return "TensorRT passed over the calibration cache and asked for data: the cache is not this network's"
        if "memory" in said.lower() and ("out of" in said.lower() or "allocat" in said.lower()):
            return "the GPU has too little free memory; limit --memPoolSize=workspace:N or close other programs"
        return ""
