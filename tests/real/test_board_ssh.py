"""Boards and toolchains through a real sshd on this machine: own key, port and host key; hrt_model_exec is the double.

Journey boards cannot be had here. What is real: OpenSSH's client and server, the remote shell, signals, lost
connections. The server runs as the user of the test and listens on the loopback address only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SSHD = "/usr/sbin/sshd"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (os.path.exists(SSHD) and shutil.which("ssh") and shutil.which("ssh-keygen")),
        reason="OpenSSH's server and client are not installed (scripts/real_sshd.sh installs them)",
    ),
]
MODEL = {
    "name": "net",
    "desc": {"MARCH": "nash-m", "CORE_NUM": 1},
    "inputs": [{"name": "x", "shape": [1, 4], "type": "F32"}],
    "outputs": [{"name": "out", "shape": [1, 3], "type": "F32"}],
}


class Sshd:
    """A running server, the environment of a client that may log in, and the board's folders."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.started: list[subprocess.Popen[str]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name in ("host", "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=30
            )
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        (folder / "authorized").chmod(0o600)
        self.know((folder / "host.pub").read_text())
        self.settings({})
        (folder / "board").mkdir()
        (folder / "bin").mkdir()
        self._program("hrt_model_exec", f'. {folder}/board.env\nexec python3 {folder}/double "$@"')
        shutil.copy(root / "tests" / "doubles" / "hrt_model_exec", folder / "double")
        self.identify("user")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            "Subsystem sftp internal-sftp\n"
            f"KbdInteractiveAuthentication no\nSetEnv PATH={folder}/bin:/usr/bin:/bin\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.serve()

    def serve(self) -> None:
        """Start the server, and wait until it listens."""
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=subprocess.PIPE, start_new_session=True
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("sshd did not start")

    def _program(self, name: str, body: str, place: str = "bin") -> None:
        path = self.folder / place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def know(self, host_key: str) -> None:
        """The host keys that the client trusts."""
        known = f"[127.0.0.1]:{self.port} {host_key}" if host_key else ""
        (self.folder / "known").write_text(known)

    def identify(self, key: str) -> None:
        """The client's ssh, with a configuration of its own in place of the user's."""
        (self.folder / "ssh_config").write_text(
            f"Host *\n  IdentityFile {self.folder}/{key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder}/known\n  GlobalKnownHostsFile /dev/null\n"
        )
        ssh = shutil.which("ssh")
        count = f"echo x >> {self.folder}/trips"
        self._program("ssh", f'{count}\nexec {ssh} -F {self.folder}/ssh_config "$@"', "client")
        self._program("scp", f'exec {shutil.which("scp")} -F {self.folder}/ssh_config "$@"', "client")

    def settings(self, env: dict[str, str]) -> None:
        """What steers the double on the board."""
        (self.folder / "board.env").write_text("".join(f"export {name}={value}\n" for name, value in env.items()))

    def start(self, *words: str, command: str = "run", place: str = "") -> subprocess.Popen[str]:
        """``ptqbridge COMMAND ...`` on the board."""
        environment = {
            **os.environ,
            "PATH": f"{self.folder}/client:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "PTQBRIDGE_BOARD_DIR": str(self.folder / "board"),
        }
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        place = f"--board={place or f'ssh://{user}@127.0.0.1:{self.port}'}"
        target = ["--target=nash-m"] * (command != "info")
        argv = [sys.executable, "-m", "ptqbridge", command, *target, place, *words]
        process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests started in the background ignore Ctrl-C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def run(self, *words: str, command: str = "run", place: str = "") -> tuple[int, str]:
        """Exit status and output."""
        process = self.start(*words, command=command, place=place)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def trips(self) -> int:
        """Connections since the last call."""
        path = self.folder / "trips"
        count = len(path.read_text().splitlines()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return count

    def processes(self, word: str) -> list[int]:
        """Processes with this in their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if word in line and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found

    def running(self) -> list[int]:
        """Processes of the double that still run."""
        return self.processes(f"{self.folder}/double")

    def owner(self) -> int:
        """The shell that holds the board's lock."""
        return int(os.readlink("/tmp/ptqbridge-board.lock"))

    def clean(self, *, empty: bool = False) -> bool:
        """Whether the board is as it was, at the latest after five seconds."""
        for _ in range(50):
            left = list((self.folder / "board").iterdir())
            mess = [path for path in left if path.name.startswith(("run.", ".part"))]
            if not self.running() and not mess and not Path("/tmp/ptqbridge-board.lock").is_symlink():
                return not (empty and left)
            time.sleep(0.1)
        return False


@pytest.fixture
def board(tmp_path: Path, root: Path) -> Iterator[Sshd]:
    """A server of its own for each test."""
    sshd = Sshd(tmp_path, root)
    (tmp_path / "net.hbm").write_text(json.dumps(MODEL))
    try:
        yield sshd
    finally:
        for process in sshd.started:
            process.kill()
            process.wait()
        sshd.clean()
        os.killpg(sshd.process.pid, signal.SIGKILL)
        sshd.process.wait()


LONG = ("--loadEngine=net.hbm", "--iterations=100000", "--duration=0")
SHORT = ("--loadEngine=net.hbm", "--iterations=400", "--duration=0")


def summary(output: str) -> dict[str, Any]:
    """The performance part of a --json answer (the log stands before it)."""
    record: dict[str, Any] = json.loads(output[output.index("\n{\n") if "\n{\n" in output else 0 :])
    performance: dict[str, Any] = record["run"]["performance"]
    return performance


def test_a_run(board: Sshd) -> None:
    status, output = board.run(*SHORT, "--infStreams=2", "--json")
    assert status == 0, output
    performance = summary(output)
    assert performance["measured"] == "board" and performance["queries"] == 400
    assert performance["throughput_qps"] == pytest.approx(664.01, rel=1e-3)
    assert "sending net.hbm" in output and board.clean()
    board.trips()
    status, output = board.run(*SHORT, "--dumpProfile", "--separateProfileRun")
    assert status == 0 and "sending" not in output, output
    assert "Throughput: 398.406 qps" in output and "Node-0-BPU-net_bpu_segment_0" in output
    assert board.trips() <= 5
    assert board.clean()


def test_an_unknown_host_key_is_refused(board: Sshd) -> None:
    board.know("")
    status, output = board.run(*SHORT)
    assert status == 4 and "Host key verification failed" in output
    assert "host key is unknown or has changed" in output
    board.know((board.folder / "stranger.pub").read_text())
    assert board.run(*SHORT)[0] == 4


def test_a_wrong_key_and_a_dead_board(board: Sshd) -> None:
    board.identify("stranger")
    status, output = board.run(*SHORT)
    assert status == 4 and "Permission denied" in output
    os.killpg(board.process.pid, signal.SIGKILL)
    status, output = board.run(*SHORT)
    assert status == 4 and "Connection refused" in output


def _until_running(board: Sshd) -> None:
    for _ in range(200):
        if board.running() and Path("/tmp/ptqbridge-board.lock").is_symlink():
            return
        time.sleep(0.05)
    raise AssertionError("the run did not start")


def test_a_lost_connection(board: Sshd) -> None:
    board.settings({"HRT_SPEED": "1"})
    process = board.start(*LONG)
    _until_running(board)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 5, output
    assert "the connection broke" in output
    assert board.clean(empty=True)


def test_the_servers_end_of_the_connection_dies(board: Sshd) -> None:
    board.settings({"HRT_SPEED": "1"})
    process = board.start(*LONG)
    _until_running(board)
    parent = int(Path(f"/proc/{board.owner()}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)  # the sshd that serves this session
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 5 and "the connection broke" in output, output
    assert board.clean(empty=True)


def test_a_session_that_is_killed_on_the_board(board: Sshd) -> None:
    """The shell itself is gone, as when memory runs out, while the program goes on: its listener cleans up."""
    board.settings({"HRT_SPEED": "1"})
    process = board.start(*LONG)
    _until_running(board)
    os.kill(board.owner(), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 5 and "the connection broke, or the board died" in output, output
    assert board.clean(empty=True)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped(board: Sshd, sent: signal.Signals, status: int) -> None:
    board.settings({"HRT_SPEED": "1"})
    process = board.start(*LONG)
    _until_running(board)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert board.clean(empty=True)


def test_the_program_dies_on_the_board(board: Sshd) -> None:
    board.settings({"HRT_DIE_AFTER": "200"})
    status, output = board.run(*SHORT)
    assert status == 5 and "ended by signal 9 on the board" in output
    assert board.clean(empty=True)


def test_the_board_is_busy(board: Sshd) -> None:
    board.settings({"HRT_SPEED": "1"})
    first = board.start(*LONG)
    _until_running(board)
    status, output = board.run(*SHORT)
    assert status == 4 and "another run is using the board" in output
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert board.clean()


def test_the_way_from_model_to_figures(board: Sshd, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trtexec-style command line with build and run, against both doubles, over a real connection."""
    board._program("hb_compile", f'exec {sys.executable} {root}/tests/doubles/hb_compile "$@"', "tools")
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", str(board.folder / "tools" / "hb_compile"))
    words = (
        f"--onnx={root}/examples/mynet/mynet.onnx --saveEngine=static.hbm --useCudaGraph --noDataTransfers "
        "--useSpinWait --infStreams=8 --maxAuxStreams=8 --builderOptimizationLevel=5 --threads --best --verbose "
        "--profilingVerbosity=detailed --dumpProfile --dumpLayerInfo --separateProfileRun --avgRuns=100 "
        "--iterations=1000 --duration=0"
    )
    status, output = board.run(*words.split(), command="trtexec")
    assert status == 0, output
    assert "Throughput: " in output and "Timing trace has 1000 queries" in output and "&&&& PASSED" in output
    assert "performance only" in output
    assert (board.folder / "static.hbm").is_file() and board.clean()


def test_infer_and_info(board: Sshd) -> None:
    (board.folder / "x.txt").write_text("1 2 3 4")
    words = ("--loadEngine=net.hbm", "--loadInputs=x:x.txt", "--exportOutput=out.json")
    status, output = board.run(*words, command="infer")
    assert status == 0, output
    assert json.loads((board.folder / "out.json").read_text())[0]["dimensions"] == "1x3"
    board.trips()
    status, output = board.run(*words, "--json", command="infer")
    assert status == 0 and board.trips() <= 5 and board.clean(), output
    status, output = board.run("net.hbm", command="info")
    assert status == 0 and "- out: F32 1x3" in output and "MARCH: nash-m" in output, output
    assert board.trips() <= 5


def test_trips_of_the_largest_run(board: Sshd) -> None:
    """Inputs, outputs, percentiles, a profile, and frames that the time was too short for."""
    (board.folder / "x.bin").write_bytes(bytes(16))
    words: tuple[str, ...] = (
        "--loadEngine=net.hbm",
        "--loadInputs=x:x.bin",
        "--iterations=900",
        "--duration=1",
        "--dumpOutput",
    )
    words = (*words, "--percentile=99", "--dumpProfile", "--separateProfileRun")
    assert board.run(*words)[0] == 0
    board.trips()
    status, output = board.run(*words)
    assert status == 0 and "sending" not in output and "900 queries" in output, output
    assert board.trips() <= 5 and board.clean()


def test_names_of_hosts(board: Sshd) -> None:
    """An alias of the ssh configuration, with its port and user; an IPv6 address; a host that cannot be found."""
    config = board.folder / "ssh_config"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    config.write_text(f"Host lab-board\n  HostName 127.0.0.1\n  Port {board.port}\n  User {user}\n{config.read_text()}")
    status, output = board.run(*SHORT, place="ssh://lab-board")
    assert status == 0 and board.clean(), output
    status, output = board.run(*SHORT, place=f"ssh://{user}@[::1]:{board.port}")
    assert status == 4 and "Connection refused" in output, output  # it listens on IPv4 only; the address was understood
    status, output = board.run(*SHORT, place="ssh://no-such-host.invalid")
    assert status == 4 and "Could not resolve hostname" in output, output


def test_a_server_that_wants_a_password(board: Sshd) -> None:
    """It is never asked for: the run ends at once instead of waiting for somebody to type."""
    os.killpg(board.process.pid, signal.SIGKILL)
    board.process.wait()
    config = board.folder / "sshd_config"
    config.write_text(config.read_text().replace("PasswordAuthentication no", "PasswordAuthentication yes"))
    board.serve()
    board.identify("stranger")
    status, output = board.run(*SHORT)
    assert status == 4 and "Permission denied (publickey,password)" in output, output


def test_odd_names(board: Sshd) -> None:
    name = "a b'c\"d;é $(touch pwned).hbm"
    (board.folder / name).write_text(json.dumps(MODEL))
    status, output = board.run(f"--loadEngine={name}", "--iterations=400", "--duration=0")
    assert status == 0 and board.clean(), output
    assert not list(board.folder.rglob("pwned"))


@pytest.mark.parametrize(
    ("env", "words", "status", "said"),
    [
        ({"HRT_MARCH": "nash-e"}, (), 3, "the model is not for this board"),
        ({"HRT_TRUNCATE": "1"}, ("--dumpProfile",), 5, "profiler.log was cut off"),
        ({"HRT_FULL": "1"}, ("--dumpProfile",), 5, "the board's disk is full"),
        ({"HRT_OLD": "1"}, ("--warmUp=1",), 5, "unknown command line flag 'enable_warmup'"),
        ({}, ("--infStreams=33",), 2, "at most 32"),
        ({}, ("--device=1",), 2, "has only core 0"),
    ],
)
def test_failures(board: Sshd, env: dict[str, str], words: tuple[str, ...], status: int, said: str) -> None:
    board.settings(env)
    found, output = board.run(*SHORT, *words)
    assert found == status and said in output, output
    errors = [line for line in output.splitlines() if "[E]" in line and "hint:" not in line]
    assert len(errors) == 1, output
    assert board.clean(empty=True)


def test_the_program_is_missing_then_brought(board: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = board.folder / "runtime" / "bin"
    runtime.mkdir(parents=True)
    (board.folder / "bin" / "hrt_model_exec").rename(runtime / "hrt_model_exec")
    status, output = board.run(*SHORT)
    assert status == 4 and "hrt_model_exec was not found on the board" in output and board.clean(empty=True)
    monkeypatch.setenv("PTQBRIDGE_HRT_MODEL_EXEC", str(board.folder / "runtime"))
    status, output = board.run(*SHORT)
    assert status == 0 and "sending" in output, output
    board.trips()
    assert board.run(*SHORT)[0] == 0 and board.trips() == 2 and board.clean()


def _tools(board: Sshd, tools: dict[str, str]) -> None:
    """Programs of a compiler on the server's PATH, found there beside each other as when they are installed."""
    for name, command in tools.items():
        board._program(name, f'export PATH={board.folder}/bin:$PATH\nexec {command} "$@"')


def _build(board: Sshd, root: Path, *words: str) -> tuple[int, str]:
    """``ptqbridge build`` for Journey 5 with the compiler on the server."""
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    place = f"--toolchain=ssh://{user}@127.0.0.1:{board.port}"
    environment = {**os.environ, "PATH": f"{board.folder}/client:{os.environ['PATH']}", "PYTHONPATH": f"{root}/src"}
    environment.pop("PTQBRIDGE_HB_MAPPER", None)
    net = f"--onnx={root}/examples/mynet/mynet.onnx"
    argv = [sys.executable, "-m", "ptqbridge", "build", net, "--target=j5", place, "--saveEngine=m.bin", *words]
    done = subprocess.run(
        argv,
        cwd=board.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def _temporary() -> set[Path]:
    return set(Path("/tmp").glob("ptqbridge.*"))


def test_a_compiler_on_another_machine(board: Sshd, root: Path) -> None:
    before = _temporary()
    status, output = _build(board, root, "--int8", f"--calibData={root}/examples/mynet/calib")
    assert status == 4 and "hb_mapper was not found there" in output, output
    doubles = {name: f"{sys.executable} {root}/tests/doubles/{name}" for name in ("hb_mapper", "hbdk-cc")}
    _tools(board, doubles)
    status, output = _build(board, root, "--int8", f"--calibData={root}/examples/mynet/calib")
    assert status == 0 and (board.folder / "m.bin").stat().st_size > 0, output
    assert "End Model Convert" in (board.folder / "m.hb_mapper.log").read_text()
    kept = (board.folder / "m.bin").read_bytes()
    status, output = _build(board, root, "--int8", f"--calibData={root}/examples/mynet/calib", "--calibAlgo=load")
    assert (board.folder / "m.bin").read_bytes() == kept  # refused or failed: the last good one stays
    board.know("")
    status, output = _build(board, root)
    assert status == 4 and "Host key verification failed" in output, output
    assert _temporary() == before


def test_the_real_hb_mapper_on_another_machine(board: Sshd, root: Path, hb_mapper: Path) -> None:
    """The thresholds are those that the same tool finds on this machine."""
    before = _temporary()
    home = hb_mapper.parent
    _tools(board, {path.name: str(path) for path in home.glob("hb*")})
    board._program("python3", f'exec {home}/python3 "$@"')
    words = ("--int8", f"--calibData={root}/examples/mynet/calib", "--calibSamples=20", "--json")
    status, output = _build(board, root, *words)
    assert status == 0, output
    there = json.loads(output[output.index("\n{\n") if not output.startswith("{") else 0 :])
    argv = [sys.executable, "-m", "ptqbridge", "build", f"--onnx={root}/examples/mynet/mynet.onnx", "--target=j5"]
    environment = {**os.environ, "PTQBRIDGE_HB_MAPPER": str(hb_mapper), "PYTHONPATH": f"{root}/src"}
    local = subprocess.run(
        [*argv, *words, "--saveEngine=l.bin"],
        cwd=board.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    here = json.loads(local.stdout)
    for key in ("nodes", "outputs", "calibration", "estimate"):
        facts = [answer["targets"]["bayes"]["build"]["facts"][key] for answer in (there, here)]
        assert facts[0] == facts[1], key
    assert _temporary() == before
