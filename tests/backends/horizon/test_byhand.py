"""board.sh, run as a person at the board would, with the double of hrt_model_exec."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.plan import Plan

MYNET = "--onnx=examples/mynet/mynet.onnx"
Make = Callable[..., Plan]


def listed(script: str) -> list[str]:
    """The files that the script's head asks for, after the model."""
    return [line[4:].partition(":")[0] for line in script.splitlines() if line.startswith("#   ")][1:]


@pytest.mark.parametrize("given", ["", "--loadInputs=input1:pictures/cat.jpg"])
def test_with_the_files_it_asks_for_it_runs(plan_of: Make, here: Path, tmp_path: Path, given: str) -> None:
    words = f"--iterations=20 --percentile=99 --dumpProfile --dumpOutput {given}"
    script = plan_of(f"{MYNET} {words}", "nash-m", "run").files["board.sh"]
    assert listed(script) == ["input1_y.bin", "input1_uv.bin"]
    assert "uint8 1x14x14x2, the chroma of NV12" in script and "cat.jpg" not in script
    sizes = {"input1_y": [1, 28, 28, 1], "input1_uv": [1, 14, 14, 2]}
    model = {
        "name": "mynet",
        "desc": {"MARCH": "nash-m"},
        "inputs": [{"name": name, "shape": shape, "type": "U8"} for name, shape in sizes.items()],
        "outputs": [{"name": "out", "shape": [1, 10], "type": "F32"}],
    }
    folder = tmp_path / "by hand"
    (folder / "model_output").mkdir(parents=True)
    (folder / "model_output" / "mynet.hbm").write_text(json.dumps(model))
    (folder / "input1_y.bin").write_bytes(bytes(784))
    (folder / "input1_uv.bin").write_bytes(bytes(392))
    (folder / "board.sh").write_text(script)
    done = subprocess.run(["sh", folder / "board.sh"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Infer time:") == 21
    assert {"profile", "model_infer_output_0_out.bin"} <= {path.name for path in folder.iterdir()}


def test_perf_alone_makes_up_its_inputs(plan_of: Make) -> None:
    script = plan_of(f"{MYNET} --iterations=20", "nash-m", "run").files["board.sh"]
    assert not listed(script) and "input_file" not in script and "mkdir" not in script


def test_a_loaded_artifact_lies_beside_the_script(plan_of: Make) -> None:
    script = plan_of("--loadEngine=out/m.hbm --percentile=99 --loadInputs=a:a.bin", "nash-m", "run").files["board.sh"]
    assert "--model_file=m.hbm" in script and script.count("--input_file=a.bin") == 2
    assert "hrt_model_exec model_info" in script.splitlines()[3]


def test_journey_5_takes_nv12_in_one_file(plan_of: Make, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("input_parameters: {input_type_rt: nv12}\n")
    words = f"--calibData=c --scale=1 --percentile=99 --horizonYaml={over}"
    script = plan_of(f"{MYNET} {words}", "bayes", "run").files["board.sh"]
    assert "#   input1.bin: NV12 in one file" in script and "--input_file=input1.bin" in script
