"""Consoles and files of hrt_model_exec in the Journey 6 and the Journey 5 form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.horizon.boardlog import (
    broken_laws,
    failure_line,
    parse_csv,
    parse_infer,
    parse_model_info,
    parse_perf,
    parse_profiler,
)
from ptqbridge.errors import ToolchainFailed

PERF = """\
[BPU_PLAT]BPU Platform Version(1.3.6)!
[DNN] Runtime version = 1.23.5_(3.15.47 HBRT)
[A][DNN][packed_model.cpp:247][Model](2024-08-27) [HorizonRT] The model builder version = 1.23.8
[W][DNN]bpu_model_info.cpp:491][Version](2024-08-27) Model: m. Inconsistency between versions
Load model to DDR cost 76.169ms.
Frame count: 200,  Thread Average: {avg:.6f} ms,  thread max latency: {max:.6f} ms,  \
thread min latency: {min:.6f} ms,  FPS: 2466.060791

Running condition:
  Thread number is: {threads}
  Frame count   is: {frames}
  Program run time: {run:.{d}f} ms
Perf result:
  Frame totally latency is: {total:.{d}f} ms
  Average    latency    is: {avg:.{d}f} ms
  Frame      rate       is: {rate:.{d}f} FPS
"""


@given(st.integers(1, 32), st.integers(1, 10**6), st.floats(0.05, 500), st.floats(1, 3), st.sampled_from([3, 6]))
def test_figures_come_back_and_obey_the_laws(
    threads: int, frames: int, average: float, spread: float, digits: int
) -> None:
    run = max(average * frames / threads, 1.0)
    text = PERF.format(
        threads=threads,
        frames=frames,
        avg=average,
        max=average * spread,
        min=average / spread,
        run=run,
        total=average * frames,
        rate=frames * 1000 / run,
        d=digits,
    )
    perf = parse_perf(text)
    assert perf.complete
    assert (perf.threads, perf.frames) == (threads, frames)
    assert perf.average_ms == pytest.approx(average, abs=1e-3) and perf.run_ms == pytest.approx(run, abs=1e-3)
    assert broken_laws(perf) == []
    assert (perf.runtime, perf.builder, perf.load_ms) == ("1.23.5_(3.15.47 HBRT)", "1.23.8", 76.169)
    assert len(perf.warnings) == 1 and "Inconsistency" in perf.warnings[0]


def test_figures_that_do_not_belong_together() -> None:
    good = {"threads": 1, "frames": 200, "avg": 5.0, "max": 6.0, "min": 4.0, "run": 1004.0, "total": 1000.0, "d": 3}
    assert broken_laws(parse_perf(PERF.format(**good, rate=199.203))) == []
    assert "frame rate" in broken_laws(parse_perf(PERF.format(**good, rate=250.0)))[0]
    assert "average" in broken_laws(parse_perf(PERF.format(**good | {"total": 1100.0}, rate=199.203)))[0]
    other = PERF.format(**good, rate=199.203).replace("Thread Average: 5.0", "Thread Average: 5.5")
    assert "threads' 5.5 ms" in broken_laws(parse_perf(other))[0]
    cut = PERF.format(**good, rate=199.203)
    for end in ("Perf result", "Running condition", "Frame      rate"):
        assert broken_laws(parse_perf(cut[: cut.index(end)])) == ["the result block is not complete"]


def test_published_consoles(cases: Path) -> None:
    folder = cases / "board"
    for path in sorted(folder.glob("*_perf_*_t*.txt")):
        text = path.read_text()
        perf = parse_perf(text)
        assert perf.complete and broken_laws(perf) == [], path.name
        assert perf.threads == int(path.stem.rpartition("_t")[2])
        assert perf.fps == float(re.search(r"rate\s+is: ([\d.]+)", text)[1])  # type: ignore[index]
        assert perf.load_ms and perf.stream and perf.stream.frames == 200
        assert perf.warnings
    for path in sorted(folder.glob("*stream*.txt")):
        perf = parse_perf(path.read_text())
        assert not perf.complete and perf.stream and perf.stream.min_ms < perf.stream.average_ms < perf.stream.max_ms
    for path in sorted(folder.glob("*_infer_*.txt")):
        text = path.read_text()
        assert parse_infer(text) == [float(word) for word in re.findall(r"Infer time: ([\d.]+)", text)] != []
    for path in sorted(folder.glob("*_model_info_*.txt")):
        text = path.read_text()
        info = parse_model_info(text)
        assert info.model == re.search(r"\[model name\]: (\S+)", text)[1]  # type: ignore[index]
        assert (len(info.inputs), len(info.outputs)) == tuple(
            len(re.findall(rf"(?m)^{side}\[\d+\]", text)) for side in ("input", "output")
        )
        assert all(tensor.name and tensor.shape and tensor.dtype for tensor in (*info.inputs, *info.outputs))
        assert info.load_ms


def test_model_info_of_a_newer_journey6_model() -> None:
    info = parse_model_info(
        'Load model to DDR cost 17.637ms.\n[m]\n---------\n[model name]: m\n\n[model desc]: {"MARCH": "nash-m"}\n\n'
        "input[0]: \nname: x_y\nvalid shape: (1,640,640,1,)\naligned byte size: -1\n"
        "tensor type: HB_DNN_TENSOR_TYPE_U8\nquanti type: NONE\nstride: (-1,-1,1,1,)\n\n"
        "output[0]: \nname: out\nvalid shape: (1,10,)\naligned byte size: 4096\n"
        "tensor type: HB_DNN_TENSOR_TYPE_F32\nquanti type: SCALE\nscale data: 0.1,\nstride: (4000,4,)\n\n---------\n"
    )
    assert info.desc == {"MARCH": "nash-m"}
    assert (info.inputs[0].name, info.inputs[0].shape, info.inputs[0].dtype) == ("x_y", (1, 640, 640, 1), "U8")
    assert info.outputs[0].size == 4096
    with pytest.raises(ToolchainFailed, match="expected one model, found 0"):
        parse_model_info("nothing")
    with pytest.raises(ToolchainFailed, match="expected one model, found 2"):
        parse_model_info("[model name]: a\n\n[model name]: b\n")


def test_model_info_of_quantized_outputs_on_journey5() -> None:
    """Scales and axis stand behind the stride; the memory is wider than the valid shape; a tab ends the name's line."""
    info = parse_model_info(
        "[BPU_PLAT]BPU Platform Version(1.3.6)! soc info(x5)\n[DNN] Runtime version = 1.24.5_(3.15.55 HBRT)\n"
        "[A][DNN][packed_model.cpp:247][Model](2030-01-01) [HorizonRT] The model builder version = 1.23.6\n"
        "Load model to DDR cost 379.393ms.\n[m]\t\n---------\n[model name]: m\n\n"
        "output[0]: \nname: 318\nvalid shape: (1,80,80,3,)\naligned shape: (1,80,80,16,)\naligned byte size: 409600\n"
        "tensor type: HB_DNN_TENSOR_TYPE_S32\ntensor layout: HB_DNN_LAYOUT_NHWC\nquanti type: SCALE\n"
        "stride: (409600,5120,64,4,)\nscale data: 7.7e-05,6.0e-05,2.9e-05,\nquantizeAxis: 3\nzero_point data: 0,1,2,"
    )
    (output,) = info.outputs
    assert (output.name, output.dtype, output.layout, output.size) == ("318", "S32", "NHWC", 409600)
    assert (output.shape, output.aligned) == ((1, 80, 80, 3), (1, 80, 80, 16))
    assert (output.scale, output.zero_point, output.axis) == ((7.7e-05, 6.0e-05, 2.9e-05), (0, 1, 2), 3)
    assert (info.runtime, info.builder) == ("1.24.5_(3.15.55 HBRT)", "1.23.6")


