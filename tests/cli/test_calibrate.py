"""``calibrate``: every form of output, the commands on files, exit statuses, and wrong input in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptqbridge.options.rows_bridge import ALGORITHMS as OFFERED
from ptqbridge.quantize.calibrate import ALGORITHMS
from ptqbridge.quantize.formats import read_ranges

Ptq = Callable[..., object]


@pytest.fixture
def few(mynet: Path) -> list[str]:
    """The options for the example network with eight samples."""
    return [f"--onnx={mynet}/mynet.onnx", f"--calibData={mynet}/calib", "--calibSamples=8"]


@pytest.fixture
def cache(ptq: Ptq, few: list[str], tmp_path: Path) -> Path:
    """A TensorRT cache of the example network."""
    assert ptq("calibrate", *few, "--out=m.cache").status == 0
    return tmp_path / "m.cache"


def test_offered_algorithms_are_those_of_the_collector() -> None:
    assert set(OFFERED) <= set(ALGORITHMS)


def test_the_default_product_is_ranges_json_of_all_tensors(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    answer = ptq("calibrate", *few)
    assert answer.status == 0, answer.err
    loaded = read_ranges(tmp_path / "mynet.ranges.json")
    assert (loaded.ranges.scheme, loaded.ranges.method, len(loaded.ranges.tensors)) == ("tensorrt", "percentile", 10)
    assert "lost: nothing" in answer.out
    assert "wrote mynet.ranges.json" in answer.out


@pytest.mark.parametrize("algorithm", OFFERED)
def test_every_algorithm(ptq: Ptq, few: list[str], tmp_path: Path, algorithm: str) -> None:
    answer = ptq("calibrate", *few, f"--calibAlgo={algorithm}", "--out=r.json")
    assert answer.status == 0, answer.err
    assert read_ranges(tmp_path / "r.json").ranges.method == algorithm
    assert ("chosen: " in answer.out) == (algorithm in ("default", "mix"))


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ([], "TRT-8601-EntropyCalibration2"),
        (["--calibAlgo=max", "--trtVersion=10.13.3"], "TRT-101303-MinMaxCalibration"),
        (["--calibAlgo=max", "--trtCalibrator=entropy2"], "TRT-8601-EntropyCalibration2"),
        (["--calibAlgo=percentile"], "TRT-8601-EntropyCalibration2"),
    ],
)
def test_a_tensorrt_cache_covers_the_network(
    ptq: Ptq, few: list[str], mynet: Path, tmp_path: Path, words: list[str], first: str
) -> None:
    answer = ptq("calibrate", *few, "--out=m.cache", *words)
    assert answer.status == 0, answer.err
    assert (tmp_path / "m.cache").read_text().partition("\n")[0] == first
    assert "lost: asymmetry" in answer.out
    check = ptq("calibrate", "verify", "m.cache", f"--onnx={mynet}/mynet.onnx", "--minCoverage=100")
    assert check.status == 0
    assert "100.0 %" in check.out


def test_scheme_follows_the_target(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    assert ptq("calibrate", *few, "--target=cpu", "--out=cpu.json").status == 0
    ranges = read_ranges(tmp_path / "cpu.json").ranges
    assert len(ranges.tensors) == 3 and ranges.method == "default"
    assert ptq("calibrate", *few, "--target=cpu", "--scheme=tensorrt", "--out=all.json").status == 0
    assert len(read_ranges(tmp_path / "all.json").ranges.tensors) == 10


def test_json_answer(ptq: Ptq, few: list[str]) -> None:
    answer = ptq("calibrate", *few, "--out=m.cache", "--json")
    record = json.loads(answer.out)
    assert record["ok"] and record["form"] == "TensorRT cache"
    assert (record["method"], record["samples"], record["tensors"]) == ("entropy2", 8, 10)
    assert {loss["what"] for loss in record["lost"]} >= {"asymmetry", "provenance"}


@pytest.mark.parametrize(("target", "suffix"), [("j5", ".bin"), ("x5", ".bin"), ("j6m", ".npy"), ("s100", ".npy")])
def test_a_folder_holds_horizon_data(ptq: Ptq, few: list[str], tmp_path: Path, target: str, suffix: str) -> None:
    answer = ptq("calibrate", *few, f"--target={target}", "--out=data", "--json")
    assert answer.status == 0, answer.err
    record = json.loads(answer.out)
    files = sorted(Path(record["folders"]["input1"]).iterdir())
    assert len(files) == record["samples"] == 8
    assert {path.suffix for path in files} == {suffix}
    assert ("mean_value" in record["yaml"]) == (suffix == ".bin")


def test_preset_and_fractions_reach_the_samples(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    words = ["--preset=raw", "--scale=1/255", "--mean=1/2", "--std=0.5", "--resizeFilter=nearest"]
    answer = ptq("calibrate", *few, *words, "--target=j6e", "--out=data")
    assert answer.status == 0, answer.err
    assert "(nearest)" in answer.out and "(pixel * 1/255 - 0.5) / 0.5" in answer.out
    array = np.load(tmp_path / "data" / "input1" / "00000.npy")
    assert array.min() == -1.0 and array.max() <= 1.0


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--fp16"], 2, "--fp16: calibrate has no use for it"),
        (["--out=x.txt"], 2, "expected a folder for Horizon's data"),
        (["--out=folder"], 2, "say which with --target"),
        (["--out=folder", "--target=trt"], 2, "say which with --target"),
        (["--out=folder", "--target=j5", "--calibAlgo=max"], 2, "--calibAlgo: no ranges are found"),
        (["--out=no/r.json"], 3, "its folder does not exist"),
        (["--out=m.cache", "--trtVersion=11.0"], 2, "TensorRT 11 has no calibrators"),
        (["--out=m.cache", "--trtVersion=new"], 2, "--trtVersion: expected a version"),
        (["--calibAlgo=best"], 2, "--calibAlgo"),
        (["--scheme=fancy"], 2, "--scheme"),
        (["--target=j5", "--target=trt"], 2, "this command takes one target"),
        (["--memCap=0"], 2, "--memCap: expected a size above 0"),
        (["--memCap=1K"], 2, "memory cap"),
        (["--std=1/0"], 2, "--std: expected a fraction"),
    ],
)
def test_wrong_options_are_one_line(
    ptq: Ptq, few: list[str], tmp_path: Path, words: list[str], status: int, text: str
) -> None:
    answer = ptq("calibrate", *few, *words)
    assert answer.status == status
    assert text in answer.err
    assert len([line for line in answer.err.splitlines() if not line.startswith("  hint")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(ptq: Ptq, mynet: Path) -> None:
    assert "--calibData" in ptq("calibrate", f"--onnx={mynet}/mynet.onnx").err
    assert ptq("calibrate", f"--calibData={mynet}/calib").status == 2
    assert ptq("calibrate", f"--onnx={mynet}/mynet.onnx", "--calibData=nowhere").status == 3


def test_a_job_file_may_hold_other_options(ptq: Ptq, mynet: Path, tmp_path: Path) -> None:
    job = f"onnx: {mynet}/mynet.onnx\ncalibData: {mynet}/calib\ncalibSamples: 4\nint8: true\nscale: 1/255\n"
    (tmp_path / "job.yaml").write_text(job)
    answer = ptq("calibrate", "--config=job.yaml")
    assert answer.status == 0, answer.err
    assert "not used here, from the job file: int8" in answer.out


def test_help_and_unknown_words(ptq: Ptq) -> None:
    answer = ptq("calibrate", "--help")
    assert answer.status == 0
    assert "--trtVersion" in answer.out and "convert A B" in answer.out and "--fp16" not in answer.out
    wrong = ptq("calibrate", "verfy", "x")
    assert wrong.status == 2
    assert "did you mean verify?" in wrong.err
    for name in ("convert", "show", "diff", "verify"):
        assert ptq("calibrate", name, "--help").status == 0


def test_an_interrupted_calibration_leaves_nothing(
    program: Callable[..., subprocess.Popen[str]], mynet: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nimport numpy as np\n\n\ndef samples():\n"
        "    for _ in range(400):\n        time.sleep(0.1)\n"
        "        yield {'input1': np.zeros((1, 3, 28, 28), np.float32)}\n"
    )
    process = program("calibrate", f"--onnx={mynet}/mynet.onnx", "--calibData=slow.py:samples", "--out=m.cache")
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "ptqbridge: interrupted"
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"slow.py", "tmp"}


def test_convert_there_and_back_is_bit_exact(ptq: Ptq, cache: Path, tmp_path: Path) -> None:
    before = cache.read_bytes()
    assert ptq("calibrate", "convert", cache, "r.json").status == 0
    answer = ptq("calibrate", "convert", "r.json", "again.cache")
    assert "lost: nothing" in answer.out
    assert (tmp_path / "again.cache").read_bytes() == before


def test_convert_says_what_is_lost(ptq: Ptq, few: list[str], mynet: Path, tmp_path: Path) -> None:
    ptq("calibrate", *few, "--out=r.json")
    text = ptq("calibrate", "convert", "r.json", "r.ort.json").out
    assert "lost: origin: 8 samples" in text
    record = json.loads(ptq("calibrate", "convert", "r.ort.json", "r.cache", "--trtVersion=8.5.2", "--json").out)
    assert {loss["what"] for loss in record["lost"]} >= {"method_word", "asymmetry"}
    assert (tmp_path / "r.cache").read_text().startswith("TRT-8502-EntropyCalibration2\n")


def test_convert_gives_the_names_of_a_model(ptq: Ptq, cache: Path, mynet: Path, tmp_path: Path) -> None:
    renamed = cache.read_text().replace("features.2/Relu_output_0", "fused_7") + "ghost: 3c010a14\n"
    (tmp_path / "old.cache").write_text(renamed)
    answer = ptq("calibrate", "convert", "old.cache", "new.cache", f"--onnx={mynet}/mynet.onnx")
    assert answer.status == 0, answer.err
    assert "1 names differ and were matched to the model's by position" in answer.out
    assert "lost: names: 1 tensor left out" in answer.out and "'ghost'" in answer.out
    assert (tmp_path / "new.cache").read_bytes() == cache.read_bytes()


def test_show(ptq: Ptq, cache: Path) -> None:
    answer = ptq("calibrate", "show", cache)
    assert answer.status == 0
    assert "header TRT-8601-EntropyCalibration2, 10 tensors" in answer.out
    assert re.search(r"^output1 +-[\d.]+ +[\d.]+ ", answer.out, re.MULTILINE)
    record = json.loads(ptq("calibrate", "show", cache, "--json").out)
    assert record["tensors"]["output1"]["amax"] == record["tensors"]["output1"]["max"]


def test_diff_and_its_limit(ptq: Ptq, few: list[str], cache: Path) -> None:
    ptq("calibrate", *few, "--calibAlgo=max", "--out=max.json")
    answer = ptq("calibrate", "diff", cache, "max.json", "--top=2")
    assert answer.status == 0
    assert "... and 8 that are nearer" in answer.out
    strict = ptq("calibrate", "diff", cache, "max.json", "--limit=1.01", "--json")
    record = json.loads(strict.out)
    assert strict.status == record["exit_status"] == 6 and not record["ok"]
    factors = [max(row["ratio"], 1 / row["ratio"]) for row in record["tensors"]]
    assert factors == sorted(factors, reverse=True) and factors[0] == pytest.approx(record["largest_factor"])
    assert ptq("calibrate", "diff", cache, cache, "--limit=1").status == 0
    assert ptq("calibrate", "diff", cache, cache, "--limit=0.5").status == 2


def test_diff_of_strangers(ptq: Ptq, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [0, 1], "b": [0, 1]}')
    (tmp_path / "b.json").write_text('{"c": [0, 1]}')
    answer = ptq("calibrate", "diff", "a.json", "b.json")
    assert answer.status == 6
    assert "no tensor in common" in answer.err


def test_verify_names_what_is_missing_and_foreign(ptq: Ptq, cache: Path, mynet: Path, tmp_path: Path) -> None:
    lines = cache.read_text().splitlines()
    (tmp_path / "part.cache").write_text("\n".join([*lines[:4], "ghost: 3c010a14"]) + "\n")
    words = ("calibrate", "verify", "part.cache", f"--onnx={mynet}/mynet.onnx")
    answer = ptq(*words)
    assert answer.status == 0
    assert "covers 3 of the 10 tensors" in answer.out
    assert "not in the model (1): ghost" in answer.out
    limited = ptq(*words, "--minCoverage=90", "--json")
    assert limited.status == 6
    assert json.loads(limited.out)["percent"] == pytest.approx(30.0)
    assert ptq(*words, "--scheme=onnxruntime").out.count("of the 3 tensors") == 1


def test_verify_says_when_the_model_is_another(ptq: Ptq, few: list[str], mynet: Path) -> None:
    ptq("calibrate", *few, "--out=r.json")
    answer = ptq("calibrate", "verify", "r.json", f"--onnx={mynet}/mynet_dynamic.onnx")
    assert "found on another model file" in answer.out
    assert "another model file" not in ptq("calibrate", "verify", "r.json", f"--onnx={mynet}/mynet.onnx").out


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["convert", "m.cache", "b.txt"], 2),
        (["convert", "m.cache", "b.cache", "--trtVersion=11.0"], 2),
        (["convert", "missing", "b.json"], 3),
        (["convert", "m.cache", "no/b.json"], 3),
        (["convert", "m.cache"], 2),
        (["show", "."], 3),
        (["verify", "m.cache"], 2),
        (["verify", "m.cache", "--onnx=missing.onnx"], 3),
        (["show", "m.cache", "--what"], 2),
    ],
)
def test_wrong_calls_of_the_file_commands(ptq: Ptq, cache: Path, words: list[str], status: int) -> None:
    before = sorted(os.listdir(cache.parent))
    answer = ptq("calibrate", *words)
    assert answer.status == status
    assert answer.err.startswith("ptqbridge: error: ")
    assert sorted(os.listdir(cache.parent)) == before


def test_convert_data_between_the_generations(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    assert ptq("calibrate", *few, "--target=j5", "--out=five").status == 0
    assert ptq("calibrate", *few, "--target=j6m", "--out=six").status == 0
    there = ptq("calibrate", "convert", "five", "made6", "--target=j6e")
    assert there.status == 0 and "Journey 5 data, 8 samples" in there.out and "lost: nothing" in there.out
    back = json.loads(ptq("calibrate", "convert", "six", "made5", "--json").out)
    assert back["lost"] == [] and back["yaml"]["norm_type"] == "data_mean_and_scale"
    for made, own in (("made6/input1/00003.npy", "six/input1/00003.npy"), ("made5", "five")):
        if made == "made5":
            made, own = "made5/input1_f32/00003.bin", "five/input1_f32/00003.bin"
        assert (tmp_path / made).read_bytes() == (tmp_path / own).read_bytes()


def test_data_of_a_compiler_give_the_same_ranges(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    """Journey 5's pixels must not be taken for what the float model wants."""
    assert ptq("calibrate", *few, "--target=j5", "--out=five").status == 0
    assert ptq("calibrate", *few, "--out=a.json").status == 0
    assert ptq("calibrate", few[0], "--calibData=five", "--out=b.json").status == 0
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert one["tensors"] == other["tensors"] and one["details"]["recipes"] == other["details"]["recipes"]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["m.cache", "folder"], 2, "ranges hold no samples"),
        (["five", "x.cache"], 2, "samples become ranges only by running the model"),
        (["five", "other", "--target=trt"], 2, "expected one of Horizon's"),
        ([".", "other"], 3, "found a folder that calibrate did not write"),
        (["m.cache", "other", "--target=j5"], 3, "found no folder"),
    ],
)
def test_what_cannot_be_converted(
    ptq: Ptq, cache: Path, few: list[str], words: list[str], status: int, text: str
) -> None:
    assert ptq("calibrate", *few, "--target=j5", "--out=five").status == 0
    answer = ptq("calibrate", "convert", *words)
    assert answer.status == status and text in answer.err


