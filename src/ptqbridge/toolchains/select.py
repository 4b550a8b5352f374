"""``local | docker:IMAGE | ssh://HOST`` as a user writes it."""

from __future__ import annotations

import re

from ptqbridge.errors import OptionError
from ptqbridge.toolchains.program import Toolchain

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


def select(text: str) -> Toolchain:
    """The toolchain of ``text``. Raises OptionError for anything else, a host that looks like an option included."""
    if text in ("", "local"):
        from ptqbridge.toolchains.local import Local

        return Local()
    kind, separator, rest = text.partition(":")
    if kind == "docker" and separator and _IMAGE.fullmatch(rest):
        from ptqbridge.toolchains.docker import Docker

        return Docker(rest)
    from ptqbridge.toolchains.ssh import Ssh, address

    found = address(text)
    if found:
        return Ssh(*found)
    raise OptionError(f"--toolchain: expected local, docker:IMAGE or ssh://[USER@]HOST[:PORT], found {text!r}")
