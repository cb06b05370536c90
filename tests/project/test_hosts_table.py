"""The table of hosts: the page is of the rows that there are, and a wrong figure is noticed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HOSTS = Path(__file__).resolve().parents[2] / "hosts"
MODULES = ("one_run", "table", "table_page", "table_rows")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules of hosts/, which are no package, as attributes of table.py."""
    monkeypatch.setattr(sys, "path", [str(HOSTS), *sys.path])
    try:
        yield importlib.import_module("table")
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)


def test_the_page_has_the_rows(program: Any) -> None:
    """A row that is new, or was renamed, is on the page; no other is, and names are unique."""
    names = [row.name for row in program.ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= 50
    assert {name for name, _ in program.page.read()} == set(names)
    assert any(row.light for row in program.ROWS)


def test_what_a_figure_says(program: Any) -> None:
    """With our line nothing is lost anywhere, and with the journal neither."""
    said = program.page.read()
    figures = [said[key] for key in said if key[1] != program.KINDS[0] and said[key]]
    assert len(figures) > 100
    for figure in figures:
        arrived, tracked = figure.split(" of ")
        assert arrived == tracked


@pytest.mark.parametrize(
    ("counted", "said", "same"),
    [
        ((8, 8), "8 of 8", True),
        ((9, 9), "8 of 8", True),  # a scheduler goes on until it is stopped
        ((0, 9), "0 of 8", True),
        ((7, 8), "8 of 8", False),
        ((8, 8), "0 of 8", False),
        ((0, 8), "8 of 8", False),
        ((4, 8), "4 of 8", True),
        ((4, 8), "5 of 8", False),
        ((8, 8), "", False),
    ],
)
def test_a_figure_that_differs_fails(
    program: Any, capsys: Any, counted: tuple[int, int], said: str, same: bool
) -> None:
    """All, none, or the same: another figure than the page's fails the check."""
    row = program.ROWS[0]
    key = (row.name, program.KINDS[0])
    program.page.read = lambda: {key: said}
    count = sys.modules["one_run"].Count(*counted)
    assert program._compare([row], {key: count}) == (not same)


def test_a_check_of_nothing_fails(program: Any) -> None:
    """No figure compared is no success."""
    assert program._compare([], {}) == 1
