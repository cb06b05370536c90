"""The page at ``/`` and what it asks for under ``/page``.

The page shows what anyone may have sent: it is plain files, nothing in it is built from data, and
the browser is told to load and run nothing else.
"""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path
from typing import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from whisperr.sandbox.page import queries
from whisperr.sandbox.page.update_stream import UpdateStream
from whisperr.sandbox.server.accounts import AccountRegistry
from whisperr.sandbox.server.origin_guard import OriginGuard
from whisperr.sandbox.server.responses import reply

FILES = Path(__file__).with_name("static")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


def routes(accounts: AccountRegistry, guard: OriginGuard) -> list[Route]:
    """The routes of the page."""
    page = _Page(accounts)

    def route(path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            rejection = guard.rejection(request)
            if rejection is not None:
                response = reply({"error": rejection}, 403)
            else:
                try:
                    response = await handler(request)
                except ValueError as exc:
                    response = reply({"error": str(exc)}, 400)
            response.headers.update(HEADERS)
            return response

        return Route(path, endpoint, methods=["GET"])

    files = [
        route("/" if file.name == "index.html" else f"/page/{file.name}", _file(file))
        for file in sorted(FILES.iterdir())
    ]
    return [
        *files,
        route("/page/stream", page.stream),
        route("/page/rows", page.rows),
        route("/page/rows/{seq}", page.row),
        route("/page/user", page.user),
        route("/page/export", page.export),
    ]


def _file(path: Path) -> Handler:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix == ".js":
        kind = "text/javascript"  # what a system's table says of it varies
    content = path.read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


class _Page:
    """What the page may ask."""

    def __init__(self, accounts: AccountRegistry) -> None:
        self._accounts = accounts
        self._database = accounts.database

    async def stream(self, request: Request) -> Response:
        wanted = queries.Filter.of(request.query_params)
        after = queries.number(request.headers, "last-event-id")
        if after is None:
            after = queries.number(request.query_params, "after")
        stream = UpdateStream(self._accounts, wanted, after, request.state.connection)
        return StreamingResponse(stream.messages(), media_type="text/event-stream")

    async def rows(self, request: Request) -> Response:
        wanted = queries.Filter.of(request.query_params)
        before = queries.number(request.query_params, "before")
        return reply(queries.page(self._database, wanted, before=before))

    async def row(self, request: Request) -> Response:
        seq = queries.number(request.path_params, "seq")
        found = queries.row(self._database, seq or 0)
        if found is None:
            return reply({"error": "no such row; it may have been let go"}, 404)
        found["lane_name"] = self._accounts.lanes.label(found["lane"])
        return reply(found)

    async def user(self, request: Request) -> Response:
        name = request.query_params.get("user", "")
        account = queries.number(request.query_params, "account")
        return reply(queries.user(self._database, name, account))

    async def export(self, request: Request) -> Response:
        wanted = queries.Filter.of(request.query_params)

        async def lines() -> AsyncIterator[bytes]:
            for piece in queries.export(self._database, wanted):
                yield piece
                await asyncio.sleep(0)  # an export of minutes, and requests come meanwhile

        name = 'attachment; filename="whisperr-events.jsonl"'
        headers = {"Content-Disposition": name}
        return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)
