"""What can go wrong in a build for Journey 5, case by case: the same for the double and for the real hb_mapper.

Both test modules run ``ptqbridge build`` in a folder with an earlier, good product, and look at what is left after it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
MYNET = ROOT / "examples" / "mynet"
SHAPE = (1, 3, 28, 28)
GOOD = b"an earlier, good product"


@dataclass(frozen=True)
class Case:
    """``make(folder)`` prepares and returns the words behind ``build --target=bayes``; ``status`` and ``says`` (a
    regular expression in the error) are expected. ``started``: the tool ran, so that its log must be there."""

    make: Callable[[Path], list[str]]
    status: int
    says: str = ""
    started: bool = False
    env: dict[str, str] = field(default_factory=dict)
    disturb: Callable[[Path, subprocess.Popen[str], str], None] | None = None
    mounts: tuple[str, str] = ("", "")  # folder name and size of a small file system there


@dataclass(frozen=True)
class Ended:
    """How a case ended: the exit status and the error's text, without what differs from run to run."""

    status: int
    error: str
    output: str
    product: bytes | None
    log: bool


def model(folder: Path, change: Callable[[onnx.ModelProto], None] | None = None, name: str = "m.onnx") -> str:
    proto = onnx.load(MYNET / "mynet.onnx")
    if change:
        change(proto)
    onnx.save(proto, folder / name)
    return f"--onnx={folder / name}"


def raw(folder: Path, data: bytes) -> list[str]:
    (folder / "m.onnx").write_bytes(data)
    return [f"--onnx={folder / 'm.onnx'}"]


def opset(version: int) -> Callable[[Path], list[str]]:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = version

    return lambda folder: [model(folder, change)]


def dynamic(folder: Path) -> list[str]:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"

    return [model(folder, change)]


def broken_weights(folder: Path) -> list[str]:
    def change(proto: onnx.ModelProto) -> None:
        weight = proto.graph.initializer[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))

    return [model(folder, change)]


def calib(*arrays: np.ndarray, suffix: str = ".npy") -> Callable[[Path], list[str]]:
    """Samples of our own side, as files of one folder."""

    def make(folder: Path) -> list[str]:
        (folder / "calib").mkdir()
        for number, array in enumerate(arrays):
            if suffix == ".npy":
                np.save(folder / "calib" / f"{number}.npy", array)
            else:
                array.tofile(folder / "calib" / f"{number}{suffix}")
        return [model(folder), "--int8", f"--calibData={folder / 'calib'}", "--calibAlgo=max"]

    return make


def given(*arrays: np.ndarray, more: Callable[[Path], object] | None = None) -> Callable[[Path], list[str]]:
    """Samples in the tool's own form, named in an overlay only."""

    def make(folder: Path) -> list[str]:
        (folder / "raw").mkdir()
        for number, array in enumerate(arrays):
            array.tofile(folder / "raw" / f"{number}.bin")
        if more:
            more(folder / "raw")
        text = "{calibration_parameters: {cal_data_dir: ./raw, cal_data_type: float32, calibration_type: max}}"
        return [model(folder), "--int8", overlay(folder, text)]

    return make


def overlay(folder: Path, text: str) -> str:
    (folder / "overlay.yaml").write_text(text)
    return f"--horizonYaml={folder / 'overlay.yaml'}"


def with_overlay(text: str) -> Callable[[Path], list[str]]:
    return lambda folder: [*example(folder), overlay(folder, text)]


def example(folder: Path) -> list[str]:
    data = ["--int8", f"--calibData={MYNET / 'calib'}", "--calibSamples=4", "--calibAlgo=max"]
    return [f"--onnx={MYNET / 'mynet.onnx'}", *data]


def plain(*words: str) -> Callable[[Path], list[str]]:
    return lambda folder: [*example(folder), *words]


def tool_processes(mark: str) -> list[tuple[int, str]]:
    """Processes that carry ``mark`` in their environment, with their command lines; dead ones do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"CASE_MARK={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        except OSError:
            continue
    return found


def wait_for_tool(folder: Path, process: subprocess.Popen[str], mark: str) -> list[int]:
    """The processes of the tool, once its log shows that it is at work."""
    log = folder / "p.hb_mapper.log"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        at_work = log.exists() and "Start to Horizon NN Model Convert" in log.read_text(errors="replace")
        tool = [pid for pid, command in tool_processes(mark) if "makertbin" in command]
        if at_work and tool:
            return tool
        time.sleep(0.02)
    raise AssertionError("the tool never came to work")


def kill_tool(folder: Path, process: subprocess.Popen[str], mark: str) -> None:
    for pid in wait_for_tool(folder, process, mark):
        os.kill(pid, signal.SIGKILL)


def tell_us(number: signal.Signals) -> Callable[[Path, subprocess.Popen[str], str], None]:
    def send(folder: Path, process: subprocess.Popen[str], mark: str) -> None:
        wait_for_tool(folder, process, mark)
        process.send_signal(number)

    return send


def importable(folder: Path) -> list[str]:
    """Files in the user's folder that the tool would import if it ran there."""
    for name in ("yaml.py", "dataset.py"):
        (folder / name).write_text("raise RuntimeError('shadowed')\n")
    return example(folder)


