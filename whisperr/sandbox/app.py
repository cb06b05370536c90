"""The ingestion API: who may write, what is let in, and what is answered.

A request is taken in this order: whether it comes from a foreign page (403), the key (401), the size (413), the rules (400), the first
injected fault that matches, and else the normal answer. A request that breaks a rule therefore
says so even while faults wait, and uses none of them up.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from whisperr.sandbox import _control, _page
from whisperr.sandbox._control import reply
from whisperr.sandbox._database import Database
from whisperr.sandbox._desk import Desks
from whisperr.sandbox._guard import Guard
from whisperr.sandbox._intake import PATHS, Parcel, Refusal, open_parcel
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import Fault
from whisperr.sandbox.store import ARRIVED, FAILED, NO_ANSWER, REFUSED, Account

KEY_PREFIX = "wrk_"
STRANGER = "(no valid key)"  # the desk of those who showed none
MAX_BODY = 8 * 1024 * 1024  # bytes
MAX_READ = 8 * MAX_BODY  # bytes read and thrown away so that a 413 can be read by the client
MAX_READING = 32 * MAX_BODY  # bytes of incomplete bodies, of all connections together
READ_TIME = 60.0  # seconds for a body to come
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


class UnreadableError(Exception):
    """A body that was not read in full."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def create_app(database: Database | None = None, guard: Guard | None = None) -> Starlette:
    """A sandbox on a database, by default an empty one. Its requests need a ``Wire`` in their state."""
    desks = Desks(database or Database())
    guard = guard or Guard()
    gate = _Gate(desks, guard)
    ingestion = [Route(path, gate.ingest, methods=["POST"]) for path in PATHS]
    control = _control.routes(desks, guard, KEY_PREFIX)
    return Starlette(routes=[*ingestion, *control, *_page.routes(desks, guard)])


class _Gate:
    """Lets requests in: reads them, and finds their desk."""

    def __init__(self, desks: Desks, guard: Guard) -> None:
        self._desks = desks
        self._guard = guard
        self._reading = 0  # bytes of bodies that are not yet complete

    async def ingest(self, request: Request) -> Response:
        objection = self._guard.objection(request)
        if objection is not None:
            return _last_words({"error": objection}, 403)
        if "content-length" in request.headers and "transfer-encoding" in request.headers:
            return _last_words({"error": "header Transfer-Encoding: not with Content-Length"}, 400)
        key = _key(request)
        try:
            body = await self._read(request)  # even for a 401: unread bytes would make it a RST
        except ClientDisconnect:
            return NoAnswer()  # not read in full: it never was a request
        except UnreadableError as exc:
            if key is not None:
                _Visit(request, self._desks, key).turn_away(exc.status, str(exc))
            return _last_words({"error": str(exc)}, exc.status)
        if key is None:
            error = f"no valid key: X-API-Key or Bearer, {KEY_PREFIX}..."
            _Visit(request, self._desks, STRANGER).turn_away(401, error)
            return reply({"error": error}, 401)
        visit = _Visit(request, self._desks, key)
        if body is None:
            error = f"more than {MAX_BODY} bytes"
            visit.turn_away(413, error)
            return reply({"error": error}, 413)
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        try:
            parcel = open_parcel(visit.path, _headers(request), body, now)
        except Refusal as refusal:
            return visit.refuse(refusal)
        fault = visit.desk.fault(parcel.path, parcel.entries)
        if fault is None:
            return visit.accept(parcel)
        return await visit.suffer(fault, parcel)

    async def _read(self, request: Request) -> bytes | None:
        """The whole body, or None when it is too long.

        Raises ClientDisconnect, and UnreadableError for what takes too long, or when the bodies
        of all requests together become too much.
        """
        try:
            return await asyncio.wait_for(self._read_all(request), READ_TIME)
        except asyncio.TimeoutError:
            raise UnreadableError(408, f"body: not here after {READ_TIME:g} seconds") from None

    async def _read_all(self, request: Request) -> bytes | None:
        chunks: list[bytes] = []
        size = kept = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_READ:
                    raise UnreadableError(413, f"more than {MAX_BODY} bytes")
                if size > MAX_BODY:
                    chunks.clear()
                    continue
                if self._reading + len(chunk) > MAX_READING:
                    raise UnreadableError(503, "too many bodies at once")
                chunks.append(chunk)
                kept += len(chunk)
                self._reading += len(chunk)
        finally:
            self._reading -= kept
        return b"".join(chunks) if size <= MAX_BODY else None


