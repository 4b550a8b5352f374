"""argv (and an optional job file) to the options the user gave, with trtexec 8.6.1's meaning.

Differences from trtexec are deliberate, each is a row of ``differences.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptqbridge.errors import OptionError
from ptqbridge.options.checks import check
from ptqbridge.options.given import COMMAND_LINE, Deviation, Given, GivenOptions
from ptqbridge.options.option import Option
from ptqbridge.options.table import BY_NAME, BY_SPELLING, nearest
from ptqbridge.options.text import GrammarError
from ptqbridge.options.values import LATER_TYPES

_UNIT = re.compile(r"\d\s*[BKMGbkmg]")
_SHAPE_OPTIONS = ("minShapes", "optShapes", "maxShapes")
_OLDER = {"streams": "infStreams", "nvtxMode": "profilingVerbosity"}
"""Older words on a command line that override a job file's newer ones; within one source the newer word wins."""


def parse(argv: Sequence[str], *, job: Mapping[str, Any] | None = None, job_name: str = "") -> GivenOptions:
    """Read a command line; ``job`` holds the options of a YAML job file, which the command line overrides.

    Raises OptionError (one line) for anything trtexec 8.6.1 would refuse and for what it would misread in silence.
    ``--help`` anywhere, or no word at all, gives ``help=True`` and nothing else, as in trtexec.
    """
    words = [word.partition("=")[0] for word in argv]
    if "--help" in words or "-h" in words or (not argv and not job):
        return GivenOptions((), help=True)
    deviations: list[Deviation] = []
    given = list(_from_words(argv, deviations))
    for name in {item.option.name for item in given if not item.option.repeats}:
        _refuse_repetition(name, given)
    named = {item.option.name for item in given}
    overridden = named | {_OLDER[name] for name in named & _OLDER.keys()}
    from_job = [item for item in _from_job(job or {}, job_name) if item.option.name not in overridden]
    if "workspace" in named and any(
        "workspace" in item.value for item in from_job if item.option.name == "memPoolSize"
    ):
        raise OptionError("--workspace cannot override memPoolSize of a job file", hint="use --memPoolSize=workspace:N")
    profiles = _take_profiles(given) if "profile" in named else {}
    everything = tuple(from_job + given)
    _note_rows(everything, deviations)
    options = GivenOptions(everything, False, (), tuple(deviations), profiles)
    return check(options)


def _from_words(argv: Sequence[str], deviations: list[Deviation]) -> Iterable[Given]:
    words = iter(range(len(argv)))
    for index in words:
        spelling, equals, text = argv[index].partition("=")
        option = BY_SPELLING.get(spelling)
        if option is None:
            raise _unknown(argv, index)
        following = argv[index + 1] if index + 1 < len(argv) else "--"
        if not equals and not option.is_flag and _could_be_value(following):
            text = following
            next(words, None)
            deviations.append(Deviation("separate-value", option.name))
        yield Given(option, _read(option, text, spelling, deviations), text)


def _could_be_value(word: str) -> bool:
    return not word.startswith("-") or bool(re.match(r"-[\d.]", word))


def _unknown(argv: Sequence[str], index: int) -> OptionError:
    word = argv[index].partition("=")[0]
    guess = nearest(word) if word.strip("-") else ""
    previous = BY_SPELLING.get(argv[index - 1]) if index else None
    hint = f"did you mean {guess}?" if guess else ""
    if previous is not None and previous.is_flag and not word.startswith("-"):
        hint = f"{argv[index - 1]} is a flag and takes no value"
    return OptionError(f"unknown option {argv[index]!r}", hint=hint)


def _read(option: Option, text: str, spelling: str, deviations: list[Deviation]) -> Any:
    try:
        value = option.value.parse(text)
    except GrammarError as error:
        hint = "--infStreams=N says how many" if option.name == "threads" else ""
        joint = " " if option.is_flag or str(error).startswith("cannot") else ": "
        raise OptionError(f"{spelling}{joint}{error}", hint=hint, difference=error.difference) from None
    for row in _rows_of(option, text, value):
        deviations.append(Deviation(row, option.name))
    return value


