"""From command lines to requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbridge.errors import InputError, OptionError
from ptqbridge.invocation import read_job, single_target, understand


def test_help_is_nothing_to_understand() -> None:
    assert understand(["--help"], command="build") is None
    assert understand([], command="trtexec") is None


def test_no_words_lack_a_model() -> None:
    with pytest.raises(OptionError, match="no model: expected --onnx=MODEL") as caught:
        understand([], command="build")
    assert caught.value.hint == "--help shows all options"


def test_default_and_several_targets() -> None:
    one = understand(["--onnx=m"], command="build", default_target="cpu")
    assert one is not None and [request.target.name for request in one.requests] == ["cpu"]
    two = understand(["--onnx=m", "--target=j5", "--target=bayes", "--target=trt"], command="build")
    assert two is not None and [request.target.name for request in two.requests] == ["bayes", "trt"]
    with pytest.raises(OptionError, match="this command takes one target, found bayes, trt"):
        single_target(two)
    with pytest.raises(OptionError, match="expected at least one target"):
        understand(["--onnx=m"], command="build")


def test_requests_carry_what_was_asked_and_from_where(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("int8: true\niterations: 7\n")
    found = understand([f"--config={job}", "--onnx=m", "--iterations=9"], command="run", default_target="cpu")
    assert found is not None
    asked = {item.name: item for item in found.requests[0].asked}
    assert (asked["int8"].source, asked["iterations"].source) == ("job file job.yaml", "command line")
    assert asked["iterations"].written == "--iterations=9"
    assert found.run.iterations == 9
    assert found.requests[0].gave("int8") and not found.requests[0].gave("fp16")


@pytest.mark.parametrize("argv", [["--config"], ["--config="], ["--config", "--onnx=m"]])
def test_config_needs_a_path(argv: list[str]) -> None:
    with pytest.raises(OptionError, match="--config: expected the path of a YAML job file"):
        understand(argv, command="build", default_target="cpu")


def test_config_as_two_words(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("onnx: m\n")
    found = understand(["--config", str(job)], command="build", default_target="cpu")
    assert found is not None and found.build.model.path == "m"


def test_an_empty_job_file_is_no_options(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("# nothing\n")
    assert read_job(str(tmp_path / "job.yaml")) == {}
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not YAML"):
        read_job(str(tmp_path / "bad.yaml"))