ONES = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
NAN = np.full(SHAPE, np.nan, np.float32)
ZERO = np.zeros(SHAPE, np.float32)
INTEGERS = np.arange(ONES.size, dtype=np.int32).reshape(SHAPE)
SLOW = {"DOUBLE_COMPILE_S": "4"}
CASES = {
    # the model
    "model missing": Case(lambda folder: [f"--onnx={folder / 'no.onnx'}"], 3, "no.onnx does not exist"),
    "model of random bytes": Case(lambda folder: raw(folder, os.urandom(5000)), 3, "m.onnx"),
    "model cut off": Case(lambda folder: raw(folder, (MYNET / "mynet.onnx").read_bytes()[:4000]), 3, "m.onnx"),
    "model empty": Case(lambda folder: raw(folder, b""), 3, "m.onnx is empty"),
    "model is a folder": Case(lambda folder: [f"--onnx={folder}"], 3, "is a folder"),
    "opset too new": Case(opset(13), 3, r"has ONNX opset 13, and hb_mapper takes 7 to 11"),
    "dynamic size": Case(dynamic, 3, r"float32\[1,3,H,28\] has dynamic dimensions"),
    "NaN in weights": Case(broken_weights, 3, "weight .* holds NaN or inf"),
    # march and keys
    "bad target": Case(plain("--target=bayes-f"), 2, "bayes-f"),
    "bad march": Case(with_overlay("{model_parameters: {march: nash-x}}"), 2, "march"),
    "bad key": Case(with_overlay("{calibration_parameters: {calib_type: max}}"), 2, "calib_type: is no key"),
    "bad section": Case(with_overlay("{calib: {x: 1}}"), 2, "calib"),
    "bad value": Case(with_overlay("{compiler_parameters: {optimize_level: O4}}"), 2, "optimize_level.*'O4'"),
    "overlay is no YAML": Case(with_overlay("{a: [1"), 3, "is not YAML"),
    # our calibration data
    "wrong size": Case(calib(ONES[:, :, :20]), 3, "0.npy"),
    "wrong size of raw files": Case(calib(ONES[:, :, :20], suffix=".bin"), 3, "0.bin"),
    "wrong type": Case(calib(ONES.astype(np.int32)), 3, "0.npy.*int32"),
    "empty folder": Case(calib(), 3, "calib"),
    "folder missing": Case(
        lambda folder: [model(folder), "--int8", "--calibData=/no/folder"], 3, "/no/folder does not exist"
    ),
    "NaN": Case(calib(ONES, NAN), 3, "nan|NaN"),
    "zeros": Case(calib(ZERO, ZERO), 3, "every value of every sample is 0"),
    # data that only the YAML names
    "given: wrong size": Case(given(ONES, ONES[:, :2]), 3, r"expected 9408 bytes \(float32 1x3x28x28\), found 6272 in"),
    "given: wrong type": Case(given(ONES.astype(np.float16)), 3, "expected 9408 bytes .* found 4704"),
    "given: .npy": Case(given(more=lambda raw: np.save(raw / "x.npy", ONES)), 3, "found 9536 in .*x.npy"),
    "given: sub-folder": Case(given(ONES, more=lambda raw: (raw / "sub").mkdir()), 3, "sub is no file"),
    "given: empty folder": Case(given(), 3, "raw is empty"),
    "given: NaN": Case(given(ONES, NAN), 3, "sample 1 holds NaN or inf"),
    "given: zeros": Case(given(ZERO), 3, "every value of every sample is 0"),
    "given: integers": Case(given(INTEGERS), 3, "another type of the same size"),
    # places
    "product's folder missing": Case(plain("--saveEngine=/no/folder/p.bin"), 3, "cannot write /no/folder"),
    "no place for data": Case(example, 3, "cannot write .*the disk is full", mounts=("tmp", "200k")),
    "no place for the tool": Case(example, 3, "the disk is full", started=True, mounts=("tmp", "700k")),
    "no place for the product": Case(example, 3, "cannot write .*the disk is full", mounts=("out", "8k")),
    # the tool
    "no BPU node": Case(
        plain("--inputIOFormats=fp32:chw", "--precisionConstraints=prefer", "--layerDeviceTypes=*:CPU"),
        3,
        "no node of the model can run",
        True,
    ),
    "tool missing": Case(example, 4, "HB_MAPPER=/no/tool is no program", env={"PTQBRIDGE_HB_MAPPER": "/no/tool"}),
    "container missing": Case(plain("--toolchain=docker:no-such-image:1"), 4, "docker"),
    "ssh refused": Case(plain("--toolchain=ssh://127.0.0.1:1"), 4, r"ssh://127.0.0.1|ssh"),
    "bad toolchain": Case(plain("--toolchain=podman:x"), 2, "--toolchain"),
    "tool killed": Case(example, 5, "SIGKILL", True, SLOW, kill_tool),
    "Ctrl-C": Case(example, 130, "interrupted", True, SLOW, tell_us(signal.SIGINT)),
    "SIGTERM": Case(example, 143, "", True, SLOW, tell_us(signal.SIGTERM)),
    # what the bare tool stumbles over
    "importable files in our folder": Case(importable, 0, "", True),
}  # fmt: skip


