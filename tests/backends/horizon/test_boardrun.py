"""Runs on this machine as the board, with the double of hrt_model_exec: figures, failures, what is left behind."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptqbridge.backends.horizon.board import Board, give_line, step_line
from ptqbridge.backends.horizon.boardfiles import staged
from ptqbridge.backends.horizon.boardrun import run
from ptqbridge.backends.horizon.boardvisit import failure
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.errors import InputError, OptionError, ToolchainFailed, ToolchainMissing
from ptqbridge.measure.outcome import Outcome
from ptqbridge.plan import Plan

Make = Callable[..., Plan]


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


def test_layers_and_stamp_come_from_the_record_beside(plan_of: Make, here: Path) -> None:
    words = f"--iterations=20 --duration=0 --dumpLayerInfo --percentile=90 --loadInputs=x:{here}/x.bin"
    alone = timed(plan_of, here, words)
    assert alone.layer_info is None and any("no layers are known: there is no record" in note for note in alone.notes)
    model = here / "net.hbm"
    facts = {"nodes": [{"name": "conv", "on": "BPU"}]}
    build: dict[str, Any] = {"performance_only": "made up", "facts": facts}
    record = {"artifact_sha256": staged(str(model)).sha256, "build": build}
    (here / "net.hbm.json").write_text(json.dumps(record))
    known = timed(plan_of, here, words)
    assert known.layer_info is not None and known.layer_info.layers == facts["nodes"]
    assert list(known.layer_info.bindings) == ["x", "out"]
    assert known.warnings == ("performance only: made up",)
    build["target"] = "nash-m"
    (here / "net.hbm.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="was built for nash-m, not for nash-p"):
        timed(plan_of, here, "--iterations=20", "nash-p")
    only = timed(plan_of, here, f"{words} --skipInference")
    assert only.skipped and only.layer_info is not None


def test_sweeps(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--iterations=200 --duration=0 --sweepThreads=1,2,8")
    rows: Any = outcome.policy["sweep"]
    assert [row["run"] for row in rows] == ["threads 1", "threads 2", "threads 8"]
    fastest = max(rows, key=lambda row: row["fps"])["run"]
    assert outcome.policy["best"] == {"latency": "threads 1", "throughput": fastest}
    assert outcome.notes[0] == "threads 1     398.406 FPS  average latency     2.500 ms"
    assert outcome.notes[-1] == f"best for latency: threads 1; best for throughput: {fastest}"
    assert outcome.performance is not None and outcome.performance.streams == 1


def test_a_sweep_over_cores_and_threads(plan_of: Make, here: Path, board_model: dict[str, Any]) -> None:
    (here / "net.hbm").write_text(json.dumps({**board_model, "desc": {"MARCH": "nash-p"}}))
    outcome = timed(plan_of, here, "--iterations=200 --duration=0 --sweepThreads=1,2 --sweepCores=0,3", "nash-p")
    rows: Any = outcome.policy["sweep"]
    assert [row["run"] for row in rows] == [f"threads {t} core {c}" for c in (0, 3) for t in (1, 2)]
    words: Any = outcome.policy["commands"]
    assert [next(word for word in argv if "core_id" in word)[-1] for argv in words[1:]] == ["1", "1", "4", "4"]


def test_every_run_of_a_sweep_meets_iterations_and_duration(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--iterations=700 --duration=1 --sweepThreads=1,8")
    words: Any = outcome.policy["commands"]
    assert all("--perf_time_in_seconds=1" in argv for argv in words)
    rows: Any = outcome.policy["sweep"]
    assert rows[0]["fps"] == pytest.approx(398.406, rel=1e-3) and outcome.performance is not None
    assert outcome.performance.queries == 700


def test_iterations_and_duration_are_both_met(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--iterations=3000 --duration=1")
    assert outcome.performance is not None and outcome.performance.queries == 3000
    longer = timed(plan_of, here, "--iterations=100 --duration=1")
    assert longer.performance is not None and longer.performance.queries == 400


def test_loading_time(plan_of: Make, here: Path) -> None:
    outcome = timed(plan_of, here, "--timeDeserialize")
    assert outcome.load_times_s == pytest.approx((0.017637,))
    assert outcome.to_dict()["policy"]["model"]["desc"]["MARCH"] == "nash-m"


def test_files_are_sent_once_and_trips_are_few(plan_of: Make, here: Path, board_model: dict[str, Any]) -> None:
    said: list[str] = []
    plan = plan_of(f"--loadEngine={here}/net.hbm --board=local --iterations=5 --duration=0", "nash-m", "run")
    run(plan, f"{here}/net.hbm", Board("local"), say=said.append)
    assert sum("sending" in line for line in said) == 1
    board = Board("local")
    run(plan, f"{here}/net.hbm", board, say=said.append)
    assert sum("sending" in line for line in said) == 1 and board.trips <= 5
    (here / "net.hbm").write_text(json.dumps({**board_model, "name": "other"}))
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
        ({"HRT_FULL": "1"}, "--dumpOutput", ToolchainFailed, "disk is full"),
        ({"HRT_QUIET": "1"}, "--dumpOutput", ToolchainFailed, "infer ended with status 0 before its last frame"),
        ({"HRT_MARCH": "nash-e"}, "--dumpOutput", InputError, "incompatible with the bpu"),
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
    for place in ("ssh://", "ssh://a:99999", "host", "ssh://-oProxyCommand=x", "ssh://a b", "docker:x"):
        with pytest.raises(OptionError):
            Board(place)
    assert Board("ssh://root@10.0.0.2:2222")._ssh[-4:] == ["-p", "2222", "--", "root@10.0.0.2"]
    assert Board("ssh://root@[::1]:22")._ssh[-4:] == ["-p", "22", "--", "root@::1"]
    assert step_line(1, ("a", "b c", "$(x)")) == "step 1 a 'b c' '$(x)'"
    with pytest.raises(ValueError, match="unsafe"):
        give_line("$(x)")


def test_names_on_the_board(tmp_path: Path) -> None:
    (tmp_path / "a;b.PNG").write_bytes(b"1")
    assert staged(str(tmp_path / "a;b.PNG")).name.endswith(".PNG")
    (tmp_path / "artifact").write_bytes(b"1")
    assert staged(str(tmp_path / "artifact"), ".hbm").name.endswith(".hbm")


def test_a_runtime_folder_is_brought_once(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the vendor ships it: the program in bin, its libraries in lib; the program needs them."""
    folder = here / "aarch64"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "lib" / "libdnn.so.1").write_text("library")
    (folder / "lib" / "libdnn.so").symlink_to("libdnn.so.1")
    text = (here / "bin" / "hrt_model_exec").read_text().partition("\n")[2]
    (folder / "bin" / "hrt_model_exec").write_text(
        f'#!/bin/sh\n[ "$(cat "$LD_LIBRARY_PATH/libdnn.so")" = library ] || exit 127\n{text}'
    )
    (here / "bin" / "hrt_model_exec").unlink()
    monkeypatch.setenv("PTQBRIDGE_HRT_MODEL_EXEC", str(folder))
    outcome = timed(plan_of, here, "--iterations=5 --duration=0")
    assert str(outcome.policy["tool"]).endswith(".d/bin/hrt_model_exec")
    said: list[str] = []
    plan = plan_of(f"--loadEngine={here}/net.hbm --board=local --iterations=5 --duration=0", "nash-m", "run")
    board = Board("local")
    run(plan, f"{here}/net.hbm", board, say=said.append)
    assert board.trips == 2 and not any("sending" in line for line in said)
    (folder / "bin" / "hrt_model_exec").unlink()
    with pytest.raises(OptionError, match=r"aarch64: expected hrt_model_exec in this folder"):
        timed(plan_of, here, "--iterations=5 --duration=0")


