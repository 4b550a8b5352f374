"""Every class, enumeration, method and argument count that our plans use, checked against the real bindings.

Three generations, each imported in a process of its own (see bindings_probe.py). ``PTQBRIDGE_TRT_BINDINGS`` names the
folder that scripts/trt_bindings.sh makes; without it the tests are skipped.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import aids, measure, profiler
from ptqbridge.backends.tensorrt import calls as sequence
from ptqbridge.backends.tensorrt.call import Call, read_call
from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.io import io_calls
from ptqbridge.backends.tensorrt.rules import RULES
from ptqbridge.options.parse import parse
from ptqbridge.options.table import OPTIONS
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Request, Target
from ptqbridge.rulebook import Verdict
from ptqbridge.spec import TensorSpec

pytestmark = pytest.mark.real
VERSIONS = {"8.6.1": "8.6.1", "10.13.3": "10.13.3.9", "11.4.0": "11.4.0.106"}
"""The release planned for, and the wheel that stands for it."""
CLASSES = {
    **{"trt": "", "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "runtime": "Runtime"},
    **{"config": "IBuilderConfig", "profile": "IOptimizationProfile", "calibration_profile": "IOptimizationProfile"},
    **{"engine": "ICudaEngine", "context": "IExecutionContext", "refitter": "Refitter", "layer": "ILayer"},
    **{"inspector": "EngineInspector", "registry": "IPluginRegistry", "tensor": "ITensor", "first": "ITensor"},
    **{"error": "ParserError", "merged": "ITimingCache"},
}
"""What the variables of plans and helpers hold. Variables that are not here hold nothing of TensorRT's."""
MADE_BY = {
    **{
        "get_input": "ITensor",
        "get_output": "ITensor",
        "get_plugin_registry": "IPluginRegistry",
        "get_layer": "ILayer",
    },
    **{"Refitter": "Refitter", "OnnxParserRefitter": "OnnxParserRefitter", "get_error": "ParserError"},
}
"""What calls return whose result is used at once."""
ASKED_BY_HASATTR = {"ParserError.node_name", "ParserError.node_operator", "Logger.Severity"}
"""Names that helpers look for before they use them."""
GUARDED = {"message_log", "parser_errors", "check"}
"""Helpers that every plan uses."""
LATER_ATTRIBUTES = {"attention"}
"""Attributes of a subclass that the helper turns a layer into."""


@pytest.fixture(scope="module")
def bindings() -> Path:
    folder = os.environ.get("PTQBRIDGE_TRT_BINDINGS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PTQBRIDGE_TRT_BINDINGS is not set: make test-real sets it")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc), which makes the link stubs")
    return Path(folder)


def request(*words: str) -> Request:
    options = parse(["--onnx=m.onnx", *words])
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    return Request(Target("trt", "tensorrt"), build_spec(options), run_spec(options), asked)


@cache
def planned(version: str) -> tuple[Call, ...]:
    """Every call that any option, alone or with what it needs, brings into a plan for this version."""
    texts: dict[str, None] = {}
    rich = request("--int8", "--refit", "--versionCompatible", "--precisionConstraints=obey", "--useDLACore=0")
    inputs = [TensorSpec("x", "float32", ("n", 3)), TensorSpec("s", "int64", (2,))]
    for base in (request(), request("--int8"), request("--stronglyTyped"), rich, request("--vc", "--int8")):
        context = Context(base, version)
        texts.update(dict.fromkeys(sequence.always(context)))
        texts.update(dict.fromkeys(io_calls(context, inputs, inputs[:1])))
        for option in OPTIONS:
            if option.name not in RULES:
                continue
            for alone in (True, False):
                for example in option.examples:
                    value = option.value.parse(example)
                    outcome = RULES.apply(option.name, value, Context(base, version, alone=alone))
                    if outcome.verdict is not Verdict.REFUSED:
                        for kind in ("calls", "dla"):
                            texts.update(dict.fromkeys(outcome.emits.get(kind, ())))
    return tuple(map(read_call, texts))


def class_of(node: ast.expr) -> str | None:
    """The class of what an expression holds; "" for the module itself, None for what is not TensorRT's."""
    if isinstance(node, ast.Name):
        known = CLASSES.get(node.id)
        numbered = known is None and re.fullmatch(r"profile\d+", node.id)
        return "IOptimizationProfile" if numbered else known
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return MADE_BY.get(name)
    if isinstance(node, ast.Attribute):
        below = class_of(node.value)
        return f"{below}.{node.attr}".strip(".") if below == "" or (below or "").split(".")[0].isupper() else None
    return None


