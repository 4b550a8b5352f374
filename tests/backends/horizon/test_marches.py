"""The marches are the targets of the registry, and their facts are those of the platform tables."""

from __future__ import annotations

from ptqbridge.backends import TARGETS
from ptqbridge.backends.horizon.marches import MARCHES


def test_every_target_has_a_march() -> None:
    assert set(MARCHES) == {name for name, backend in TARGETS.items() if backend == "horizon"}
    assert all(march.name == name for name, march in MARCHES.items())


def test_family_facts() -> None:
    for march in MARCHES.values():
        expected = ("hb_compile", ".hbm", 2) if march.journey6 else ("hb_mapper", ".bin", 3)
        assert (march.tool, march.suffix, march.top_level) == expected
        assert march.journey6 == march.name.startswith("nash")
        assert ("float16" in march.types) == march.journey6
    assert [m.name for m in MARCHES.values() if m.l2m] == ["nash-p", "nash-h"]
    assert {m.name: m.cores for m in MARCHES.values() if m.cores > 1} == {
        "bayes": 2,
        "bernoulli2": 2,
        "nash-p": 4,
        "nash-h": 4,
    }
    assert MARCHES["bernoulli2"].types == ("int8",)
    assert MARCHES["bayes"].label == "bayes (Journey 5, RDK Ultra)"
