"""Calibration and quantization on ONNX: ranges, placement of Q/DQ, integer weights."""
