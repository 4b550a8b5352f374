"""The CPU's integer unit, from invented CPU lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbridge.quantize.cpu import integer_unit


@pytest.mark.parametrize(
    ("flags", "exact"),
    [
        ("fpu sse avx avx2 fma", False),
        ("avx2 avx512f avx512bw avx512vl", False),
        ("avx2 avx512f avx512_vnni", True),
        ("avx2 avx_vnni", True),
        ("avx2 amx_int8 amx_tile", True),
    ],
)
def test_x86(tmp_path: Path, flags: str, exact: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Some avx_vnni CPU\nflags\t\t: {flags}\nbugs\t\t: avx_vnni\n")
    unit = integer_unit("x86_64", cpuinfo)
    assert unit.exact is exact
    assert unit.reduce_range is not exact


def test_others(tmp_path: Path) -> None:
    assert integer_unit("aarch64", tmp_path / "none").exact is True
    assert integer_unit("riscv64", tmp_path / "none").exact is None
    assert integer_unit("x86_64", tmp_path / "none").exact is None
    (tmp_path / "empty").touch()
    assert integer_unit("x86_64", tmp_path / "empty").exact is None
    assert integer_unit("riscv64", tmp_path / "none").reduce_range


def test_this_machine() -> None:
    assert integer_unit().why
