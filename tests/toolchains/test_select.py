"""Where programs run, as a user writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import OptionError
from ptqbridge.toolchains.docker import Docker
from ptqbridge.toolchains.local import Local
from ptqbridge.toolchains.select import select
from ptqbridge.toolchains.ssh import Ssh


@pytest.mark.parametrize("text", ["local", ""])
def test_local(text: str) -> None:
    assert isinstance(select(text), Local)


@pytest.mark.parametrize("image", ["oe", "registry:5000/horizon/oe_j5:v1.1.74", "oe@sha256:0123"])
def test_docker(image: str) -> None:
    chosen = select(f"docker:{image}")
    assert isinstance(chosen, Docker)
    assert (chosen.image, chosen.name) == (image, f"docker:{image}")


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("ssh://board", "board", "ssh://board"),
        ("ssh://root@10.0.0.2:2222", "root@10.0.0.2", "ssh://root@10.0.0.2:2222"),
        ("ssh://[fe80::1]/", "fe80::1", "ssh://fe80::1"),
    ],
)
def test_ssh(text: str, host: str, name: str) -> None:
    chosen = select(text)
    assert isinstance(chosen, Ssh)
    assert (chosen.host, chosen.name) == (host, name)


WRONG = (
    "docker:",
    "docker:--privileged",
    "ssh://",
    "ssh://-oProxyCommand=x",
    "ssh://a b",
    "podman:x",
    "LOCAL",
    "ssh:a",
)


@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--toolchain: expected local, docker:IMAGE or ssh://"):
        select(text)


@given(st.text(max_size=30))
def test_no_text_becomes_an_option_of_ssh_or_docker(text: str) -> None:
    for prefix in ("docker:", "ssh://"):
        try:
            chosen = select(prefix + text)
        except OptionError:
            continue
        assert isinstance(chosen, (Docker, Ssh))
        word = chosen.image if isinstance(chosen, Docker) else chosen.host
        assert not word.startswith("-")
        assert not any(character.isspace() for character in word)