class _Visit:
    """One request that was read, from its parcel to its answer."""

    def __init__(self, request: Request, desks: Desks, key: str) -> None:
        self.desk = desks[key]
        self.path: str = request.scope["path"]
        self._total = desks.traffic
        self._headers = request.headers
        self._wire: Wire = request.state.wire
        self._time = time.time()
        self._lane = desks.lanes.of(self._wire, request.headers.get("user-agent", ""))
        # forget() gives the desk a new account; this request was read under the present one.
        self._account: Account = self.desk.account

    def turn_away(self, status: int, error: str) -> None:
        """Note a request whose body was not looked at."""
        with self._account.change():
            number = self._log(status, 0, problems=[error])
            refusal = Refusal(error, [f"{status}: {error}"], 0, self.path, b"")
            self._account.show_refused(refusal, number, self._time, self._lane)
        self._count(REFUSED, 1)

    def refuse(self, refusal: Refusal) -> Response:
        problems = list(refusal.problems[:MAX_PROBLEMS])
        with self._account.change():
            self._account.refuse(refusal.count)
            number = self._log(400, refusal.count, problems=problems)
            self._account.show_refused(refusal, number, self._time, self._lane)
        self._count(REFUSED, refusal.count)
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
        answers = fault.do in ("status", "refuse")
        with self._account.change():
            if fault.do == "refuse":
                self._account.refuse(len(parcel.entries))
            status = fault.status if answers else NO_ANSWER
            number = self._log(status, len(parcel.entries), fault=fault.do)
            if fault.store:
                self._account.accept(parcel, number, self._time, self._lane)
            else:
                guilty = fault.means if fault.do == "refuse" else None
                self._account.show_failed(
                    parcel, number, self._time, self._lane, guilty, fault.summary
                )
        # To a client that was told 2xx there is nothing to excuse.
        if fault.store and (fault.do != "status" or fault.status >= 300):
            self._account.excuse(parcel)
        self._count(ARRIVED if fault.store else FAILED, len(parcel.entries))
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
        with self._account.change():
            number = self._log(status, len(parcel.entries), **more)
            self._account.accept(parcel, number, self._time, self._lane)
        self._count(ARRIVED, len(parcel.entries))
        return reply({"accepted": len(parcel.entries)}, status)

    def _hung_up(self) -> None:
        self._account.hung_up()
        self.desk.ring()

    def _count(self, state: int, entries: int) -> None:
        for traffic in (self.desk.traffic, self._total):
            traffic.rows(state, entries)
            traffic.batch(entries)
        self.desk.ring()

    def _log(self, status: int, count: int, **more: Any) -> int:
        shown = {name: self._headers[name] for name in LOGGED_HEADERS if name in self._headers}
        is_new = self._account.number not in self._wire.accounts
        self._wire.accounts.add(self._account.number)
        return self._account.log(
            {
                "path": self.path,
                "status": status,
                "count": count,
                "connection": self._wire.name,
                "time": self._time,
                "headers": shown,
                **more,
            },
            new_connection=is_new,
        )


def _last_words(value: object, status: int) -> Response:
    """An answer to a request that was not read in full: the connection cannot go on."""
    answer = reply(value, status)
    answer.headers["Connection"] = "close"
    return answer


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
