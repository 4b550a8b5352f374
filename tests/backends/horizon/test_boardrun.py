"""Runs on this machine as the board, with the double of hrt_model_exec: figures, failures, what is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.horizon.board import Board, give_line, step_line
from ptqbridge.backends.horizon.boardfiles import staged
from ptqbridge.backends.horizon.boardrun import run
from ptqbridge.errors import InputError, OptionError, ToolchainFailed, ToolchainMissing
from ptqbridge.measure.outcome import Outcome
from ptqbridge.plan import Plan

Make = Callable[..., Plan]
MODEL = {
    "name": "net",
    "desc": {"MARCH": "nash-m", "CORE_NUM": 1},
    "inputs": [{"name": "x", "shape": [1, 4], "type": "F32"}],
    "outputs": [{"name": "out", "shape": [1, 3], "type": "F32"}],
}


@pytest.fixture
def here(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board on this machine: its program on PATH, its folder ``board``, a model and an input beside."""
    program = tmp_path / "bin" / "hrt_model_exec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {root}/tests/doubles/hrt_model_exec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PTQBRIDGE_BOARD_DIR", str(tmp_path / "board"))
    monkeypatch.setattr("ptqbridge.backends.horizon.board.LOCK", str(tmp_path / "lock"))
    (tmp_path / "net.hbm").write_text(json.dumps(MODEL))
    (tmp_path / "net.bin").write_text(json.dumps({**MODEL, "desc": {"MARCH": "bayes"}}))
    (tmp_path / "x.bin").write_bytes(bytes(16))
    return tmp_path


def timed(plan_of: Make, here: Path, words: str, target: str = "nash-m", model: str = "net.hbm") -> Outcome:
    """The outcome of ``ptqbridge run`` with these words."""
    plan = plan_of(f"--loadEngine={here}/{model} --board=local {words}", target, "run")
    assert not plan.refused, plan.refused
    return run(plan, f"{here}/{model}", Board("local"), say=lambda text: None)


def clean(here: Path) -> bool:
    """Whether nothing of a run is left: no lock, no working folder, no part of a file."""
    left = [*(here / "board").glob("run.*"), *(here / "board").glob(".part*")]
    return not left and not (here / "lock").is_symlink()


@pytest.mark.parametrize(("target", "model"), [("nash-m", "net.hbm"), ("bayes", "net.bin")])
def test_the_summary(plan_of: Make, here: Path, target: str, model: str) -> None:
    outcome = timed(plan_of, here, "--iterations=400 --duration=0 --infStreams=4", target, model)
    performance = outcome.to_dict()["performance"]
    assert performance["measured"] == "board" and performance["processor"] == "BPU"
    assert (performance["queries"], performance["streams"]) == (400, 4)
    assert performance["throughput_qps"] == pytest.approx(664.011, rel=1e-4)
    assert performance["latency"]["mean"] == pytest.approx(6.0) and performance["latency"]["max"] == pytest.approx(8.1)
    for unknown in ("enqueue", "h2d", "d2h", "compute", "total_compute_s"):
        assert performance[unknown] is None
    assert performance["latency"]["median"] is None and performance["latency"]["percentiles"] == {}
    assert outcome.load_s == pytest.approx(0.017637 if target == "nash-m" else 0.172039)
    assert clean(here)


def test_percentiles_profile_and_outputs(plan_of: Make, here: Path) -> None:
    words = f"--iterations=70 --duration=0 --percentile=90 --dumpProfile --dumpOutput --loadInputs=x:{here}/x.bin"
    outcome = timed(plan_of, here, words)
    record = outcome.to_dict()
    assert set(record["performance"]["latency"]["percentiles"]) == {"90"}
    assert outcome.kept is not None and len(outcome.kept) == 70
    assert record["profile"]["layers"][0]["name"] == "Node-0-BPU-net_bpu_segment_0"
    assert outcome.outputs["out"].dtype.name == "float32" and outcome.outputs["out"].size == 3
    assert clean(here)


