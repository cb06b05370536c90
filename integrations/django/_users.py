"""Who the user of a request is: at once, at once if that takes no waiting, or by waiting.

The default is ``str(request.user.pk)`` of an authenticated user; ``WHISPERR_RESOLVE_USER`` names
a function of the application, plain or ``async def``, that says it instead.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Optional, Union, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest
from django.utils.functional import LazyObject
from django.utils.module_loading import import_string

from whisperr.integrations.django._client import RESOLVE_USER

UserId = Optional[str]
Resolver = Callable[[HttpRequest], Union[UserId, Awaitable[UserId]]]


class Unknown:
    """In place of a user's id: to know it, one has to wait."""


UNKNOWN = Unknown()


def in_event_loop() -> bool:
    """Whether this thread runs an event loop now, where Django refuses to ask the database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def user_now(request: HttpRequest) -> UserId:
    """Outside an event loop: Django caches the user. Raises what finding out raises."""
    resolver = _resolver()
    if resolver is None:
        return _user_id(getattr(request, "user", None))
    if iscoroutinefunction(resolver):
        resolver = async_to_sync(cast("Callable[[HttpRequest], Awaitable[UserId]]", resolver))
    return cast(UserId, resolver(request))


def user_if_known(request: HttpRequest) -> str | Unknown | None:
    """Inside an event loop: without waiting, and without asking the session or the database."""
    if _resolver() is not None:
        return UNKNOWN
    user = getattr(request, "user", None)
    if not isinstance(user, LazyObject):  # nobody, or who has logged in or out in this request
        try:
            return _user_id(user)
        except SynchronousOnlyOperation:  # a proxy of the application's own
            return UNKNOWN
    return UNKNOWN if (found := _found_before(request)) is None else _user_id(found)


async def user_later(request: HttpRequest) -> UserId:
    """Inside an event loop: for calls that found the user unknown. Raises what that raises."""
    resolver = _resolver()
    if resolver is None:
        known = user_if_known(request)
        if known is None:  # logged out since, perhaps: then Django has asked who it was
            return _user_id(_found_before(request))
        if not isinstance(known, Unknown):
            return known
        if hasattr(request, "auser"):  # from Django 5.0 on
            return _user_id(await request.auser())
    elif iscoroutinefunction(resolver):
        return await cast("Awaitable[UserId]", resolver(request))
    return await sync_to_async(user_now)(request)


def user_at_last(request: HttpRequest) -> UserId:
    """As ``user_later``, outside an event loop: an async view has run under a sync server."""
    user_id = user_now(request)
    if user_id is None and _resolver() is None:
        return _user_id(_found_before(request))
    return user_id


def _found_before(request: HttpRequest) -> Any:
    """The user that ``request.user`` or ``request.auser()`` has fetched, or None.

    Where Django keeps them is its own affair. If that changes, one waits in vain and no more.
    """
    found = (getattr(request, name, None) for name in ("_cached_user", "_acached_user"))
    return next((user for user in found if user is not None), None)


def _user_id(user: Any) -> UserId:
    if not getattr(user, "is_authenticated", False) or user.pk is None:
        return None
    return str(user.pk)


def _resolver() -> Resolver | None:
    dotted = getattr(settings, RESOLVE_USER, None)
    return cast(Resolver, import_string(dotted)) if dotted else None
