"""Making an environment for hb_mapper, with doubles of Python and pip (the real one is in tests/real)."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ptqbridge.errors import InputError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains import install as module
from ptqbridge.toolchains.hb_mapper_parts import DOT, MODULES, PACKAGES
from ptqbridge.toolchains.install import find_python, install, key

# "python -m venv DIR" makes DIR/bin/python, a copy of itself; "-m pip install" makes DIR/bin/hb_mapper.
PYTHON = r"""#!/bin/sh
case "$*" in
*version_info*) echo '[[%s], %s, "CPython"]' ;;
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip install "*)
    for list; do :; done
    [ -n "$PIP_FAILS" ] && { echo "ERROR: No matching distribution found for dgdk==1.0.0"; exit 1; }
    cp "$list" "$(dirname "$0")/../installed.txt"
    printf '#!/bin/sh\necho "hb_mapper, version %%s"\n' "${TOOL:-1.24.3}" > "$(dirname "$0")/hb_mapper"
    chmod +x "$(dirname "$0")/hb_mapper" ;;
esac
"""


def interpreter(folder: Path, version: str = "3, 10", shared: str = "true") -> str:
    path = folder / "python3.10"
    path.write_text(PYTHON % (version, shared))
    path.chmod(stat.S_IRWXU)
    return str(path)


def test_whole(tmp_path: Path) -> None:
    said: list[str] = []
    tool = install(tmp_path / "venv", python=interpreter(tmp_path), say=said.append)
    assert tool == tmp_path / "venv" / "bin" / "hb_mapper"
    assert (tmp_path / "venv" / "installed.txt").read_text().split() == list(PACKAGES)
    library = tmp_path / "venv" / "lib" / "python3.10" / "site-packages"
    assert {str(path.relative_to(library)) for path in library.rglob("*.py")} == set(MODULES)
    assert json.loads((tmp_path / "venv" / "ptqbridge-toolchain.json").read_text())["key"] == key()
    again: list[str] = []
    assert install(tmp_path / "venv", python="no-such-python", say=again.append) == tool
    assert again == [f"{tool} is there already"]


def test_an_older_one_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    folder.mkdir()
    (folder / "ptqbridge-toolchain.json").write_text('{"key": "old"}')
    (folder / "stale").touch()
    install(folder, python=interpreter(tmp_path), say=lambda _: None)
    assert not (folder / "stale").exists()


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="exists and was not made by this command"):
        install(folder, python=interpreter(tmp_path), say=lambda _: None)
    assert (folder / "thesis.tex").read_text() == "x"


def test_a_failing_pip_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FAILS", "1")
    with pytest.raises(ToolchainFailed, match=r"pip install failed with exit status 1: ERROR: No matching"):
        install(tmp_path / "venv", python=interpreter(tmp_path), say=lambda _: None)
    assert not (tmp_path / "venv").exists()


def test_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL", "2.0")
    with pytest.raises(ToolchainFailed, match=r"answered 'hb_mapper, version 2.0', expected 1.24.3"):
        install(tmp_path / "venv", python=interpreter(tmp_path), say=lambda _: None)
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("version", "shared", "why"),
    [("3, 12", "true", "is CPython 3.12"), ("3, 10", "false", "was built without a shared library")],
)
def test_an_unfit_python_is_named_with_the_reason(tmp_path: Path, version: str, shared: str, why: str) -> None:
    path = interpreter(tmp_path, version, shared)
    with pytest.raises(ToolchainMissing, match=why) as caught:
        find_python(path)
    assert path in caught.value.message
    assert "--enable-shared" in caught.value.hint


def test_pythons_are_looked_for_on_path_and_with_pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "versions" / "3.10.9" / "bin"
    place.mkdir(parents=True)
    path = interpreter(place)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(module, "_unfit", lambda found: "" if found == path else "no")
    assert find_python() == path


def test_other_systems_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ToolchainMissing, match="x86-64 Linux only, this is Linux aarch64"):
        install(tmp_path / "venv")


def test_the_stand_in_of_torch_answers_names_and_refuses_work(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = """
import torch, torch.nn, torch.onnx
from torch.onnx import symbolic_helper, register_custom_op_symbolic
assert not isinstance(1, torch.Tensor) and issubclass(torch.nn.Module, object)
assert repr(torch.float32) == "torch.float32" and torch.float is torch.float32 and {torch.int8: 1}[torch.int8] == 1
assert symbolic_helper.parse_args("v")(len) is len and register_custom_op_symbolic("a", len, 9) is None
for work in (lambda: torch.ones(3), lambda: torch.Tensor(1), lambda: torch.onnx.export(1)):
    try:
        work()
    except RuntimeError:
        continue
    raise AssertionError(work)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, check=True)


def test_the_stand_in_of_dot_makes_the_picture(tmp_path: Path) -> None:
    dot = tmp_path / "dot"
    dot.write_text(DOT)
    for words, made in ((["-Tpng", "-O", "a.gv"], "a.gv.png"), (["-Tsvg", "-ob.svg", "a.gv"], "b.svg")):
        subprocess.run(["sh", str(dot), *words], cwd=tmp_path, check=True)
        assert (tmp_path / made).exists()
