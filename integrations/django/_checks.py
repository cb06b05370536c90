"""System checks. All are warnings: a site starts, whatever is wrong with its analytics."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from whisperr.integrations.django._client import (
    OPTIONS,
    PREFIX,
    RESOLVE_USER,
    new_client,
    problem_text,
)

_OURS = (
    "whisperr.django.WhisperrMiddleware",
    "whisperr.integrations.django.WhisperrMiddleware",
)
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@checks.register("whisperr")
def check_settings(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """What is wrong with the settings and with the order of the middleware."""
    return [*_unusable_options(), *_unknown_settings(), *_resolver(), *_order()]


def _unusable_options() -> Iterator[checks.CheckMessage]:
    try:
        new_client()
    except Exception as error:
        yield checks.Warning(
            f"whisperr sends nothing: {problem_text(error)}.",
            hint="Each option is a setting, api_key is WHISPERR_API_KEY. To send nothing on "
            "purpose, set WHISPERR_DISABLED = True.",
            id="whisperr.W001",
        )


def _unknown_settings() -> Iterator[checks.CheckMessage]:
    known = {*OPTIONS, RESOLVE_USER}
    for name in sorted(dir(settings)):
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            yield checks.Warning(
                f"{name} is no setting of whisperr.",
                hint=f"Is {close[0]} meant?" if close else None,
                id="whisperr.W002",
            )


def _resolver() -> Iterator[checks.CheckMessage]:
    dotted = getattr(settings, RESOLVE_USER, None)
    if not dotted:
        return
    try:
        problem = None if callable(import_string(dotted)) else f"{dotted} is not callable"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        yield checks.Warning(
            f"{RESOLVE_USER} can't be used, what request.whisperr is told is lost: {problem}.",
            hint="It is the dotted path of a function: request -> the user's id, or None.",
            id="whisperr.W003",
        )


def _order() -> Iterator[checks.CheckMessage]:
    middleware = list(getattr(settings, "MIDDLEWARE", None) or ())
    ours = [middleware.index(name) for name in _OURS if name in middleware]
    if not ours or getattr(settings, RESOLVE_USER, None) or _AUTHENTICATION not in middleware:
        return
    if ours[0] < middleware.index(_AUTHENTICATION):
        yield checks.Warning(
            "WhisperrMiddleware stands before AuthenticationMiddleware: until that has run, "
            "request.whisperr has no user and does nothing.",
            hint=f"Move it below {_AUTHENTICATION} in MIDDLEWARE.",
            id="whisperr.W004",
        )
