"""The reference of the command line agrees with what the commands say of themselves."""

from __future__ import annotations

import argparse
import re

import pytest

from support.pages import ROOT
from whisperr import cli

COMMANDS = sorted(cli.COMMANDS)
_ROW = re.compile(r"^\| `(--[a-z-]+)", re.MULTILINE)


def declared(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its sub-commands."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= declared(below)
    return found - {"--help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command(command: str) -> None:
    """The page of a command has one row for each of its options, and no row more."""
    parser = argparse.ArgumentParser()
    cli._module(command).add_arguments(parser)
    page = (ROOT / "docs" / "reference" / f"{command}-command.md").read_text(encoding="utf-8")
    rows = _ROW.findall(page)
    assert rows
    assert sorted(rows) == sorted(declared(parser))
