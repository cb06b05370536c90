"""What a test may ask and order under ``/sandbox``: look at a ledger, inject faults, forget.

Only for this machine: a page that a browser loaded from elsewhere, or under a name that was
made to point here, is refused (403).
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from typing import Any, Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from whisperr.sandbox import _json
from whisperr.sandbox._desk import Desk, Desks
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import FaultError

MAX_WAIT = 600.0  # seconds that one long poll may last
SETTLE = 0.05  # seconds for the requests that a killed client left in the socket buffers
WAITABLE = (
    "arrived",
    "numbers",
    "requests",
    "connections",
    "refused",
    "identities",
    "resent",
    "hung_up",
)

Handler = Callable[[Request, Desk], Awaitable[Response]]


def reply(value: object, status: int = 200) -> Response:
    return Response(_json.dumps(value), status, media_type="application/json")


def is_loopback(host: str) -> bool:
    """Whether a host name, or an address with or without brackets, means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def routes(desks: Desks, key_prefix: str) -> list[Route]:
    """The routes of the control plane."""

    def guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            key = request.path_params["key"]
            if not _from_here(request):
                return reply({"error": "the sandbox is controlled from this machine only"}, 403)
            if not key.startswith(key_prefix):
                return reply({"error": f"a key begins with {key_prefix}"}, 404)
            return await handler(request, desks[key])

        return endpoint

    def route(path: str, method: str, handler: Handler) -> Route:
        return Route("/sandbox/{key}/" + path, guarded(handler), methods=[method])

    return [
        Route("/sandbox/health", _health, methods=["GET"]),
        route("ledger", "GET", _ledger),
        route("events", "GET", _events),
        route("identities", "GET", _identities),
        route("requests", "GET", _requests),
        route("wait", "GET", _wait),
        route("faults", "GET", _faults),
        route("faults", "POST", _inject),
        route("faults", "DELETE", _clear),
        route("killed", "POST", _killed),
        route("forget", "DELETE", _forget),
    ]


def _from_here(request: Request) -> bool:
    hosts = [_host_of("//" + text) for text in request.headers.getlist("host")]
    hosts += [_host_of(text) for text in request.headers.getlist("origin")]
    return bool(request.headers.getlist("host")) and all(is_loopback(host) for host in hosts)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _health(request: Request) -> Response:
    if not _from_here(request):
        return reply({"error": "the sandbox is controlled from this machine only"}, 403)
    return reply({"ok": True})


async def _ledger(request: Request, desk: Desk) -> Response:
    return reply(desk.account.ledger())


async def _events(request: Request, desk: Desk) -> Response:
    return reply(desk.account.events)


async def _identities(request: Request, desk: Desk) -> Response:
    return reply(desk.account.identities)


async def _requests(request: Request, desk: Desk) -> Response:
    return reply(desk.account.requests)


async def _faults(request: Request, desk: Desk) -> Response:
    return reply(desk.faults.listed())


async def _inject(request: Request, desk: Desk) -> Response:
    try:
        return reply({"injected": desk.faults.add(_json.loads(await request.body()))})
    except FaultError as exc:
        return reply({"error": str(exc)}, 400)
    except ValueError as exc:
        return reply({"error": f"body: {exc}"}, 400)


async def _clear(request: Request, desk: Desk) -> Response:
    desk.faults.clear()
    return reply({"ok": True})


async def _killed(request: Request, desk: Desk) -> Response:
    await asyncio.sleep(SETTLE)
    return reply({"excused": desk.account.killed()})


async def _forget(request: Request, desk: Desk) -> Response:
    desk.forget()
    return reply({"ok": True})


async def _wait(request: Request, desk: Desk) -> Response:
    """Long poll: ``?arrived=N&timeout=S``, or any other count that only grows."""
    try:
        targets, timeout = _targets(dict(request.query_params))
    except ValueError as exc:
        return reply({"error": str(exc)}, 400)
    wire: Wire = request.state.wire
    reached = await desk.reached(targets, timeout, wire)
    return reply({"reached": reached, "ledger": desk.account.ledger()})


def _targets(query: dict[str, Any]) -> tuple[dict[str, int], float]:
    timeout = float(query.pop("timeout", 10.0))
    if not (math.isfinite(timeout) and 0 <= timeout <= MAX_WAIT):
        raise ValueError(f"timeout: must be 0 to {MAX_WAIT:g} seconds")
    for name in query:
        if name not in WAITABLE:
            raise ValueError(f"{name}: must be one of {', '.join(WAITABLE)}")
    if not query:
        raise ValueError("nothing to wait for: give arrived=N")
    return {name: int(count) for name, count in query.items()}, timeout
