"""hb_compile's log in the wordings of both generations; failures as one line."""

from __future__ import annotations

import pytest

from ptqbridge.backends.horizon.errors6 import explain_failure
from ptqbridge.backends.horizon.judge6 import asked_got, judge
from ptqbridge.backends.horizon.logs6 import Progress, parse_log
from ptqbridge.errors import InputError, OptionError, ToolchainFailed

LOG = """\
2026-01-02 10:00:00,000 INFO log will be stored in /w/hb_compile.log
2026-01-02 10:00:00,100 INFO hbdk version: 4.0.22
2026-01-02 10:00:00,100 INFO hmct version: 2.0.7
2026-01-02 10:00:00,100 INFO hb_compile version: 3.0.17
2026-01-02 10:00:01,000 INFO Read raw file: /w/c/0.npy
2026-01-02 10:00:01,100 INFO Read raw file: /w/c/1.npy
2026-01-02 10:00:01,200 INFO num of calibration data: 2
2026-01-02 10:00:02,000 INFO Start to prepare the onnx model.
2026-01-02 10:00:03,500 INFO Start to convert model.
2026-01-02 10:00:13,500 INFO {converted}
2026-01-02 10:00:13,600 INFO The quantify information is as follows:
+---------+---------+------+-----------+-------------------+------------------+------------------+
| Node    | NodeType| ON   | Threshold | Calibrated Cosine | Quantized Cosine | Output Data Type |
+---------+---------+------+-----------+-------------------+------------------+------------------+
| /a/Conv | Conv    | BPU  | 2.5       | 0.999             | 0.91             | si8              |
| /b|c    | Relu    | NULL | --        | --                | --               | --               |
| /d/Soft | Softmax | CPU  | 1.5       | 0.998             | 0.997            | f32              |
+---------+---------+------+-----------+-------------------+------------------+------------------+
2026-01-02 10:00:14,000 WARNING something odd
2026-01-02 10:00:15,000 INFO Start to compile model.
2026-01-02 10:00:35,000 INFO {compiled} /w/out/m.hbm
2026-01-02 10:00:36,000 INFO The hb_compile completes running{end}
"""
OLD = LOG.format(converted="Successful convert model.", compiled="Successful compile hbm", end="")
NEW = LOG.format(converted="Successfully convert model.", compiled="Successfully compile hbm", end=".")


@pytest.mark.parametrize("text", [OLD, NEW, NEW.replace("\n", "\r\n"), "\x1b[32m" + NEW])
def test_both_wordings(text: str) -> None:
    record = parse_log(text.replace("/b|c ", "/b/c "))
    assert record.succeeded and record.hbm == "/w/out/m.hbm"
    assert record.versions == {"hbdk": "4.0.22", "hmct": "2.0.7", "hb_compile": "3.0.17"}
    assert (record.samples, record.skipped) == (2, False)
    assert record.phases == {"prepare": 1.5, "convert": 11.5, "compile": 20.0, "estimate": 1.0}
    assert [(node.name, node.on, node.dtype) for node in record.nodes] == [
        ("/a/Conv", "BPU", "int8"),
        ("/b/c", "NULL", "--"),
        ("/d/Soft", "CPU", "float32"),
    ]
    assert record.nodes[0].threshold == 2.5 and record.nodes[1].threshold is None
    assert record.warnings == ("something odd",)


def test_a_log_cut_off_anywhere_is_no_success() -> None:
    for length in range(0, len(NEW) - 40, 97):
        assert not parse_log(NEW[:length]).succeeded


def test_judging() -> None:
    record = parse_log(NEW)
    remarks, made_up = judge(record, calibrated=True, log="l")
    assert made_up == "" and "lowest: /a/Conv" in remarks[0] and "chip's CPU: /d/Soft" in remarks[1]
    flat = parse_log(NEW.replace("| 2.5 ", "| 1.0 ").replace("| 1.5 ", "| 1.0 "))
    assert judge(flat, calibrated=False, log="l")[1]
    with pytest.raises(ToolchainFailed, match="made up, not calibrated"):
        judge(flat, calibrated=True, log="l")
    skipped = NEW.replace("num of calibration data: 2", "cal_data_dir is not given, calibration is set to skip")
    with pytest.raises(ToolchainFailed, match="skipped calibration"):
        judge(parse_log(skipped), calibrated=True, log="l")


def test_asked_and_got() -> None:
    config = {
        "model_parameters": {"node_info": {"/a/Conv": {"ON": "CPU"}, "gone": {"ON": "BPU"}}},
        "calibration_parameters": {"quant_config": {"node_config": {"/d/Soft": {"qtype": "float32"}}}},
    }
    rows = asked_got(config, parse_log(NEW).nodes)
    assert [(row.layer, row.asked, row.got, row.met) for row in rows] == [
        ("/a/Conv", "CPU", "BPU", False),
        ("/d/Soft", "float32", "float32", True),
        ("gone", "BPU", "not a node of the built model", False),
    ]


def test_progress() -> None:
    said: list[str] = []
    counted: list[tuple[int, int]] = []
    progress = Progress(said.append, lambda done, total: counted.append((done, total)), 2)
    for line in NEW.splitlines():
        progress.hear(line)
    assert said == [f"hb_compile: {stage}" for stage in ("prepare", "convert", "compile", "estimate")]
    assert counted == [(1, 2), (2, 2)]


HEAD = "2026-01-02 10:00:00,000 ERROR "


@pytest.mark.parametrize(
    ("text", "status", "kind", "words"),
    [
        (HEAD + "Can not find onnx_model file given: m.onnx", 255, InputError, "the model m.onnx was not found"),
        (HEAD + "User input march invalid: 'nash-q'.", 255, OptionError, "the march nash-q"),
        (HEAD + "The input_shape [0] of the model is a dynamic shape.", 255, InputError, "dynamic dimensions"),
        (HEAD + "cannot reshape array of size 5 into shape (1, 3)", 255, InputError, "5 values and does not fit"),
        (HEAD + "debug should be bool, received 'True'", 1, ToolchainFailed, "debug must be a YAML boolean"),
        ("Error: No such option: --core-num", 2, ToolchainFailed, "does not know the option --core-num"),
        (HEAD + "*** ERROR-OCCUR-DURING hbdk.convert ***, error message: bad op", 255, ToolchainFailed, "bad op"),
        ("", 255, ToolchainFailed, "said nothing about why"),
        ("", -9, ToolchainFailed, "ended by SIGKILL"),
        (HEAD + "[Errno 28] No space left on device", 255, ToolchainFailed, "the disk is full"),
    ],
)
def test_known_failures(text: str, status: int, kind: type[Exception], words: str) -> None:
    error = explain_failure(text, status)
    assert type(error) is kind and words in error.message and "\n" not in error.message