def test_the_console_of_x3() -> None:
    """A line for the number of cores, no progress line, and Journey 5's six digits."""
    perf = parse_perf(
        "core[0] open!\n[HBRT] hbrtSetGlobalConfig, set bpu march to BERNOULLI2(4272728)\n"
        "Running condition:\n  Thread number is: 1\n  Frame count   is: 200\n  core number   is: 1\n"
        "  Program run time: 1000.000000 ms\nPerf result:\n  Frame totally latency is: 960.000000 ms\n"
        "  Average    latency    is: 4.800000 ms\n  Frame      rate       is: 200.000000 FPS\n"
    )
    assert perf.complete and broken_laws(perf) == [] and perf.stream is None and perf.load_ms is None


def test_progress_lines_that_stand_for_themselves() -> None:
    line = (
        "Frame count: {},  Thread Average: {} ms,  thread max latency: {} ms,  thread min latency: {} ms,  FPS: 1.0\n"
    )
    perf = parse_perf(line.format(10, 5.0, 9.0, 4.0) + line.format(20, 3.0, 3.5, 2.0))
    assert perf.stream is not None and perf.stream.lines == 2
    assert (perf.stream.frames, perf.stream.max_ms, perf.stream.min_ms) == (20, 9.0, 2.0)


def test_frame_times_of_infer() -> None:
    assert parse_infer("Infer time: 1.464 ms\nInfer     time: 2.5 ms\n") == [1.464, 2.5]


