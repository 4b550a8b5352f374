"""The generated tables."""

from __future__ import annotations

from ptqbridge.backends import TARGETS, resolve
from ptqbridge.options.table import BY_NAME, OPTIONS
from ptqbridge.plan import COMMON
from ptqbridge.report import tables


def test_every_option_has_a_preview_on_every_target() -> None:
    for name in TARGETS:
        target = resolve(name)
        for option in OPTIONS:
            assert tables.previews(option, target), (name, option.name)


def test_equal_outcomes_are_shown_once() -> None:
    found = tables.previews(BY_NAME["builderOptimizationLevel"], resolve("cpu"))
    assert [preview.outcome.becomes.split()[-1] for preview in found] == ["basic", "extended", "all"]


def test_common_options_mean_the_same_everywhere() -> None:
    for name in COMMON:
        found = {tables.verdict_words(BY_NAME[name], resolve(target)) for target in TARGETS}
        assert found == {"exact"}


def test_history() -> None:
    assert tables.history(BY_NAME["onnx"]) == "8.6.1 10.13.3 11.1"
    assert tables.history(BY_NAME["calibData"]) == "ours"
    assert tables.history(BY_NAME["dryRun"]) == "11.1, ours"
    assert tables.history(BY_NAME["nativeInstanceNorm"]) == "9.1.0 to before 10.0.0"


def test_pipes_do_not_break_the_markdown_table() -> None:
    text = tables.to_markdown([BY_NAME["sparsity"]], ["cpu"])
    line = next(line for line in text.splitlines() if line.startswith("| `--sparsity="))
    assert line.replace("\\|", "").count("|") == 5
