"""Running hb_mapper, here a double with the real one's traps (tests/real runs the same on the real one)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from ptqbridge.backends.horizon.hb_mapper import Run, program, run_hb_mapper
from ptqbridge.backends.horizon.judge import judge
from ptqbridge.backends.horizon.stages5 import Stage
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.errors import InputError, OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.docker import Docker
from ptqbridge.toolchains.local import Local

Start = Callable[..., Run]


@pytest.fixture
def tool(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The double, run by this Python, with its compiler beside it and nowhere on PATH."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("hb_mapper", "hbdk-cc"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{root}/tests/doubles/{name}" "$@"\n')
        script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(folder / "hb_mapper"))
    return folder / "hb_mapper"


@pytest.fixture
def place(tmp_path: Path, root: Path) -> Iterator[Workspace]:
    """A workspace with the example model and five samples."""
    with workspace(tmp_path) as made:
        made.copy(root / "examples" / "mynet" / "mynet.onnx", "mynet.onnx")
        folder = made.job / "cal" / "input1"
        folder.mkdir(parents=True)
        for number in range(5):
            np.full((1, 3, 28, 28), number, np.float32).tofile(folder / f"{number}.bin")
        yield made


FAST = ("hb_mapper", "makertbin", "--model-type", "onnx", "--fast-perf", "--model", "mynet.onnx", "--march", "bayes")
FULL = ("hb_mapper", "makertbin", "--config", "c.yaml", "--model-type", "onnx")


def config(place: Workspace, method: str = "max", **changes: str) -> None:
    sections = {
        "model_parameters": {
            "onnx_model": "./mynet.onnx", "march": "bayes", "working_dir": "./model_output",
            "output_model_file_prefix": "mynet",
        },
        "input_parameters": {
            "input_type_rt": "featuremap", "input_type_train": "featuremap", "input_layout_train": "NCHW",
            "input_layout_rt": "NCHW", "norm_type": "no_preprocess",
        },
        "calibration_parameters": {
            "cal_data_dir": "./cal/input1", "cal_data_type": "float32", "calibration_type": method
        },
    }  # fmt: skip
    for path, value in changes.items():
        section, _, key = path.partition("__")
        sections[f"{section}_parameters"][key] = value
    place.write("c.yaml", yaml.safe_dump(sections))


@pytest.fixture
def start(tool: Path, place: Workspace, tmp_path: Path) -> Start:
    """``start(argv)`` runs it; the log is ``tmp_path/log``."""

    def run(argv: tuple[str, ...] = FULL, product: str = "model_output/mynet.bin", **more: object) -> Run:
        return run_hb_mapper(place, argv, Local(), log=tmp_path / "log", product=product, **more)  # type: ignore[arg-type]

    return run


def test_fast_perf(start: Start, place: Workspace, tmp_path: Path) -> None:
    seen: list[Stage] = []
    done = start(FAST, progress=seen.append)
    assert (place.job / "model_output" / "mynet.bin").stat().st_size > 0
    assert [stage.name for stage in seen if not stage.total] == [
        "prepare", "optimize", "calibrate", "quantize", "compile", "package"
    ]  # fmt: skip
    assert [stage.done for stage in seen if stage.part][-1] == 100
    assert done.record.estimates[0].fps == 65061.81
    assert [finding.check for finding in judge(done.record, calibrated=False)] == ["made-up"]
    assert "\x1b" not in (tmp_path / "log").read_text()
    assert done.log == tmp_path / "log"


def test_calibrated(start: Start, place: Workspace) -> None:
    config(place)
    record = start().record
    assert (record.samples, record.method) == (5, "max")
    assert record.outputs[0].cosine == 0.999913
    assert judge(record, calibrated=True) == ()


def test_nan_samples_are_accepted_by_max_and_seen_by_us(start: Start, place: Workspace) -> None:
    config(place)
    np.full((1, 3, 28, 28), np.nan, np.float32).tofile(place.job / "cal" / "input1" / "0.bin")
    findings = judge(start().record, calibrated=True)
    assert {finding.check for finding in findings if finding.level == "error"} == {"made-up", "nan"}


def test_the_checker_has_no_product(start: Start) -> None:
    argv = ("hb_mapper", "checker", "--model-type", "onnx", "--model", "mynet.onnx", "--march", "bayes")
    assert start(argv, product="").record.checked


def opset(place: Workspace) -> None:
    import onnx

    proto = onnx.load(place.job / "mynet.onnx")
    proto.opset_import[0].version = 13
    onnx.save(proto, place.job / "mynet.onnx")


def samples(text: str | None) -> Callable[[Workspace], None]:
    def change(place: Workspace) -> None:
        folder = place.job / "cal" / "input1"
        if text is None:
            shutil.rmtree(folder)
        elif text == "":
            shutil.rmtree(folder)
            folder.mkdir()
        else:
            (folder / "0.bin").write_text(text)

    return change


BAD = (
    (opset, {}, InputError, "opset 13"),
    (lambda place: (place.job / "mynet.onnx").write_bytes(b"\xff" * 50), {}, InputError, "no ONNX file"),
    (samples("abcd"), {}, InputError, "1 elements, expected the shape (1,3,28,28)"),
    (samples(""), {}, InputError, "is empty"),
    (samples(None), {}, InputError, "does not exist"),
    (lambda place: (place.job / "cal" / "input1" / "sub").mkdir(), {}, InputError, "Is a directory"),
    (None, {"model__march": "nash-e"}, OptionError, "march cannot be 'nash-e'"),
    (None, {"calibration__calibration_type": "entropy"}, OptionError, "calibration_type cannot be 'entropy'"),
    (None, {"calibration__calib_type": "max"}, OptionError, "no YAML key 'calib_type'"),
    (None, {"model__onnx_model": "no.onnx"}, InputError, "no.onnx does not exist"),
)  # fmt: skip


@pytest.mark.parametrize(("change", "keys", "kind", "words"), BAD, ids=[case[3] for case in BAD])
def test_bad_input(
    start: Start, place: Workspace, tmp_path: Path,
    change: Callable[[Workspace], None] | None, keys: dict[str, str], kind: type[PtqbridgeError], words: str,
) -> None:  # fmt: skip
    config(place, **keys)
    if change:
        change(place)
    with pytest.raises(kind) as caught:
        start()
    assert words in caught.value.message
    assert str(tmp_path / "log") in caught.value.hint
    assert (tmp_path / "log").read_text().count("\n") > 3
    assert not (place.job / "model_output" / "mynet.bin").exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("quiet", "does not say that it finished"),
        ("empty", "made an empty one"),
        ("none", "made none"),
        ("status", "failed with exit status 255"),
    ],
)
def test_success_is_status_and_marks_and_product(
    start: Start, place: Workspace, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    monkeypatch.setenv("DOUBLE_FAULT", fault)
    config(place)
    with pytest.raises(ToolchainFailed, match=words):
        start()


def test_the_tools_folder_is_on_its_path(start: Start, place: Workspace, tool: Path) -> None:
    """Without it the compiler is not found; and it is there without being on ours."""
    assert shutil.which("hbdk-cc") is None
    assert start(FAST).finished.status == 0
    (tool.parent / "hbdk-cc").unlink()
    with pytest.raises(ToolchainMissing, match=r"hbdk\) was not found"):
        start(FAST)


def test_what_lies_in_our_folder_is_not_imported(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert start(FAST).finished.status == 0


def test_its_temporary_files_go_with_the_workspace(start: Start, place: Workspace, tool: Path) -> None:
    tool.write_text(tool.read_text().replace("exec ", 'touch "$TMPDIR/left"\nexec '))
    start(FAST)
    assert (place.root / "tmp" / "left").exists()


def test_a_time_out_ends_tool_and_compiler(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBLE_COMPILE_S", "4321")
    with pytest.raises(ToolchainFailed, match="ended after"):
        start(FAST, timeout=4.0)
    assert not compilers("4321")


def compilers(argument: str) -> list[str]:
    """Processes of the compiler double that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in words and any(b"hbdk-cc" in word for word in words):
            found.append(entry.parent.name)
    return found


