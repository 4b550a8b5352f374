"""Structural checks: versions, operators, names."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, parser

from ptqbridge.errors import InputError
from ptqbridge.model import check

PATH = Path("model.onnx")


def model(body: str, opset: str = '"": 13', inputs: str = "float[4] x", outputs: str = "float[4] y") -> onnx.ModelProto:
    return parser.parse_model(f"<ir_version: 8, opset_import: [{opset}]> g ({inputs}) => ({outputs}) {{{body}}}")


def refusal(proto: onnx.ModelProto) -> str:
    with pytest.raises(InputError) as caught:
        check.check_versions(proto, PATH)
        check.check_graph(proto, PATH)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("model model.onnx")
    return caught.value.message


def passes(proto: onnx.ModelProto) -> None:
    """Nothing is raised, and looking changed nothing."""
    before = proto.SerializeToString(deterministic=True)
    check.check_versions(proto, PATH)
    check.check_graph(proto, PATH)
    assert proto.SerializeToString(deterministic=True) == before


def test_good_models_pass() -> None:
    passes(model("y = Relu(x)"))
    passes(model("y = com.microsoft.Gelu(x)", '"": 13, "com.microsoft": 1'))
    passes(model("y = Relu(x)", '"ai.onnx": 13'))


def test_opset_newer_than_onnx() -> None:
    message = refusal(model("y = Relu(x)", '"": 999'))
    assert "opset 999" in message
    assert str(onnx.defs.onnx_opset_version()) in message


def test_opset_newer_than_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 2000)
    message = refusal(model("y = Relu(x)", '"": 999'))
    assert "opset 999; the installed onnxruntime" in message
    assert "knows up to" in message


def test_ir_newer_than_runtime() -> None:
    proto = model("y = Relu(x)")
    proto.ir_version = 99
    assert "IR version 99; the installed onnxruntime" in refusal(proto)


def test_runtime_limits_are_real() -> None:
    ir, opset = check.runtime_limits(99, 999)
    assert 9 <= ir < 99
    assert 19 <= opset < 999
    assert check.runtime_limits(ir, opset) == (ir, opset)


def test_ancient_opset() -> None:
    assert "opset 6; the oldest that is supported is 7" in refusal(model("y = Relu(x)", '"": 6'))


def test_unknown_operator() -> None:
    proto = model("y = Reluu(x)")
    proto.graph.node[0].name = "first"
    message = refusal(proto)
    assert "node 'first' uses operator ai.onnx:Reluu" in message
    message = refusal(model("y = my.domain.Magic(x)", '"": 13, "my.domain": 1'))
    assert "node Magic -> 'y' uses operator my.domain:Magic" in message
    assert "custom operators need the library" in message
    assert "com.microsoft:NoSuch" in refusal(model("y = com.microsoft.NoSuch(x)", '"": 13, "com.microsoft": 1'))


def test_unknown_operator_in_a_branch() -> None:
    proto = model(
        "y = If(c) <then_branch = t () => (float[4] a) {a = Nonsense(x)}, "
        "else_branch = e () => (float[4] b) {b = Relu(x)}>",
        inputs="float[4] x, bool c",
    )
    assert "ai.onnx:Nonsense" in refusal(proto)


def test_operator_of_another_opset() -> None:
    assert "ai.onnx:Upsample, which opset 13 no longer has" in refusal(model("y = Upsample(x, x)"))
    assert "ai.onnx:HardSwish" in refusal(model("y = HardSwish(x)"))


def test_domain_without_opset() -> None:
    assert "imports no ai.onnx opset" in refusal(model("y = Relu(x)", '"com.microsoft": 1'))


def test_local_function_is_known() -> None:
    proto = model("y = my.Twice(x)", '"": 17, "my": 1')
    proto.functions.append(
        helper.make_function(
            "my",
            "Twice",
            ["a"],
            ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )
    passes(proto)


def test_no_outputs() -> None:
    proto = model("y = Relu(x)")
    del proto.graph.output[:]
    assert "no graph outputs" in refusal(proto)


def test_duplicate_names() -> None:
    proto = model("y = Relu(x) y = Neg(x)")
    assert "tensor 'y' is made twice, by node Relu -> 'y' and by node Neg -> 'y'" in refusal(proto)
    proto = model("y = Relu(x)")
    proto.graph.input.append(proto.graph.input[0])
    assert "two inputs named 'x'" in refusal(proto)
    proto = model("y = Relu(x)")
    proto.graph.output.append(proto.graph.output[0])
    assert "two outputs named 'y'" in refusal(proto)
    proto = model("y = Relu(x)")
    proto.graph.initializer.extend([helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])] * 2)
    assert "two initializers named 'w'" in refusal(proto)


def test_dangling_names() -> None:
    assert "reads tensor 'ghost', which nothing makes" in refusal(model("y = Add(x, ghost)"))
    proto = model("y = Relu(x)")
    proto.graph.output[0].name = "nowhere"
    assert "graph output 'nowhere' is made by no node" in refusal(proto)


def test_dangling_name_in_a_branch() -> None:
    proto = model(
        "y = If(c) <then_branch = t () => (float[4] a) {a = Relu(ghost)}, "
        "else_branch = e () => (float[4] b) {b = Relu(x)}>",
        inputs="float[4] x, bool c",
    )
    assert "'ghost'" in refusal(proto)


def test_weights_listed_as_inputs_pass() -> None:
    proto = model("y = Add(x, w)", inputs="float[4] x, float[4] w")
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4))
    passes(proto)
