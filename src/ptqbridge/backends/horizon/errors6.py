"""Known failures of hb_compile: the cause in its log becomes one line of ours, a hint and an exit status.

After the messages of the published early hb_compile sources and logs; Journey 6 cannot be run here, so what does not
match is passed on as the tool said it.
"""

from __future__ import annotations

import re

from ptqbridge.backends.horizon.known import Known, explain
from ptqbridge.backends.horizon.logs6 import parse_log
from ptqbridge.errors import InputError, OptionError, PtqbridgeError, ToolchainFailed

_OTHER_VERSION = "another generation of the tool? --toolchainVersion=3.0 or 3.5 writes for it"

CATALOGUE = (
    Known(r"Can not find onnx_model file given: *(\S*)", InputError, "the model {0} was not found"),
    Known(r"march invalid: *'?([\w-]+)", OptionError, "the march {0} is not known to it", _OTHER_VERSION),
    Known(
        r"is a dynamic shape|has dynamic dimensions",
        InputError,
        "the model has dynamic dimensions, and a BPU model has one shape",
        "--shapes=NAME:1x3x224x224 gives it",
    ),
    Known(r"a fixed dimension of (\S+)", InputError, "a fixed dimension of input {0} cannot be changed"),
    Known(r"[Cc]al_data_dir does not exist[^:]*: *(\S*)", InputError, "the folder of samples {0} is missing or empty"),
    Known(
        r"cannot reshape array of size (\d+) into shape (\([^)]*\))",
        InputError,
        "a calibration sample has {0} values and does not fit {1}",
    ),
    Known(r"wrong num of data", InputError, "the inputs have unequal numbers of calibration samples"),
    Known(r"Input name does not exist in model file: *([^.]*)", OptionError, "the model has no input {0}"),
    Known(r"Wrong key '(\w+)'", ToolchainFailed, "it does not know the key {0}", _OTHER_VERSION),
    Known(r"(\w+) should be bool", ToolchainFailed, "the key {0} must be a YAML boolean"),
    Known(r"core_num (\d+) is invalid", OptionError, "the chip has fewer than {0} cores"),
    Known(r"optimize_level invalid, '(\w+)'", OptionError, "the level {0} does not exist", _OTHER_VERSION),
    Known(r"No such option:? '?(--?[\w-]+)", ToolchainFailed, "it does not know the option {0}", _OTHER_VERSION),
    Known(r"Invalid value for .*--march", OptionError, "it does not know this march", _OTHER_VERSION),
    Known(r"No space left on device|Errno 28", ToolchainFailed, "the disk is full"),
    Known(r"MemoryError|bad_alloc|Cannot allocate memory", ToolchainFailed, "memory ran out"),
)


def explain_failure(text: str, status: int, *, tool: str = "hb_compile") -> PtqbridgeError:
    """The error for a failed run: from its log and its exit status (negative after a signal)."""
    record = parse_log(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [f"{record.failure[1]} (while {record.failure[0]})"] if record.failure else []
    causes += [error for error in reversed(record.errors) if "ERROR-OCCUR" not in error]
    causes += [line for line in reversed(lines) if re.match(r"(?:Error|[\w.]*Error)\b", line)] + lines[-1:]
    return explain(CATALOGUE, causes, status, tool=tool)