def test_names_that_a_shell_would_mistake(plan_of: Make, here: Path) -> None:
    odd = here / "a b'c\"d,é;$(touch pwned).hbm"
    (here / "net.hbm").rename(odd)
    (here / "x.bin").rename(here / "x y,'.bin")
    request = plan_of(f"--loadEngine={here}/net.hbm --board=local --iterations=5 --duration=0", "nash-m", "run")
    plan = replace(request, run=replace(request.run, inputs={"x": str(here / "x y,'.bin")}))
    outcome = run(plan, str(odd), Board("local"), say=lambda text: None)
    assert outcome.performance is not None and not list(here.rglob("pwned")) and clean(here)


def test_what_the_user_gives_goes_in_the_models_order(plan_of: Make, here: Path, board_model: dict[str, Any]) -> None:
    """Two inputs, given the other way round and one of them not at all."""
    board_model["inputs"] = [{"name": name, "shape": [1, 4], "type": "F32"} for name in ("x", "y")]
    (here / "net.hbm").write_text(json.dumps(board_model))
    values = np.arange(4, dtype=np.float32)[None]
    np.save(here / "x.npy", values)
    np.save(here / "y.npy", -values)
    words = f"--dumpOutput --iterations=5 --duration=0 --loadInputs=y:{here}/y.npy"
    both = timed(plan_of, here, f"{words},x:{here}/x.npy")
    assert list(both.inputs) == ["x", "y"] and np.array_equal(both.inputs["x"], values)
    assert both.outputs["out"].tolist() == [[0.0, 0.0, 0.0]]
    one = timed(plan_of, here, words)
    assert set(np.sign(one.inputs["x"]).ravel()) == {-1.0, 1.0}
    with pytest.raises(InputError, match=r"--loadInputs: the model has no input 'z'; its inputs are x, y"):
        timed(plan_of, here, f"--loadInputs=z:{here}/x.npy")


