"""INT8 against FP32 on this CPU: one thread, arms interleaved, medians of the per-round ratios.

    python benchmarks/int8_vs_fp32.py [--rounds 9] [--peer] [--json FILE] [MODEL ...]

Arms: ``fp32``; ``int8``, what ptqbridge builds here (reduced weight range where the CPU saturates); ``full`` and
``reduced``, both ranges by force; ``exact``, the full range with ONNX Runtime's slower exact kernels
(``session.x64quantprecision``); with ``--peer`` also ``onnxruntime``: its own quantize_static (QDQ, per channel, uint8
activations, MinMax). The cosines compare the outputs with those of the float model, and with those of the same
quantized file executed node by node in float: where the latter is low, the integer kernels saturate (or, in a deep
network of random weights, roundings that differ by one have grown). Times are CPU time of the calling thread, so that
other load disturbs little.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from models import MODELS, images, model_path

from ptqbridge.model.load import load_model
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.cpu import integer_unit
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.qdq import quantize
from ptqbridge.quantize.report import kernel_report


def session(model: onnx.ModelProto, *, plain: bool = False, exact: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def peer(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> onnx.ModelProto:
    """ONNX Runtime's own quantizer on the prepared model."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def race(
    arms: dict[str, onnxruntime.InferenceSession], feed: dict[str, Any], rounds: int
) -> dict[str, dict[str, float]]:
    """Milliseconds per inference and speed over the first arm; each round visits every arm."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for item in arms.values():
        item.run(None, feed)
    for _ in range(rounds):
        for name, item in arms.items():
            started = time.thread_time()
            for _ in range(3):
                item.run(None, feed)
            times[name].append((time.thread_time() - started) / 3 * 1e3)
    base = np.array(next(iter(times.values())))
    return {
        name: {"ms": float(np.median(found)), "speedup": float(np.median(base / np.array(found)))}
        for name, found in times.items()
    }


def cosine(one: list[Any], other: list[Any]) -> float:
    a, b = (np.concatenate([item.ravel() for item in side]).astype(np.float64) for side in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def measure(name: str, rounds: int, with_peer: bool) -> dict[str, Any]:
    model = load_model(model_path(name))
    shape = tuple(int(dim) for dim in model.inputs[0].shape)
    inner = model.inputs[0].name
    feeds = [{inner: image} for image in images(shape, 8, seed=7)]
    feed = {inner: images(shape, 1, seed=99)[0]}
    prepared = prepare(model.proto, feeds[0]).proto
    ranges = calibrate(prepared, observed_tensors(prepared), feeds, algorithm="max")
    unit = integer_unit()
    full, reduced = (quantize(prepared, ranges, reduce_range=reduce) for reduce in (False, True))
    models = {"int8": reduced if unit.reduce_range else full, "full": full, "reduced": reduced, "exact": full}
    if with_peer:
        models["onnxruntime"] = peer(prepared, feeds)
    arms = {"fp32": session(model.proto)} | {arm: session(item, exact=arm == "exact") for arm, item in models.items()}
    expected = arms["fp32"].run(None, feed)
    result: dict[str, Any] = {"model": name, "kernels": kernel_report(prepared, models["int8"]).summary(), "arms": {}}
    for arm, times in race(arms, feed, rounds).items():
        found = arms[arm].run(None, feed)
        row: dict[str, Any] = {**times, "cosine": cosine(expected, found)}
        if arm != "fp32":
            written = session(models[arm], plain=True).run(None, feed)
            row["cosine_own_file"] = cosine(written, found)
        result["arms"][arm] = row
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all when none is given")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", action="store_true", help="also ONNX Runtime's own quantizer")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    unknown = set(options.models) - set(MODELS)
    if unknown:
        parser.error(f"unknown model {', '.join(sorted(unknown))}; expected some of {', '.join(MODELS)}")
    unit = integer_unit()
    print(f"onnxruntime {onnxruntime.__version__}, one thread, {options.rounds} rounds; {unit.why}\n")
    print("| model | arm | ms | speed over fp32 | cosine with fp32 | cosine with its own file |")
    print("|---|---|---|---|---|---|")
    results = []
    for name in options.models or MODELS:
        results.append(measure(name, options.rounds, options.peer))
        for arm, row in results[-1]["arms"].items():
            own = f"{row['cosine_own_file']:.5f}" if "cosine_own_file" in row else ""
            print(
                f"| {name} | {arm} | {row['ms']:.2f} | {row['speedup']:.2f} | {row['cosine']:.5f} | {own} |", flush=True
            )
    print()
    for item in results:
        print(f"{item['model']}: {'; '.join(item['kernels'])}")
    if options.json:
        record = {"onnxruntime": onnxruntime.__version__, "cpu": unit.why, "rounds": options.rounds, "results": results}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