def run_case(case: Case, folder: Path, tool: Path) -> Ended:
    """Run one case in ``folder`` and check what must hold for all; returns how it ended."""
    mark, place, size = uuid.uuid4().hex, *case.mounts
    temporary = folder / "tmp"
    temporary.mkdir()
    (folder / "out").mkdir()
    product = folder / "out" / "p.bin" if place == "out" else folder / "p.bin"
    words = case.make(folder)
    if place and not mount(folder / place, size):
        pytest.skip("mounting a small file system is not allowed here")
    try:
        product.write_bytes(GOOD)
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(temporary), "CASE_MARK": mark}
        env |= {"PTQBRIDGE_HB_MAPPER": str(tool), "XDG_CACHE_HOME": str(folder / "cache"), **case.env}
        named = [] if any(word.startswith("--saveEngine") for word in words) else [f"--saveEngine={product}"]
        target = [] if any(word.startswith("--target") for word in words) else ["--target=bayes"]
        program = folder.parent / "ptqbridge_program.py"  # not -m, which puts the current folder on the import path
        program.write_text("import sys\nfrom ptqbridge.__main__ import main\nsys.exit(main())\n")
        argv = [sys.executable, str(program), "build", *target, *words, *named]
        with subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background is started with Ctrl-C ignored, and would hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            if case.disturb:
                case.disturb(folder, process, mark)
            output, said = process.communicate(timeout=180)
        status, log = process.returncode, product.with_suffix("").with_suffix(".hb_mapper.log")
        assert tool_processes(mark) == [], "processes are left"
        left = [path.name for path in temporary.iterdir() if path.name.startswith("ptqbridge")]
        assert left == [], "temporary files are left"
        if status:
            assert product.read_bytes() == GOOD, "the earlier product was touched"
            others = [
                path for path in folder.rglob("*.bin") if path != product and path.parent.name not in ("calib", "raw")
            ]
            assert others == [], "a product that is not good was left"
        error = one_line(said, folder)
        assert "Traceback" not in said + output
        assert len(error.splitlines()) <= 1, f"more than one line: {error}"
        return Ended(status, error, said + output, product.read_bytes(), log.is_file())
    finally:
        if place:
            subprocess.run(["umount", str(folder / place)], check=False)
        shutil.rmtree(temporary, ignore_errors=True)


def check_case(case: Case, ended: Ended) -> None:
    """The expected status, words and log."""
    assert ended.status == case.status, ended.output
    assert re.search(case.says, ended.error), ended.error
    assert not case.started or ended.log, "no log was kept"


def one_line(said: str, folder: Path) -> str:
    """The error as it stands on standard error, without paths and times."""
    lines = [line for line in said.splitlines() if line.startswith("ptqbridge:")]
    text = "\n".join(lines).removeprefix("ptqbridge: ").removeprefix("error: ")
    return re.sub(r"ptqbridge-\w+", "ptqbridge-X", text.replace(str(folder), "FOLDER"))


def mount(folder: Path, size: str) -> bool:
    """A small file system at ``folder``; False where that is not allowed."""
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def double(folder: Path) -> Path:
    """The double of hb_mapper as a program, with its compiler beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("hb_mapper", "hbdk-cc"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/doubles/{name}" "$@"\n')
        script.chmod(0o755)
    return folder / "hb_mapper"
