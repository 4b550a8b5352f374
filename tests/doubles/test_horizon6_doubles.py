"""The doubles of hb_compile and hrt_model_exec keep the documented quirks that our code has to live with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tool(root: Path, tmp_path: Path) -> Run:
    """``tool(name, *words, **env)`` runs a double in an empty folder."""
    import os

    def call(name: str, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(root / "tests" / "doubles" / name), *map(str, words)]
        return subprocess.run(argv, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True)

    return call


@pytest.fixture
def mynet(root: Path) -> Path:
    """The example network."""
    return root / "examples" / "mynet" / "mynet.onnx"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--march", "nash-m", "-m", "MODEL"], 0),
        (["--fast-perf", "-m=MODEL", "--march=nash-m"], 2),  # click's short options take no "="
        (["--fast-perf", "--model=MODEL", "--march=nash-m"], 0),
        (["--fast-perf", "-m", "MODEL"], 255),  # no march
        (["-m", "MODEL", "--march", "bayes"], 2),
        (["-m", "nowhere.onnx", "--march", "nash-m"], 2),
        (["-m", "MODEL", "--march", "nash-m", "--marchh", "x"], 2),
        (["-m", "MODEL", "--march", "nash-m", "-i", "input1=1x3x28x28"], 2),  # a second word is missing
        (["-m", "MODEL", "--march", "nash-m", "-i", "input1", "1x3x28x28"], 0),
        (["--fast-perf", "-m", "MODEL", "--march", "nash-m", "-i", "input1", "1x3x32x32"], 255),
        ([], 255),
    ],
)
def test_grammar_and_statuses(tool: Run, mynet: Path, words: list[str], status: int) -> None:
    done = tool("hb_compile", *(word.replace("MODEL", str(mynet)) for word in words))
    assert done.returncode == status, done.stderr


def _config(mynet: Path, **compiler: object) -> str:
    inputs = {"input_type_rt": "featuremap", "input_type_train": "featuremap"}
    model = {"onnx_model": str(mynet), "march": "nash-e"}
    config = {"model_parameters": model, "input_parameters": inputs, "compiler_parameters": compiler}
    return yaml.safe_dump(config)


def test_only_the_first_fault_is_told_and_the_log_stays_behind(tool: Run, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(_config(mynet, optimize_level="O3", core_num=9))
    done = tool("hb_compile", "-c", "c.yaml")
    assert done.returncode == 255
    assert "optimize_level" in done.stderr and "core_num" not in done.stderr
    assert (tmp_path / "hb_compile.log").is_file() and not (tmp_path / "model_output" / "hb_compile.log").exists()
    (tmp_path / "c.yaml").write_text(_config(mynet, debug="True"))
    assert tool("hb_compile", "-c", "c.yaml").returncode == 1


def test_skip_and_products(tool: Run, mynet: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(_config(mynet))
    out = tmp_path / "model_output"
    assert tool("hb_compile", "-c", "c.yaml", "--skip", "export").returncode == 0
    assert (out / "model_ptq_model.onnx").is_file() and not (out / "model_quantized_model.bc").exists()
    assert tool("hb_compile", "-c", "c.yaml", "--skip", "compile").returncode == 0
    assert (out / "model_quantized_model.bc").is_file() and not (out / "model.hbm").exists()
    assert tool("hb_compile", "-c", "c.yaml").returncode == 0
    assert (out / "model.hbm").is_file() and (out / "hb_compile.log").is_file()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A board model of the double's own form."""
    content = {
        "name": "net",
        "desc": {"MARCH": "nash-m", "CORE_NUM": 1},
        "inputs": [
            {"name": "x_y", "shape": [1, 4, 4, 1], "type": "U8"},
            {"name": "x_uv", "shape": [1, 8], "type": "U8"},
        ],
        "outputs": [{"name": "_output_0", "shape": [1, 3], "type": "F32"}],
    }
    (tmp_path / "net.hbm").write_text(json.dumps(content))
    (tmp_path / "net.bin").write_text(json.dumps(content))
    return tmp_path / "net.hbm"


def test_gflags(tool: Run, model: Path, tmp_path: Path) -> None:
    for name, size in (("y.bin", 16), ("uv.bin", 8)):
        (tmp_path / name).write_bytes(bytes(size))
    infer = ("infer", f"--model_file={model}", "--input_file=y.bin,uv.bin")
    tool("hrt_model_exec", *infer, "--enable_dump", "false")  # a boolean reads no next word
    assert (tmp_path / "model_infer_output_0__output_0.bin").stat().st_size == 12
    (tmp_path / "model_infer_output_0__output_0.bin").unlink()
    for off in ("--enable_dump=false", "--noenable_dump"):
        assert tool("hrt_model_exec", *infer, "--enable_dump=true", off).returncode == 0
        assert not list(tmp_path.glob("model_infer_output*"))
    assert tool("hrt_model_exec", *infer, "--nonsense=1").returncode != 0
    assert "input files given" in tool("hrt_model_exec", *infer[:2], "--input_file=y.bin").stderr
    assert tool("hrt_model_exec", "--model_file", model, "perf").returncode != 0  # the subcommand comes first


def test_threads_and_result_block(tool: Run, model: Path) -> None:
    perf = ("perf", f"--model_file={model}")
    assert "out of range" in tool("hrt_model_exec", *perf, "--thread_num=33").stderr
    journey5 = tool("hrt_model_exec", "perf", f"--model_file={model.with_suffix('.bin')}", "--thread_num=33")
    assert "Thread number is: 8" in journey5.stdout
    assert "Frame count: 200," in tool("hrt_model_exec", *perf).stdout
    assert "Frame count: " not in tool("hrt_model_exec", *perf, "--frame_count=150").stdout
    died = tool("hrt_model_exec", *perf, "--frame_count=400", HRT_DIE_AFTER="200")
    assert died.returncode != 0 and "Frame count" not in died.stdout.split("Load model")[0]
    assert "Perf result" not in died.stdout
    missing = tool("hrt_model_exec", "perf", "--model_file=none.hbm")
    assert missing.returncode != 0 and "error code" in missing.stderr
