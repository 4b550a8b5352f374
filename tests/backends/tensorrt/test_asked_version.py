"""``--trtVersion``: what a plan is made for without the module, one version here, several in ``explain``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptqbridge.backends.tensorrt.plan import plan
from ptqbridge.errors import OptionError
from ptqbridge.plan import Request


@pytest.mark.parametrize("version", ["8.6", "8.6.1", "10", "10.13.3", "11"])
def test_the_plan_is_for_the_version_asked(version: str, request_of: Callable[..., Request]) -> None:
    made = plan(request_of(f"--trtVersion={version}", "--fp16"))
    assert made.settings["version"] == version
    assert ("TensorRT version", version, "asked for") in [(fill.what, fill.value, fill.why) for fill in made.fills]


@pytest.mark.parametrize("version", ["7.2", "newest", "8.6,10", "8.6rc1", "10."])
def test_anything_else_is_refused(version: str, request_of: Callable[..., Request]) -> None:
    with pytest.raises(OptionError, match="--trtVersion: expected one TensorRT version"):
        plan(request_of(f"--trtVersion={version}"))