def test_a_board_that_has_lost_us(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word from us, and without an end of the connection, it gives up by itself."""
    monkeypatch.setattr("ptqbridge.backends.horizon.boardscript.PATIENCE_S", 1)
    monkeypatch.setenv("HRT_SPEED", "1")
    with pytest.raises(ToolchainFailed, match="the connection broke, or the board died"):
        timed(plan_of, here, "--iterations=2000 --duration=0")
    assert clean(here) and list((here / "board").iterdir()) == []


def test_the_disk_is_full_while_files_are_sent(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = here / "bin" / "tar"
    tar.write_text(
        "#!/bin/sh\ncat > /dev/null\necho 'tar: net.hbm: Cannot write: No space left on device' >&2\nexit 2\n"
    )
    tar.chmod(0o755)
    with pytest.raises(ToolchainFailed, match=r"net\.hbm could not be sent: the disk is full"):
        timed(plan_of, here, "")
    assert clean(here) and list((here / "board").iterdir()) == []
    df = here / "bin" / "df"
    df.write_text("#!/bin/sh\necho x; echo '/dev/x 1 1 0 100% /'\n")
    df.chmod(0o755)
    with pytest.raises(ToolchainFailed, match=r"the disk is full: .*net\.hbm needs"):
        timed(plan_of, here, "")


def test_files_that_arrive_damaged(plan_of: Make, here: Path) -> None:
    sums = here / "bin" / "sha256sum"
    sums.write_text("#!/bin/sh\nexit 1\n")
    sums.chmod(0o755)
    with pytest.raises(ToolchainFailed, match="arrived damaged"):
        timed(plan_of, here, "")
    assert clean(here) and list((here / "board").iterdir()) == []


def test_a_lock_that_cannot_be_taken(plan_of: Make, here: Path) -> None:
    (here / "lock").mkdir()
    with pytest.raises(ToolchainFailed, match="lock cannot be taken"):
        timed(plan_of, here, "")


def test_another_versions_model_is_run_and_said(plan_of: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRT_MISMATCH", "1")
    outcome = timed(plan_of, here, "--iterations=200 --duration=0 --sweepThreads=1,2", "bayes", "net.bin")
    (warning,) = outcome.warnings
    assert "Inconsistency between the hbrt library version" in warning


@pytest.mark.parametrize(
    ("text", "status", "kind", "said"),
    [
        ("[E] the model was not compiled for several cores, error code:-6000131", 1, ToolchainFailed, "several cores"),
        ("[E][DNN] Model march incompatible", 1, InputError, "not for this board"),
        ("sh: 1: /x/hrt_model_exec: not found", 127, ToolchainMissing, "cannot be started on the board"),
        ("", 139, ToolchainFailed, "ended by signal 11"),
        ("a\nb\nc", 1, ToolchainFailed, "failed with status 1: c"),
    ],
)
def test_what_the_tools_failures_mean(text: str, status: int, kind: type[Exception], said: str) -> None:
    error = failure("perf", text, status, MARCHES["nash-p"])
    assert type(error) is kind and said in error.message and "\n" not in error.message
