"""The race between candidates."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from ptqbridge.backends.onnxruntime import fastest as room
from ptqbridge.backends.onnxruntime.fastest import fastest
from ptqbridge.spec import RunSpec, TensorSpec


def test_the_smaller_network_wins(make_net: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BUDGET_S", 0.2)
    shapes = [TensorSpec("x", "float32", (1, 3, 64, 64))]
    candidates = {"big": make_net("n", "s", channels=64), "small": make_net("n", "s", channels=4)}
    race = fastest(candidates, shapes, RunSpec(), "all")
    assert race.winner == "small"
    assert race.medians_ms["small"] < race.medians_ms["big"]
    assert race.rounds >= 15
    assert "small is kept" in race.text()


def test_the_first_wins_a_tie(make_net: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_WORTH", 0.5)
    net = make_net()
    race = fastest({"a": net, "b": net}, [TensorSpec("x", "float32", (1, 3, 8, 8))], RunSpec(), "all")
    assert race.winner == "a"