def _rows_of(option: Option, text: str, value: Any) -> Iterable[str]:
    """The difference rows that an accepted value touches."""
    if option.name == "memPoolSize" and _UNIT.search(text):
        yield "pool-unit"
    if option.name in ("layerPrecisions", "layerOutputTypes") and any(
        word in LATER_TYPES for types in value.values() for word in types
    ):
        yield "later-types"
    if option.name in ("inputIOFormats", "outputIOFormats") and any(
        entry.dtype in LATER_TYPES or "hwc16" in entry.layouts for entry in value
    ):
        yield "later-types"
    if option.name == "layerDeviceTypes" and not set(value.values()) <= {"GPU", "DLA"}:
        yield "device-words"
    if option.name in ("preview", "hardwareCompatibilityLevel", "memPoolSize") and any(
        word in text for word in ("aliasedPluginIO1003", "runtimeActivationResize", "sameCompute", "tacticSharedMem")
    ):
        yield "later-types"
    if option.value.metavar.startswith("NAME:AxB") and ":scalar" in text:
        yield "scalar-shape"


def _refuse_repetition(name: str, given: Sequence[Given]) -> None:
    times = sum(item.option.name == name for item in given)
    profiles = any(item.option.name == "profile" for item in given)
    if times > 1 and not (profiles and name in ("profile", *_SHAPE_OPTIONS)):
        raise OptionError(f"--{name}: expected once, found {times} times", hint="options are never overridden in place")


def _take_profiles(given: list[Given]) -> dict[int, tuple[Given, ...]]:
    """Move the shape options right behind each ``--profile=N`` into that profile (trtexec 9.1 and later)."""
    profiles: dict[int, list[Given]] = {}
    rest: list[Given] = []
    current: list[Given] | None = None
    for item in given:
        if item.option.name == "profile":
            if item.value in profiles:
                raise OptionError(f"--profile={item.value}: expected each profile once")
            current = profiles.setdefault(item.value, [])
            rest.append(item)
        elif current is not None and item.option.name in _SHAPE_OPTIONS:
            if any(other.option.name == item.option.name for other in current):
                raise OptionError(f"--{item.option.name}: expected once per profile")
            current.append(item)
        else:
            current = None
            rest.append(item)
    if sorted(profiles) != list(range(len(profiles))):
        raise OptionError(f"--profile: expected indices 0, 1, ... without a gap, found {sorted(profiles)}")
    for name in _SHAPE_OPTIONS:
        _refuse_repetition(name, [item for item in rest if item.option.name != "profile"])
    given[:] = rest + [item for item in profiles[0]]
    return {index: tuple(items) for index, items in profiles.items()}


def _from_job(job: Mapping[str, Any], job_name: str) -> Iterable[Given]:
    source = f"job file {job_name}" if job_name else "job file"
    for key, entry in job.items():
        spelling = f"--{str(key).lstrip('-')}"
        option = BY_SPELLING.get(spelling)
        if option is None or option.name in ("config", "help"):
            guess = nearest(spelling)
            raise OptionError(
                f"unknown option {key!r} in {source}", hint=f"did you mean {guess.lstrip('-')}?" if guess else ""
            )
        if option.is_flag and isinstance(entry, bool):
            if entry:
                yield Given(option, True, "", source)
            continue
        entries = entry if option.repeats and isinstance(entry, list) else [entry]
        for item in entries:
            text = _job_text(item, f"{key} in {source}")
            yield Given(option, _read(option, text, f"{key} in {source}", []), text, source)


def _job_text(entry: Any, where: str) -> str:
    """A YAML value in option grammar: lists join with commas, mappings become ``name:value`` entries."""
    if entry is None:
        return ""
    if isinstance(entry, bool):
        return "true" if entry else "false"
    if isinstance(entry, (str, int, float)):
        return str(entry)
    if isinstance(entry, list) and all(isinstance(item, (str, int, float)) for item in entry):
        return ",".join(str(item) for item in entry)
    if isinstance(entry, dict):
        return ",".join(f"{name}:{_job_pair(value, where)}" for name, value in entry.items())
    raise OptionError(f"{where}: expected a text, a number, a list or a mapping, found {type(entry).__name__}")


def _job_pair(value: Any, where: str) -> str:
    if isinstance(value, list):
        joint = "x" if all(isinstance(item, int) for item in value) else "+"
        return joint.join(str(item) for item in value)
    return _job_text(value, where)


def _note_rows(given: Sequence[Given], deviations: list[Deviation]) -> None:
    """Difference rows that depend on which options stand there, not on one value."""
    names = [item.option.name for item in given]
    for item in given:
        if item.source == COMMAND_LINE and not item.option.in_trtexec("8.6.1"):
            deviations.append(Deviation("our-option" if item.option.ours else "later-option", item.option.name))
    for name in dict.fromkeys(names):
        if BY_NAME[name].repeats and not BY_NAME[name].ours and names.count(name) > 1:
            deviations.append(Deviation("repeated-order", name))
