"""Rules between the keys of ``compiler_parameters``: cores, balance, caches, on-chip memory, sources of inputs.

Sources: hb_mapper 1.24.3's behaviour; Horizon's OE-Skills 0.2.0 for hb_compile 3.5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ptqbridge.backends.horizon.view import ERROR, WARNING, Finding, View

COMP = "compiler_parameters"
_TYPE_RT = "input_parameters.input_type_rt"


def compiler(view: View) -> Iterator[Finding]:
    """Cores, balance, caches, on-chip memory."""
    cores = view.get(f"{COMP}.core_num")
    most = view.march.cores if view.recent or not view.journey6 else 2
    if view.journey6 and isinstance(cores, int) and cores > most:
        able = f"1 to {most}" if most > 1 else "1"
        yield Finding(f"{COMP}.core_num", cores, f"expected {able} on {view.march.name}", "cores")
    elif view.journey6 and isinstance(cores, int) and cores > view.march.cores:
        expected = f"is more than {view.march.name} has: no board of it can run the model"
        yield Finding(f"{COMP}.core_num", cores, expected, "cores", WARNING)
    if not view.journey6 and cores == 2 and view.march.name != "bernoulli2":
        yield Finding(f"{COMP}.core_num", cores, f"is refused by hbdk 3.49 for {view.march.name}", "cores", WARNING)
    balanced, factor = view.get(f"{COMP}.compile_mode") == "balance", view.get(f"{COMP}.balance_factor")
    if balanced and factor is None:
        yield Finding(f"{COMP}.balance_factor", None, "expected 0 to 100, since compile_mode is balance", "balance")
    if not balanced and factor is not None:
        yield Finding(f"{COMP}.balance_factor", factor, "counts only with compile_mode balance", "balance", WARNING)
    yield from _cache(view)
    claimed = view.get(f"{COMP}.max_l2m_size")
    if claimed and not view.march.l2m and view.journey6:
        expected = f"expected 0 on {view.march.name}: only nash-p and nash-h lend on-chip memory"
        yield Finding(f"{COMP}.max_l2m_size", claimed, expected, "on-chip memory")


def extras(view: View) -> Iterator[Finding]:
    """extra_params reach the compiler unchecked: its two known ones are booleans, one of them for float inputs only."""
    given = view.get(f"{COMP}.extra_params")
    for name in ("input_no_padding", "output_no_padding"):
        value = given.get(name) if isinstance(given, Mapping) else None
        if value is not None and not isinstance(value, bool):
            yield Finding(f"{COMP}.extra_params.{name}", value, "expected true or false (a YAML boolean)", "boolean")
    kinds = view.words(_TYPE_RT)
    if isinstance(given, Mapping) and given.get("input_no_padding") is True and kinds and "featuremap" not in kinds:
        expected = "has no effect: it is for featuremap inputs, and there is none"
        yield Finding(f"{COMP}.extra_params.input_no_padding", True, expected, "extra_params", WARNING)


def _cache(view: View) -> Iterator[Finding]:
    mode, path = view.get(f"{COMP}.cache_mode") or "disable", view.get(f"{COMP}.cache_path") or ""
    if mode != "disable" and not path:
        yield Finding(f"{COMP}.cache_path", path or None, f"expected a folder, since cache_mode is {mode}", "cache")
    elif mode != "disable" and not os.path.isdir(view.path(str(path))):
        severity = WARNING if view.away else ERROR
        yield Finding(f"{COMP}.cache_path", path, "expected an existing folder", "cache", severity)
    elif mode == "disable" and path:
        yield Finding(f"{COMP}.cache_path", path, "switches the cache on all the same", "cache", WARNING)


_SOURCES = {"pyramid": ("nv12", "gray"), "resizer": ("nv12", "gray"), "ddr": ("rgb", "bgr", "yuv444", "gray")}


def sources(view: View) -> Iterator[Finding]:
    """Where an input's data come from must suit its type."""
    key = f"{COMP}.input_source"
    given = view.get(key)
    if not isinstance(given, dict):
        return
    for name, word in given.items():
        if not isinstance(word, str) or word not in _SOURCES:
            yield Finding(f"{key}.{name}", word, f"expected one of {', '.join(_SOURCES)}", "input source")
            continue
        if view.names and name not in view.names:
            severity = WARNING if view.journey6 else ERROR
            expected = f"expected an input ({', '.join(view.names)})" + (": it has no effect" if view.journey6 else "")
            yield Finding(f"{key}.{name}", word, expected, "input source", severity)
            continue
        if not view.names and view.count > 1:
            continue
        kind = view.entry(_TYPE_RT, view.names.index(name) if view.names else 0)
        able = (*_SOURCES[word], "featuremap", "yuv444_128") if word == "ddr" else _SOURCES[word]
        if kind is not None and kind not in able:
            suits = " or ".join(source for source, kinds in _SOURCES.items() if kind in kinds) or "ddr"
            yield Finding(f"{key}.{name}", word, f"expected {suits} for {kind}", "input source")


RULES = (compiler, extras, sources)