def test_sweeps(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--iterations=200 --duration=0 --sweepThreads=1,2,8")
    rows: Any = outcome.policy["sweep"]
    assert [row["run"] for row in rows] == ["threads 1", "threads 2", "threads 8"]
    assert outcome.notes[-1].startswith("best for latency: threads 1; best for throughput: threads")


def test_iterations_and_duration_are_both_met(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--iterations=3000 --duration=1")
    assert outcome.performance is not None and outcome.performance.queries == 3000
    longer = timed(plan_of, here, "--iterations=100 --duration=1")
    assert longer.performance is not None and longer.performance.queries == 400


def test_loading_time(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--timeDeserialize")
    assert outcome.load_times_s == (pytest.approx(0.017637),)
    assert outcome.to_dict()["policy"]["model"]["desc"]["MARCH"] == "nash-m"


def test_files_are_sent_once_and_trips_are_few(plan_of: Make, here: Path) -> None:
    said: list[str] = []
    plan = plan_of(f"--loadEngine={here}/net.hbm --board=local --iterations=5 --duration=0", "nash-m", "run")
    run(plan, f"{here}/net.hbm", Board("local"), say=said.append)
    assert sum("sending" in line for line in said) == 1
    board = Board("local")
    run(plan, f"{here}/net.hbm", board, say=said.append)
    assert sum("sending" in line for line in said) == 1 and board.trips <= 5
    (here / "net.hbm").write_text(json.dumps({**MODEL, "name": "other"}))
    run(plan, f"{here}/net.hbm", Board("local"), say=said.append)
    assert sum("sending" in line for line in said) == 2


@pytest.mark.parametrize(
    ("env", "words", "kind", "text"),
    [
        ({"HRT_DIE_AFTER": "200"}, "--iterations=400", ToolchainFailed, "ended by signal 9"),
        ({"HRT_MARCH": "nash-e"}, "", InputError, "the model is not for this board"),
        ({"HRT_TRUNCATE": "1"}, "--dumpProfile", ToolchainFailed, "profiler.log was cut off"),
        ({"HRT_FULL": "1"}, "--dumpProfile", ToolchainFailed, "disk is full"),
        ({"HRT_OLD": "1"}, "--duration=1", ToolchainFailed, "perf_time_in_seconds"),
    ],
)
def test_failures_leave_nothing(
    plan_of: Make,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    words: str,
    kind: type[Exception],
    text: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=text):
        timed(plan_of, here, f"--duration=0 {words}" if "duration" not in words else words)
    assert clean(here) and list((here / "board").iterdir()) == []


def test_a_wrong_input(plan_of: Make, here: Path) -> None:
    (here / "x.bin").write_bytes(bytes(3))
    with pytest.raises(InputError, match=r"expected 16 bytes .* found 3"):
        timed(plan_of, here, f"--loadInputs=x:{here}/x.bin")
    with pytest.raises(InputError, match=r"none\.bin: no such file"):
        timed(plan_of, here, f"--loadInputs=x:{here}/none.bin")
    assert clean(here)


def test_the_result_block_is_missing(plan_of: Make, here: Path) -> None:
    (here / "bin" / "hrt_model_exec").write_text("#!/bin/sh\necho Load model to DDR cost 1.5ms.\n")
    with pytest.raises(ToolchainFailed, match="the result block is not complete"):
        timed(plan_of, here, "")
    assert clean(here)


def test_the_program_is_missing_or_brought(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = here / "elsewhere"
    (here / "bin" / "hrt_model_exec").rename(program)
    with pytest.raises(ToolchainMissing, match="hrt_model_exec was not found on the board"):
        timed(plan_of, here, "")
    monkeypatch.setenv("PTQBRIDGE_HRT_MODEL_EXEC", str(program))
    assert timed(plan_of, here, "--iterations=5 --duration=0").performance is not None


def test_one_run_at_a_time(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRT_SPEED", "1")
    first = threading.Thread(target=timed, args=(plan_of, here, "--iterations=400 --duration=0"))
    plan_of("--loadEngine=x", "nash-m", "run")
    first.start()
    for _ in range(100):
        if (here / "lock").is_symlink():
            break
        time.sleep(0.05)
    with pytest.raises(ToolchainMissing, match="another run is using the board"):
        timed(plan_of, here, "--iterations=1 --duration=0")
    first.join()
    assert clean(here)


def test_a_lock_of_a_dead_run_is_taken_over(plan_of: Make, here: Path) -> None:
    """The number may be another process's by now; its folder, and what still runs in it, go with the lock."""
    (here / "board" / "run.1").mkdir(parents=True)
    (here / "board" / ".part.4194300").mkdir()
    orphan = subprocess.Popen(["sleep", "60"], cwd=here / "board" / "run.1")
    (here / "lock").symlink_to("1")
    assert timed(plan_of, here, "--iterations=5 --duration=0").performance is not None
    assert clean(here)
    assert orphan.wait(5) == -9


def test_places_and_words() -> None:
    for place in ("ssh://", "host", "ssh://-oProxyCommand=x", "ssh://a b", "docker:x"):
        with pytest.raises(OptionError):
            Board(place)
    assert Board("ssh://root@10.0.0.2:2222")._ssh[-4:] == ["-p", "2222", "--", "root@10.0.0.2"]
    assert step_line(1, ("a", "b c", "$(x)")) == "step 1 a 'b c' '$(x)'"
    with pytest.raises(ValueError, match="unsafe"):
        give_line("$(x)")


def test_names_on_the_board(tmp_path: Path) -> None:
    (tmp_path / "a;b.PNG").write_bytes(b"1")
    assert staged(str(tmp_path / "a;b.PNG")).name.endswith(".PNG")
    (tmp_path / "artifact").write_bytes(b"1")
    assert staged(str(tmp_path / "artifact"), ".hbm").name.endswith(".hbm")
