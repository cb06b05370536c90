"""The options of a client stand in ``Settings``; what tells users of them agrees with it."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields
from typing import Any

import pytest

from support.pages import ROOT
from whisperr import Whisperr
from whisperr._settings import Settings

PAGES = ("README.md", "docs/reference/options.md")
OPTIONS = {("api_key" if field.name == "key" else field.name): field for field in fields(Settings)}
_TABLE = re.compile(r"^\| option \| default \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", re.M)


def rows(page: str) -> list[list[str]]:
    """Of the page's table of options: name, default, meaning."""
    (table,) = _TABLE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def shown(field: Field[Any]) -> str:
    """A default as a page writes it."""
    default = field.default
    if default is MISSING:
        return "required"
    if default is None or default == ():
        return "none"
    if isinstance(default, str):
        return f"`{default}`"
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if field.name.endswith("_bytes") and default % size == 0:
            return f"{default // size} {unit}"
    return str(default)


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_a_page(page: str) -> None:
    """One row for each option, in their order, with the default that it has; no row more."""
    expected = [(f"`{name}`", shown(field)) for name, field in OPTIONS.items()]
    assert [(name, default) for name, default, _ in rows(page)] == expected
    assert all(meaning for _, _, meaning in rows(page))


def test_the_tables_say_the_same() -> None:
    """What an option means stands on both pages in the same words."""
    plain = [re.sub(r"\]\([^)]*\)", "]", str(rows(page))) for page in PAGES]
    assert plain[0] == plain[1]


def test_the_docstring() -> None:
    """The docstring describes each option, in their order, and nothing else."""
    text = inspect.getdoc(Whisperr) or ""
    (section,) = re.findall(r"^Args:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^    (\w+): \S", section, re.MULTILINE) == list(OPTIONS)


def test_the_signature() -> None:
    """The defaults of the call are those of the settings; only the key may be left out (disabled)."""
    parameters = inspect.signature(Whisperr).parameters
    assert list(parameters) == list(OPTIONS)
    defaults = {name: it.default for name, it in parameters.items() if name != "api_key"}
    assert defaults == {name: it.default for name, it in OPTIONS.items() if name != "api_key"}
