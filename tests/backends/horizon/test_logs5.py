"""hb_mapper's log as a record: our own small logs in its format, and real ones where the cases folder is."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.horizon.logs5 import Estimate, Node, Output, entries, estimates, parse_log
from ptqbridge.backends.horizon.stages5 import Stage, Stages

HEAD = "2030-01-02 03:04:{:06.3f}"


def console(*records: str, start: float = 5.0) -> str:
    """Records a second apart as the console shows them; ``W:`` and ``E:`` at the start give the level."""
    levels = {"W:": ("WARNING", 93), "E:": ("ERROR", 91)}
    lines = []
    for number, text in enumerate(records):
        level, colour = levels.get(text[:2], ("INFO", 92))
        stamp = HEAD.format(start + number).replace(".", ",")
        lines.append(f"{stamp} \x1b[{colour}m{level}\x1b[0m {text.removeprefix('W:').removeprefix('E:')}\n")
    return "".join(lines)


TABLE = """The main quantized node information:
==================================================================
Node            ON   Subgraph  Type              Cosine Similarity  Threshold  DataType  
------------------------------------------------------------------
/c1/Conv        BPU  id(0)     HzSQuantizedConv  0.999941           2.5        int8      
/two  blanks    BPU  id(1)     HzLut             0.5                1e-07      int16     
                BPU  id(1)     HzLut             0.9                3          int8      
