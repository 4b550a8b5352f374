"""``local | docker:IMAGE | ssh://HOST`` as a user writes it."""

from __future__ import annotations

import re

from ptqbridge.errors import OptionError
from ptqbridge.toolchains.program import Toolchain

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_HOST = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?"
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?)\]))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


def select(text: str) -> Toolchain:
    """The toolchain of ``text``. Raises OptionError for anything else, a host that looks like an option included."""
    if text in ("", "local"):
        from ptqbridge.toolchains.local import Local

        return Local()
    kind, separator, rest = text.partition(":")
    if kind == "docker" and separator and _IMAGE.fullmatch(rest):
        from ptqbridge.toolchains.docker import Docker

        return Docker(rest)
    found = _HOST.fullmatch(rest[2:]) if kind == "ssh" and rest.startswith("//") else None
    if found:
        from ptqbridge.toolchains.ssh import Ssh

        host = found["host"].replace(f"[{found['v6']}]", found["v6"]) if found["v6"] else found["host"]
        return Ssh(host, found["port"] or "")
    raise OptionError(f"--toolchain: expected local, docker:IMAGE or ssh://[USER@]HOST[:PORT], found {text!r}")
