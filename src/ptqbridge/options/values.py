"""The value grammars of options: one class per kind of value, each with its own ``parse``.

Where nothing else is said the meaning is that of trtexec 8.6.1 (NVIDIA/TensorRT samples/common/sampleOptions.cpp).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ptqbridge.options.text import GrammarError, dimensions, fraction, integer, name_and_value, number, split
from ptqbridge.spec.tensor import IOFormat

_MIB = {"": 1.0, "B": 1 / 2**20, "K": 1 / 2**10, "M": 1.0, "G": 2.0**10}
_YES = ("", "1", "true", "on", "yes")


@dataclass(frozen=True)
class Value:
    """How one option's text becomes a Python value; ``example`` values exercise each backend's rule for the tables."""

    metavar: ClassVar[str] = "TEXT"
    takes_text: ClassVar[bool] = True

    def parse(self, text: str) -> Any:
        """Turn the text behind ``=`` into a value; raises GrammarError. ``None`` means: as if not given."""
        return text

    def describe(self) -> str:
        """The grammar in a few words, for help and docs."""
        return self.metavar


@dataclass(frozen=True)
class Flag(Value):
    """On when present. trtexec takes any value for 'on' (``--fp16=0`` enables); we refuse what does not say yes."""

    metavar: ClassVar[str] = ""
    takes_text: ClassVar[bool] = False

    def parse(self, text: str) -> bool:
        if text.strip().lower() not in _YES:
            raise GrammarError(
                f"is a flag: leave it out to switch it off, found the value {text!r}", difference="flag-value"
            )
        return True


@dataclass(frozen=True)
class Text(Value):
    """Any text; an empty one counts as not given unless ``keep_empty``."""

    keep_empty: bool = True

    def parse(self, text: str) -> str | None:
        return text if text or self.keep_empty else None


@dataclass(frozen=True)
class Path(Value):
    """A file or folder; nothing is looked up while parsing."""

    metavar: ClassVar[str] = "PATH"


@dataclass(frozen=True)
class Int(Value):
    """A whole number. ``least`` is set only where a smaller one cannot mean anything."""

    metavar: ClassVar[str] = "N"
    least: int | None = None
    difference: str = ""
    unit: str = ""

    def parse(self, text: str) -> int:
        value = integer(text)
        if self.least is not None and value < self.least:
            raise GrammarError(f"expected {self.least} or more, found {value}", difference=self.difference)
        return value

    def describe(self) -> str:
        return f"N ({self.unit})" if self.unit else "N"


@dataclass(frozen=True)
class Float(Value):
    """A decimal number."""

    metavar: ClassVar[str] = "X"
    unit: str = ""
    double: bool = False
    least: float = -math.inf
    most: float = math.inf

    def parse(self, text: str) -> float:
        value = number(text, double=self.double)
        if not self.least <= value <= self.most:
            raise GrammarError(f"expected a number from {self.least:g} to {self.most:g}, found {text!r}")
        return value

    def describe(self) -> str:
        return f"X ({self.unit})" if self.unit else "X"


@dataclass(frozen=True)
class Choice(Value):
    """One word of a list; ``synonyms`` are older words for the same. An empty text keeps the default if allowed."""

    choices: tuple[str, ...] = ()
    synonyms: dict[str, str] = field(default_factory=dict)
    any_case: tuple[str, ...] = ()
    empty_keeps_default: bool = True
    difference: str = ""

    def parse(self, text: str) -> str | None:
        if not text and self.empty_keeps_default:
            return None
        word = self.synonyms.get(text, text)
        for choice in self.choices:
            if word == choice or (choice in self.any_case and word.lower() == choice):
                return choice
        raise GrammarError(f"expected one of {', '.join(self.choices)}, found {text!r}", difference=self.difference)

    def describe(self) -> str:
        return "|".join(self.choices)


@dataclass(frozen=True)
class Names(Value):
    """Comma-separated words."""

    metavar: ClassVar[str] = "NAME[,NAME...]"
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> tuple[str, ...]:
        words = tuple(split(text, ","))
        for word in words:
            if self.choices and word not in self.choices:
                raise GrammarError(f"expected words of {', '.join(self.choices)}, found {word!r}")
        return words


@dataclass(frozen=True)
class Numbers(Value):
    """Comma-separated numbers; an empty text keeps the default. ``fractions`` allows ``1/255``, in our own options."""

    metavar: ClassVar[str] = "X[,X...]"
    least: float = -math.inf
    most: float = math.inf
    nonzero: bool = False
    fractions: bool = False

    def parse(self, text: str) -> tuple[float, ...] | None:
        values = tuple(fraction(part) if self.fractions else number(part) for part in split(text, ","))
        for value in values:
            if not self.least <= value <= self.most:
                raise GrammarError(f"expected numbers from {self.least:g} to {self.most:g}, found {value}")
            if self.nonzero and value == 0:
                raise GrammarError("expected numbers other than 0")
        return values or None


@dataclass(frozen=True)
class Shapes(Value):
    """``name:1x3x224x224[,name:...]`` as {name: dims}; a repeated name keeps its last shape."""

    metavar: ClassVar[str] = "NAME:AxBxC[,...]"

    def parse(self, text: str) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for entry in split(text, ","):
            name, dims = name_and_value(entry)
            name = name.replace("'", "")
            if entry.endswith(":scalar"):
                shapes[name] = ()
                continue
            try:
                shapes[name] = dimensions(dims)
            except GrammarError as error:
                raise GrammarError(f"in {entry!r}: {error}", difference=error.difference) from None
        return shapes


@dataclass(frozen=True)
class Files(Value):
    """``name:file[,name:file...]``; the first entry of a repeated name wins."""

    metavar: ClassVar[str] = "NAME:FILE[,...]"

    def parse(self, text: str) -> dict[str, str]:
        files: dict[str, str] = {}
        for entry in split(text, ","):
            name, path = name_and_value(entry)
            files.setdefault(name, path)
        return files


FORMATS = ("chw", "chw2", "hwc8", "chw4", "chw16", "chw32", "dhwc8", "cdhw32", "hwc", "dla_linear", "dla_hwc4", "hwc16")
"""Memory layouts in the order of TensorRT's TensorFormat enumeration (``dhwc`` follows as number 12)."""
LAYOUTS = (*FORMATS, "dhwc")
IO_TYPES = ("fp32", "fp16", "int8", "int32", "fp8", "bf16", "int64", "bool", "uint8", "int4")
LATER_TYPES = frozenset({"bf16", "int64", "bool", "uint8", "int4", "int16"})
"""Type words that trtexec 8.6.1 does not know; later versions (or, for int16, a BPU) do."""


