"""Which key serves which app: from a file, or from the environment. Never from a command line."""

from __future__ import annotations

import sys
from typing import Any, Mapping

from whisperr._settings import APP_NAME, PREFIX, Key, check_key, variable_of

_OF_AN_APP = PREFIX + "KEY_"  # and the name of the app, in capitals

#: The app of the messages that name none.
NAMELESS = ""


def find_keys(path: str | None, environment: Mapping[str, str]) -> dict[str, Key]:
    """By app. What the file says goes before the environment. ValueError: something is unusable."""
    keys = {**_of_environment(environment), **(_of_file(path) if path else {})}
    lone = variable_of("api_key")
    if environment.get(lone):
        keys[NAMELESS] = check_key(lone, environment[lone])
    if not keys:
        raise ValueError(
            f"no key: name a file with --keys, or set {_OF_AN_APP}<APP> for each app, or {lone} for "
            "messages that name no app"
        )
    return keys


def is_variable(name: str) -> bool:
    """Whether a variable of the environment holds the key of an app."""
    app = name[len(_OF_AN_APP) :]
    return name.startswith(_OF_AN_APP) and app.isupper() and bool(APP_NAME.fullmatch(app.lower()))


def is_app(name: str) -> bool:
    """Whether a client can have that name for its app, so that it may be told."""
    return name == NAMELESS or bool(APP_NAME.fullmatch(name))


def variable_for(app: str) -> str:
    """The variable that holds the key of an app."""
    return f"{_OF_AN_APP}{app.upper()}" if app else variable_of("api_key")


def _of_environment(environment: Mapping[str, str]) -> dict[str, Key]:
    named = {name: text for name, text in environment.items() if is_variable(name) and text}
    return {name[len(_OF_AN_APP) :].lower(): check_key(name, text) for name, text in named.items()}


def _of_file(path: str) -> dict[str, Key]:
    found = {}
    for app, key in _parsed(path).items():
        if not APP_NAME.fullmatch(app):
            raise ValueError(f"{path}: the name of an app is lowercase snake_case, one is not")
        found[app] = check_key(f"{path}: {app}", key)
    return found


def _parsed(path: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ValueError(
                "--keys needs the package tomli: pip install 'whisperr[redis]'"
            ) from None
    try:
        with open(path, "rb") as file:
            return dict(tomllib.load(file))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError:  # its text may repeat a key
        raise ValueError(f'{path}: it is no TOML file of lines like shop = "wrk_..."') from None
