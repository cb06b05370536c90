"""The ingestion API: who may write, what is let in, and what is answered.

A request is taken in this order: the key (401), the size (413), the rules (400), the first
injected fault that matches, and else the normal answer. A request that breaks a rule therefore
says so even while faults wait, and uses none of them up.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from whisperr.sandbox import _control
from whisperr.sandbox._control import reply
from whisperr.sandbox._desk import Desk, Desks
from whisperr.sandbox._intake import PATHS, Parcel, Refusal, open_parcel
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import Fault
from whisperr.sandbox.store import NO_ANSWER, Account

KEY_PREFIX = "wrk_"
MAX_BODY = 8 * 1024 * 1024  # bytes
MAX_READ = 8 * MAX_BODY  # bytes read and thrown away so that a 413 can be read by the client
MAX_PROBLEMS = 10  # in one answer
LOGGED_HEADERS = (
    "Idempotency-Key",
    "User-Agent",
    "Content-Type",
    "Content-Length",
    "Accept-Encoding",
    "Connection",
    "Host",
)


class NoAnswer(Response):
    """For a request whose connection is gone: nothing is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return None


def create_app() -> Starlette:
    """A sandbox with nothing in it. Its requests need a ``Wire`` in their state."""
    desks = Desks()

    async def ingest(request: Request) -> Response:
        return await _ingest(request, desks)

    ingestion = [Route(path, ingest, methods=["POST"]) for path in PATHS]
    return Starlette(routes=[*ingestion, *_control.routes(desks, KEY_PREFIX)])


async def _ingest(request: Request, desks: Desks) -> Response:
    try:
        body = await _read(request)  # whole, even for a 401: unread bytes would turn it into RST
    except ClientDisconnect:
        return NoAnswer()  # not read in full: it never was a request
    key = _key(request)
    if key is None:
        return reply({"error": f"no valid key: X-API-Key or Bearer, {KEY_PREFIX}..."}, 401)
    visit = _Visit(request, desks[key])
    if body is None:
        return visit.too_long()
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    try:
        parcel = open_parcel(visit.path, _headers(request), body, now)
    except Refusal as refusal:
        return visit.refuse(refusal)
    fault = visit.desk.faults.take(parcel.path, parcel.entries)
    if fault is None:
        return visit.accept(parcel)
    return await visit.suffer(fault, parcel)


class _Visit:
    """One request that was read, from its parcel to its answer."""

    def __init__(self, request: Request, desk: Desk) -> None:
        self.desk = desk
        self.path: str = request.scope["path"]
        self._headers = request.headers
        self._wire: Wire = request.state.wire
        # forget() gives the desk a new account; this request was read under the present one.
        self._account: Account = desk.account

    def too_long(self) -> Response:
        self._log(413, 0)
        return reply({"error": f"more than {MAX_BODY} bytes"}, 413)

    def refuse(self, refusal: Refusal) -> Response:
        problems = list(refusal.problems[:MAX_PROBLEMS])
        self._account.refuse(refusal.count)
        self._log(400, refusal.count, problems=problems)
        return reply({"error": refusal.error, "problems": problems}, 400)

    def accept(self, parcel: Parcel) -> Response:
        answer = self._store(parcel)
        if self._wire.peer_gone():
            self._account.excuse(parcel)
            self._hung_up()
        else:
            self._account.answered(parcel, self._wire.name)
        return answer

    async def suffer(self, fault: Fault, parcel: Parcel) -> Response:
        if fault.do == "delay":
            return await self._delay(fault, parcel)
        if fault.do == "refuse":
            self._account.refuse(len(parcel.entries))
        if fault.store:
            self._account.accept(parcel)
            # To a client that was told 2xx there is nothing to excuse.
            if fault.do != "status" or fault.status >= 300:
                self._account.excuse(parcel)
        answers = fault.do in ("status", "refuse")
        self._log(fault.status if answers else NO_ANSWER, len(parcel.entries), fault=fault.do)
        if answers:
            return _injected(fault)
        self._strike(fault)
        await self._wire.wait_lost(None)
        return NoAnswer()

    def _strike(self, fault: Fault) -> None:
        if fault.do == "reset":
            self._wire.reset()
        elif fault.do != "hang":
            self._wire.close(fault.data)

    async def _delay(self, fault: Fault, parcel: Parcel) -> Response:
        answer = self._store(parcel, fault=fault.do)
        # Excused first: a client that gives up may be back before its leaving is noticed.
        self._account.excuse(parcel)
        await self._wire.wait_lost(fault.seconds)
        if self._wire.peer_gone():
            self._hung_up()
        else:
            self._account.withdraw_excuse(parcel)
            self._account.answered(parcel, self._wire.name)
        return answer

    def _store(self, parcel: Parcel, **more: Any) -> Response:
        status = 200 if parcel.holds_identity else 202
        self._account.accept(parcel)
        self._log(status, len(parcel.entries), **more)
        return reply({"accepted": len(parcel.entries)}, status)

    def _hung_up(self) -> None:
        self._account.hung_up()
        self.desk.ring()

    def _log(self, status: int, count: int, **more: Any) -> None:
        shown = {name: self._headers[name] for name in LOGGED_HEADERS if name in self._headers}
        self._account.log(
            {
                "path": self.path,
                "status": status,
                "count": count,
                "connection": self._wire.name,
                "time": time.time(),
                "headers": shown,
                **more,
            }
        )
        self.desk.ring()


def _injected(fault: Fault) -> Response:
    response = Response(fault.body, fault.status, media_type="application/json")
    response.headers.update(fault.headers)
    return response


def _key(request: Request) -> str | None:
    """The one API key that the request shows, or None: two keys, or other credentials, are none."""
    shown = set(request.headers.getlist("x-api-key"))
    for text in request.headers.getlist("authorization"):
        scheme, _, token = text.partition(" ")
        shown.add(token.strip() if scheme.lower() == "bearer" else "")
    key = shown.pop() if len(shown) == 1 else ""
    return key if key.startswith(KEY_PREFIX) and len(key) > len(KEY_PREFIX) else None


def _headers(request: Request) -> dict[str, list[str]]:
    names = {name.lower() for name in request.headers}
    return {name: request.headers.getlist(name) for name in names}


async def _read(request: Request) -> bytes | None:
    """The whole body, or None when it is too long. Raises ClientDisconnect."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY:
            chunks.append(chunk)
        elif size > MAX_READ:
            break
    return b"".join(chunks) if size <= MAX_BODY else None