/fc/Reshape     CPU  --        Reshape           --                 --         float"""  # noqa: W291
OUT = """The quantized model output:
=============================================================================
Output      Cosine Similarity  L1 Distance  L2 Distance  Chebyshev Distance  
-----------------------------------------------------------------------------
prob        0.999              0.25         0.125        0.5                 
boxes       nan                nan          nan          nan"""  # noqa: W291
BAR = "\rcalibration in progress:   0%|   | 0/3 [00:00<?]\rcalibration in progress: 100%|###| 3/3 [00:00<00:00]"
LOG = console(
    "Start hb_mapper....",
    "hbdk version 3.49.15",
    "horizon_nn version 1.1.0",
    "hb_mapper version 1.24.3",
    "W:Input node x's input_source not set, it will be set to ddr by default",
    "The activation calibration parameters:\n    calibration_type:     ['max', 'kl']\n"
    "    per_channel:          [True, False]\nThe modelwise search parameters:\n    similarity:           0.995",
    "Start to prepare the onnx model.",
    "End to prepare the onnx model.",
    "Start to calibrate the model.",
    "There are 20 samples in the data set.",
    "Run calibration model with modelwise search method.",
) + BAR + console(
    "There are 1 samples in the data set.",
    "Select max-percentile:percentile=0.99995 method.",
    "End to calibrate the model.",
    "Start to compile the model with march bayes.",
    "Compile submodel: main_graph_subgraph_0",
    start=20,
) + "[=====                                             ]  10%\r" + console(
    "FPS=65061.81, latency = 15.4 us, DDR = 66064 bytes   (see main_graph_subgraph_0.html)",
    "FPS=10.5, latency = 95.2 ms, DDR = 7 bytes   (see ./.hb_check/main_graph_subgraph_1.html)",
    "End to compile the model with march bayes.",
    TABLE,
    OUT,
    "start convert to *.bin file....",
    "E:a line that is no failure",
    "hbdk runtime version: 3.15.55.0",
    "Convert to runtime bin file successfully!",
    "End Model Convert",
    start=30,
)  # fmt: skip


def test_everything_of_a_console_log() -> None:
    record = parse_log(LOG)
    assert record.versions == {
        "hbdk": "3.49.15", "horizon_nn": "1.1.0", "hb_mapper": "1.24.3", "hbdk runtime": "3.15.55.0"
    }  # fmt: skip
    assert record.phases == {"prepare": 1.0, "calibrate": 9.0, "compile": 9.0, "package": 3.0}
    assert record.samples == 20
    assert record.method == "max-percentile:percentile=0.99995"
    assert record.parameters == {
        "calibration_type": "['max', 'kl']", "per_channel": "[True, False]", "similarity": "0.995"
    }  # fmt: skip
    assert record.nodes == (
        Node("/c1/Conv", "BPU", "id(0)", "HzSQuantizedConv", 0.999941, 2.5, "int8"),
        Node("/two  blanks", "BPU", "id(1)", "HzLut", 0.5, 1e-07, "int16"),
        Node("", "BPU", "id(1)", "HzLut", 0.9, 3.0, "int8"),
        Node("/fc/Reshape", "CPU", "", "Reshape", None, None, "float"),
    )
    assert record.outputs[0] == Output("prob", 0.999, 0.25, 0.125, 0.5)
    assert record.outputs[1].cosine is not None
    assert math.isnan(record.outputs[1].cosine)
    assert record.estimates == (
        Estimate("main_graph_subgraph_0", 65061.81, 15.4, 66064),
        Estimate("main_graph_subgraph_1", 10.5, 95200.0, 7),
    )
    assert record.warnings == ("Input node x's input_source not set, it will be set to ddr by default",)
    assert record.errors == ("a line that is no failure",)
    assert record.failure is None
    assert (record.succeeded, record.checked) == (True, False)


def test_the_json_form_has_only_what_json_knows() -> None:
    text = json.dumps(parse_log(LOG).to_dict(), allow_nan=False)
    assert json.loads(text)["outputs"][1]["cosine"] == "nan"


def test_a_record_glued_to_a_bar_counts() -> None:
    glued = entries(LOG)
    assert [entry.text for entry in glued if entry.text.startswith("There are 1 samples")]
    assert parse_log(LOG).estimates[0].fps == 65061.81


def test_a_log_file_has_no_levels_and_gives_the_same_figures() -> None:
    file = re.sub(r"\x1b\[\d+m\w+\x1b\[0m ", "file: a.py func: a line No: 7 ", LOG)
    from_file, from_console = parse_log(file), parse_log(LOG)
    assert from_file.warnings == ()
    for name in ("versions", "phases", "nodes", "estimates", "method", "samples", "parameters", "succeeded"):
        assert getattr(from_file, name) == getattr(from_console, name), name


def test_mix_names_its_base_method() -> None:
    log = console(
        "Run calibration model with layerwise search method.",
        "Calculate all sensitivity nodes with max calibration method using cosine-similarity metric.",
        "Calculate top0 sensitivity nodes with kl:num_bin=1024 calibration method using cosine-similarity metric.",
    )
    assert parse_log(log).method == "max"
    assert parse_log(console("Run calibration model with kl:num_bin=1024 method.")).method == "kl:num_bin=1024"


def test_skip_has_no_cosines_and_the_checker_has_its_own_mark() -> None:
    log = console(
        "The main quantized node information:\n====\nNode  ON  Subgraph  Type\n----\n/c  BPU  id(0)  Conv  ",
        "The quantized model output:\n============\nOutput      \n------------",
        "End model checking....",
    )
    record = parse_log(log)
    assert record.nodes == (Node("/c", "BPU", "id(0)", "Conv"),)
    assert record.outputs == ()
    assert (record.succeeded, record.checked) == (False, True)


def test_the_announced_failure() -> None:
    log = console(
        "End to Horizon NN Model Convert.",
        "E:*** ERROR-OCCUR-DURING {hbdk.hbdk-cc} ***, error message: first\nsecond",
    )
    assert parse_log(log).failure == ("hbdk.hbdk-cc", "first\nsecond")


@given(st.integers(0, len(LOG)))
def test_a_log_cut_anywhere_is_read(length: int) -> None:
    record = parse_log(LOG[:length])
    assert len(record.nodes) <= 4
    json.dumps(record.to_dict(), allow_nan=False)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    record = parse_log(text)
    assert json.loads(json.dumps(record.to_dict(), allow_nan=False)).keys() == record.to_dict().keys()
    assert all(estimate.subgraph in text for estimate in estimates(text))
    stage = Stages().hear(text)
    assert stage is None or 0 <= stage.percent <= 100


def test_stages() -> None:
    stages = Stages()
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[\d+m", "", LOG))
    seen = [stage for line in lines if (stage := stages.hear(line))]
    assert [stage.text for stage in seen] == [
        "prepare", "calibrate", "calibrate 0/3", "calibrate 3/3", "compile",
        "compile 0% (main_graph_subgraph_0)", "compile 10% (main_graph_subgraph_0)", "package",
    ]  # fmt: skip
    assert [stage.percent for stage in seen] == sorted(stage.percent for stage in seen)
    assert Stage("compile", 50, 100).percent == 72.0


def cases() -> Path | None:
    named = os.environ.get("PTQBRIDGE_CASES")
    folder = Path(named) if named else Path(__file__).resolve().parents[4] / "shared" / "cases"
    return folder / "logs" if (folder / "logs").is_dir() else None


LOGS = sorted(folder.glob("hb_mapper*.txt")) if (folder := cases()) else []


@pytest.mark.skipif(not LOGS, reason="no real logs: PTQBRIDGE_CASES names no folder with logs/hb_mapper*.txt")
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_real_logs_parse_to_the_figures_in_them(path: Path) -> None:
    """Figures are looked for in the text by other means than the parser's."""
    text = path.read_text(encoding="utf-8", errors="replace")
    record = parse_log(text)
    assert record.succeeded
    assert record.versions["hb_mapper"] == re.findall(r"hb_mapper version\s*:? (\S+)", text)[0]
    fps = re.findall(r"FPS=([\d.]+), latency = ([\d.]+) us, DDR = (\d+)", text)
    assert [(e.fps, e.latency_us, e.ddr_bytes) for e in record.estimates] == [
        (float(a), float(b), int(c)) for a, b, c in fps
    ]
    assert fps
    rows = [line.split() for line in text.split("main quantized node information:")[1].splitlines()]
    rows = [row for row in rows if len(row) == 7 and row[1] in ("BPU", "CPU", "JIT")]
    assert len(record.nodes) == len(rows) > 10
    for node, row in zip(record.nodes, rows, strict=True):
        cells = [node.name, node.processor, node.subgraph or "--", node.type]
        assert cells == row[:4]
        assert [node.cosine, node.threshold] == [None if cell == "--" else float(cell) for cell in row[4:6]]
        assert node.dtype == row[6]
    outputs = text.split("The quantized model output:")[1].splitlines()[4:]
    figures = [line.split() for line in outputs if len(line.split()) == 5 and "file:" not in line]
    assert [(o.name, o.cosine, o.l1, o.l2, o.chebyshev) for o in record.outputs] == [
        (row[0], *map(float, row[1:])) for row in figures
    ]
    assert figures
    assert record.samples == int(re.findall(r"There are (\d+) samples", text)[0])
    assert record.method in text
    assert set(record.phases) == {"prepare", "optimize", "calibrate", "quantize", "compile", "package"}
    assert all(seconds >= 0 for seconds in record.phases.values())
