"""What a run leaves out it says, and what it can't find fails it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.inner_runs import inner_run
from support.rows import named

NEEDS = """\
import pytest
from support.parts import PARTS, Part, need

PARTS["unicorn"] = Part(lambda: False, "sudo breed unicorn")

@pytest.mark.parametrize("n", range(3))
def test_that_needs_it(n):
    need("unicorn")

def test_that_does_not():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_missing_part_is_listed_with_its_tests(tmp_path: Path, workers: str) -> None:
    """On a user's machine: how many tests, which, and the command that brings the part."""
    with inner_run(tmp_path, NEEDS, "-n", workers) as run:
        assert run.group.wait_for_end() == 0, run.said()
    assert "3 tests need unicorn. To have it: sudo breed unicorn\n" in run.said()
    assert "::test_that_needs_it (3)\n" in run.said()
    assert "1 passed, 3 skipped" in run.said()


def test_a_missing_part_fails_ci(tmp_path: Path) -> None:
    """Where CI is set nothing may be left out."""
    with inner_run(tmp_path, NEEDS, "-n", "0", ci=True) as run:
        assert run.group.wait_for_end() == 1, run.said()
    assert "needs unicorn. To have it: sudo breed unicorn" in run.said()
    assert "3 failed, 1 passed" in run.said()


WRONG = {
    "an-address-in-a-name": (
        "import pytest\n"
        "@pytest.mark.parametrize('what', [object()], ids=repr)\n"
        "def test_it(what): pass\n",
        "give these parameters ids of their own",
    ),
    "a-folder-that-is-gone": (
        "import support.selection\nsupport.selection.TOOLS += ('nowhere',)\ndef test_it(): pass\n",
        "there is no tests/nowhere",
    ),
}


@pytest.mark.parametrize("source, says", named(WRONG))
def test_what_would_choose_nothing_fails(tmp_path: Path, source: str, says: str) -> None:
    """A name that no two workers would share; a table that names what is not there."""
    with inner_run(tmp_path, source, "-n", "0") as run:
        assert run.group.wait_for_end() not in (0, 1), run.said()
    assert says in run.said()
