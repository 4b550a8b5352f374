"""Success and quality of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ptqbridge.backends.horizon.judge import Wish, asked_got, check_success, judge, wishes
from ptqbridge.backends.horizon.logs5 import Node, Output, Record
from ptqbridge.errors import InputError, ToolchainFailed
from ptqbridge.toolchains.program import Finished

GOOD = Record(succeeded=True)
DONE = Finished(0, 1.0, False, ())


@pytest.fixture
def product(tmp_path: Path) -> Path:
    path = tmp_path / "m.bin"
    path.write_bytes(b"x")
    return path


def test_all_three_are_needed(product: Path) -> None:
    check_success(DONE, GOOD, product)
    with pytest.raises(ToolchainFailed, match="log does not say that it finished"):
        check_success(DONE, Record(), product)
    with pytest.raises(InputError, match="opset 13"):
        said = "The opset version of the model is 13, the maximum supported version is 11."
        check_success(Finished(255, 1.0, False, (f"2030-01-01 00:00:00,000 ERROR {said}",)), GOOD, product)
    product.write_bytes(b"")
    with pytest.raises(ToolchainFailed, match=r"wrote m\.bin, but made an empty one"):
        check_success(DONE, GOOD, product)
    product.unlink()
    with pytest.raises(ToolchainFailed, match=r"but made none"):
        check_success(DONE, GOOD, product)


def test_a_time_out_is_said(product: Path) -> None:
    with pytest.raises(ToolchainFailed, match="ended after 9 s"):
        check_success(Finished(-15, 9.2, True, ()), GOOD, product)


def nodes(*thresholds: float | None, cosine: float | None = 0.999) -> tuple[Node, ...]:
    return tuple(Node(f"n{i}", "BPU", cosine=cosine, threshold=value) for i, value in enumerate(thresholds))


def checks(record: Record, calibrated: bool = True) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in judge(record, calibrated=calibrated)]


OUTPUTS = (Output("y", 0.999),)


def test_a_good_build_has_no_findings() -> None:
    assert checks(Record(nodes=nodes(2.1, None, 1.0), outputs=OUTPUTS)) == []


def test_thresholds_of_one_everywhere_are_made_up() -> None:
    record = Record(nodes=nodes(1.0, None, 1.0), outputs=OUTPUTS)
    assert checks(record) == [("error", "made-up")]
    assert checks(record, calibrated=False) == [("warning", "made-up")]


@pytest.mark.parametrize("value", [math.nan, math.inf, 3.40282e38, 0.0, -1.0])
def test_thresholds_that_are_no_numbers(value: float) -> None:
    assert checks(Record(nodes=nodes(2.0, value), outputs=OUTPUTS)) == [("error", "thresholds")]


def test_outputs_that_cannot_be_compared() -> None:
    assert checks(Record(nodes=nodes(2.0), outputs=(Output("y", math.nan),))) == [("error", "nan")]


def test_a_low_cosine_names_the_worst_node() -> None:
    record = Record(nodes=(*nodes(2.0), Node("bad", "BPU", cosine=0.4, threshold=2.0)), outputs=(Output("y", 0.9),))
    (finding,) = judge(record, calibrated=True)
    assert finding.level == "warning"
    assert finding.text == "output y has a cosine of 0.9000 to the float model; the least alike node is bad (0.4000)"


def test_a_node_without_q_dq_is_told_when_ranges_are_loaded() -> None:
    mixed = (*nodes(2.0), Node("bare", "BPU", cosine=0.9, threshold=1.0))
    record = Record(nodes=mixed, outputs=OUTPUTS)
    (found,) = judge(record, calibrated=False, loaded=True)
    assert (found.level, found.check) == ("warning", "no-range")
    assert "bare" in found.text
    assert judge(record, calibrated=False) == ()


def test_what_the_tool_ignored_is_passed_on() -> None:
    said = ("node: x does not exist,please double check", "else", "Node nosuch is not found in the model! Skipped!")
    record = Record(nodes=nodes(2.0), outputs=OUTPUTS, warnings=said)
    assert checks(record) == [("warning", "ignored")] * 2


LINKS = {
    "a": {"inputs": ["x_calibrated"], "outputs": ["a_out"]},
    "relu": {"inputs": ["a_out"], "outputs": ["relu_out"]},
    "b": {"inputs": ["relu_out_calibrated"], "outputs": ["b_out"]},
    "c": {"inputs": ["b_out_calibrated", "relu_out"], "outputs": ["y"]},
}


def test_wishes_of_a_configuration() -> None:
    config = {
        "calibration_parameters": {"run_on_cpu": "a;b", "run_on_bpu": ""},
        "model_parameters": {"node_info": {"c": {"ON": "CPU", "InputType0": "int16", "OutputType": "int8"}}},
    }
    assert [(wish.node, wish.text) for wish in wishes(config)] == [
        ("a", "on the CPU"), ("b", "on the CPU"), ("c", "on the CPU"), ("c", "input int16"), ("c", "output int8")
    ]  # fmt: skip
    assert wishes({"model_parameters": {"node_info": "a:int16"}, "calibration_parameters": None}) == ()


def test_asked_and_got() -> None:
    table = (Node("a", "CPU", dtype="float"), Node("b", "BPU", dtype="int16"), Node("c", "BPU", dtype="int8"))
    wanted = (
        Wish("a", "ON", "CPU"), Wish("b", "InputType", "int16"), Wish("c", "InputType", "int16"),
        Wish("relu", "ON", "CPU"), Wish("b", "OutputType", "int8"), Wish("a", "OutputType", "int16"),
        Wish("c", "OutputType", "int8"),
    )  # fmt: skip
    assert [(row.layer, row.asked, row.got, row.met) for row in asked_got(wanted, table, LINKS)] == [
        ("a", "on the CPU", "CPU", True),
        ("b", "input int16", "int16", True),
        ("c", "input int16", "int8", False),
        ("relu", "on the CPU", "not a node of the built model (fused or unknown)", False),
        ("b", "output int8", "int8", True),
        ("a", "output int16", "int16 and int8", False),
        ("c", "output int8", "a model output, whose type the tool does not show", False),
    ]


def test_long_names_and_split_nodes() -> None:
    """Seen with hb_mapper 1.24.3: names cut to 50 characters, and a pool that loses its request when it is split."""
    long = "/features/" + "block/" * 10 + "Conv"
    table = (
        Node("..." + long[-47:], "CPU", dtype="float"),
        Node("...ures/features.6/MaxPool_SPLIT_WITH_SMALL_POOL_0", "BPU", dtype="int8"),
        Node("/p/Pool_SPLIT_A", "BPU", dtype="int8"),
    )
    wanted = (Wish(long, "ON", "CPU"), Wish("/features/features.6/MaxPool", "ON", "CPU"), Wish("/p/Pool", "ON", "BPU"))
    rows = asked_got(wanted, table, {long: {}, "/other/Conv": {}})
    assert [(row.got, row.met) for row in rows] == [("CPU", True), ("BPU", False), ("BPU", True)]
