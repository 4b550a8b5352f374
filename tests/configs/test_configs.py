"""Every job file in configs/ means something: it parses, and its target takes all of it without a vendor's tool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ptqbridge.backends import TARGETS, load
from ptqbridge.execute import refuse
from ptqbridge.invocation import Invocation, read_job, understand
from ptqbridge.rulebook import Verdict

ROOT = Path(__file__).parents[2]
PERFORMANCE = "article-performance.yaml"
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
BUILDS = [name for name in FILES if name != PERFORMANCE]

ARTICLE = """--useCudaGraph --noDataTransfers --useSpinWait --infStreams=8 --maxAuxStreams=8
--builderOptimizationLevel=5 --threads --best --verbose --profilingVerbosity=detailed --dumpProfile --dumpLayerInfo
--separateProfileRun --avgRuns=100 --iterations=1000"""


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in job files are relative to the working directory."""
    monkeypatch.chdir(ROOT)


def read(*argv: str) -> Invocation:
    """A command line, understood."""
    invocation = understand(list(argv), command="build")
    assert invocation is not None
    return invocation


@pytest.mark.parametrize("name", FILES)
def test_begins_by_saying_what_it_is_for(name: str) -> None:
    first = (ROOT / "configs" / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 20


@pytest.mark.parametrize("name", BUILDS)
def test_calibrated_build_is_taken_whole(name: str) -> None:
    invocation = read(f"--config=configs/{name}")
    (request,) = invocation.requests
    assert f"{request.target.name}.yaml" == name
    plan = load(request.target).plan(request)
    refuse(plan)  # nothing refused, and strictly: nothing without effect, no made-up ranges
    assert not plan.performance_only
    assert {row.verdict for row in plan.rows} <= {Verdict.EXACT, Verdict.APPROXIMATE, Verdict.IMPLIED}
    assert Path(request.build.calibration.data).is_dir() and Path(request.build.model.path).is_file()
    assert "tensorrt" not in sys.modules


def test_every_target_has_its_build() -> None:
    assert {name.removesuffix(".yaml") for name in BUILDS} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_performance_recipe_is_refused_nowhere(target: str) -> None:
    invocation = read(f"--config=configs/{PERFORMANCE}", f"--target={target}")
    plan = load(invocation.requests[0].target).plan(invocation.requests[0])
    assert plan.refused == ()
    assert plan.performance_only, "made-up ranges must be said"


def test_performance_recipe_means_the_article_s_command_line() -> None:
    files = ("--onnx=examples/mynet/mynet.onnx", "--saveEngine=mynet.engine", "--target=cpu")
    job, typed = read(f"--config=configs/{PERFORMANCE}", "--target=cpu"), read(*ARTICLE.split(), *files)
    assert (job.build, job.run) == (typed.build, typed.run)


@pytest.mark.parametrize("name", FILES)
def test_no_key_stands_twice(name: str) -> None:
    text = (ROOT / "configs" / name).read_text(encoding="utf-8")
    keys = [line.partition(":")[0] for line in text.splitlines() if line and line[0] not in "# "]
    assert sorted(keys) == sorted(read_job(f"configs/{name}"))
