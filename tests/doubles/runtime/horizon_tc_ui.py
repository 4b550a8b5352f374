"""A double of the runtime that comes with hb_mapper, for models of standard operators."""

from __future__ import annotations

import onnxruntime


class HB_ONNXRuntime:
    """The part of its interface that is used."""

    def __init__(self, model_file=None, onnx_model=None):
        model = model_file or onnx_model.SerializeToString()
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.output_names = [value.name for value in self._session.get_outputs()]

    def run(self, output_names, input_info):
        return self._session.run(output_names, input_info)
