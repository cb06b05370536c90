"""Every example of the README and of the documentation is run, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import pages
from support.readers import Reader, fits, variables
from whisperr.sandbox import Sandbox

EXAMPLES = [page for page in map(pages.read, pages.paths()) if page.blocks]


def runnable(page: pages.Page) -> list[pages.Block]:
    return [it for it in page.blocks if it.language in pages.EXAMPLES and it.reason is None]


@pytest.mark.parametrize("page", list(filter(runnable, EXAMPLES)), ids=lambda page: page.name)
def test_the_examples_of_a_page(page: pages.Page, tmp_path: Path) -> None:
    """In an empty folder, block after block, everything is as the page says."""
    blocks = runnable(page)
    installs = any("-m venv" in block.text for block in blocks)
    with Sandbox() as box:
        port = box.url.rpartition(":")[2]
        reader = Reader(tmp_path, port, variables(tmp_path, box.url, installs))
        try:
            for number, block in enumerate(blocks, 1):
                if block.note == "second terminal":
                    box.stop()  # the page starts its own, on the same port
                reader.follow(block, blocks[number:])
        finally:
            reader.close_second_terminal()


# --- what the pages say to this test


def test_every_fence_is_known() -> None:
    """A block is an example, or of a language that nobody types: no example hides by its language."""
    found = {block.language for page in EXAMPLES for block in page.blocks}
    assert found == {*pages.EXAMPLES, *pages.OTHERS} & found
    assert {"python", "console"} <= found


@pytest.mark.parametrize("path", pages.paths(), ids=lambda path: str(path.relative_to(pages.ROOT)))
def test_every_fence_is_found(path: Path) -> None:
    """The parser leaves no fence out, and every remark stands at the block that it is about."""
    page = pages.read(path)
    fences = [line for line in path.read_text().splitlines() if line.lstrip().startswith("```")]
    assert len(fences) == 2 * len(page.blocks)
    assert page.stray == []
    has_reason = path.read_text().startswith("<!-- not run on this page:")
    assert not has_reason or any(block.language in pages.EXAMPLES for block in page.blocks)


def test_every_reason_is_a_reason() -> None:
    """What is not run says why, in words; only an example needs a reason."""
    given = [(page.name, it) for page in EXAMPLES for it in page.blocks if it.reason is not None]
    assert given
    assert [where for where, it in given if len(str(it.reason).split()) < 3] == []
    assert [where for where, it in given if it.language not in pages.EXAMPLES] == []
    assert [where for where, it in given if it.setup or it.check] == []


PAGE = """
<!-- not run: no reason at all -->
text

<!-- setup
a = 1
-->

<!-- check
assert b == 1
-->
```python
b = a
```

```console fails
$ false
```

<!-- not run: it needs what is not here -->
```sh
reboot
```
"""


def test_the_parser() -> None:
    """A remark belongs to the block right behind it; one without a block is stray."""
    page = pages.parse(Path("page.md"), PAGE)
    assert page.blocks == [
        pages.Block("python", "", "b = a\n", None, "a = 1\n", "assert b == 1\n"),
        pages.Block("console", "fails", "$ false\n", None, "", ""),
        pages.Block("sh", "", "reboot\n", "it needs what is not here", "", ""),
    ]
    assert page.stray == ["<!-- not run: no reason at all -->\n"]


def test_a_reason_for_a_page() -> None:
    """It stands in the first line, and is the reason of every example."""
    page = pages.parse(Path("page.md"), f"<!-- not run on this page: as a test -->\n{PAGE}")
    assert {block.reason for block in page.blocks} == {"as a test"}


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a\n…\nb", "a\n1\n2\nb", True),
        ("a\n…\nb", "a\nb", True),
        ("…\nb", "1\n2\nc", False),
        ("a … c", "a b c", True),
        ("a … c", "a\nc", False),
        ("a.c", "abc", False),
        ("a\nb", "a\nb\nc", False),
    ],
)
def test_the_comparison(shown: str, said: str, same: bool) -> None:
    """An ellipsis is anything, alone on a line also lines; all else is literal."""
    assert fits(shown, said) is same


@pytest.mark.parametrize(
    "block",
    [
        pages.Block("python", "", "1 / 0\n", None, "", ""),
        pages.Block("python", "", "pass\n", None, "", "assert False\n"),
        pages.Block("python", "", "def test_it():\n    assert False\n", None, "", ""),
        pages.Block("python", "", "# shop.py\n1 / 0\n", None, "", ""),
        pages.Block("console", "", "$ false\n", None, "", ""),
        pages.Block("console", "fails", "$ true\n", None, "", ""),
        pages.Block("console", "", "$ echo a\nb\n", None, "", ""),
        pages.Block("console", "", "$ true\n", None, "", "$ false\n"),
        pages.Block("sh", "", "true\nfalse\n", None, "", ""),
    ],
)
def test_a_wrong_example_is_noticed(block: pages.Block, tmp_path: Path) -> None:
    """What a block of any kind does wrong fails the page."""
    reader = Reader(tmp_path, "1", variables(tmp_path, "http://127.0.0.1:1", installs=False))
    with pytest.raises(AssertionError):
        reader.follow(block, [])
