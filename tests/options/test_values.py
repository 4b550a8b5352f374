"""The value grammars one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.options.table import OPTIONS
from ptqbridge.options.text import GrammarError
from ptqbridge.options.values import (
    LATER_TYPES,
    LAYOUTS,
    Budget,
    Choice,
    Files,
    Flag,
    Float,
    Int,
    IOFormats,
    LayerDevices,
    LayerTypes,
    Names,
    Numbers,
    Path,
    PoolSizes,
    Shapes,
    Size,
    Switches,
    TempFiles,
    Text,
    UffInput,
    Value,
)
from ptqbridge.spec import IOFormat

GRAMMARS = list({repr(option.value): option.value for option in OPTIONS}.values())
NAMES = st.text('abc/:._- 0X*;="', max_size=6)
DIMS = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9).map(tuple)


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: type(grammar).__name__)
@given(st.text("ab1:,x+-'.= eGK%", max_size=16) | st.text(max_size=8))
def test_no_text_raises_anything_but_a_grammar_error(grammar: Value, text: str) -> None:
    try:
        grammar.parse(text)
    except GrammarError as error:
        assert str(error)
        assert "\n" not in str(error)


@given(st.dictionaries(NAMES, DIMS, max_size=4))
def test_shapes_round_trip(shapes: dict[str, tuple[int, ...]]) -> None:
    text = ",".join(
        f"{name}:{'x'.join(map(str, dims))}" if dims and name else f"'{name}':{'x'.join(map(str, dims))}"
        for name, dims in shapes.items()
    )
    assert Shapes().parse(text) == shapes


@pytest.mark.parametrize(
    ("grammar", "text", "value"),
    [
        (Flag(), "", True),
        (Flag(), "TRUE", True),
        (Text(), "", ""),
        (Text(keep_empty=False), "", None),
        (Path(), "a=b", "a=b"),
        (Int(), " +7", 7),
        (Float(), ".5", 0.5),
        (Choice(choices=("a", "b")), "", None),
        (Choice(choices=("a", "b"), synonyms={"old": "b"}), "old", "b"),
        (Choice(choices=("ampere+",), any_case=("ampere+",)), "AmPere+", "ampere+"),
        (Names(), "a,,b,", ("a", "", "b")),
        (Numbers(), "", None),
        (Numbers(), "1,2.5,", (1.0, 2.5)),
        (Shapes(), "", {}),
        (Shapes(), "a:scalar", {"a": ()}),
        (Shapes(), "'a':scalar", {"a": ()}),
        (Shapes(), "a::", {"a": ()}),
        (Files(), "a:x,a:y,b:z", {"a": "x", "b": "z"}),
        (Files(), "'a':c:\\d", {"a": "c:\\d"}),
        (IOFormats(), "fp16:chw16+chw", (IOFormat("fp16", ("chw", "chw16")),)),
        (IOFormats(), "fp16:", (IOFormat("fp16", ()),)),
        (PoolSizes(), "workspace:1,dlaSRAM:2K,workspace:3GiB", {"workspace": 3072.0, "dlaSRAM": 2 / 1024}),
        (PoolSizes(), "workspace:512MiB,dlaSRAM:512MB", {"workspace": 512.0, "dlaSRAM": 512.0}),
        (PoolSizes(), "workspace:1048576B", {"workspace": 1.0}),
        (PoolSizes(), ":5", {}),
        (Numbers(fractions=True), "1/255,0.5,3/4", (1 / 255, 0.5, 0.75)),
        (Size(), "2", 2 << 20),
        (Size(), "1.5G", 3 << 29),
        (Size(), "300KiB", 300 << 10),
        (LayerTypes(), "a:b:fp16,*:int8", {"a:b": ("fp16",), "*": ("int8",)}),
        (LayerTypes(several=True), "a:fp16+fp32", {"a": ("fp16", "fp32")}),
        (LayerTypes(several=True), "'a':", {"a": ()}),
        (LayerDevices(), "a:DLA,b:BPU", {"a": "DLA", "b": "BPU"}),
        (Switches(names=("A", "B"), any_case=True), "+a,-b", {"A": True, "B": False}),
        (Switches(names=("a",)), "+a,-a", {"a": False}),
        (TempFiles(), "in_memory:deny", {"in_memory": False}),
        (UffInput(), "in,3,4,5", ("in", 3, 4, 5)),
        (Budget(), "50%", "50%"),
        (Budget(), "1.5G", "1.5G"),
    ],
)
def test_accepted(grammar: Value, text: str, value: Any) -> None:
    assert grammar.parse(text) == value


@pytest.mark.parametrize(
    ("grammar", "text", "message", "row"),
    [
        (Flag(), "0", "leave it out", "flag-value"),
        (Int(least=1, difference="streams-below-one"), "0", "1 or more", "streams-below-one"),
        (Float(least=0, most=1), "1.5", "from 0 to 1", ""),
        (Choice(choices=("a", "b")), "A", "one of a, b", ""),
        (Choice(choices=("a",), empty_keeps_default=False), "", "one of a", ""),
        (Names(choices=("a",)), "b", "words of a", ""),
        (Numbers(least=0, most=100), "-1", "from 0 to 100", ""),
        (Numbers(nonzero=True), "1,0", "other than 0", ""),
        (Numbers(), "1/255", "left over", "number-tail"),
        (Numbers(fractions=True), "1/0", "a fraction such as 1/255", ""),
        (Numbers(fractions=True), "1/", "a number", ""),
        (Numbers(fractions=True, nonzero=True), "0/3", "other than 0", ""),
        (Size(), "0", "above 0", ""),
        (Size(), "1X", "left over", "number-tail"),
        (Size(), "inf", "above 0", ""),
        (Shapes(), "a:1X3", "X3", "number-tail"),
        (Shapes(), "a:", "in 'a:'", ""),
        (Shapes(), "scalar", "whole number", ""),
        (IOFormats(), "chw", "TYPE:FORMAT", ""),
        (IOFormats(), "fp64:chw", "fp64", ""),
        (IOFormats(), "fp32:nchw", "nchw", ""),
        (PoolSizes(), "workspace:-1G", "0 or more", ""),
        (PoolSizes(), "workspace:4T", "left over", "number-tail"),
        (PoolSizes(), "workspace:4GG", "a unit B, K, M or G", "pool-unit"),
        (PoolSizes(), "Workspace:1", "Workspace", ""),
        (LayerTypes(), "a:fp16+fp32", "fp16+fp32", ""),
        (LayerDevices(), "a:dla", "GPU, DLA, BPU, CPU", ""),
        (Switches(names=("A",), exclusive=True), "+A,-A", "both on and off", ""),
        (Switches(names=("A",)), "A", "expected + or -", ""),
        (Switches(names=("CUBLAS",), any_case=True), "+cubla\u017f", "expected a name", ""),
        (TempFiles(), "in_memory", "allow or deny", ""),
        (TempFiles(), "foo:deny", "in_memory or temporary", ""),
        (UffInput(), "in,3,4", "NAME,X,Y,Z", ""),
        (Budget(), "half", "expected a number", ""),
    ],
)
def test_refused(grammar: Value, text: str, message: str, row: str) -> None:
    with pytest.raises(GrammarError) as caught:
        grammar.parse(text)
    assert message in str(caught.value)
    assert caught.value.difference == row


@given(st.lists(st.sampled_from(LAYOUTS), min_size=1, unique=True))
def test_io_layouts_come_in_one_order(layouts: list[str]) -> None:
    (entry,) = IOFormats().parse("fp32:" + "+".join(layouts))
    assert set(entry.layouts) == set(layouts)
    assert (entry,) == IOFormats().parse("fp32:" + "+".join(reversed(layouts)))


@given(st.sampled_from(["", "B", "K", "M", "G", "KB", "MB", "GB", "KiB", "MiB", "GiB"]), st.integers(0, 10**6))
def test_pool_units_ignore_case_and_blanks(unit: str, size: int) -> None:
    factor = {"": 1, "B": 2**-20, "K": 2**-10, "M": 1, "G": 2**10}[unit[:1]]
    for written in (unit, unit.lower(), " " + unit):
        assert PoolSizes().parse(f"workspace:{size}{written}") == {"workspace": size * factor}


def test_later_types_are_words_of_some_grammar() -> None:
    known = set(LayerTypes().types) | {"bf16", "int64", "bool", "uint8", "int4"}
    assert known >= LATER_TYPES


def test_every_grammar_describes_itself() -> None:
    for grammar in GRAMMARS:
        assert bool(grammar.describe()) == grammar.takes_text
