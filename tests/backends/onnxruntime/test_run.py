"""The run side of the CPU target, on real sessions."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ptqbridge.backends.onnxruntime import profiler
from ptqbridge.backends.onnxruntime.deserialize import time_loads
from ptqbridge.backends.onnxruntime.inputs import SHAPES_KEY
from ptqbridge.backends.onnxruntime.layerinfo import DETAIL_KEY
from ptqbridge.backends.onnxruntime.run import run
from ptqbridge.errors import InputError
from ptqbridge.measure.loop import ENDLESS_WARNING
from ptqbridge.spec.run import Reports, RunSpec


def quick(**changes: Any) -> RunSpec:
    """A run of exactly 7 iterations unless told otherwise."""
    return RunSpec(**{"iterations": 7, "duration_s": 0.0, "warmup_ms": 0.0, "intra_op_threads": 1, **changes})


@pytest.fixture
def small(doubler: Callable[..., str]) -> str:
    return doubler()


def test_the_example_network(root: Path) -> None:
    said: list[str] = []
    path = str(root / "examples/mynet/mynet.onnx")
    outcome = run(path, RunSpec(duration_s=0.05, warmup_ms=10.0), say=said.append)
    performance = outcome.performance
    assert performance is not None and outcome.kept is not None
    assert performance.queries == len(outcome.kept) >= 10
    assert performance.latency is not None and performance.compute == performance.latency
    assert performance.h2d is performance.d2h is performance.enqueue is None
    assert outcome.kept.compute_start[0] >= 10 and outcome.kept.compute_start[-1] >= 60
    assert outcome.load_s is not None and outcome.load_s > 0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(outcome.inputs))[0]
    np.testing.assert_allclose(outcome.outputs["output1"], expected, rtol=1e-4, atol=1e-5)
    assert said[0].startswith("Engine loaded in ")
    assert "Using random values for input input1" in said
    assert "Output binding for output1 with dimensions 1x10 is created." in said
    assert said[-2:] == ["Starting inference", said[-1]]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_each_stream_makes_every_iteration(small: str, streams: int) -> None:
    outcome = run(small, quick(streams=streams, shapes={"x": (2, 3)}))
    assert outcome.performance is not None
    assert (outcome.performance.queries, outcome.performance.streams) == (7 * streams, streams)
    np.testing.assert_array_equal(outcome.outputs["y"], outcome.inputs["x"] * 2)
    assert outcome.outputs["y"].shape == (2, 3)


def test_streams_query_from_threads_of_their_own(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()

    def loop(streams: Any, policy: Any, **more: Any) -> Any:
        def seen(real: Callable[[], None]) -> None:
            names.add(threading.current_thread().name)
            real()

        for stream in streams:
            real = stream.enqueue
            stream.enqueue = lambda real=real: seen(real)
        return real_loop(streams, policy, **more)

    import ptqbridge.backends.onnxruntime.run as module

    real_loop = module.run_loop
    monkeypatch.setattr(module, "run_loop", loop)
    run(small, quick(streams=2))
    assert len(names) == 2
    assert threading.main_thread().name not in names


def test_the_policy_says_how_figures_come_about(small: str) -> None:
    outcome = run(small, quick(spin=False, streams=2), level="basic")
    policy = outcome.policy
    assert (policy["streams"], policy["threads_per_query"], policy["spin"]) == (2, 1, False)
    assert (policy["graph_optimization"], policy["iterations"], policy["graph"]) == ("basic", 7, False)
    versions = policy["versions"]
    assert isinstance(versions, dict) and versions["onnxruntime"] == onnxruntime.__version__
    assert outcome.performance is not None and outcome.performance.policy == policy
    assert json.loads(json.dumps(outcome.to_dict(), allow_nan=False))["policy"]["streams"] == 2


def test_inputs_from_files(small: str, tmp_path: Path) -> None:
    data = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.save(tmp_path / "x.npy", data)
    outcome = run(small, quick(shapes={"x": (2, 3)}, inputs={"x": str(tmp_path / "x.npy")}))
    np.testing.assert_array_equal(outcome.outputs["y"], data * 2)
    assert outcome.warnings == ()


def test_open_dimensions_become_one_and_it_is_said(small: str) -> None:
    outcome = run(small, quick())
    assert outcome.inputs["x"].shape == (1, 3)
    assert "overriding shape to: 1x3" in outcome.warnings[0]


def test_a_size_of_0_is_fixed_for_onnx_runtime(doubler: Callable[..., str], tmp_path: Path) -> None:
    proto = onnx.load(doubler())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 0
    onnx.save(proto, tmp_path / "zero.onnx")
    outcome = run(str(tmp_path / "zero.onnx"), quick())
    assert outcome.inputs["x"].shape == outcome.outputs["y"].shape == (0, 3)
    assert outcome.performance is not None and outcome.warnings == ()
    with pytest.raises(InputError, match=r"--shapes: x:2x3 does not fit the model's x: float32\[0,3\]"):
        run(str(tmp_path / "zero.onnx"), quick(shapes={"x": (2, 3)}))


def test_the_artifacts_own_range(doubler: Callable[..., str]) -> None:
    ranges = {"x": {"min": [1, 3], "opt": [4, 3], "max": [8, 3]}}
    path = doubler({SHAPES_KEY: json.dumps(ranges)})
    outcome = run(path, quick())
    assert (outcome.outputs["y"].shape, outcome.warnings) == ((4, 3), ())
    with pytest.raises(InputError, match="x:9x3 is outside what the artifact was built for"):
        run(path, quick(shapes={"x": (9, 3)}))


@pytest.mark.parametrize("content", [b"", b"garbage", b"ptrt....", None])
def test_a_broken_artifact(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "artifact.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        run(str(path), quick(skip=True))
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_query_that_fails(write_model: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="bend")
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, 3])
    path = write_model([node], [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.FLOAT, None)], constants=[shape])
    with pytest.raises(InputError, match=r"model\.onnx: the query failed: .*bend.*requested shape"):
        run(path, quick(shapes={"x": (7,)}))
    assert capfd.readouterr() == ("", "")


def test_a_failed_query_names_what_was_assumed(write_model: Callable[..., str]) -> None:
    node = helper.make_node("Gather", ["rows", "ids"], ["y"], name="look_up")
    rows = helper.make_tensor("rows", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    path = write_model([node], [("ids", TensorProto.INT64, ["n"])], [("y", TensorProto.FLOAT, None)], constants=[rows])
    with pytest.raises(InputError, match="the query failed") as caught:
        run(path, quick())
    assert "--shapes=ids:... was not given" in caught.value.hint
    assert "--loadInputs=ids:FILE was not given" in caught.value.hint
    with pytest.raises(InputError, match="the query failed") as caught:
        run(path, quick(shapes={"ids": (2,)}))
    assert "--shapes" not in caught.value.hint


def test_outputs_of_every_kind(write_model: Callable[..., str]) -> None:
    kinds = TensorProto
    zero = helper.make_tensor("zero", kinds.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["x"], ["text"], to=kinds.STRING),
        helper.make_node("Cast", ["x"], ["half"], to=kinds.FLOAT16),
        helper.make_node("Cast", ["x"], ["brain"], to=kinds.BFLOAT16),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Compress", ["x", "none"], ["empty"]),
    ]
    none = helper.make_tensor("none", kinds.BOOL, [3], [False] * 3)
    outputs = [
        ("positive", kinds.BOOL, [3]),
        ("places", kinds.INT64, [1, "n"]),
        ("text", kinds.STRING, [3]),
        ("half", kinds.FLOAT16, [3]),
        ("brain", kinds.BFLOAT16, [3]),
        ("total", kinds.FLOAT, []),
        ("empty", kinds.FLOAT, ["n"]),
    ]
    path = write_model(nodes, [("x", kinds.FLOAT, [3])], outputs, constants=[zero, none])
    outcome = run(path, quick())
    x = outcome.inputs["x"]
    got = outcome.outputs
    np.testing.assert_array_equal(got["positive"], x > 0)
    np.testing.assert_array_equal(got["places"], [[0, 1, 2]])
    np.testing.assert_array_equal(got["half"], x.astype(np.float16))
    np.testing.assert_allclose(got["total"], x.sum(), rtol=1e-6)
    assert (got["total"].shape, got["empty"].shape, len(got["text"])) == ((), (0,), 3)
    if "brain" not in got:
        assert "output brain: NumPy cannot hold a tensor(bfloat16)" in outcome.warnings[0]


def test_profiling_the_only_run_gives_no_times(small: str) -> None:
    outcome = run(small, quick(reports=Reports(dump_profile=True)))
    assert outcome.performance is outcome.kept is None
    assert outcome.profiled_runs == 7
    assert outcome.layers is not None and [(name, len(times)) for name, times in outcome.layers] == [("double", 7)]
    np.testing.assert_array_equal(outcome.outputs["y"], outcome.inputs["x"] * 2)


def test_a_separate_profile_run_gives_both(small: str) -> None:
    spec = quick(streams=2, separate_profile_run=True, reports=Reports(export_profile="p.json"))
    outcome = run(small, spec)
    assert outcome.performance is not None and outcome.performance.queries == 14
    assert outcome.profiled_runs == 7
    assert outcome.notes == ("per-layer times are of one stream running alone",)


def test_a_long_profile_is_cut_and_it_is_said(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "MAX_EVENTS", 40)
    outcome = run(small, quick(iterations=1000, reports=Reports(dump_profile=True)))
    assert 1 <= outcome.profiled_runs < 40
    assert outcome.notes == (
        f"per-layer times are of the first {outcome.profiled_runs} queries: the profiler holds no more",
    )
    assert not outcome.interrupted


def test_skipping_the_run(small: str) -> None:
    outcome = run(small, quick(skip=True, time_load=True, reports=Reports(dump_layers=True)))
    assert outcome.skipped and outcome.performance is None and not outcome.load_times_s
    assert outcome.layer_info is not None
    assert (list(outcome.layer_info.layers), list(outcome.layer_info.bindings)) == (["double"], ["x", "y"])


@pytest.mark.parametrize("skip", [False, True])
def test_layers_in_detail(doubler: Callable[..., str], skip: bool) -> None:
    path = doubler({DETAIL_KEY: "detailed"})
    outcome = run(path, quick(skip=skip, shapes={"x": (5, 3)}, reports=Reports(export_layers="l.json")))
    assert outcome.layer_info is not None
    (layer,) = outcome.layer_info.layers
    assert isinstance(layer, dict)
    assert (layer["Name"], layer["LayerType"]) == ("double", "Mul")
    assert layer["Inputs"][0]["Name"] == "x"
    assert layer["Outputs"] == [
        {"Name": "y", "Location": "Host", "Dimensions": [5, 3], "Format/Datatype": "Row major linear FP32"}
    ]


def test_no_layer_information_where_none_was_built(doubler: Callable[..., str]) -> None:
    outcome = run(doubler({DETAIL_KEY: "none"}), quick(skip=True, reports=Reports(dump_layers=True)))
    assert outcome.layer_info is not None and list(outcome.layer_info.layers) == []


def test_timing_the_load(small: str) -> None:
    outcome = run(small, quick(time_load=True))
    assert len(outcome.load_times_s) == 21 and min(outcome.load_times_s) > 0
    assert outcome.performance is None and outcome.outputs == {}


def test_loads_are_measured_after_two_others() -> None:
    ticks = iter(range(0, 10**12, 1_000_000))
    made: list[int] = []
    times = time_loads(lambda: made.append(1), clock=lambda: next(ticks), loads=5)
    assert len(made) == 2 + 1 + 5
    assert times == pytest.approx([0.001] * 6)


def test_pauses_are_kept(small: str) -> None:
    start = time.perf_counter()
    outcome = run(small, quick(iterations=3, idle_ms=20.0, sleep_ms=30.0))
    assert time.perf_counter() - start >= 0.09
    assert outcome.performance is not None and outcome.performance.latency is not None
    assert outcome.performance.latency.median < 20


def test_the_collector_is_off_while_measuring_and_on_again_after(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ptqbridge.backends.onnxruntime.run as module

    real, seen = module.run_loop, []

    def loop(*args: Any, **more: Any) -> Any:
        seen.append(gc.isenabled())
        return real(*args, **more)

    monkeypatch.setattr(module, "run_loop", loop)
    run(small, quick())
    assert (seen, gc.isenabled()) == ([False], True)


def test_an_endless_run_warns_before_it_starts(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ptqbridge.backends.onnxruntime.run as module

    said: list[str] = []

    def loop(*args: Any, **more: Any) -> Any:
        assert ENDLESS_WARNING in said
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_loop", loop)
    with pytest.raises(KeyboardInterrupt):
        run(small, quick(duration_s=-1.0), say=said.append)
    assert gc.isenabled()


def test_the_public_call_is_used_where_the_inside_is_another(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqbridge.backends.onnxruntime.buffers import bind
    from ptqbridge.backends.onnxruntime.session import SessionPolicy, open_session

    session = open_session(small, SessionPolicy())
    calls: list[object] = []

    class Other:
        """A session without ``_sess``."""

        io_binding, get_outputs = staticmethod(session.io_binding), staticmethod(session.get_outputs)

        def run_with_iobinding(self, binding: object, options: object) -> None:
            calls.append(binding)
            session.run_with_iobinding(binding, options)

    x = np.ones((1, 3), np.float32)
    bound = bind(Other(), {"x": x})  # type: ignore[arg-type]
    bound.call()
    assert len(calls) == 2
    np.testing.assert_array_equal(bound.outputs()["y"], x * 2)
