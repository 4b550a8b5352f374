"""From argv and a job file to the options given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import OptionError
from ptqbridge.options.parse import parse
from ptqbridge.options.table import BY_SPELLING

TEXTS = st.text("ab1:,x+-'.= eGK%", max_size=10) | st.text(max_size=4)
WORDS = (
    TEXTS | st.sampled_from(sorted(BY_SPELLING)) | st.tuples(st.sampled_from(sorted(BY_SPELLING)), TEXTS).map("=".join)
)


@given(st.lists(WORDS, max_size=6))
def test_only_option_errors_come_out(argv: list[str]) -> None:
    try:
        options = parse(argv)
    except OptionError as error:
        assert error.message
        assert "\n" not in error.message
    else:
        assert options.help or options.items


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["--help=0"], ["--avgRuns=x", "--bogus", "-h=1"]])
def test_help(argv: list[str]) -> None:
    options = parse(argv)
    assert options.help
    assert not options.items


def test_items_keep_order_text_and_source() -> None:
    options = parse(["--onnx=m.onnx", "--fp16", "--shapes=a: 1"])
    assert [(item.option.name, item.text, item.source) for item in options] == [
        ("onnx", "m.onnx", "command line"),
        ("fp16", "", "command line"),
        ("shapes", "a: 1", "command line"),
    ]
    assert [item.written for item in options] == ["--onnx=m.onnx", "--fp16", "--shapes=a: 1"]
    assert options.value("shapes") == {"a": (1,)}
    assert options.has("int8", "fp16")
    assert "int8" not in options


def test_alias_is_the_option() -> None:
    assert "versionCompatible" in parse(["--onnx=m", "--vc"])


def test_empty_text_counts_as_not_given() -> None:
    options = parse(["--onnx=m", "--target=", "--board=", "--percentile="])
    assert options.value("target") == ()
    assert options.value("board") == ""
    assert options.value("percentile") == (90.0, 95.0, 99.0)


def test_errors_are_short_and_name_the_option() -> None:
    with pytest.raises(OptionError) as caught:
        parse(["--onnx=m", "--iterations=ten"])
    assert caught.value.message == "--iterations: expected a whole number, found 'ten'"
    assert caught.value.exit_status == 2


def test_profiles_keep_their_shapes_apart() -> None:
    argv = ["--onnx=m", "--profile=0", "--minShapes=a:1", "--optShapes=a:2", "--profile=1", "--optShapes=a:9", "--fp16"]
    options = parse(argv)
    assert options.value("profile") == (0, 1)
    assert [[given.written for given in options.sections[index]] for index in (0, 1)] == [
        ["--minShapes=a:1", "--optShapes=a:2"],
        ["--optShapes=a:9"],
    ]
    assert options.value("optShapes") == {"a": (2,)}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--profile=0", "--profile=0"], "each profile once"),
        (["--profile=0", "--optShapes=a:1", "--optShapes=a:2"], "once per profile"),
        (["--profile=0", "--profile=2"], "without a gap"),
    ],
)
def test_profile_errors(argv: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(["--onnx=m", *argv])


def test_job_file_gives_options_and_says_so() -> None:
    options = parse([], job={"onnx": "m.onnx", "--iterations": 5}, job_name="job.yaml")
    assert not options.help
    assert {item.source for item in options} == {"job file job.yaml"}
    assert options.value("iterations") == 5
    assert next(iter(parse([], job={"onnx": "m"}))).source == "job file"


def test_command_line_wins_over_job() -> None:
    job = {"onnx": "job.onnx", "shapes": {"a": [1]}, "target": ["cpu", "trt"], "infStreams": 4}
    options = parse(["--onnx=mine.onnx", "--target=j6m", "--streams=2"], job=job, job_name="j")
    assert options.value("onnx") == "mine.onnx"
    assert options.value("target") == ("j6m",)
    assert "infStreams" not in options
    assert {item.option.name: item.source for item in options}["shapes"] == "job file j"


def test_older_word_on_the_command_line_overrides_the_job() -> None:
    options = parse(["--nvtxMode=none"], job={"onnx": "m", "profilingVerbosity": "detailed"})
    assert "profilingVerbosity" not in options
    with pytest.raises(OptionError, match="--workspace cannot override"):
        parse(["--workspace=5"], job={"onnx": "m", "memPoolSize": {"workspace": "1G"}})
    assert parse(["--workspace=5"], job={"onnx": "m", "memPoolSize": {"dlaSRAM": 1}}).value("workspace") == 5


@pytest.mark.parametrize(
    ("key", "entry", "value"),
    [
        ("fp16", True, True),
        ("fp16", "yes", True),
        ("percentile", [90, 99.5], (90.0, 99.5)),
        ("percentile", 99, (99.0,)),
        ("shapes", {"a": [1, 3, 224], "b:0": [2]}, {"a": (1, 3, 224), "b:0": (2,)}),
        ("shapes", {"a": "1x3"}, {"a": (1, 3)}),
        ("shapes", "a:1x3", {"a": (1, 3)}),
        ("inputIOFormats", ["fp32:chw"], parse(["--onnx=m", "--inputIOFormats=fp32:chw"]).value("inputIOFormats")),
        ("layerPrecisions", {"conv1": "fp16"}, {"conv1": ("fp16",)}),
        ("layerOutputTypes", {"conv1": ["fp16", "fp32"]}, {"conv1": ("fp16", "fp32")}),
        ("memPoolSize", {"workspace": "1G", "dlaSRAM": 1}, {"workspace": 1024.0, "dlaSRAM": 1.0}),
        ("staticPlugins", ["a.so", "b,c.so"], ("a.so", "b,c.so")),
        ("staticPlugins", "a.so", ("a.so",)),
        ("calib", None, ""),
        ("mean", [0.485, 0.456, 0.406], (0.485, 0.456, 0.406)),
    ],
)
def test_job_values(key: str, entry: Any, value: Any) -> None:
    assert parse([], job={"onnx": "m", key: entry}).value(key) == value


def test_job_flag_false_is_as_if_absent() -> None:
    options = parse([], job={"onnx": "m", "fp16": False})
    assert "fp16" not in options


@pytest.mark.parametrize(
    ("job", "message", "hint"),
    [
        ({"fp17": True}, "unknown option 'fp17' in job file j.yaml", "did you mean fp16?"),
        ({"config": "other.yaml"}, "unknown option 'config'", ""),
        ({"help": True}, "unknown option 'help'", ""),
        ({"fp16": 0}, "fp16 in job file j.yaml is a flag", ""),
        ({"iterations": True}, "iterations in job file j.yaml: expected a whole number", ""),
        ({"iterations": 1.5}, "'.5' is left over", ""),
        ({"shapes": [{"a": [1]}]}, "expected a text, a number, a list or a mapping, found list", ""),
        ({"onnx": "m", "fp8": True, "int8": True}, "--fp8 cannot stand beside", ""),
    ],
)
def test_job_errors(job: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse([], job=job, job_name="j.yaml")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_parser_loads_nothing_heavy(root: Path) -> None:
    script = (
        "import sys, ptqbridge.options.parse as p; p.parse(['--onnx=m', '--int8', '--optShapes=a:1x3']);"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "ptqbridge" in loaded
    assert loaded & {"numpy", "onnx", "onnxruntime", "yaml", "jinja2", "rich", "click"} == set()
