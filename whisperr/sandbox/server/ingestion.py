"""The ingestion API: which requests are let in, and what each is answered.

A request is checked in this order: whether it comes from a foreign page (403), the key (401), the
size (413), the rules (400). Then the first injected fault that matches is applied; without one it
gets the normal answer. So a request that breaks a rule is told so even while faults wait, and uses
up none of them.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from whisperr.sandbox.server.accounts import AccountRegistry
from whisperr.sandbox.server.origin_guard import OriginGuard
from whisperr.sandbox.server.parsing import PATHS, InvalidRequest, parse_request
from whisperr.sandbox.server.request_handling import RequestHandler
from whisperr.sandbox.server.responses import NoAnswer, reply

KEY_PREFIX = "wrk_"
KEYLESS = "(no valid key)"  # the account of requests that show none
MAX_BODY = 8 * 1024 * 1024  # bytes
MAX_READ = 8 * MAX_BODY  # bytes read and thrown away so that a 413 can be read by the client
MAX_READING = 32 * MAX_BODY  # bytes of incomplete bodies, of all connections together


class UnreadableError(Exception):
    """A body that was not read in full."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def routes(accounts: AccountRegistry, guard: OriginGuard, read_timeout: float) -> list[Route]:
    """The routes of the ingestion API."""
    endpoint = _IngestionEndpoint(accounts, guard, read_timeout)
    return [Route(path, endpoint.ingest, methods=["POST"]) for path in PATHS]


class _IngestionEndpoint:
    """Reads each request, finds its account, and has it handled."""

    def __init__(self, accounts: AccountRegistry, guard: OriginGuard, read_timeout: float) -> None:
        self._accounts = accounts
        self._guard = guard
        self._read_timeout = read_timeout
        self._reading = 0  # bytes of bodies that are not yet complete

    async def ingest(self, request: Request) -> Response:
        rejection = self._guard.rejection(request)
        if rejection is not None:
            return _final_reply({"error": rejection}, 403)
        if "content-length" in request.headers and "transfer-encoding" in request.headers:
            return _final_reply({"error": "header Transfer-Encoding: not with Content-Length"}, 400)
        key = _key(request)
        try:
            body = await self._read(request)  # even for a 401: unread bytes would make it a RST
        except ClientDisconnect:
            return NoAnswer()  # not read in full: it never was a request
        except UnreadableError as exc:
            if key is not None:
                RequestHandler(request, self._accounts, key).reject_unread(exc.status, str(exc))
            return _final_reply({"error": str(exc)}, exc.status)
        if key is None:
            error = f"no valid key: X-API-Key or Bearer, {KEY_PREFIX}..."
            RequestHandler(request, self._accounts, KEYLESS).reject_unread(401, error, refused=1)
            return reply({"error": error}, 401)
        handler = RequestHandler(request, self._accounts, key)
        if body is None:
            error = f"more than {MAX_BODY} bytes"
            handler.reject_unread(413, error)
            return reply({"error": error}, 413)
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        try:
            parsed = parse_request(handler.path, _headers(request), body, now)
        except InvalidRequest as invalid:
            return handler.reject_invalid(invalid)
        fault = handler.account.take_fault(parsed.path, parsed.entries)
        if fault is None:
            return handler.accept(parsed)
        return await handler.apply_fault(fault, parsed)

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


def _final_reply(value: object, status: int) -> Response:
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
