"""The ingestion API: who may write, what is let in, and what is answered.

A request is taken in this order: whether it comes from a foreign page (403), the key (401), the size (413), the rules (400), the first
injected fault that matches, and else the normal answer. A request that breaks a rule therefore
says so even while faults wait, and uses none of them up.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from whisperr.sandbox import _control, _page
from whisperr.sandbox._control import reply
from whisperr.sandbox._database import Database
from whisperr.sandbox._desk import Desks
from whisperr.sandbox._guard import Guard
from whisperr.sandbox._intake import PATHS, Refusal, open_parcel
from whisperr.sandbox._visit import NoAnswer, Visit

KEY_PREFIX = "wrk_"
STRANGER = "(no valid key)"  # the desk of those who showed none
MAX_BODY = 8 * 1024 * 1024  # bytes
MAX_READ = 8 * MAX_BODY  # bytes read and thrown away so that a 413 can be read by the client
MAX_READING = 32 * MAX_BODY  # bytes of incomplete bodies, of all connections together
READ_TIMEOUT = 60.0  # seconds for a body to come


class UnreadableError(Exception):
    """A body that was not read in full."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def create_app(
    database: Database | None = None,
    guard: Guard | None = None,
    *,
    read_timeout: float = READ_TIMEOUT,
) -> Starlette:
    """A sandbox on a database, by default an empty one. Its requests need a ``Wire`` in their state."""
    desks = Desks(database or Database())
    guard = guard or Guard()
    gate = _Gate(desks, guard, read_timeout)
    ingestion = [Route(path, gate.ingest, methods=["POST"]) for path in PATHS]
    control = _control.routes(desks, guard, KEY_PREFIX)
    return Starlette(routes=[*ingestion, *control, *_page.routes(desks, guard)])


class _Gate:
    """Lets requests in: reads them, and finds their desk."""

    def __init__(self, desks: Desks, guard: Guard, read_timeout: float) -> None:
        self._desks = desks
        self._guard = guard
        self._read_timeout = read_timeout
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
                Visit(request, self._desks, key).turn_away(exc.status, str(exc))
            return _last_words({"error": str(exc)}, exc.status)
        if key is None:
            error = f"no valid key: X-API-Key or Bearer, {KEY_PREFIX}..."
            Visit(request, self._desks, STRANGER).turn_away(401, error, refused=1)
            return reply({"error": error}, 401)
        visit = Visit(request, self._desks, key)
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
            return await asyncio.wait_for(self._read_all(request), self._read_timeout)
        except asyncio.TimeoutError:
            raise UnreadableError(
                408, f"body: not here after {self._read_timeout:g} seconds"
            ) from None

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


def _last_words(value: object, status: int) -> Response:
    """An answer to a request that was not read in full: the connection cannot go on."""
    answer = reply(value, status)
    answer.headers["Connection"] = "close"
    return answer


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
