"""Compiles the inner loops of calibration into the wheel when a C compiler is there; without one the wheel is pure.

Run as a script it compiles in the checkout: ``python hatch_build.py``. With PTQBRIDGE_PURE=1 nothing is compiled.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, where hatchling is not needed
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src" / "ptqbridge" / "quantize" / "count.c"
LIBRARY = "_count.so"


def compile_kernel(target: Path) -> str:
    """Compile count.c to ``target``; the reason why not, or "" when it was."""
    if os.environ.get("PTQBRIDGE_PURE"):
        return "PTQBRIDGE_PURE is set"
    if not sys.platform.startswith("linux"):
        return f"not done on {sys.platform}"
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = next((w for w in (words, ["cc"], ["gcc"], ["clang"]) if w and shutil.which(w[0])), None)
    if command is None:
        return "no C compiler found"
    # No -march: the library runs on every processor of this kind.
    argv = [*command[:1], "-O3", "-std=c99", "-shared", "-fPIC", str(SOURCE), "-o", str(target), "-lm"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"{argv[0]}: {problem}"
    return f"{argv[0]}: {done.stderr.strip() or done.returncode}" if done.returncode else ""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc]
    """Hatchling's hook for wheels: ``standard`` ones, and ``editable``, whose library stays beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to the wheel and name the platform in the wheel's tag."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            target = SOURCE.with_name(LIBRARY)
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="ptqbridge-build-")
            target = Path(self._folder.name) / LIBRARY
        reason = compile_kernel(target)
        if reason:
            self.app.display_info(f"calibration counts with NumPy: {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(target)] = f"ptqbridge/quantize/{LIBRARY}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"


if __name__ == "__main__":
    problem = compile_kernel(SOURCE.with_name(LIBRARY))
    print(problem or f"made {SOURCE.with_name(LIBRARY)}")
    sys.exit(1 if problem else 0)
