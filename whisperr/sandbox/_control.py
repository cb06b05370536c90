"""What a test may ask and order under ``/sandbox``: look at a ledger, inject faults, forget.

Only for this machine: a page that a browser loaded from elsewhere, or under a name that was
made to point here, is refused (403).
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Awaitable, Callable, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from whisperr.sandbox import _json
from whisperr.sandbox._desk import Desk, Desks
from whisperr.sandbox._guard import Guard
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import FaultError, FaultQueue

MAX_ORDER = 16 * 1024 * 1024  # bytes of faults in one request
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

N = TypeVar("N", int, float)
Handler = Callable[[Request, Desk], Awaitable[Response]]


def reply(value: object, status: int = 200) -> Response:
    return Response(_json.dumps(value), status, media_type="application/json")


def routes(desks: Desks, guard: Guard, key_prefix: str) -> list[Route]:
    """The routes of the control plane."""

    def guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            key = request.path_params["key"]
            objection = guard.objection(request)
            if objection is not None:
                return reply({"error": objection}, 403)
            if not key.startswith(key_prefix):
                return reply({"error": f"a key begins with {key_prefix}"}, 404)
            return await handler(request, desks[key])

        return endpoint

    def route(path: str, method: str, handler: Handler) -> Route:
        return Route("/sandbox/{key}/" + path, guarded(handler), methods=[method])

    async def health(request: Request) -> Response:
        objection = guard.objection(request)
        return reply(
            {"ok": True} if objection is None else {"error": objection}, 403 if objection else 200
        )

    async def shared_faults(request: Request) -> Response:
        """Faults for every key."""
        objection = guard.objection(request)
        if objection is not None:
            return reply({"error": objection}, 403)
        if request.method == "DELETE" and request.query_params.get("keys") == "all":
            desks.clear_faults()
        answer = await _order(request, desks.faults)
        desks.bell.ring()
        return answer

    return [
        Route("/sandbox/health", health, methods=["GET"]),
        Route("/sandbox/faults", shared_faults, methods=["GET", "POST", "DELETE"]),
        route("ledger", "GET", _ledger),
        route("events", "GET", _events),
        route("identities", "GET", _identities),
        route("requests", "GET", _requests),
        route("wait", "GET", _wait),
        route("faults", "GET", _faults),
        route("faults", "POST", _faults),
        route("faults", "DELETE", _faults),
        route("killed", "POST", _killed),
        route("forget", "DELETE", _forget),
    ]


async def _ledger(request: Request, desk: Desk) -> Response:
    return reply(desk.account.ledger())


async def _events(request: Request, desk: Desk) -> Response:
    return Response(_json.array(desk.account.events), media_type="application/json")


async def _identities(request: Request, desk: Desk) -> Response:
    return Response(_json.array(desk.account.identities), media_type="application/json")


async def _requests(request: Request, desk: Desk) -> Response:
    return Response(_json.array(desk.account.requests), media_type="application/json")


async def _faults(request: Request, desk: Desk) -> Response:
    answer = await _order(request, desk.faults)
    desk.ring()
    return answer


async def _order(request: Request, faults: FaultQueue) -> Response:
    """List, queue or drop faults, as the method says."""
    if request.method == "DELETE":
        faults.clear()
        return reply({"ok": True})
    if request.method != "POST":
        return reply(faults.listed())
    try:
        return reply({"injected": faults.add(_json.loads(await _body(request)))})
    except FaultError as exc:
        return reply({"error": str(exc)}, 400)
    except ValueError as exc:
        return reply({"error": f"body: {exc}"}, 400)


async def _body(request: Request) -> bytes:
    """The body of an order. Raises ValueError when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ORDER:
            raise ValueError(f"more than {MAX_ORDER} bytes")
    return bytes(body)


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
    timeout = _number("timeout", query.pop("timeout", 10.0), float)
    if not (math.isfinite(timeout) and 0 <= timeout <= MAX_WAIT):
        raise ValueError(f"timeout: must be 0 to {MAX_WAIT:g} seconds")
    for name in query:
        if name not in WAITABLE:
            raise ValueError(f"{name}: must be one of {', '.join(WAITABLE)}")
    if not query:
        raise ValueError("nothing to wait for: give arrived=N")
    return {name: _number(name, count, int) for name, count in query.items()}, timeout


def _number(name: str, text: Any, kind: Callable[[Any], N]) -> N:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name}: must be a number") from None
