"""Fixtures of the Horizon tests: requests and plans from a command line."""

from __future__ import annotations

import json
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends import resolve
from ptqbridge.backends.horizon.plan import plan
from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request


def request_of(line: str, target: str = "bayes", command: str = "trtexec") -> Request:
    """What the command line hands to a backend."""
    options = parse(shlex.split(line))
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    return Request(resolve(target), build_spec(options), run_spec(options), asked, command)


@pytest.fixture
def ask() -> Callable[..., Request]:
    """``ask(line, target, command)`` is a request."""
    return request_of


@pytest.fixture
def plan_of(monkeypatch: pytest.MonkeyPatch, root: Path) -> Callable[..., Plan]:
    """``plan_of(line, target, command)`` is a plan; paths are seen from the checkout."""
    monkeypatch.chdir(root)

    def make(line: str, target: str = "bayes", command: str = "trtexec", toolchain: str = "3.5") -> Plan:
        return plan(request_of(line, target, command), toolchain)

    return make


@pytest.fixture
def tools5(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with doubles of hb_mapper's fellow tools and of its Python with its runtime."""
    folder = tmp_path / "tools"
    folder.mkdir()
    doubles = root / "tests" / "doubles"
    own = f'export PYTHONPATH="{doubles}/runtime"\n'
    programs = {name: f'"{doubles}/hb_tools" {name}' for name in ("hb_model_info", "hb_extract_hbm", "hbdk-disas")}
    programs |= {name: f'"{doubles}/hb_tools" {name}' for name in ("hbdk-sim", "hbdk-perf")}
    for name, words in {**programs, "python": "", "hb_mapper": f'"{doubles}/hb_mapper"'}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\n{own}exec "{sys.executable}" {words} "$@"\n')
        script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(folder / "hb_mapper"))
    return folder


@pytest.fixture
def bin5(tmp_path: Path) -> Callable[..., Path]:
    """``bin5(kind, factor, ...)`` is a .bin of the doubles with its quantized model and its record beside it.

    The model has one input ``x`` (featuremap: float32 1x2x3x3) and computes ``sum = 2 * x + 1`` in int32, then floats.
    """

    def make(kind: str = "featuremap", factor: int = 2, batch: int = 1, record: bool = True, **facts: Any) -> Path:
        import onnx
        from onnx import TensorProto, helper

        from ptqbridge.backends.horizon.beside5 import keep
        from ptqbridge.result import BuildResult

        shape = {"featuremap": [1, 2, 3, 3], "nv12": [1, 4, 6, 3]}.get(kind, [1, 3, 4, 6])
        dtype = TensorProto.FLOAT if kind == "featuremap" else TensorProto.INT8
        constants = [helper.make_tensor(n, TensorProto.INT32, [1], [v]) for n, v in (("two", 2), ("one", 1))]
        nodes = [
            helper.make_node("Cast", ["x"], ["q"], to=TensorProto.INT32),
            helper.make_node("Mul", ["q", "two"], ["twice"]),
            helper.make_node("Add", ["twice", "one"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["/out/y"], to=TensorProto.FLOAT),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", dtype, shape)],
            [helper.make_tensor_value_info("/out/y", TensorProto.FLOAT, shape)],
            constants,
        )
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        quantized = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
        onnx.save(quantized, made / "m_quantized_model.onnx")
        train = "featuremap" if kind == "featuremap" else "gray" if kind == "gray" else "rgb"
        entry = {"input_name": "x", "input_type_rt": kind, "input_layout_rt": "NCHW", "input_type_train": train}
        sizes = "1x2x3x3" if kind == "featuremap" else "1x3x4x6"
        feature = {
            "feature name": "q" if kind == "featuremap" else "x",
            "element type name": "int32" if kind == "featuremap" else "int8",
            "valid dim": [batch, *shape[1:]],
            "input source": "pyramid" if kind == "nv12" else "DDR",
        }
        output = {"feature name": "sum", "element type name": "int32", "valid dim": [batch, *shape[1:]]}
        content = {
            "march": "bayes",
            "inputs": [{**entry, "input_layout_train": "NCHW", "input_shape": sizes}],
            "deleted": "",
            "subgraphs": [{"model name": "g_0", "input features": [feature], "output features": [output]}],
            "factor": factor,
        }
        artifact = tmp_path / "m.bin"
        artifact.write_text(json.dumps(content))
        estimate = {"subgraphs": [{"subgraph": "g_0", "fps": 2000.0, "latency_us": 500.0, "ddr_bytes": 128}]}
        known = {"estimate": estimate, "versions": {"hb_mapper": "1.24.3"}, "nodes": [{"name": "c"}], "outputs": []}
        if record:
            keep(BuildResult("bayes", str(artifact), "int8", facts=known | facts), made / "m.bin")
        return artifact

    return make


@pytest.fixture(scope="session")
def cases(root: Path) -> Path:
    """The folder of published configurations and outputs; skipped where there is none."""
    import os

    named = os.environ.get("PTQBRIDGE_CASES", "")
    found = Path(named) if named else root.parent / "shared" / "cases"
    if not found.is_dir():
        pytest.skip("no cases: PTQBRIDGE_CASES is not set and ../shared/cases is not there")
    return found


BOARD_MODEL = {
    "name": "net",
    "desc": {"MARCH": "nash-m", "CORE_NUM": 1},
    "inputs": [{"name": "x", "shape": [1, 4], "type": "F32"}],
    "outputs": [{"name": "out", "shape": [1, 3], "type": "F32"}],
}


@pytest.fixture
def board_model() -> dict[str, Any]:
    """What the double of hrt_model_exec takes for a model, to be changed and written to a file."""
    model: dict[str, Any] = json.loads(json.dumps(BOARD_MODEL))
    return model


@pytest.fixture
def here(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board on this machine: its program on PATH, its folder ``board``, a model and an input beside."""
    program = tmp_path / "bin" / "hrt_model_exec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {root}/tests/doubles/hrt_model_exec "$@"\n')
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PTQBRIDGE_BOARD_DIR", str(tmp_path / "board"))
    monkeypatch.setattr("ptqbridge.backends.horizon.board.LOCK", str(tmp_path / "lock"))
    (tmp_path / "net.hbm").write_text(json.dumps(BOARD_MODEL))
    (tmp_path / "net.bin").write_text(json.dumps({**BOARD_MODEL, "desc": {"MARCH": "bayes"}}))
    (tmp_path / "x.bin").write_bytes(bytes(16))
    return tmp_path
