"""The one client of the process, made from the settings at its first use.

Guarantees:
    All threads get the same client, also when several ask first at once. Unusable settings
    give a disabled client and one WARNING: they never keep a site from starting.
Lock-free: two threads may each make a client, one ``dict.setdefault`` decides, and the
    other is dropped before it has a thread or a socket. A lock would be held over the making,
    where a fork by another thread would leave it locked for ever in the child.
"""

from __future__ import annotations

import inspect
import logging
import os
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from whisperr import Whisperr, WhisperrError

PREFIX = "WHISPERR_"
RESOLVE_USER = "WHISPERR_RESOLVE_USER"
SWITCH_TIMEOUT = 2.0  # seconds for what a test's old client still holds, when settings change

logger = logging.getLogger("whisperr")

#: setting -> option of ``Whisperr``
OPTIONS = {PREFIX + name.upper(): name for name in inspect.signature(Whisperr).parameters}

_published: dict[str, Whisperr] = {}  # "client": the one


def get_client() -> Whisperr:
    """The process-wide client. Every option is a setting: ``flush_at`` is ``WHISPERR_FLUSH_AT``.
    What the settings leave out is looked for in the environment, under the same name.

    Made at the first call; ``override_settings`` in a test makes a new one. Without a key, or with
    an unusable setting, it is a disabled client, and one WARNING says why. Never raises.
    """
    client = _published.get("client")
    return _first_client() if client is None else client


def _first_client() -> Whisperr:
    problem = None
    try:
        mine = new_client()
    except Exception as error:  # also what a setting's own module raises
        problem = error
        mine = Whisperr(disabled=True)
    client = _published.setdefault("client", mine)
    if problem is not None and client is mine:
        logger.warning("whisperr: nothing will be sent: %s", problem_text(problem))
    return client


def new_client(**instead: Any) -> Whisperr:
    """A client of its own, from the settings. Raises what is wrong with them."""
    given = given_options()
    try:
        return Whisperr(**{**given, **instead})
    except ValueError as error:
        option = str(error).partition(" ")[0]
        if not given.get(option) or option in instead:
            raise
        raise ValueError(f"{error} (from the setting {PREFIX}{option.upper()})") from None


def given_options() -> dict[str, Any]:
    """The options that the settings give; the client looks for the others in the environment.

    None, as of an environment variable that is not set, gives none.

    A callback may be a dotted path, as the settings can't import the application.
    """
    given = {option: getattr(settings, name, None) for name, option in OPTIONS.items()}
    for callback in ("on_error", "before_send"):
        dotted = given.get(callback)
        if isinstance(dotted, str):
            given[callback] = import_string(dotted)
    return {option: value for option, value in given.items() if value is not None}


def problem_text(problem: Exception) -> str:
    """One sentence. Only a ValueError of ours is sure to hold no secret: else, its type."""
    if isinstance(problem, (ValueError, ImportError)):
        return str(problem)
    if isinstance(problem, ImproperlyConfigured) and not os.environ.get(ENVIRONMENT_VARIABLE):
        return str(problem)  # Django's own words: there are no settings yet
    return f"the settings raise {type(problem).__name__}"


def report_lost(count: int, message: str, detail: str | None = None) -> None:
    """Events that never reached the client are gone: said as the client says it. Never raises."""
    error = WhisperrError("dropped", message, None, count, detail)
    try:
        logger.warning("whisperr: %s: %s", error.type, error.message)
        on_error = given_options().get("on_error")
        if on_error is not None:
            on_error(error)
    except Exception as raised:
        logger.warning("whisperr: a report raised %s, ignored", type(raised).__name__)


def _forget_client(*, setting: str, **_: Any) -> None:
    """``override_settings``: the next call makes a client of the new settings.

    Whoever holds the old one may go on using it; what it queued is delivered now.
    """
    if setting in OPTIONS:
        client = _published.pop("client", None)
        if client is not None:
            client.flush(SWITCH_TIMEOUT)


setting_changed.connect(_forget_client, dispatch_uid="whisperr")
