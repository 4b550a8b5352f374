"""Per-layer requests: matching, precedence, asked against got."""

from __future__ import annotations

import pytest

from ptqbridge.backends.onnxruntime.layers import asked_against_got, enforce, resolve_layers
from ptqbridge.errors import LimitNotMet, OptionError
from ptqbridge.spec import Precision

NODES = ["backbone/conv1", "backbone/conv2", "head/fc", "a.b"]


def test_none_drops_all_requests() -> None:
    assert resolve_layers(Precision(layers={"*": ("fp32",)}), NODES).asked == {}


def test_names_beat_patterns_and_the_bare_star_is_for_the_rest() -> None:
    layers = {"head/fc": ("int8",), "backbone/*": ("fp32",), "*": ("int8",), "backbone/conv2": ("int8",)}
    found = resolve_layers(Precision(constraints="prefer", layers=layers), NODES)
    assert found.asked == {
        "backbone/conv1": "fp32",
        "backbone/conv2": "int8",
        "head/fc": "int8",
        "a.b": "int8",
    }
    assert found.keep_float == {"backbone/conv1"}


def test_only_the_star_is_special() -> None:
    found = resolve_layers(Precision(constraints="prefer", layers={"a?b": ("fp32",)}), NODES)
    assert found.asked == {}
    assert "no layer is called 'a?b'" in found.notes[0]


def test_half_precision_requests_stay_float32() -> None:
    assert resolve_layers(Precision(constraints="obey", layers={"a.b": ("fp16",)}), NODES).asked == {"a.b": "fp32"}


def test_output_types_count_and_layer_precisions_win() -> None:
    both = Precision(
        constraints="prefer", layers={"a.b": ("int8",)}, layer_outputs={"a.b": ("fp32",), "head/fc": ("fp32",)}
    )
    assert resolve_layers(both, NODES).asked == {"a.b": "int8", "head/fc": "fp32"}


def test_unknown_name_is_an_error_with_obey_and_a_note_with_prefer() -> None:
    layers = {"backbone/conv3": ("fp32",)}
    with pytest.raises(OptionError, match="no layer is called 'backbone/conv3'") as caught:
        resolve_layers(Precision(constraints="obey", layers=layers), NODES)
    assert "backbone/conv" in caught.value.hint
    assert resolve_layers(Precision(constraints="prefer", layers=layers), NODES).notes


def test_asked_against_got_and_obey() -> None:
    requests = resolve_layers(Precision(constraints="prefer", layers={"head/fc": ("int8",), "a.b": ("fp32",)}), NODES)
    rows = asked_against_got(requests, {"head/fc": "Gemm", "a.b": "Conv"}, frozenset(), {})
    assert [(row.layer, row.got, row.met) for row in rows] == [
        ("head/fc", "float32 (Gemm)", False),
        ("a.b", "float32 (Conv)", True),
    ]
    assert enforce(rows, "prefer") == ("layer 'head/fc': asked int8, got float32 (Gemm)",)
    with pytest.raises(LimitNotMet, match="layer 'head/fc' was asked in int8, got float32"):
        enforce(rows, "obey")


def test_a_fused_node_counts_as_the_one_before_it() -> None:
    requests = resolve_layers(Precision(constraints="prefer", layers={"a.b": ("int8",)}), NODES)
    rows = asked_against_got(requests, {"head/fc": "QGemm"}, {"head/fc"}, {"a.b": "head/fc"})
    assert [(row.got, row.met) for row in rows] == [("int8 (fused into head/fc, QGemm)", True)]
