"""Checks a vendor YAML completely and before any tool sees it: all faults at once, each with key, value and rule.

The vendors' tools stop at the first fault they meet, and pass over some that make the result useless.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptqbridge.backends.horizon import crossrules, noderules, quantrules, schema5, schema6
from ptqbridge.backends.horizon.lookup import Network, look_up
from ptqbridge.backends.horizon.marches import MARCHES, March
from ptqbridge.backends.horizon.schema import Key, Table, entries
from ptqbridge.backends.horizon.view import ERROR, WARNING, Finding, View, march_of
from ptqbridge.errors import InputError
from ptqbridge.spec import ModelFile

RULES = (*crossrules.RULES, noderules.nodes, noderules.named_nodes, quantrules.quant_config)
_FORM = ("unknown key", "section", "duplicate", "generation")
_NULL_ALLOWED = ("quant_config", "max_percentile", "max_l2m_size")


@dataclass(frozen=True)
class Report:
    """What was found in one YAML; ``march`` and ``generation`` say by whose rules."""

    march: March
    generation: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a build."""
        return tuple(finding for finding in self.findings if finding.severity == ERROR)

    @property
    def ok(self) -> bool:
        """Whether the tool takes the file."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "ok": self.ok,
            "tool": self.march.tool,
            "march": self.march.name,
            "generation": self.generation,
            "errors": [finding.to_dict() for finding in self.errors],
            "warnings": [finding.to_dict() for finding in self.findings if finding.severity == WARNING],
        }


def validate_file(
    path: str, *, target: str = "", generation: str = "3.5", strict: bool = False, bytecode: bool = False
) -> Report:
    """Check a YAML file; relative paths in it start at its folder, as for the tools.

    ``target`` is the march it is meant for ("": its own). A missing model or folder is a remark where the model is
    not there, since a YAML is often checked away from its data; ``strict`` makes it an error.
    Raises InputError for a file that cannot be read or is no YAML mapping.
    """
    config, doubled = read_yaml(path)
    folder = os.path.dirname(os.path.abspath(path))
    options: dict[str, Any] = {"target": target, "generation": generation, "strict": strict, "bytecode": bytecode}
    return validate(config, folder, doubled=doubled, **options)


def validate(
    config: Mapping[str, Any],
    folder: str,
    *,
    target: str = "",
    generation: str = "3.5",
    strict: bool = False,
    doubled: tuple[str, ...] = (),
    network: Network | None = None,
    bytecode: bool = False,
) -> Report:
    """Check a YAML's content; see ``validate_file``.

    ``network`` is the model's facts where they are known already; ``bytecode``: the YAML is for a .bc, beside which
    the tool looks at no model, input or calibration keys.
    """
    march = march_of(config, target)
    generation = generation if march.journey6 else march.generations[0]
    table = schema6.table(generation) if march.journey6 else schema5.table()
    found = [Finding(key, None, "stands twice; the last one counts", "duplicate", WARNING) for key in doubled]
    found += _sections(config, table, march)
    kept: dict[str, dict[str, Any]] = {}
    for section, keys in table.items():
        given = config.get(section)
        kept[section] = {}
        for name, value in given.items() if isinstance(given, Mapping) else ():
            faults = list(_key(section, str(name), value, keys, march, generation))
            found += faults
            if not any(fault.severity == ERROR for fault in faults):
                kept[section][str(name)] = value
    bad = frozenset(finding.key for finding in found if finding.severity == ERROR)
    found += _march(config, march, target)
    found += _required(config, table)
    found = [_any_march(finding, march, target) for finding in found]
    model = str(kept["model_parameters"].get("onnx_model") or "")
    at = os.path.join(folder, model)
    note = ""
    if network is None and model and os.path.isfile(at):
        network, note = look_up(ModelFile(at, "onnx"))
    if note:
        found.append(Finding("model_parameters.onnx_model", model, note, "model"))
    away = bool(model) and not os.path.isfile(at) and not strict
    view = View(kept, march, generation, folder, network, away, bad)
    for rule in RULES:
        found += [finding for finding in rule(view) if finding.key not in bad]
    if bytecode:
        found = [finding for finding in found if finding.rule in _FORM or schema6.is_read(finding.key)]
    return Report(march, generation, tuple(_once(found)))


def _once(found: list[Finding]) -> list[Finding]:
    seen: dict[tuple[str, str, str], Finding] = {}
    for finding in found:
        seen.setdefault((finding.key, str(finding.value), finding.expected), finding)
    return sorted(seen.values(), key=lambda finding: finding.severity != ERROR)


def _sections(config: Mapping[str, Any], table: Table, march: March) -> Iterator[Finding]:
    for section, content in config.items():
        if section not in table:
            yield Finding(str(section), content, f"expected one of the sections {', '.join(table)}", "section")
        elif not isinstance(content, Mapping):
            expected = "expected a mapping of keys; leave an empty section out"
            yield Finding(str(section), content, expected, "section")
    needed = ("model_parameters",) if march.journey6 else ("model_parameters", "input_parameters")
    for section in needed:
        if section not in config:
            yield Finding(section, None, "expected this section", "section")


def _march(config: Mapping[str, Any], march: March, target: str) -> Iterator[Finding]:
    model = config.get("model_parameters")
    word = model.get("march") if isinstance(model, Mapping) else None
    if target and word in MARCHES and word != target:
        yield Finding("model_parameters.march", word, f"expected {target}, the target asked for", "march")
    if word in schema6.UNDOCUMENTED:
        expected = f"is in the tool's list and in no document; checked as {march.name}"
        yield Finding("model_parameters.march", word, expected, "march", WARNING)


def _any_march(finding: Finding, march: March, target: str) -> Finding:
    """A march that is missing or of neither family: what all tools have, not only the one that was guessed."""
    refused = finding.severity == ERROR and finding.key == "model_parameters.march"
    if target or not refused or str(finding.value).startswith("nash"):
        return finding
    names = {tool: [m.name for m in MARCHES.values() if m.tool == tool] for tool in ("hb_mapper", "hb_compile")}
    known = " or ".join(f"{', '.join(marches)} ({tool})" for tool, marches in names.items())
    return replace(finding, expected=f"expected one of {known}; all else is checked as for {march.name}")


def _required(config: Mapping[str, Any], table: Table) -> Iterator[Finding]:
    for section, keys in table.items():
        given = config.get(section)
        content = given if isinstance(given, Mapping) else {}
        for name, key in keys.items():
            if key.required and (content.get(name) is None or content.get(name) == ""):
                yield Finding(f"{section}.{name}", content.get(name), f"expected {key.expected()}", "required")


def _key(
    section: str, name: str, value: Any, keys: Mapping[str, Key], march: March, generation: str
) -> Iterator[Finding]:
    where = f"{section}.{name}"
    key = keys.get(name)
    if key is None:
        if section == "calibration_parameters" and march.journey6:
            yield Finding(
                where, value, "is no key of the tool; it goes to the quantiser as it is", "unknown key", WARNING
            )
            return
        import difflib

        near = difflib.get_close_matches(name, keys, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        yield Finding(where, value, f"is no key of {march.tool} for {march.name}{guess}", "unknown key")
        return
    if key.since and generation < key.since:
        yield Finding(where, value, f"came with {march.tool} {key.since}; {generation} refuses it", "generation")
        return
    if key.deprecated:
        yield Finding(where, value, f"is out of date: {key.deprecated}", "deprecated", WARNING)
    yield from _typed(where, name, value, key, march)


def _typed(where: str, name: str, value: Any, key: Key, march: March) -> Iterator[Finding]:
    fault = Finding(where, value, f"expected {key.expected()}", "value")
    if value is None:
        if name not in _NULL_ALLOWED and (key.kind in ("bool", "int", "number", "map") or not march.journey6):
            yield fault
        elif key.allowed and march.journey6:
            yield Finding(where, value, f"is null: leave the key out, or write {key.expected()}", "value", WARNING)
        return
    if key.kind == "bool":
        if not isinstance(value, bool):
            yield Finding(where, value, f"expected {key.expected()}", "boolean")
    elif key.kind in ("int", "number"):
        yield from _number(fault, value, key)
    elif key.kind == "map":
        if not isinstance(value, Mapping):
            yield fault
    elif key.kind == "text":
        if isinstance(value, (list, Mapping, bool)) or (key.quoted and not isinstance(value, str)):
            yield fault
        elif key.allowed and str(value) not in key.allowed:
            rule = "optimize level" if name == "optimize_level" else "march" if name == "march" else "value"
            yield Finding(where, value, f"expected {key.expected()}", rule)
    elif key.kind in ("list", "numbers"):
        if isinstance(value, (list, Mapping)):
            expected = "expected one text with entries joined by ';': the tool does not read YAML lists"
            yield Finding(where, value, expected, "list form")
        elif key.allowed:
            for word in entries(value):
                if word is not None and word not in key.allowed:
                    yield Finding(where, word, f"expected {key.expected()}", "value")


def _number(fault: Finding, value: Any, key: Key) -> Iterator[Finding]:
    kinds = (int,) if key.kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        yield fault
    elif not (key.zero and value == 0):
        below = key.low is not None and value < key.low
        above = key.high is not None and value > key.high
        if below or above:
            yield fault


def read_yaml(path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The mapping in a YAML file, and the keys that stand in it twice. Raises InputError."""
    import yaml

    doubled: list[str] = []

    class Loader(yaml.SafeLoader):
        """Remembers doubled keys, of which YAML silently keeps the last."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            if name.value in seen:
                doubled.append(str(name.value))
            seen.add(name.value)
        loader.flatten_mapping(node)
        return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return content, tuple(doubled)
