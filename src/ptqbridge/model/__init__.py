"""ONNX models: loading with clear errors, checking, external data, saving."""
