"""Programs on this machine: output, environment, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ptqbridge.errors import InputError, ToolchainMissing
from ptqbridge.toolchains.local import Local, run

LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_lines_come_merged_without_colours_and_bars_line_by_line(tmp_path: Path) -> None:
    code = r"""
import sys
sys.stdout.write("one\n"); sys.stdout.flush()
sys.stderr.write("\x1b[92mtwo\x1b[0m\r\n"); sys.stderr.flush()
sys.stdout.write("10%\r20%\r\n\nend \xe9"); sys.stdout.flush()
"""
    heard: list[str] = []
    log = tmp_path / "log"
    finished = run(python(code), tmp_path, log=log, on_line=heard.append, env={"PYTHONIOENCODING": "utf-8"})
    assert heard == ["one", "two", "10%", "20%", "end é"]
    assert finished.lines == tuple(heard)
    assert log.read_text(encoding="utf-8") == finished.text
    assert (finished.status, finished.timed_out) == (0, False)


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    finished = run(python(r"import os; os.write(1, b'a\xff\xc3')"), tmp_path)
    assert finished.lines == ("a��",)


def test_status_and_signal_are_told(tmp_path: Path) -> None:
    assert run(python("raise SystemExit(7)"), tmp_path).status == 7
    assert run(python("import os; os.kill(os.getpid(), 9)"), tmp_path).status == -9


def test_our_pythons_settings_do_not_reach_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    code = "import os; print(os.environ.get('PYTHONPATH'), os.environ['TMPDIR'], os.getcwd(), os.environ['PATH'])"
    (tmp_path / "job").mkdir()
    finished = Local().run(python(code), tmp_path, cwd="job", log=tmp_path / "log", env={"TMPDIR": "/x"})
    path, temporary, cwd, search = finished.lines[0].split(" ", 3)
    assert (path, temporary, cwd) == ("None", "/x", str(tmp_path / "job"))
    assert search.split(os.pathsep)[0] == os.path.dirname(sys.executable)


def test_a_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    finished = run(python(LEAVES_A_CHILD + "time.sleep(60)"), tmp_path, log=log, timeout=1.0)
    assert finished.timed_out
    assert finished.seconds < 8
    assert not alive(int(finished.lines[0]))
    assert log.read_text() == finished.text


def test_children_that_outlive_the_program_are_ended(tmp_path: Path) -> None:
    """They hold its output open, so waiting for its end would wait for theirs."""
    finished = run(python(LEAVES_A_CHILD), tmp_path)
    assert finished.status == 0
    assert finished.seconds < 8
    assert not alive(int(finished.lines[0]))


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbridge.toolchains.local.GRACE_S", 0.3)
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    finished = run(python(code), tmp_path, timeout=0.6)
    assert finished.status == -signal.SIGKILL
    assert not alive(int(finished.lines[0]))


def test_a_callback_that_raises_ends_the_program(tmp_path: Path) -> None:
    pids: list[int] = []

    def hear(line: str) -> None:
        pids.append(int(line))
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(python(LEAVES_A_CHILD + "time.sleep(60)"), tmp_path, log=tmp_path / "log", on_line=hear)
    assert not alive(pids[0])
    assert (tmp_path / "log").read_text() == f"{pids[0]}\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_a_signal_to_us_ends_the_group_and_keeps_the_log(
    tmp_path: Path, root: Path, number: signal.Signals, status: int
) -> None:
    script = f"""
import sys
from pathlib import Path
from ptqbridge.toolchains.local import run
run([sys.executable, "-c", {LEAVES_A_CHILD + "time.sleep(60)"!r}], Path("."), log=Path("log"))
"""
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    ours = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    log = tmp_path / "log"
    deadline = time.monotonic() + 20
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(log.read_text())
    assert alive(child)
    ours.send_signal(number)
    assert ours.wait(15) == status
    assert not alive(child)


def test_an_earlier_log_stays_until_the_program_has_ended(tmp_path: Path) -> None:
    log, part = tmp_path / "log", tmp_path / "log.part"
    log.write_text("good\n")

    def hear(line: str) -> None:
        assert (log.read_text(), part.read_text()) == ("good\n", "new\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(python("print('new', flush=True)"), tmp_path, log=log, on_line=hear)
    assert (log.read_text(), part.read_text()) == ("good\n", "new\n")
    with pytest.raises(ToolchainMissing):
        run(["no-such-program"], tmp_path, log=log)
    assert log.read_text() == "good\n" and not part.exists()
    run(python("print('new')"), tmp_path, log=log)
    assert log.read_text() == "new\n" and not part.exists()
    assert run(python("raise SystemExit(3)"), tmp_path, log=log).status == 3
    assert log.read_text() == "" and not part.exists()


def test_it_works_beside_the_main_thread(tmp_path: Path) -> None:
    """Signal handlers can only be set in the main thread."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(python("raise SystemExit(3)"), tmp_path).status))
    thread.start()
    thread.join(20)
    assert statuses == [3]


def test_what_cannot_be_started_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ToolchainMissing, match="no-such-program cannot be started: No such file"):
        run(["no-such-program"], tmp_path)


def test_a_log_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(InputError, match="cannot write"):
        run(["touch", str(mark)], tmp_path, log=tmp_path / "no" / "log")
    assert not mark.exists()
