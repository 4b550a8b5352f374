"""Every option, once: trtexec's of 8.6.1, 10.x and 11.x, and our own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from ptqbridge.options.option import Option
from ptqbridge.options.rows_bridge import BRIDGE_ROWS
from ptqbridge.options.rows_build import BUILD_ROWS
from ptqbridge.options.rows_network import NETWORK_ROWS
from ptqbridge.options.rows_run import RUN_ROWS

OPTIONS: tuple[Option, ...] = (*NETWORK_ROWS, *BUILD_ROWS, *RUN_ROWS, *BRIDGE_ROWS)
BY_NAME: Mapping[str, Option] = MappingProxyType({option.name: option for option in OPTIONS})
BY_SPELLING: Mapping[str, Option] = MappingProxyType(
    {spelling: option for option in OPTIONS for spelling in option.spellings}
)


def nearest(spelling: str) -> str:
    """The known spelling most like an unknown one, or ``""``."""
    lowered = {known.lower(): known for known in BY_SPELLING}
    dashed = "--" + spelling.lower().strip("-")
    found = difflib.get_close_matches(dashed, lowered, n=1, cutoff=0.7)
    return lowered[found[0]] if found else ""