def test_legacy_takes_quantile_and_cutoff(ptq: Ptq, few: list[str], tmp_path: Path) -> None:
    words = ("--calibAlgo=legacy", "--calibPercentile=99", "--calibCutoff=0.5", "--out=a.json")
    answer = ptq("calibrate", *few, *words)
    assert answer.status == 0 and "says nothing" not in answer.out
    details = json.loads((tmp_path / "a.json").read_text())["details"]
    assert (details["percentile"], details["regression_cutoff"]) == (99, 0.5)


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["--calibAlgo=max", "--calibPercentile=99"], "note: --calibPercentile says nothing to --calibAlgo=max"),
        (["--calibCutoff=0.5"], "note: --calibCutoff says nothing to --calibAlgo=percentile"),
        (["--trtVersion=8.6.1"], "note: --trtVersion says nothing to ranges.json"),
    ],
)
def test_options_without_effect_are_told(ptq: Ptq, few: list[str], words: list[str], note: str) -> None:
    answer = ptq("calibrate", *few, *words, "--out=a.json")
    assert answer.status == 0 and note in answer.out.splitlines()


@pytest.mark.parametrize("word", ["load", "skip"])
def test_methods_of_builds_find_no_ranges(ptq: Ptq, few: list[str], word: str) -> None:
    answer = ptq("calibrate", *few, f"--calibAlgo={word}")
    assert answer.status == 2 and f"--calibAlgo={word}: expected a method" in answer.err
