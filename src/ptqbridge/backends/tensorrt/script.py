"""A plan as a Python program of its own: the same calls, with the helpers they use, and no ptqbridge."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

from ptqbridge.backends.tensorrt import aids, cuda
from ptqbridge.backends.tensorrt.call import Call, read_call
from ptqbridge.backends.tensorrt.perform import build_part

_OPENING = '''"""Builds a TensorRT engine with the calls that ptqbridge {version} planned for TensorRT {tensorrt}.

Written by: {command}
It needs the Python module tensorrt {tensorrt}, an NVIDIA driver and a GPU, nothing else.{needs}
Run it where the paths of that command are right.
"""

from __future__ import annotations

'''
_BODY = '''

def build() -> None:
    """The calls of the plan; ``check`` ends the program where one of them reports a failure."""
    logger = parser = None
{calls}


def beside(name: str) -> str:
    """The path of a file in this program's folder."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


# What the calls use.
'''
_ENDING = """

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # 10 and later call their weakly typed ways deprecated
    try:
        build()
    except ImportError as error:
        sys.exit(f"failed: the Python module tensorrt {tensorrt} is needed: {{error}}")
    except AttributeError as error:
        sys.exit(f"failed: written for TensorRT {tensorrt}, and the module here is another: {{error}}")
    except (CallFailed, CudaError, OSError, RuntimeError, TypeError) as error:
        sys.exit(f"failed: {{error}}")
"""
_FUTURE = "from __future__ import annotations\n"


def script(calls: Iterable[str], *, version: str, tensorrt: str, command: str, needs: Iterable[str] = ()) -> str:
    """The program for the building part of ``calls``. ``needs`` are files it reads, apart from the model."""
    lines = [_line(read_call(text)) for text in build_part(calls)]
    wanted = "".join(f"\nIt reads {path} in its own folder." for path in needs)
    opening = _OPENING.format(version=version, tensorrt=tensorrt, command=command.replace('"""', "'''"), needs=wanted)
    parts = [_source(aids), _source(cuda)]
    imports = sorted(
        {line for _, found in parts for line in found} | {"import warnings", "import ctypes", "import os", "import sys"}
    )
    plain = [line for line in imports if line.startswith("import ")]
    named = [line for line in imports if line.startswith("from ")]
    ending = _ENDING.format(tensorrt=tensorrt)
    body = _BODY.format(calls="\n".join(f"    {line}" for line in lines))
    return opening + "\n".join([*plain, *named]) + "\n" + body + "".join(text for text, _ in parts) + ending


def _line(call: Call) -> str:
    if call.module or call.target is not None or call.member in ("open_device", "message_log"):
        return call.text
    shown = call.text.partition(" = ")[2] if call.result else call.text
    checked = f'check("{call.member}", {shown}, logger, parser)'
    return f"{call.result} = {checked}" if call.result else checked


def _source(module: object) -> tuple[str, list[str]]:
    """A helper module's text without its head, and the imports that it had there."""
    text = inspect.getsource(module)  # type: ignore[arg-type]
    head, _, body = text.partition(_FUTURE)
    imports = re.findall(r"^(?:import|from) .*$", body, re.MULTILINE)
    for line in imports:
        body = body.replace(line + "\n", "", 1)
    note = head.strip().strip('"').split("\n")[0]
    return f"\n\n# {note}\n{body.strip()}\n", imports
