"""The CPU target: a real INT8 post-training quantization, run and timed by ONNX Runtime."""
