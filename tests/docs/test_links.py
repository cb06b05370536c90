"""Links between the files of the repository, as they are followed on a code host."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from support.pages import ROOT, paths

PAGES = [
    *paths(),
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")),
]
SOURCES = ("whisperr", "integrations", "tests", "benchmarks", "examples")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:srcset|src|href)=\"([^\"]+)\"")
_FENCED = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MENTIONED = re.compile(r"(?<![\w/.])docs/[\w/.-]+\.(?:md|py)\b")


def links(page: Path) -> list[str]:
    """The targets inside the repository."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    found = [markdown or html for markdown, html in _LINK.findall(text)]
    return [target for target in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Of its headings, as code hosts and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(text))
    return {title.replace(" ", "-") for title in plain}


def broken(page: Path, target: str) -> bool:
    path, _, anchor = unquote(target).partition("#")
    found = (page.parent / path) if path else page
    return not found.exists() or bool(anchor and anchor not in anchors(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page(page: Path) -> None:
    """Every link that stays in the repository leads to a file, and to a heading of it."""
    assert [target for target in links(page) if broken(page, target)] == []


def test_there_are_links() -> None:
    """Links are found, in Markdown and in HTML, with anchors and without."""
    found = [target for page in PAGES for target in links(page)]
    assert len(found) > 50
    assert any("#" in target for target in found)
    assert any(target.endswith("-dark.png") for target in found)


def test_a_broken_link_is_noticed() -> None:
    """A missing file, and a missing heading."""
    page = ROOT / "README.md"
    assert broken(page, "docs/nothing.md")
    assert broken(page, "#nothing")
    assert not broken(page, "docs/index.md#install")


def test_pages_that_the_code_names() -> None:
    """A page that a docstring, a comment or a message names is there."""
    named = {
        name
        for folder in SOURCES
        for source in (ROOT / folder).rglob("*.py")
        if source != Path(__file__)
        for name in _MENTIONED.findall(source.read_text(encoding="utf-8"))
    }
    assert named
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []
