"""The pages of the documentation, and the fenced blocks in them.

A block is an example if it is Python or typed in a shell. Comments directly before a block, which
no reader of the page sees, say what a test needs to run it:

    <!-- not run: REASON -->    it is not run, and why
    <!-- setup                  what runs before it: Python for a Python block, else lines
    CODE                        of a shell that begin with "$ "
    -->
    <!-- check                  what runs after it, likewise, and must succeed
    CODE
    -->

A page whose blocks are all covered by another test says so in its first line:

    <!-- not run on this page: REASON -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("python", "console", "sh")
OTHERS = ("text", "ini", "json", "yaml", "{toctree}", "{eval-rst}")  # nobody types these

_REMARK = r"<!-- (?:not run:|setup\n|check\n)(?:(?!-->).)*-->\n"
_BLOCK = re.compile(
    rf"(?P<remarks>(?:{_REMARK}\s*)*)"
    r"^(?P<indent>[ ]*)```(?P<language>[^\s`]*)[ ]?(?P<note>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_WHOLE_PAGE = re.compile(r"\A<!-- not run on this page:(.*?)-->\n", re.DOTALL)
_PARTS = re.compile(r"<!-- (not run:|setup\n|check\n)(.*?)-->", re.DOTALL)


class Block(NamedTuple):
    """One fenced block. ``note`` is what stands behind its language; the rest is its remarks'."""

    language: str
    note: str
    text: str
    reason: str | None  # why it is not run
    setup: str
    check: str


class Page(NamedTuple):
    """``stray`` has the remarks that stand at no block."""

    path: Path
    blocks: list[Block]
    stray: list[str]

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def paths() -> list[Path]:
    """The README, and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read(path: Path) -> Page:
    return parse(path, path.read_text(encoding="utf-8"))


def parse(path: Path, text: str) -> Page:
    for_all = _WHOLE_PAGE.match(text)
    blocks = [_block(found, for_all) for found in _BLOCK.finditer(text)]
    return Page(path, blocks, re.findall(_REMARK, _BLOCK.sub("", text), re.DOTALL))


def _block(found: re.Match[str], for_all: re.Match[str] | None) -> Block:
    remarks = dict.fromkeys(("not run:", "setup\n", "check\n"), "")
    for kind, text in _PARTS.findall(found["remarks"]):
        remarks[kind] += text
    reason = remarks["not run:"].strip() if "<!-- not run:" in found["remarks"] else None
    if for_all is not None and found["language"] in EXAMPLES:
        reason = for_all[1].strip()
    return Block(
        found["language"],
        found["note"],
        found["text"],
        reason,
        remarks["setup\n"],
        remarks["check\n"],
    )