def test_ctrl_c_ends_tool_and_compiler_and_keeps_the_log(
    tool: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
from pathlib import Path
from ptqbridge.backends.horizon.hb_mapper import run_hb_mapper
from ptqbridge.backends.horizon.workspace import workspace
from ptqbridge.toolchains.local import Local
with workspace({str(tmp_path)!r}) as place:
    place.copy({str(root / "examples/mynet/mynet.onnx")!r}, "mynet.onnx")
    run_hb_mapper(place, {FAST!r}, Local(), log=Path({str(tmp_path / "log")!r}), product="model_output/mynet.bin")
"""
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "DOUBLE_COMPILE_S": "1234"}
    ours = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not compilers("1234") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert compilers("1234")
    ours.send_signal(signal.SIGINT)
    assert ours.wait(20) == -signal.SIGINT
    assert not compilers("1234")
    assert "Compile submodel" in (tmp_path / "log").read_text()
    assert not list(tmp_path.glob("ptqbridge-*"))


def test_builds_side_by_side(tool: Path, root: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> str:
        with workspace(tmp_path) as place:
            place.copy(root / "examples" / "mynet" / "mynet.onnx", f"net{number}.onnx")
            argv = tuple(word.replace("mynet", f"net{number}") for word in FAST)
            product = f"model_output/net{number}.bin"
            done = run_hb_mapper(place, argv, Local(), log=tmp_path / f"log{number}", product=product)
            return ",".join(sorted(path.name for path in place.job.glob("model_output/*.bin"))) + done.log.name

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [f"net{number}.binlog{number}" for number in range(3)]


def test_where_the_program_is(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program(Local()) == str(tool)
    assert program(Docker("oe")) == "hb_mapper"
    monkeypatch.delenv("PTQBRIDGE_HB_MAPPER")
    links = tmp_path / "links"
    links.mkdir()
    (links / "hb_mapper").symlink_to(tool)
    monkeypatch.setenv("PATH", str(links))
    assert program(Local()) == str(tool)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ToolchainMissing, match="not on PATH, and PTQBRIDGE_HB_MAPPER is not set") as caught:
        program(Local())
    assert "toolchain install hb-mapper" in caught.value.hint
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", "/no/such")
    with pytest.raises(ToolchainMissing, match=r"PTQBRIDGE_HB_MAPPER=/no/such is no program"):
        program(Local())
