"""Every option's rule, in the order of the option table: network, build, run, our own options."""

from __future__ import annotations

from functools import partial

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.bridge import BRIDGE
from ptqbridge.backends.tensorrt.rules.build import BUILD
from ptqbridge.backends.tensorrt.rules.inference import INFERENCE
from ptqbridge.backends.tensorrt.rules.later import LATER
from ptqbridge.backends.tensorrt.rules.network import NETWORK
from ptqbridge.backends.tensorrt.rules.precision import PRECISION
from ptqbridge.backends.tensorrt.rules.reporting import REPORTING
from ptqbridge.backends.tensorrt.rules.search import SEARCH
from ptqbridge.rulebook import Rulebook

RULES: Rulebook[Context] = Rulebook("tensorrt")
for _part in (NETWORK, PRECISION, BUILD, SEARCH, LATER, INFERENCE, REPORTING, BRIDGE):
    for _name in _part:
        RULES.rule(_name)(partial(_part.apply, _name))

__all__ = ["RULES"]
