"""Editing a YAML without losing its comments (ruamel.yaml, the extra ``migrate``)."""

from __future__ import annotations

import io
from typing import Any

from ptqbridge.errors import InputError, ToolchainMissing


def _yaml() -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise ToolchainMissing(
            "migrate keeps comments with ruamel.yaml, which is not installed", hint='pip install "ptqbridge[migrate]"'
        ) from None
    yaml = YAML(typ="rt")  # builds plain values only, as the safe loader does
    yaml.preserve_quotes = True
    yaml.allow_duplicate_keys = True
    yaml.width = 2**16
    return yaml


def load(text: str, name: str) -> Any:
    """The mapping of a YAML text with everything needed to write it back. Raises InputError, ToolchainMissing."""
    yaml = _yaml()
    from ruamel.yaml.error import YAMLError

    try:
        content = yaml.load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{name}: expected a mapping of sections, found {type(content).__name__}")
    return content


def dump(content: Any) -> str:
    """The YAML text, comments, quotes and order as they were."""
    out = io.StringIO()
    _yaml().dump(content, out)
    return out.getvalue()


def drop(mapping: Any, key: str) -> None:
    """Delete a key; the comments beside and behind it stay, below the key before it."""
    keys = list(mapping)
    place = keys.index(key)
    text = "".join(_texts(mapping, key))
    del mapping[key]
    mapping.ca.items.pop(key, None)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return
    if place:
        _append(mapping, keys[place - 1], lines)
    elif len(keys) > 1:
        said = "\n".join(line.lstrip("#").strip() for line in lines)
        mapping.yaml_set_comment_before_after_key(keys[1], before=said, indent=mapping.lc.col or 0)


def _texts(mapping: Any, key: str) -> list[str]:
    """All comment texts that hang on a key, those inside its value included."""
    found = [token.value for token in _tokens(mapping.ca.items.get(key))]
    value = mapping[key]
    for inner in value if isinstance(value, dict) and hasattr(value, "ca") else ():
        found += _texts(value, inner)
    return found


def _tokens(entry: Any) -> list[Any]:
    flat: list[Any] = []
    for token in entry or ():
        flat += token if isinstance(token, list) else [token]
    return [token for token in flat if token is not None]


def _append(mapping: Any, key: str, lines: list[str]) -> None:
    """Put comment lines behind a key; behind the last leaf of a block below it."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    while isinstance(mapping[key], dict) and mapping[key] and not mapping[key].fa.flow_style():
        mapping, key = mapping[key], list(mapping[key])[-1]
    indent = " " * (mapping.lc.col or 0)
    text = "".join(f"{indent}{line}\n" for line in lines)
    entry = mapping.ca.items.setdefault(key, [None, None, None, None])
    if entry[2] is None:
        entry[2] = CommentToken("\n" + text, CommentMark(0), None)
    else:
        entry[2].value = entry[2].value.rstrip("\n") + "\n" + text
