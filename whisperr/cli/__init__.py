"""The command ``whisperr``, one module for each sub-command.

Such a module has ``add_arguments(parser)`` and ``run(options) -> int``, the exit status: 0 for
done, 1 for "no" or "failed", 2 for a mistake in the command line. Only the one that is asked
for is imported: another may need an extra that is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any, Sequence

from whisperr import _console
from whisperr._version import __version__

# name: its module, what it does
COMMANDS = {
    "journal": (
        "whisperr.cli.journal",
        "look at a journal folder, deliver or delete what is in it",
    ),
    "doctor": ("whisperr.cli.doctor", "look at this environment, and say what is wrong"),
    "config": ("whisperr.cli.config", "show every option, what holds here, and where it is from"),
    "events": (
        "whisperr.cli.events",
        "list what an application tracks, or check it against a plan",
    ),
    "relay": ("whisperr.cli.relay", "deliver what clients have published to a broker"),
    "sandbox": ("whisperr.sandbox.command", "run the ingestion API on this machine"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command, and return its exit status."""
    return _console.run("whisperr", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="whisperr", description="Tools for whisperr.")
    parser.add_argument("--version", action="version", version=f"whisperr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"whisperr {name}: {summary}."
        )
        if name in given[:1]:
            _module(name).add_arguments(command)
    options = _console.parse(parser, given)
    return int(_module(options.command).run(options))


def _module(name: str) -> Any:
    return importlib.import_module(COMMANDS[name][0])
