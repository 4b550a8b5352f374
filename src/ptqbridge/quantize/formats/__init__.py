"""Files that hold the ranges of a calibration: our own, TensorRT's and ONNX Runtime's, and turning one into another."""

from ptqbridge.quantize.formats.forms import Form, Loss
from ptqbridge.quantize.formats.reading import Loaded, read_ranges
from ptqbridge.quantize.formats.writing import Written, form_of, render, write_ranges

__all__ = ["Form", "Loaded", "Loss", "Written", "form_of", "read_ranges", "render", "write_ranges"]
