"""The control API under ``/sandbox``: a test reads a ledger, injects faults, or starts a key anew.

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

from whisperr.sandbox.server import strict_json
from whisperr.sandbox.server.accounts import Account, AccountRegistry
from whisperr.sandbox.server.connection import Connection
from whisperr.sandbox.server.faults import FaultError, FaultQueue
from whisperr.sandbox.server.origin_guard import OriginGuard
from whisperr.sandbox.server.responses import reply

MAX_BODY = 16 * 1024 * 1024  # bytes of faults in one request
MAX_WAIT = 600.0  # seconds that one long poll may last
KILLED_DELAY = 0.05  # seconds for the requests that a killed client left in the socket buffers
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
Handler = Callable[[Request, Account], Awaitable[Response]]


def routes(accounts: AccountRegistry, guard: OriginGuard, key_prefix: str) -> list[Route]:
    """The routes of the control API."""

    def guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            key = request.path_params["key"]
            rejection = guard.rejection(request)
            if rejection is not None:
                return reply({"error": rejection}, 403)
            if not key.startswith(key_prefix):
                return reply({"error": f"a key begins with {key_prefix}"}, 404)
            return await handler(request, accounts[key])

        return endpoint

    def route(path: str, method: str, handler: Handler) -> Route:
        return Route("/sandbox/{key}/" + path, guarded(handler), methods=[method])

    async def health(request: Request) -> Response:
        rejection = guard.rejection(request)
        return reply({"ok": True}) if rejection is None else reply({"error": rejection}, 403)

    async def shared_faults(request: Request) -> Response:
        """Faults for every key."""
        rejection = guard.rejection(request)
        if rejection is not None:
            return reply({"error": rejection}, 403)
        if request.method == "DELETE" and request.query_params.get("keys") == "all":
            accounts.clear_faults()
        answer = await _handle_faults(request, accounts.faults)
        accounts.changed.notify()
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


async def _ledger(request: Request, account: Account) -> Response:
    return reply(account.ledger.counts())


async def _events(request: Request, account: Account) -> Response:
    return Response(strict_json.array(account.ledger.events), media_type="application/json")


async def _identities(request: Request, account: Account) -> Response:
    return Response(strict_json.array(account.ledger.identities), media_type="application/json")


async def _requests(request: Request, account: Account) -> Response:
    return Response(strict_json.array(account.ledger.requests), media_type="application/json")


async def _faults(request: Request, account: Account) -> Response:
    answer = await _handle_faults(request, account.faults)
    account.notify()
    return answer


async def _handle_faults(request: Request, faults: FaultQueue) -> Response:
    """List, queue or drop faults, as the method says."""
    if request.method == "DELETE":
        faults.clear()
        return reply({"ok": True})
    if request.method != "POST":
        return reply(faults.listed())
    try:
        return reply({"injected": faults.add(strict_json.loads(await _body(request)))})
    except FaultError as exc:
        return reply({"error": str(exc)}, 400)
    except ValueError as exc:
        return reply({"error": f"body: {exc}"}, 400)


async def _body(request: Request) -> bytes:
    """The body of a request. Raises ValueError when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ValueError(f"more than {MAX_BODY} bytes")
    return bytes(body)


async def _killed(request: Request, account: Account) -> Response:
    await asyncio.sleep(KILLED_DELAY)
    return reply({"excused": account.ledger.killed()})


async def _forget(request: Request, account: Account) -> Response:
    account.forget()
    return reply({"ok": True})


async def _wait(request: Request, account: Account) -> Response:
    """Long poll: ``?arrived=N&timeout=S``, or any other count that only grows."""
    try:
        targets, timeout = _targets(dict(request.query_params))
    except ValueError as exc:
        return reply({"error": str(exc)}, 400)
    connection: Connection = request.state.connection
    reached = await account.wait_until(targets, timeout, connection)
    return reply({"reached": reached, "ledger": account.ledger.counts()})


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