def names_in(node: ast.AST) -> Iterator[str]:
    """Dotted names below the module: ``BuilderFlag.FP16``, ``IBuilderConfig.set_flag``."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and not part.attr.startswith("__"):
            owner = class_of(part.value)
            if owner is None and isinstance(part.value, ast.Attribute) and class_of(part.value.value) == "":
                owner = part.value.attr
            if owner is not None and part.attr not in LATER_ATTRIBUTES:
                yield f"{owner}.{part.attr}".strip(".")


def counts_in(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Called names with their number of arguments."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            owner = class_of(part.func.value)
            starred = any(isinstance(argument, ast.Starred) for argument in part.args)
            if owner is not None and not starred and not part.func.attr.startswith("__"):
                yield f"{owner}.{part.func.attr}".strip("."), len(part.args)


def questions(version: str) -> dict[str, Any]:
    """What to ask the bindings of a version: the names and calls of all plans, and of the helpers they use."""
    nodes: list[ast.AST] = []
    helpers = set(GUARDED)
    for call in planned(version):
        if call.module:
            continue
        nodes += [call.value, *([call.target] if call.target is not None else [])]
        helpers |= {part.id for part in ast.walk(call.value) if isinstance(part, ast.Name)}
    for helper in sorted(helpers):
        function = getattr(aids, helper, None)
        if inspect.isfunction(function):
            nodes.append(ast.parse(inspect.getsource(function)))
    names = {name for node in nodes for name in names_in(node)} - ASKED_BY_HASATTR
    calls = {call for node in nodes for call in counts_in(node)}
    for module in (measure, profiler):  # there, a tensor and an error are our own
        source = ast.parse(inspect.getsource(module))
        names |= {name for name in names_in(source) if not name.startswith(("ITensor.", "ParserError."))}
        calls |= set(counts_in(source))
    return {"names": sorted(names), "calls": sorted(call for call in calls if call[0] not in ASKED_BY_HASATTR)}


def ask(bindings: Path, wheel: str, asked: dict[str, Any]) -> dict[str, Any]:
    place = bindings / wheel
    if not place.is_dir():
        pytest.skip(f"the bindings {wheel} could not be had: no fitting Python, or no package registry")
    probe = Path(__file__).with_name("bindings_probe.py")
    command = [(place / "python").read_text().strip(), str(probe), str(place / "site"), str(aids.__file__)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_that_plans_use_is_there(version: str, bindings: Path) -> None:
    asked = questions(version)
    assert len(asked["names"]) > 60
    answer = ask(bindings, VERSIONS[version], asked)
    assert answer["missing"] == []
    assert answer["misfits"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_helpers_work_with_the_real_classes(version: str, bindings: Path) -> None:
    found = ask(bindings, VERSIONS[version], {"names": [], "calls": []})["behaviour"]
    assert found["version"].startswith(version.split(".")[0])
    errors, said = found["logged"]
    assert errors == ["an error"] and said[0] == "TensorRT error: an error"
    assert "factory function returned nullptr" in found["builder"]
    number = {"8.6.1": "8601", "10.13.3": "101303"}.get(version)
    if number:
        for word, (right, size, batch, asked, header) in found["calibrators"].items():
            assert (right, size, batch, asked) == (True, 1, None, True)
            assert header == f"TRT-{number}-{word}"
    else:
        assert "calibrators" not in found


ALGORITHMS = {
    **{"entropy2": "ENTROPY_CALIBRATION_2", "entropy": "ENTROPY_CALIBRATION", "minmax": "MINMAX_CALIBRATION"},
    "legacy": "LEGACY_CALIBRATION",
}


@pytest.mark.parametrize("version", ["8.6.1", "10.13.3"])
@pytest.mark.parametrize("kind", ALGORITHMS)
def test_our_calibrators_are_made_on_the_real_classes(version: str, kind: str, bindings: Path) -> None:
    """Without a GPU the callbacks are called from Python; their names and answers are those that TensorRT wants."""
    found = ask(bindings, VERSIONS[version], {"names": [], "calls": []})["behaviour"]["native"][kind]
    assert (found["right"], found["size"], found["algorithm"]) == (True, 1, ALGORITHMS[kind])
    assert found["batches"] == [[4096], [8192], None]
    assert found["cache"] == [None, "TRT-8601-cache", "TRT-8601-cache"]
    assert found["raised"] == [None, "no more disk"]
    callbacks = {"get_batch", "get_batch_size", "read_calibration_cache", "write_calibration_cache"}
    assert callbacks <= set(found["callbacks"])
    assert found["unanswered"] == []
    assert found.get("legacy") == ([0.999, 1.0] if kind == "legacy" else None)


def test_plans_of_one_generation_do_not_fit_another(bindings: Path) -> None:
    missing = ask(bindings, VERSIONS["11.4.0"], questions("8.6.1"))["missing"]
    assert {"BuilderFlag.INT8", "IBuilderConfig.min_timing_iterations", "ITensor.dynamic_range"} <= set(missing)
    missing = ask(bindings, VERSIONS["8.6.1"], questions("11.4.0"))["missing"]
    assert {"BuilderFlag.STRIP_PLAN", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"} <= set(missing)


def test_what_does_not_exist_is_seen(bindings: Path) -> None:
    asked = {"names": ["BuilderFlag.FP17", "IBuilderConfig.set_flag"], "calls": [["IBuilderConfig.set_flag", 3]]}
    answer = ask(bindings, VERSIONS["8.6.1"], asked)
    assert answer["missing"] == ["BuilderFlag.FP17"]
    assert answer["misfits"] == [["IBuilderConfig.set_flag", 3]]
    assert "tensorrt" not in sys.modules
