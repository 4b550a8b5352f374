"""Per-layer times: what is read from ONNX Runtime's profile, and that nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.backends.onnxruntime import profiler
from ptqbridge.backends.onnxruntime.buffers import bind
from ptqbridge.backends.onnxruntime.profiler import Event, layer_times, most_runs, profiled, read_runs
from ptqbridge.backends.onnxruntime.session import SessionPolicy
from ptqbridge.errors import InputError

NODE = '{{"cat" : "Node","pid" :1,"tid" :1,"dur" :{dur},"ts" :{ts},"ph" : "X","name" :"{name}","args" : {{{args}}}}},\n'
RUN = '{"cat" : "Session","pid" :1,"tid" :1,"dur" :9,"ts" :1,"ph" : "X","name" :"model_run","args" : {}},\n'


def node(name: str, ts: int, dur: int, operator: str = "Conv", more: str = "") -> str:
    args = f'"op_name" : "{operator}"{more}'
    return NODE.format(dur=dur, ts=ts, name=f"{name}_kernel_time", args=args)


def test_nodes_inside_a_loop_belong_to_the_loop(looper: str) -> None:
    with profiled(looper, SessionPolicy()) as (session, end):
        bound = bind(session, {"x": np.ones(4, np.float32)})
        bound.call()
        runs = list(read_runs(end()))
    assert [[event.name for event in events] for events in runs] == [["before", "loop", "after"]] * 2
    assert [event.operator for event in runs[0]] == ["Sqrt", "Loop", "Exp"]
    assert runs[0][0].outputs == (("float", (4,)),)


def test_names_are_not_always_json(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    shapes = ',"output_type_shape" : [{"float":[1,2]},{"int64":[]}]'
    fence = NODE.format(dur=0, ts=1, name="a_fence_before", args='"op_name" : "Conv"')
    quoted = 'say "hi" {x}'
    file.write_text(f"[\n{fence}{node(quoted, 3, 5, more=shapes)}{RUN}]\n")
    assert list(read_runs(str(file))) == [
        [Event(quoted, "Conv", 3, 5, (("float", (1, 2)), ("int64", ())))],
    ]
    assert profiler.count_events(str(file)) == 3


def test_an_unfinished_query_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text("[\n" + node("a", 1, 2) + RUN + node("a", 5, 2))
    assert len(list(read_runs(str(file)))) == 1


def test_layers_of_one_name_are_told_apart_by_order() -> None:
    runs = [[Event("a", "", 0, 1000), Event("b", "", 1, 3), Event("a", "", 2, 2)], [Event("a", "", 0, 5)]]
    assert layer_times(runs) == ([("a", [1.0, 0.005]), ("b", [0.003]), ("a", [0.002])], 2)


def test_the_number_of_queries_is_bounded() -> None:
    assert most_runs(8) * 8 <= profiler.MAX_EVENTS < 1_000_000
    assert most_runs(10**9) == 1
    assert most_runs(0) > 0


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_behind(
    doubler: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir(tmp_path))
    path = doubler()
    if failing:
        with pytest.raises(KeyboardInterrupt), profiled(path, SessionPolicy()):
            raise KeyboardInterrupt
        Path(path).write_bytes(b"x")
        with pytest.raises(InputError), profiled(path, SessionPolicy()):
            pass
    else:
        with profiled(path, SessionPolicy()) as (_session, end):
            assert Path(end()).exists()
    assert os.listdir(scratch) == []
    assert set(os.listdir(tmp_path)) - before == {"model.onnx"}
