"""Start-up, help, versions, unknown commands, errors in text and JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ptqbridge

HEAVY = {"numpy", "onnx", "onnxruntime", "yaml", "jinja2", "rich"}


def modules_of(root: Path, *argv: str) -> set[str]:
    """Top-level modules loaded by one run of the program, and those of our own by full name."""
    code = (
        "import sys\n"
        "from ptqbridge.__main__ import main\n"
        f"sys.argv = ['ptqbridge', *{list(argv)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "names = {n.partition('.')[0] for n in sys.modules} | {n for n in sys.modules if n.startswith('ptqbridge')}\n"
        "print('\\n' + ' '.join(sorted(names)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_version_imports_nothing(root: Path) -> None:
    loaded = modules_of(root, "--version")
    assert not loaded & (HEAVY | {"click"})
    assert {name for name in loaded if name.startswith("ptqbridge")} == {"ptqbridge", "ptqbridge.__main__"}


@pytest.mark.parametrize("argv", [["--help"], ["build", "--help"], ["explain", "--help"], ["flags", "--help"]])
def test_help_imports_nothing_heavy(root: Path, argv: list[str]) -> None:
    assert not modules_of(root, *argv) & HEAVY


def test_group_help_imports_no_command(root: Path) -> None:
    ours = {name for name in modules_of(root, "--help") if name.startswith("ptqbridge")}
    assert ours == {"ptqbridge", "ptqbridge.__main__", "ptqbridge.cli", "ptqbridge.errors"}


@pytest.mark.parametrize("target", ["cpu", "trt", "bayes", "nash-m"])
def test_explain_imports_no_vendor_software(root: Path, target: str) -> None:
    loaded = modules_of(root, "explain", "--target", target, "--", "--onnx=no.onnx", "--int8")
    assert not loaded & {"tensorrt", "pycuda", "onnxruntime", "onnx", "hbdk", "torch"}


def test_version(
    ptq: Callable[..., object], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptqbridge.__main__ import main

    monkeypatch.setattr(sys, "argv", ["ptqbridge", "--version"])
    main()
    assert capfd.readouterr().out == f"ptqbridge {ptqbridge.__version__}\n"


def test_no_words_print_help(ptq: Callable[..., object]) -> None:
    answer = ptq()
    assert answer.status == 0
    assert re.search(r"trtexec +Build and run in one go", answer.out)


@pytest.mark.parametrize(
    "command", ["build", "run", "calibrate", "convert-precision", "lint-data", "explain", "infer", "info", "validate"]
)
def test_a_command_without_its_model_or_file(ptq: Callable[..., object], command: str) -> None:
    """One line, and the same with --json."""
    answer = ptq(command)
    assert answer.status == 2 and answer.out == ""
    lines = answer.err.splitlines()
    report = json.loads(ptq(command, "--json").out)
    assert lines == [f"ptqbridge: error: {report['error']}", f"  hint: {report['hint']}"][: len(lines)]
    assert bool(report["hint"]) == (len(lines) == 2)
    assert report["exit_status"] == 2


def test_trtexec_without_words_prints_help(ptq: Callable[..., object]) -> None:
    answer = ptq("trtexec")
    assert answer.status == 0 and answer.out.startswith("Usage: ptqbridge trtexec")


def test_unknown_command_is_one_line_with_a_guess(ptq: Callable[..., object]) -> None:
    answer = ptq("biuld", "--onnx=m")
    assert answer.status == 2
    assert answer.err.count("\n") == 1
    assert "did you mean build?" in answer.err


@pytest.mark.parametrize("command", ["build", "run", "trtexec"])
def test_command_help_lists_every_shown_option(ptq: Callable[..., object], command: str) -> None:
    from ptqbridge.options.table import OPTIONS

    answer = ptq(command, "--help")
    assert answer.status == 0
    for option in OPTIONS:
        assert (f"--{option.name}" in answer.out) or option.hidden
    assert max(map(len, answer.out.splitlines())) <= 110


def test_unknown_option_names_the_nearest(ptq: Callable[..., object]) -> None:
    answer = ptq("build", "--onnx=m.onnx", "--claibData=x")
    assert answer.status == 2
    assert answer.err == "ptqbridge: error: unknown option '--claibData=x'\n  hint: did you mean --calibData?\n"


def test_json_errors_are_json_on_standard_output(ptq: Callable[..., object]) -> None:
    answer = ptq("build", "--json", "--onnx=m.onnx", "--fp16=0")
    record = json.loads(answer.out)
    assert (answer.status, record["ok"], record["exit_status"]) == (2, False, 2)
    assert record["difference"] == "flag-value"
    assert "--fp16 is a flag" in record["error"]
    assert answer.err == ""


def test_internal_errors_have_no_traceback_unless_verbose(
    ptq: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptqbridge.cli import flags

    def broken(argv: list[str]) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(flags, "main", broken)
    answer = ptq("flags")
    assert answer.status == 1
    assert answer.err.startswith("ptqbridge: error: internal error: ZeroDivisionError: oh\n")
    assert "Traceback" not in answer.err
    assert "Traceback" in ptq("flags", "--verbose").err


def test_interruption_is_130(ptq: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqbridge.cli import doctor

    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "main", interrupted)
    answer = ptq("doctor")
    assert answer.status == 130
    assert "interrupted" in answer.err
    answer = ptq("doctor", "--json")
    assert answer.status == 130
    assert json.loads(answer.out)["exit_status"] == 130


@pytest.mark.parametrize("words", [["flags"], ["flags", "--json"], ["build", "--onnx=none.onnx", "--json"]])
def test_a_full_disk_behind_standard_output(root: Path, tmp_path: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ptqbridge", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.stderr.startswith("ptqbridge: error: ")
