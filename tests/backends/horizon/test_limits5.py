"""Findings in a model's structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.horizon.limits5 import model_findings
from ptqbridge.backends.horizon.lookup import TOOL_DOMAINS
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.errors import InputError
from ptqbridge.model.check import runtime_limits
from ptqbridge.model.load import load_model

Find = Callable[..., list[tuple[str, bool]]]


def net(
    node: str = "Conv",
    shape: tuple[int | str, ...] = (1, 3, 8, 8),
    weight: tuple[int, ...] = (4, 3, 1, 1),
    *,
    dtype: int = TensorProto.FLOAT,
    opset: int = 11,
    ir: int = 7,
    domain: str = "",
    name: str = "x",
    fill: float = 1.0,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node with a weight."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    x = helper.make_tensor_value_info(name, dtype, shape)
    y = helper.make_tensor_value_info("y", dtype, None)
    inputs = [name, "w"] if weight else [name]
    weights = [numpy_helper.from_array(np.full(weight, fill, kind), "w")] if weight else []
    made = helper.make_node(node, inputs, ["y"], name="n", domain=domain, **attributes)
    graph = helper.make_graph([made], "g", [x], [y], weights)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """The findings of a model as (text, error)."""

    def look(
        model: onnx.ModelProto, march: str = "bayes", *, listed: bool = True, **shapes: str
    ) -> list[tuple[str, bool]]:
        path = tmp_path / "m.onnx"
        onnx.save(model, path)
        found = model_findings(load_model(path), MARCHES[march], shapes, listed=listed)
        return [(item.line.replace(f"model {path}", "M"), item.error) for item in found]

    return look


def test_a_good_model(find: Find) -> None:
    assert find(net()) == []


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (net(opset=13), "M has ONNX opset 13, and hb_mapper takes 7 to 11; --convertOpset converts a copy of it"),
        (net(ir=10), "M has ONNX IR version 10, and hb_mapper takes at most 9; --convertOpset converts a copy of it"),
        (
            net(shape=("N", 3, "H", 8)),
            "M: input x: float32[N,3,H,8] has dynamic dimensions, and a BPU model has one shape; "
            "--shapes=x:... gives it",
        ),
        (net(name="a b"), "M: the name of input 'a b' has a blank or ';', which split lists in its YAML"),
        (net("Relu", weight=()), "M has no Conv, ConvTranspose, Gemm or MatMul, and a BPU model needs one"),
        (
            net(shape=(1, 3, 8, 8, 8), weight=(4, 3, 1, 1, 1)),
            "M: node 'n' is a Conv over 3 dimensions, and hb_mapper takes at most 2",
        ),
        (net(fill=np.nan), "M: weight 'w' holds NaN or inf"),
        (net(fill=-np.inf), "M: weight 'w' holds NaN or inf"),
    ],
)
def test_one_fault(find: Find, model: onnx.ModelProto, text: str) -> None:
    if runtime_limits(model.ir_version, 11)[0] < model.ir_version:
        pytest.skip("this ONNX Runtime does not read that IR version either")
    assert find(model) == [(text, True)]


def test_a_dynamic_batch_and_given_shapes_are_no_faults(find: Find) -> None:
    assert find(net(shape=("N", 3, 8, 8))) == []
    assert find(net(shape=("N", 3, "H", "W")), x="1x3x8x8") == []


def test_large_weights_are_not_taken_for_infinite_ones(find: Find) -> None:
    assert find(net(fill=1e30)) == []


def test_half_precision(find: Find) -> None:
    found = find(net(dtype=TensorProto.FLOAT16))
    assert len(found) == 2
    assert "input x: float16[1,3,8,8] is float16, and hb_mapper takes float32" in found[0][0]
    assert found[1] == (
        "M: node 'n' (Conv) has 16-bit weights, and hb_mapper takes float32; export it in float32",
        True,
    )


def test_other_domains(find: Find) -> None:
    (found,) = find(net("Gelu", (1, 4), (), domain="com.microsoft"), listed=False)[:1]
    assert found == ("M: node 'n' is com.microsoft:Gelu, and hb_mapper takes operators of the ONNX standard", True)


def test_an_operator_in_python_must_be_registered(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(net("PyOp", (1, 3, 4, 4), (), domain="horizon.custom"), path)
    model = load_model(path, custom=TOOL_DOMAINS)
    texts = [item.line for item in model_findings(model, MARCHES["bayes"], {}, listed=False)]
    assert any("is a PyOp" in text and "--staticPlugins=FILE.py" in text for text in texts)
    done = model_findings(model, MARCHES["bayes"], {}, listed=False, registered=True)
    assert not any("PyOp" in item.line for item in done)
    with pytest.raises(InputError, match=r"horizon\.custom:PyOp"):
        load_model(path)


def test_non_zero_and_loop(find: Find) -> None:
    texts = [text for text, _ in find(net("NonZero", weight=()))]
    assert "M: node 'n' is a NonZero, which neither the BPU nor the board's runtime has" in texts


def test_fast_perf_builds_without_bpu_nodes(find: Find) -> None:
    assert [error for _, error in find(net("Relu", weight=()), listed=False)] == [False]


@pytest.mark.parametrize(("turned", "weight"), [(1, (2, 9000)), (0, (9000, 2))])
def test_wide_gemm(find: Find, turned: int, weight: tuple[int, ...]) -> None:
    model = net("Gemm", (1, 9000), weight, transB=turned)
    (found,) = find(model, "bayes")
    assert found == ("M: node 'n' (Gemm) has 9000 input channels, and the compiler for bayes takes 8192", True)
    assert find(model, "bayes-e") == []


def test_all_at_once(find: Find) -> None:
    assert len(find(net(opset=13, fill=np.nan, shape=(1, 3, "H", 8)))) == 3
