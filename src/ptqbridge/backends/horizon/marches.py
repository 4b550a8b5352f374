"""The marches as data: chips, cores, tool, product, levels and types of every BPU target.

Sources: Horizon's OE-Skills 0.2.0 (hb_compile 3.5), the option tables of hb_mapper 1.24 and its behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

L2M_TOP = 25165824
"""Largest ``max_l2m_size`` in bytes (24 MiB)."""


@dataclass(frozen=True)
class March:
    """One BPU architecture word and what is fixed by it.

    ``family`` is ``j5`` (Journey 5 and its relatives: hb_mapper) or ``j6`` (hb_compile). ``cores`` is how many BPU
    cores the chip has, ``top_level`` the highest optimisation level N of ``O{N}``, ``types`` the quantised types an
    operator can have, ``l2m`` whether the compiler lets a model claim on-chip memory, ``generations`` the tool
    versions known to offer the march.
    """

    name: str
    family: str
    chips: tuple[str, ...]
    cores: int
    tool: str
    suffix: str
    top_level: int
    types: tuple[str, ...]
    l2m: bool = False
    generations: tuple[str, ...] = ()

    @property
    def journey6(self) -> bool:
        """Whether hb_compile builds for it."""
        return self.family == "j6"

    @property
    def label(self) -> str:
        """``bayes (Journey 5, RDK Ultra)``."""
        return f"{self.name} ({', '.join(self.chips)})"


def _journey5(name: str, chips: tuple[str, ...], cores: int, types: tuple[str, ...] = ("int8", "int16")) -> March:
    return March(name, "j5", chips, cores, "hb_mapper", ".bin", 3, types, generations=("1.24",))


def _journey6(name: str, chips: tuple[str, ...], cores: int, *, l2m: bool = False, old: bool = False) -> March:
    generations = ("3.0", "3.5") if old else ("3.5",)
    types = ("int8", "int16", "float16")
    return March(name, "j6", chips, cores, "hb_compile", ".hbm", 2, types, l2m, generations)


MARCHES: Mapping[str, March] = {
    march.name: march
    for march in (
        _journey5("bayes", ("Journey 5", "RDK Ultra"), 2),
        _journey5("bayes-e", ("RDK X5",), 1),
        _journey5("bernoulli2", ("RDK X3", "Journey 3"), 2, ("int8",)),
        _journey6("nash-e", ("Journey 6E", "RDK S100"), 1, old=True),
        _journey6("nash-m", ("Journey 6M", "RDK S100P"), 1, old=True),
        _journey6("nash-p", ("Journey 6P", "RDK S600"), 4, l2m=True),
        _journey6("nash-h", ("Journey 6H",), 4, l2m=True),
        _journey6("nash-b", ("Journey 6B",), 1),
        _journey6("nash-b-lite", ("Journey 6B lite",), 1),
        _journey6("nash-b-plus", ("Journey 6B plus",), 1),
    )
}
"""Every march by name; the names are the targets of the registry."""
