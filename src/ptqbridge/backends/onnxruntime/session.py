"""Makes ONNX Runtime sessions on the CPU, quietly, and turns its exceptions into one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.onnxruntime.device import usable_cores
from ptqbridge.errors import InputError

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ("CPUExecutionProvider",)
_LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}
_FATAL = 4
_LONGEST = 400


@dataclass(frozen=True)
class SessionPolicy:
    """How a session computes.

    ``intra_op_threads``: threads inside one query, at least 1. ``spin``: whether they spin while they wait; None leaves
    ONNX Runtime's default, which is to spin. ``level``: graph optimisation, ``basic``, ``extended`` or ``all``.
    """

    intra_op_threads: int = 1
    spin: bool | None = None
    level: str = "all"


def default_threads(streams: int) -> int:
    """Threads for each query so that ``streams`` queries at a time share out the usable cores; at least 1."""
    return max(usable_cores() // streams, 1)


def open_session(
    model: str | bytes | Path,
    policy: SessionPolicy,
    *,
    profile_prefix: str = "",
    optimized_to: str | Path = "",
    name: str = "",
) -> onnxruntime.InferenceSession:
    """A session of the file (or the serialised model) ``model`` on the CPU provider alone.

    Args:
        profile_prefix: switches ONNX Runtime's profiler on; how the path of its file begins.
        optimized_to: where to write the optimised graph. Its weights go to ``<name>.weights`` beside it.
        name: what messages call the model; default: the path, or "the model" for bytes.

    Raises:
        InputError: ONNX Runtime cannot make a session of it.
    """
    import onnxruntime

    options = _options(policy)
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if optimized_to:
        options.optimized_model_filepath = str(optimized_to)
        weights = f"{Path(optimized_to).name}.weights"
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    source = model if isinstance(model, bytes) else str(model)
    shown = name or ("the model" if isinstance(model, bytes) else str(model))
    # On some failures the Python layer prints that it tries again with the same provider.
    with runtime_errors(f"{shown}: ONNX Runtime cannot load it"), redirect_stdout(StringIO()):
        return onnxruntime.InferenceSession(source, options, providers=list(PROVIDERS))


@contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into ``InputError("<what>: <its reason in one line>")``."""
    try:
        yield
    except Exception as error:
        if not _is_runtime_error(error):
            raise
        raise InputError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """ONNX Runtime's message in one line, without its ``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT :``."""
    text = re.sub(r"^\s*\[ONNXRuntimeError\] : \d+ : ([A-Z_]+) : ", "", str(error))
    text = re.sub(r"/\S+\.(?:h|cc):\d+ .*? was false\. ", "", text)  # the place in its own source
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _options(policy: SessionPolicy) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[policy.level])
    # One query is worked by this many threads, the calling one included; no second pool for parallel branches.
    options.intra_op_num_threads = policy.intra_op_threads
    options.inter_op_num_threads = 1
    if policy.spin is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(policy.spin)))
    return options


def _is_runtime_error(error: Exception) -> bool:
    """Its own classes derive from Exception; what it throws besides arrives as RuntimeError or ValueError."""
    return type(error).__module__.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError))
