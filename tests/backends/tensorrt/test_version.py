"""Versions: generations, releases, what is installed."""

from __future__ import annotations

from importlib import metadata

import pytest

from ptqbridge.backends.tensorrt import version


@pytest.mark.parametrize(
    ("text", "generation"),
    [
        ("8.6", "8.6"),
        ("8.6.1", "8.6"),
        ("9.3.0", "10"),
        ("10", "10"),
        ("10.13.3", "10"),
        ("11.1", "11"),
        ("12.0", "11"),
    ],
)
def test_generation(text: str, generation: str) -> None:
    assert version.generation(text) == generation


def test_an_open_version_is_its_newest_release() -> None:
    assert version.key("10") > version.key("10.16.1")
    assert version.key("8.6") > version.key("8.6.1")
    assert version.key("10.2") < version.key("10.13")
    assert version.key("11") > version.key("10")


@pytest.mark.parametrize("text", ["", "new", "ten.1"])
def test_no_version(text: str) -> None:
    with pytest.raises(ValueError):
        version.key(text)


@pytest.mark.parametrize(
    ("installed", "planned", "says"),
    [
        ("8.6.1.post1", "8.6.1", ""),
        ("10.13.3.9", "10.13.3", ""),
        ("8.5.3.1", "8.6", "older than 8.6"),
        ("9.3.0.post12", "9.3.0", "generation 10"),
        ("12.0.0", "12.0.0", "generation 11"),
        ("dev", "8.6", "no version number"),
    ],
)
def test_installed(installed: str, planned: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    found = version.detect()
    assert found.version == planned
    assert installed in found.origin
    assert (says in found.note) if says else found.note == ""


@pytest.mark.parametrize(
    ("installed", "since", "has"),
    [
        ("8.6.1", "8.6", True),
        ("10.14.1", "10.14", True),
        ("10.13.3", "10.14", False),
        ("10.0.1", "10.0", True),
        ("10", "10.16", True),
        ("8.6", "8.6.1", True),
        ("8.6.0", "8.6.1", False),
    ],
)
def test_a_feature_is_in_every_later_release(installed: str, since: str, has: bool) -> None:
    assert (version.key(installed) >= version.first(since)) is has


def test_a_release_has_all_its_parts() -> None:
    found = [version.release(text) for text in ("8.6", "8.6.1", "10", "10.13", "10.13.3.9", "11.4.0")]
    assert found == ["8.6.1", "8.6.1", "10.0.0", "10.13.0", "10.13.3", "11.4.0"]
