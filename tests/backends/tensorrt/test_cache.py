"""The cache of --calib is read and weighed before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends.tensorrt.cache import check_cache
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan

HEADER = "TRT-8601-EntropyCalibration2\n"
PlanOf = Callable[..., Plan]


@pytest.fixture
def words(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    return (f"--onnx={root}/examples/mynet/mynet.onnx", "--int8", "--calib=c.cache")


@pytest.mark.parametrize("version", ["8.6.1", "10.13.3", "11"])
def test_coverage_is_said(version: str, words: tuple[str, ...], plan_of: PlanOf) -> None:
    Path("c.cache").write_text(f"{HEADER}input1: 3c010a14\noutput1: 3c010a14\nstranger: 3c010a14\n")
    said: list[str] = []
    assert check_cache(plan_of(version, *words), said.append) == {
        "cache": {"file": "c.cache", "tensors": 10, "covered": 2}
    }
    assert said[0].startswith("calibration cache: 2 of 10 tensors of the model have a scale; without one, and so")
    assert said[0].endswith("and 3 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "c.cache: "),
        ("not a cache\n", "expected a header such as TRT-8601-EntropyCalibration2, found 'not a cache'"),
        (f"{HEADER}input1: 3czz\n", "line 2: expected 1 to 8 hex digits"),
        (f"{HEADER}images: 3c010a14\n", "names none of the 10 tensors of .*: it belongs to another model"),
    ],
)
@pytest.mark.parametrize("version", ["8.6.1", "11"])
def test_what_is_no_cache_of_this_model_is_refused(
    version: str, content: str, message: str, words: tuple[str, ...], plan_of: PlanOf
) -> None:
    Path("c.cache").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        check_cache(plan_of(version, *words), print)
    assert caught.value.message.startswith("--calib: ") and "\n" not in caught.value.message


def test_builders_read_caches_only(words: tuple[str, ...], plan_of: PlanOf) -> None:
    Path("c.cache").write_text('[["input1", 1.0]]')
    with pytest.raises(InputError):
        check_cache(plan_of("8.6.1", *words), print)


def test_no_cache_no_check(words: tuple[str, ...], plan_of: PlanOf) -> None:
    assert check_cache(plan_of("8.6.1", *words[:2]), print) == {}
    assert check_cache(plan_of("8.6.1", words[0], "--calib=c.cache"), print) == {}