@dataclass(frozen=True)
class IOFormats(Value):
    """``type:layout[+layout][,...]``, one entry per tensor in model order, or one for all; trtexec 11: layouts only."""

    metavar: ClassVar[str] = "TYPE:FORMAT[+FORMAT][,...]"

    def parse(self, text: str) -> tuple[IOFormat, ...]:
        return tuple(self._entry(entry) for entry in split(text, ","))

    @staticmethod
    def _entry(entry: str) -> IOFormat:
        dtype, colon, layouts = entry.partition(":")
        if not colon:
            raise GrammarError(f"expected TYPE:FORMAT such as fp32:chw, found {entry!r}")
        if dtype not in IO_TYPES:
            raise GrammarError(f"expected a type of {', '.join(IO_TYPES)}, found {dtype!r} in {entry!r}")
        words = split(layouts, "+")
        for word in words:
            if word not in LAYOUTS:
                raise GrammarError(f"expected a format of {', '.join(LAYOUTS)}, found {word!r} in {entry!r}")
        return IOFormat(dtype, tuple(layout for layout in LAYOUTS if layout in words))


POOLS = ("workspace", "dlaSRAM", "dlaLocalDRAM", "dlaGlobalDRAM", "tacticSharedMem")


@dataclass(frozen=True)
class PoolSizes(Value):
    """``pool:size[,pool:size...]`` as {pool: MiB}. A bare number is MiB; B, K, M, G (also KiB, MB, ...) are units."""

    metavar: ClassVar[str] = "POOL:SIZE[,...]"

    def parse(self, text: str) -> dict[str, float]:
        sizes = {}
        for entry in split(text, ","):
            pool, size = name_and_value(entry)
            mebibytes = _mebibytes(size)
            if mebibytes < 0:
                raise GrammarError(f"expected a size of 0 or more, found {entry!r}")
            if pool and pool not in POOLS:
                raise GrammarError(f"expected a pool of {', '.join(POOLS)}, found {pool!r}")
            if pool:
                sizes[pool] = mebibytes
        return sizes


def _mebibytes(size: str) -> float:
    digits = size.rstrip("BKMGbkmgi ") if not size.strip().lower().startswith(("inf", "-inf")) else size
    unit = size[len(digits) :].strip().upper().replace("IB", "")
    unit = unit[:-1] if len(unit) == 2 and unit.endswith("B") else unit
    if unit not in _MIB:
        raise GrammarError(
            f"expected a size in MiB or with a unit B, K, M or G, found {size!r}", difference="pool-unit"
        )
    return number(digits, double=True) * _MIB[unit]


