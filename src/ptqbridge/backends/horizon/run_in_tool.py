"""Runs a quantized model of hb_mapper in the tool's own ONNX Runtime; started with the tool's Python.

``python run_in_tool.py JOB.json``; the job names the model, the files of the inputs (.npy, rows along axis 0), tensors
wanted besides the outputs, and where their names go; the tensors go to out_0.npy and so on. Nothing of ours is
imported, since that Python does not have it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main(job_path: str) -> int:
    """Run all rows, as many at a time as the model's batch takes."""
    with open(job_path, encoding="utf-8") as file:
        job: dict[str, Any] = json.load(file)
    import onnx
    from horizon_tc_ui import HB_ONNXRuntime

    model = onnx.load(job["model"])
    have = {value.name for value in model.graph.output}
    for name in job["tensors"]:
        if name not in have:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    sizes = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.input}
    runtime = HB_ONNXRuntime(onnx_model=model)
    rows = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in job["inputs"].items()}
    first = next(iter(rows))
    batch = max(sizes[first], 1)
    parts: list[list[Any]] = []
    for number in range(len(rows[first]) // batch):
        feeds = {}
        for name, array in rows.items():
            size = max(sizes[name], 1)
            feeds[name] = np.ascontiguousarray(array[number * size : (number + 1) * size])
        parts.append(runtime.run(None, feeds))
    names = list(runtime.output_names)
    for number in range(len(names)):
        np.save(f"out_{number}.npy", np.concatenate([np.atleast_1d(part[number]) for part in parts]))
    with open(job["answer"], "w", encoding="utf-8") as file:
        json.dump(names, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
