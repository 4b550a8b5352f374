"""All rules of the BPU targets, in the order of the option table."""

# isort: off
from ptqbridge.backends.horizon.rules import network
from ptqbridge.backends.horizon.rules import precision
from ptqbridge.backends.horizon.rules import build
from ptqbridge.backends.horizon.rules import inference
from ptqbridge.backends.horizon.rules import reporting
from ptqbridge.backends.horizon.rules import bridge

# isort: on
from ptqbridge.backends.horizon.rules.book import RULES

__all__ = ["RULES", "bridge", "build", "inference", "network", "precision", "reporting"]