@dataclass(frozen=True)
class Size(Value):
    """A size above 0 in bytes: a bare number is MiB; B, K, M, G (also KiB, MB, ...) are units."""

    metavar: ClassVar[str] = "SIZE"

    def parse(self, text: str) -> int:
        size = _mebibytes(text) * 2**20
        if not 1 <= size < 2**63:
            raise GrammarError(f"expected a size above 0, found {text!r}")
        return int(size)


@dataclass(frozen=True)
class LayerTypes(Value):
    """``layer:type[+type][,layer:type...]`` as {layer: types}; ``*`` is a wildcard. A later entry wins."""

    metavar: ClassVar[str] = "LAYER:TYPE[,...]"
    several: bool = False
    types: tuple[str, ...] = ("fp32", "fp16", "int8", "fp8", "int32", "bf16", "int16")

    def parse(self, text: str) -> dict[str, tuple[str, ...]]:
        layers = {}
        for entry in split(text, ","):
            layer, words = name_and_value(entry)
            types = tuple(split(words, "+")) if self.several else (words,)
            for word in types:
                if word not in self.types:
                    raise GrammarError(f"expected a type of {', '.join(self.types)}, found {word!r} in {entry!r}")
            layers[layer.replace("'", "")] = types
        return layers


@dataclass(frozen=True)
class LayerDevices(Value):
    """``layer:device[,...]`` as {layer: device}: trtexec's GPU and DLA, or BPU and CPU."""

    metavar: ClassVar[str] = "LAYER:DEVICE[,...]"
    devices: tuple[str, ...] = ("GPU", "DLA", "BPU", "CPU")

    def parse(self, text: str) -> dict[str, str]:
        layers = {}
        for entry in split(text, ","):
            layer, device = name_and_value(entry)
            if device not in self.devices:
                raise GrammarError(f"expected a device of {', '.join(self.devices)}, found {device!r} in {entry!r}")
            layers[layer.replace("'", "")] = device
        return layers


@dataclass(frozen=True)
class Switches(Value):
    """``(+|-)name[,(+|-)name...]`` as {name: on}. ``exclusive``: the same name may not be both."""

    metavar: ClassVar[str] = "(+|-)NAME[,...]"
    names: tuple[str, ...] = ()
    any_case: bool = False
    exclusive: bool = False
    synonyms: dict[str, str] = field(default_factory=dict)

    def parse(self, text: str) -> dict[str, bool]:
        switches: dict[str, bool] = {}
        for entry in split(text, ","):
            if entry[:1] not in ("+", "-"):
                raise GrammarError(f"expected + or - in front of each name, found {entry!r}")
            name = entry[1:].upper() if self.any_case and entry.isascii() else entry[1:]
            name = self.synonyms.get(name, name)
            if name not in self.names:
                raise GrammarError(f"expected a name of {', '.join(self.names)}, found {entry[1:]!r}")
            on = entry[0] == "+"
            if self.exclusive and switches.get(name, on) != on:
                raise GrammarError(f"cannot switch {name} both on and off")
            switches[name] = on
        return switches


@dataclass(frozen=True)
class TempFiles(Value):
    """``(in_memory|temporary):(allow|deny)[,...]`` as {kind: allowed}."""

    metavar: ClassVar[str] = "KIND:allow|deny[,...]"

    def parse(self, text: str) -> dict[str, bool]:
        controls = {}
        for entry in split(text, ","):
            kind, word = name_and_value(entry)
            if word not in ("allow", "deny"):
                raise GrammarError(f"expected allow or deny, found {entry!r}")
            if kind not in ("in_memory", "temporary"):
                raise GrammarError(f"expected in_memory or temporary, found {kind!r}")
            controls[kind] = word == "allow"
        return controls


@dataclass(frozen=True)
class UffInput(Value):
    """``name,X,Y,Z``."""

    metavar: ClassVar[str] = "NAME,X,Y,Z"

    def parse(self, text: str) -> tuple[str, int, int, int]:
        parts = split(text, ",")
        if len(parts) != 4:
            raise GrammarError(f"expected NAME,X,Y,Z, found {text!r}")
        return parts[0], integer(parts[1]), integer(parts[2]), integer(parts[3])


@dataclass(frozen=True)
class Budget(Value):
    """``-2`` (off), ``-1`` (automatic), ``P%`` of the weights, or a size in MiB or with a unit; kept as written."""

    metavar: ClassVar[str] = "-2|-1|P%|SIZE"

    def parse(self, text: str) -> str:
        if text not in ("-2", "-1"):
            number(text.rstrip("BKMGbkmg%"), double=True)
        return text
