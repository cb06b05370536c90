"""The application of ``served.py`` as ASGI servers run it: with the middleware, under Starlette."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from served import SETUP, answer, asgi, client, note
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from whisperr.integrations.asgi import FlushOnShutdown

TIMEOUT = SETUP["flush_timeout"]  # seconds


async def flushes(scope: Any, receive: Any, send: Any) -> None:
    """``/aflush``: what it returned, and how often the event loop turned meanwhile."""
    if scope["type"] == "http" and scope["path"] == "/aflush":
        await answer(send, await _aflush())
    else:
        await asgi(scope, receive, send)


async def _aflush() -> str:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    turning = asyncio.ensure_future(turn())
    settled = await client.aflush(TIMEOUT)
    turning.cancel()
    return json.dumps({"settled": settled, "turns": turns})


async def _one(request: Request) -> PlainTextResponse:
    note("request")
    return PlainTextResponse("ok")


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    note("startup")
    yield
    note("shutdown")


bare = FlushOnShutdown(flushes, timeout=TIMEOUT)
starlette = FlushOnShutdown(
    Starlette(routes=[Route("/", _one)], lifespan=_lifespan), timeout=TIMEOUT
)