TIMES = {"avg_time": 1.5, "max_time": 2.0, "min_time": 1.0}
HEAD = {"perf_result": {"FPS": 100.0, "average_latency": 2.0}, "running_condition": {"core_id": "0", "frame_count": 9}}


def test_profiler_of_both_families() -> None:
    body6 = {"model_latency": {"Node-0": {"Stage1-GenerateBpuTask": TIMES, "Total": TIMES}}, "processor_latency": {}}
    six = parse_profiler(f"ucp_version: 3.7\n{json.dumps(HEAD)}\n***\n{json.dumps(body6)}\n")
    assert (six["version"], six["nodes"]["Node-0"]["avg_time"], six["result"]["FPS"]) == ("3.7", 1.5, 100.0)
    body5 = {"chip_latency": {"BPU_inference_time_cost": TIMES}, "model_latency": {"BPU_m_subgraph_0": TIMES}}
    five = parse_profiler(f"{json.dumps(HEAD)}\n***\n{json.dumps(body5)}")
    assert five["nodes"]["BPU_m_subgraph_0"] == TIMES and five["processors"]["BPU_inference_time_cost"] == TIMES
    stages = {"model_latency": {"Node-0": {"Stage1-GenerateBpuTask": TIMES, "Stage2-BpuCoreProcess": TIMES}}}
    assert parse_profiler(f"{json.dumps(HEAD)}\n***\n{json.dumps(stages)}")["nodes"]["Node-0"]["avg_time"] == 3.0
    whole = f"ucp_version: 3.7\n{json.dumps(HEAD)}\n***\n{json.dumps(body6)}"
    for length in range(20, len(whole) - 1, 37):
        with pytest.raises(ToolchainFailed, match="cut off"):
            parse_profiler(whole[:length])
    assert parse_csv("ucp_version,3.7\nthread_num,4\n\nFPS,10\n") == {
        "ucp_version": "3.7",
        "thread_num": "4",
        "FPS": "10",
    }


def test_the_line_that_says_why() -> None:
    assert failure_line("start\n[E] open x failed, error code:-6\nbye") == "[E] open x failed, error code:-6"
    assert failure_line("a\nload failed\nb") == "load failed"
    assert failure_line("a\nb\n") == "b" and failure_line("") == "it said nothing about why"
