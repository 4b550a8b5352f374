"""What every option becomes on the CPU, in the order of the option table: trtexec's, then our own."""

# isort: off
from ptqbridge.backends.onnxruntime.rules import trtexec
from ptqbridge.backends.onnxruntime.rules import bridge

# isort: on
from ptqbridge.backends.onnxruntime.context import RULES

__all__ = ["RULES", "bridge", "trtexec"]
