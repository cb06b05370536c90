"""``request.whisperr``: track and identify, bound to the user of the request.

Guarantees:
    A request that tracks nothing costs no query, no session access (so no ``Vary: Cookie``) and no
    change of thread. Neither a user that can't be found out nor an event that can't be
    sent reaches the response.
In a thread without an event loop (sync views, under WSGI or ASGI) the user is looked up at each call;
Django caches it. In an event loop, where that may take a query, a call waits in the
request's list, as a snapshot with its own id and time:
    when the view returns or raises   the middleware finds the user and hands all over
    after that (a streaming body,     a task does, at once
    a task of the view)
Lock-free: the list is a deque. A call first appends, then looks whether the middleware
    is still to come; the middleware first says that it has come, then empties the list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import Any, Awaitable, Callable, Mapping, Sequence, Union, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from whisperr import Whisperr
from whisperr.integrations.django import _users
from whisperr.integrations.django._calls import Call, track_call
from whisperr.integrations.django._client import get_client, report_lost

GetResponse = Callable[[HttpRequest], Union[HttpResponseBase, Awaitable[HttpResponseBase]]]

_settling: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive


class WhisperrMiddleware:
    """Puts ``request.whisperr`` on every request. Belongs after the authentication.

    Works sync and async, as the server and the other middleware have it.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if getattr(settings, "WHISPERR_JOURNAL_DIR", None) is not None:
            get_client()  # now, so that a hook of the server has it deliver what a crash has left
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        bound = RequestWhisperr(request)
        request.whisperr = bound  # type: ignore[attr-defined]
        if self._is_async:
            return self._acall(request, bound)
        try:
            return self.get_response(request)
        finally:
            bound._settle()

    async def _acall(self, request: HttpRequest, bound: RequestWhisperr) -> HttpResponseBase:
        try:
            return await cast("Awaitable[HttpResponseBase]", self.get_response(request))
        finally:
            await bound._asettle()


class RequestWhisperr:
    """``request.whisperr``: the client, for the user of the request. Made by the middleware.

    For a request without a user its calls do nothing; ``stats()`` counts them as ignored.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._waiting: deque[Call] = deque()
        self._is_over = False  # the view has returned or raised
        self._settled: str | _users.Unknown | None = _users.UNKNOWN  # found out after that

    @property
    def client(self) -> Whisperr:
        """The process-wide client, as of ``get_client()``."""
        return get_client()

    def track(
        self,
        event_type: str,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        occurred_at: datetime | None = None,
        message_id: str | None = None,
    ) -> None:
        """``Whisperr.track()`` for the user of the request. Never raises.

        Sync code may ask the database for the user, which Django does once in a request. In async
        code a user who is not known yet is looked up when the view has ended.
        """
        self._make(track_call(event_type, properties, context, occurred_at, message_id))

    def identify(
        self,
        *,
        traits: Mapping[str, Any] | None = None,
        email: str | None = None,
        phone: str | None = None,
        push_token: str | None = None,
        preferred_channel: str | None = None,
        channels: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """``Whisperr.identify()`` for the user of the request; else as ``track()``."""
        options = {
            "traits": traits,
            "email": email,
            "phone": phone,
            "push_token": push_token,
            "preferred_channel": preferred_channel,
            "channels": channels,
        }
        self._make(Call("identify", (), options))

    def _make(self, call: Call) -> None:
        client = get_client()
        if not client.ready:  # who the user is doesn't matter
            return
        try:
            user_id = self._user_id()
        except Exception as error:
            self._lose(1, error)
            return
        if isinstance(user_id, _users.Unknown):
            self._wait(call)
        else:
            call.send(client, user_id or "")  # without one it is ignored, and counted

    def _user_id(self) -> str | _users.Unknown | None:
        if not _users.in_event_loop():
            return _users.user_now(self._request)
        if not isinstance(self._settled, _users.Unknown):
            return self._settled
        return _users.user_if_known(self._request)

    # --- what waits for the user

    def _wait(self, call: Call) -> None:
        self._waiting.append(call.kept())
        if self._is_over:
            self._start_settling()

    def _settle(self) -> None:
        """At the end of a request in a thread without an event loop."""
        self._is_over = True
        if self._waiting:
            try:
                user_id = _users.user_at_last(self._request)
            except Exception as error:
                self._lose_all(error)
            else:
                self._hand_over(user_id)

    async def _asettle(self) -> None:
        """At the end of a request in an event loop."""
        self._is_over = True
        if self._waiting:
            # A task of its own: the client that hangs up cancels the request, not the events.
            await asyncio.shield(self._start_settling())

    def _start_settling(self) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._find_and_hand_over())
        _settling.add(task)
        task.add_done_callback(_settling.discard)
        return task

    async def _find_and_hand_over(self) -> None:
        try:
            user_id = await _users.user_later(self._request)
        except Exception as error:
            self._lose_all(error)
        except BaseException as error:  # cancelled: the event loop ends
            self._lose_all(error)
            raise
        else:
            self._settled = user_id
            self._hand_over(user_id)

    def _hand_over(self, user_id: str | None) -> None:
        client = get_client()
        for call in self._taken():
            call.send(client, user_id or "")

    def _taken(self) -> list[Call]:
        calls = []
        while self._waiting:
            calls.append(self._waiting.popleft())
        return calls

    def _lose_all(self, error: BaseException) -> None:
        self._lose(len(self._taken()), error)

    def _lose(self, count: int, error: BaseException) -> None:
        if count:
            plural = "" if count == 1 else "s"
            message = f"lost {count} call{plural}: who the user is could not be found out"
            report_lost(count, f"{message} ({type(error).__name__})", str(error)[:2048])
