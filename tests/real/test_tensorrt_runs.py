"""What running an engine uses of TensorRT, checked against the real bindings of three generations, without a GPU.

As test_tensorrt_bindings.py does for plans: every attribute of the module, the engine, the context, the refitter and
the inspector that the run's modules name must exist, unless it is known to be there in other versions only; and our
callbacks are made with the real classes.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import contexts, debug, engine_info, gpu_stream, measure, refit, tensors
from ptqbridge.backends.tensorrt.version import generation

pytestmark = pytest.mark.real
VERSIONS = ("8.6.1", "10.13.3.9", "11.4.0.106")
MODULES = (contexts, debug, engine_info, gpu_stream, measure, refit, tensors)
HOLDERS = {
    **{"trt": "", "engine": "ICudaEngine", "context": "IExecutionContext", "refitter": "Refitter"},
    **{"inspector": "EngineInspector"},
}
"""Names that hold TensorRT's objects in these modules, also as attributes of ``self``."""
ONLY = {
    "8.6": {"ICudaEngine.get_profile_shape_input"},
    "10": {
        *("IDebugListener", "Refitter.refit_cuda_engine_async", "Refitter.weights_validation"),
        "ICudaEngine.get_tensor_profile_values",
    },
}
"""Names used from a generation on (10: and later; 8.6: only there), behind a test of the version or of the name."""
LAYERS = [f"{kind}.{attribute}" for kind, roles in refit.WEIGHTS.values() for attribute in roles.values()]


@pytest.fixture(scope="module", params=VERSIONS)
def answers(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the probe found with the bindings of a version."""
    folder = os.environ.get("PTQBRIDGE_TRT_BINDINGS", "")
    place = Path(folder) / request.param
    if not folder or not place.is_dir():
        pytest.skip("no TensorRT bindings: PTQBRIDGE_TRT_BINDINGS is not set (make test-real sets it)")
    probe, source = Path(__file__).with_name("runs_probe.py"), Path(measure.__file__).parents[3]
    command = [(place / "python").read_text().strip(), str(probe), str(place / "site"), str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, input=json.dumps(names()), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"version": request.param, **found}


def names() -> list[str]:
    """Dotted names below TensorRT's module that the modules of a run use."""
    found = set(LAYERS) | {f"LayerType.{kind}" for kind in refit.WEIGHTS}
    found |= {f"WeightsRole.{role}" for _, roles in refit.WEIGHTS.values() for role in roles}
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                holder = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                if holder in HOLDERS and node.attr != "__class__":
                    found.add(f"{HOLDERS[holder]}.{node.attr}".strip("."))
    return sorted(found)


def test_what_runs_use_is_there(answers: dict[str, Any]) -> None:
    asked = set(names())
    assert {
        "ICudaEngine.get_tensor_location",
        "IExecutionContext.set_output_allocator",
        "Refitter.get_missing",
    } <= asked
    here = generation(answers["version"])
    allowed = ONLY["10"] if here == "8.6" else ONLY["8.6"]
    if here != "8.6":  # fully connected layers went with 10
        allowed = allowed | {"LayerType.FULLY_CONNECTED"} | {name for name in asked if "FullyConnected" in name}
    assert set(answers["missing"]) <= allowed


def test_callbacks_are_made_of_the_real_classes(answers: dict[str, Any]) -> None:
    assert answers["allocator"] == [True, 356, [2, 3]]
    assert answers["profiler"] == [True, [["conv", [0.5]]]]
    if generation(answers["version"]) == "8.6":
        assert "listener" not in answers
    else:
        assert answers["listener"] == [True, True, "None", [9, [16, True, "HALF", [2], "t"]]]
