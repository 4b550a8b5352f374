"""Times the calibration stage of Horizon's hb_mapper and stops there; run by the tool's own Python, not by ours.

    VENV/bin/python benchmarks/_hb_mapper_calibration.py MODEL.onnx SAMPLES.npy METHOD

Prints a JSON line: wall and CPU seconds from where the tool logs "Start to calibrate the model" to where it logs the
end (hb_mapper 1.24.3, hmct 1.1.0). Neither its preparation before nor quantization and compilation after are counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np
from horizon_nn.api import build_onnx
from horizon_nn.builder.model_builder import ModelBuilder


def main() -> None:
    model, samples, method = sys.argv[1:]
    data = np.load(samples)
    calibrate = ModelBuilder.calibrate

    def timed(builder: Any, *arguments: Any) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        calibrate(builder, *arguments)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)
        os._exit(0)

    ModelBuilder.calibrate = timed
    import onnx

    name = onnx.load(model).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        calibration = {"calibration_type": method, "calibration_data": {name: list(data)}}
        build_onnx(model, "bayes", name_prefix="x", cali_dict=calibration)


if __name__ == "__main__":
    main()
