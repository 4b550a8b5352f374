"""Makes a virtual environment that holds the real hb_mapper: ``ptqbridge toolchain install hb-mapper VENV``."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ptqbridge.errors import InputError, ToolchainFailed, ToolchainMissing
from ptqbridge.files import write_atomic, write_failure
from ptqbridge.toolchains.hb_mapper_parts import DOT, MODULES, PACKAGES, PYTHON, TOOL_VERSION
from ptqbridge.toolchains.local import run

RECORD = "ptqbridge-toolchain.json"
"""Written last: an environment without it is not whole."""
_WANTED = ".".join(map(str, PYTHON))
_ASK = (
    "import json, platform, sys, sysconfig; print(json.dumps([list(sys.version_info[:2]), "
    "bool(sysconfig.get_config_var('Py_ENABLE_SHARED')), platform.python_implementation()]))"
)
_HINT = f"a Python {_WANTED} with a shared library: Debian's, conda's, or pyenv's built with --enable-shared"


def key() -> str:
    """Twelve hex digits that change with anything an environment is made of."""
    parts = json.dumps([TOOL_VERSION, PACKAGES, MODULES, DOT])
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def install(folder: Path, *, python: str = "", say: Callable[[str], None] = print) -> Path:
    """Make the environment in ``folder`` and return the path of its hb_mapper; a whole one there is left as it is.

    ``python`` is the interpreter to use; by default one is looked for. An interrupted installation is removed, and two
    at once wait for each other. Raises ToolchainMissing when there is no fit Python or this is no x86-64 Linux,
    InputError when ``folder`` holds something else or cannot be written, ToolchainFailed when pip or the tool fails.
    """
    folder = folder.absolute()
    tool = folder / "bin" / "hb_mapper"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolchainMissing(f"hb_mapper runs on x86-64 Linux only, this is {platform.system()} {platform.machine()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(folder.parent, error) from error
    with _alone(folder):
        if _installed(folder) == key():
            say(f"{tool} is there already")
            return tool
        if folder.exists() and _installed(folder) is None and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: exists and was not made by this command; choose another folder")
        interpreter = find_python(python)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _make(folder, interpreter, say)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return tool


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one installer per folder. The lock file stays: removing it would let two in."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_failure(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _installed(folder: Path) -> str | None:
    """The key of the environment in ``folder``; None where none of ours is."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return str(record["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find_python(named: str = "") -> str:
    """A Python 3.10 with a shared library: ``named``, else the first fit one. Raises ToolchainMissing with the why."""
    refused = []
    for candidate in [named] if named else _candidates():
        path = shutil.which(candidate)
        why = _unfit(path) if path else "not found"
        if path and not why:
            return path
        refused.append(f"{candidate}: {why}")
    found = "; ".join(refused) or f"no python{_WANTED} on PATH"
    raise ToolchainMissing(f"hb_mapper needs Python {_WANTED} with a shared library ({found})", hint=_HINT)


def _candidates() -> list[str]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    own = sorted(pyenv.glob(f"{_WANTED}.*/bin/python{_WANTED}"), reverse=True)
    return [f"python{_WANTED}", *map(str, own)]


def _unfit(path: str) -> str:
    """Why an interpreter will not do, "" when it will."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _ASK], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True
        )
        version, shared, kind = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "does not run"
    if kind != "CPython" or tuple(version) != PYTHON:
        return f"is {kind} {'.'.join(map(str, version))}"
    return "" if shared else "was built without a shared library"


def _make(folder: Path, python: str, say: Callable[[str], None]) -> None:
    say(f"making {folder} with {python}")
    _step([python, "-m", "venv", str(folder)], "making the environment", say)
    own = str(folder / "bin" / "python")
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text("\n".join(PACKAGES) + "\n", encoding="utf-8")
        say(f"installing {len(PACKAGES)} packages (about a minute; 750 MB)")
        pip = [own, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--progress-bar=off"]
        _step([*pip, "-r", str(wanted)], "pip install", say)
    library = folder / "lib" / f"python{_WANTED}" / "site-packages"
    for name, text in MODULES.items():
        place = library / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    dot = folder / "bin" / "dot"
    dot.write_text(DOT, encoding="utf-8")
    dot.chmod(0o755)
    tool = folder / "bin" / "hb_mapper"
    answer = _step([str(tool), "--version"], "hb_mapper --version", say)
    if TOOL_VERSION not in answer:
        raise ToolchainFailed(f"{tool} --version answered {answer.strip()!r}, expected {TOOL_VERSION}")
    record = {"key": key(), "hb_mapper": TOOL_VERSION, "python": python, "packages": PACKAGES}
    write_atomic(folder / RECORD, json.dumps(record, indent=1) + "\n")
    say(f"installed {tool} {TOOL_VERSION}")


def _step(argv: list[str], what: str, say: Callable[[str], None]) -> str:
    finished = run(argv, Path("/"), env={"PYTHONPATH": None, "PYTHONHOME": None, "PIP_USER": "0"})
    if finished.status:
        for line in finished.lines[-10:]:
            say(f"  {line}")
        why = next((line for line in reversed(finished.lines) if "ERROR" in line.upper()), "")
        raise ToolchainFailed(f"{what} failed with exit status {finished.status}: {why or 'see above'}")
    return finished.text
