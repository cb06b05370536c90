"""Our variables in an environment: what they say of each option, and which are a slip.

What Django's settings say goes before, see ``settings_of_django``.
"""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any, Iterator, Mapping, NamedTuple

from whisperr._relay.keys import is_variable
from whisperr._settings import (
    PREFIX,
    Settings,
    find,
    find_key,
    option_names,
    unlikely,
    variable_of,
)
from whisperr.cli._findings import Finding, advice, ok, wrong

ABOUT = "configuration"

_OTHERS = ("WHISPERR_RESOLVE_USER",)  # a setting of Django's alone
_SHOWN = 4  # last characters of a key, of one that is long enough
_LONG = 16


class Option(NamedTuple):
    """One option as it holds here."""

    name: str
    value: Any
    source: str  # a variable, "setting", or "default"
    problem: str = ""  # why it can't be used

    def shown(self) -> str:
        """The value for people, the key masked."""
        if self.problem:
            return "unusable"
        if self.name == "api_key":
            return masked(self.value)
        return (
            "none"
            if self.value in (None, ())
            else str(getattr(self.value, "__qualname__", self.value))
        )


def masked(key: str) -> str:
    """Enough of a key to know which of one's own it is."""
    if not key:
        return "none"
    begin = "wrk_" if key.startswith("wrk_") else ""
    return f"{begin}...{key[-_SHOWN:] if len(key) >= _LONG else ''}"


def options(
    environment: Mapping[str, str], settings: Mapping[str, Any] | None = None
) -> Iterator[Option]:
    """Every option: what a client gets that is given none, or Django's client by these settings."""
    given = settings or {}
    held = [_option(name, given, environment) for name in option_names()]
    values = {option.name: option.value for option in held}
    may_lack = values["disabled"] is True or None not in (values["broker_url"], values["app"])
    yield _key(given.get("api_key"), may_lack, environment)
    yield from held


def unknown(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that look like ours and are not, and what is probably meant; "" if nothing is."""
    known = {*map(variable_of, ("api_key", *option_names())), *_OTHERS}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not is_variable(name):
            yield name, next(iter(difflib.get_close_matches(name, known, 1)), "")


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """For the doctor."""
    found = [option for option in options(environment) if option.source != "default"]
    for option in found:
        if option.problem and option.name != "api_key":  # the test event speaks of that
            yield wrong(ABOUT, f"{option.problem}.", "Correct the environment.")
        elif option.name == "disabled" and option.value:
            yield advice(
                ABOUT,
                f"{option.source} switches whisperr off: nothing is sent from here.",
                f"Unset {option.source}, if that is not meant.",
            )
    for name, close in unknown(environment):
        yield advice(ABOUT, f"{name} is no option of whisperr.", close and f"Is {close} meant?")
    for sentence in unlikely({option.name: option.value for option in found}):
        what, _, change = sentence.partition(": ")
        yield advice(ABOUT, f"{what}.", change.capitalize())
    names = [option.source for option in found if not option.problem]
    listed = ", ".join(names) or "nothing"
    yield ok(ABOUT, f"from the environment: {listed}; `whisperr config` shows all")


def settings_of_django() -> dict[str, Any]:
    """What the settings module of this environment gives; raises what importing it raises."""
    sys.path.insert(0, os.getcwd())
    from whisperr.integrations.django._client import given_options

    return given_options()


def _option(name: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> Option:
    try:
        value, source = find(name, given, environment)
    except ValueError as error:
        source = "setting" if name in given else variable_of(name)
        return Option(name, getattr(Settings, name), source, str(error))
    return Option(name, value, "setting" if source == "argument" else source)


def _key(given: Any, may_lack: bool, environment: Mapping[str, str]) -> Option:
    variable = variable_of("api_key")
    text = given or environment.get(variable)
    source = "setting" if given else variable if text else "default"
    try:
        return Option("api_key", find_key({variable: text} if text else {}).value, source)
    except ValueError as error:
        missing_is_right = may_lack and not text
        return Option("api_key", "", source, "" if missing_is_right else str(error))
