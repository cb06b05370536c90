"""``whisperr config``: every option, what holds here, and where it is from. The key is masked.

It shows what a client gets that is given no arguments; where ``DJANGO_SETTINGS_MODULE`` is set, what
Django's client gets. Exits with 0 if that can be used, else with 1.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, Sequence

from whisperr import _console
from whisperr._settings import unlikely
from whisperr._version import __version__
from whisperr.cli import _environment
from whisperr.cli._environment import Option

DJANGO = "DJANGO_SETTINGS_MODULE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Arguments of Whisperr(...) go before all of this. With DJANGO_SETTINGS_MODULE, Django's "
        "settings go before the environment."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    settings: dict[str, Any] = {}
    problems = []
    if os.environ.get(DJANGO):
        try:
            settings = _environment.settings_of_django()
        except Exception as error:  # whatever a settings module raises: its text may hold anything
            problems.append(f"Django's settings can't be read ({type(error).__name__})")
    held = list(_environment.options(os.environ, settings))
    problems += [option.problem for option in held if option.problem]
    advice = _advice(held)
    status = int(bool(problems))
    if options.json:
        _console.write(_as_json(held, problems, advice))
    else:
        _console.write(_as_text(held, [*problems, *advice]))
    return status


def _advice(held: Sequence[Option]) -> list[str]:
    found = [
        f"{name} is no option of whisperr{f': is {close} meant?' if close else ''}"
        for name, close in _environment.unknown(os.environ)
    ]
    return [*found, *unlikely({option.name: option.value for option in held})]


def _as_text(held: Sequence[Option], sentences: Sequence[str]) -> str:
    rows = [("option", "value", "from"), *((o.name, o.shown(), o.source) for o in held)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
    said = [f"whisperr: {sentence}" for sentence in sentences]
    return "\n".join([f"whisperr {__version__}", *lines, *said])


def _as_json(held: Sequence[Option], problems: Sequence[str], advice: Sequence[str]) -> str:
    listed = {option.name: {"value": _plain(option), "from": option.source} for option in held}
    said = {"version": __version__, "options": listed, "problems": problems, "advice": advice}
    return json.dumps(said, indent=2)


def _plain(option: Option) -> Any:
    is_plain = isinstance(option.value, (bool, int, float, type(None)))
    return option.value if is_plain and not option.problem else option.shown()
