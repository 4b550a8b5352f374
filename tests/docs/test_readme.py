"""Every command in the README and in docs/ runs as written; the Chinese README has the same commands.

A fenced ``sh`` block is run by bash, in the order of the page, in one folder per page that holds the checkout's
examples and job files. It must end with status 0, or with the one its last command names: ``# exit status 4``. A block
behind ``<!-- not tested: REASON -->`` is not run.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:^<!-- not tested: (?P<reason>[^\n]+?) -->\n+)?^```sh\n(?P<text>.*?)^```$", re.M | re.S)
_STATUS = re.compile(r"#.*\bexit status (\d+)")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block; ``reason`` says why it is not run, or is empty."""

    text: str
    reason: str

    @property
    def status(self) -> int:
        """The exit status that its last command has."""
        last = self.text.strip().splitlines()[-1]
        assert len(_STATUS.findall(self.text)) == len(_STATUS.findall(last)) <= 1, (
            f"only the last may fail:\n{self.text}"
        )
        stated = _STATUS.search(last)
        return int(stated[1]) if stated else 0


def blocks(page: str) -> list[Block]:
    """The ``sh`` blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [Block(match["text"], match["reason"] or "") for match in _BLOCK.finditer(text)]
    assert len(found) == text.count("```sh\n")
    return found


RUN = [page for page in PAGES if any(not block.reason for block in blocks(page))]
LEFT_OUT = [(page, number) for page in PAGES for number, block in enumerate(blocks(page)) if block.reason]


@pytest.mark.parametrize("page", RUN)
def test_commands_run_as_written(page: str, tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("examples", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in blocks(page):
        if block.reason:
            continue
        command = ["bash", "-euo", "pipefail", "-c", block.text]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=300)
        said = f"{page}: exit status {run.returncode} of\n{block.text}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
        assert run.returncode == block.status, said
        assert "Traceback" not in run.stdout + run.stderr, said


@pytest.mark.parametrize(("page", "number"), LEFT_OUT)
def test_commands_left_out(page: str, number: int) -> None:
    pytest.skip(blocks(page)[number].reason)


def test_readmes_have_the_same_commands() -> None:
    english, chinese = blocks("README.md"), blocks("README.zh-CN.md")
    assert [block.text for block in english] == [block.text for block in chinese]
    assert [bool(block.reason) for block in english] == [bool(block.reason) for block in chinese]
    assert len(english) >= 8


@pytest.mark.parametrize("page", [*PAGES, "README.zh-CN.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    missing = [link for link in _LINK.findall(text) if "://" not in link and not (here / link).exists()]
    assert missing == []


def test_a_stated_status_is_read() -> None:
    assert Block("a\nb  # exit status 4\n", "").status == 4
    assert Block("a\nb\n", "").status == 0
    with pytest.raises(AssertionError):
        _ = Block("a  # exit status 4\nb\n", "").status
