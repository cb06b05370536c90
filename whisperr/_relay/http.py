"""``/metrics`` and ``/healthz`` of a relay, over HTTP, from a thread beside its lanes.

Guarantees:
    The port is this relay's once an Endpoint is made, and not served before its block begins.
    Nothing here holds up the relay: what is under way at the end of the block is broken off.
Assumes:
    The process never forks.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from types import TracebackType

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from whisperr import _serving
from whisperr._process.threads import in_thread
from whisperr._relay.depth import DepthGauge
from whisperr._relay.health import problems
from whisperr._relay.interfaces import Broker
from whisperr._relay.metrics import RelayCollector
from whisperr._relay.relay import Relay
from whisperr._reporting.reports import say

LOOPBACK = "127.0.0.1"  # unless a host is named: whoever reaches the port can read
LAST_ANSWERS = 1  # second for those that are being written at the end

_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@]+):)?(?P<port>[0-9]{1,5})")


def create_app(relay: Relay, registry: CollectorRegistry) -> Starlette:
    """The two pages."""

    async def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        pages: list[bytes] = []

        def scrape() -> bool:
            pages.append(encode(registry))
            return True

        await in_thread(scrape)  # it waits for the broker, and the other page shall not
        return Response(pages[0], headers={"Content-Type": kind})

    async def healthz(request: Request) -> Response:
        found = problems(relay)
        if found:
            return JSONResponse({"status": "failing", "problems": found}, 503)
        return JSONResponse({"status": "stopping" if relay.is_stopping else "ok"})

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)])


class Endpoint:
    """Serves while its block lasts. ValueError: it is no address, or can't be listened on."""

    def __init__(self, relay: Relay, broker: Broker, address: str) -> None:
        self._listener = _listener(address)
        self.url = _serving.url_of(self._listener)
        depth = DepthGauge(broker, [lane.app for lane in relay.lanes])
        registry = CollectorRegistry()
        registry.register(RelayCollector(relay, depth.read))
        config = _serving.configuration(
            create_app(relay, registry),
            http="h11",
            log_level="critical",  # that it broke a scrape off at the end is no error
            timeout_graceful_shutdown=LAST_ANSWERS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="whisperr-http", daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(LAST_ANSWERS)

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except Exception as error:
            say(logging.ERROR, f"metrics are served no longer: {type(error).__name__}")


def _listener(address: str) -> socket.socket:
    host, port = _host_and_port(address)
    try:
        listener = _serving.listen(host, port)
    except OSError as error:
        raise _cannot_listen(address, error) from None
    try:
        listener.listen()  # now: two that only bound it would both believe to have it
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    return listener


def _cannot_listen(address: str, error: OSError) -> ValueError:
    return ValueError(f"--listen: cannot listen on {address}: {error.strerror or error}")


def _host_and_port(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("--listen must be a port, or HOST:PORT; an IPv6 address in brackets")
    host = (found["host"] or LOOPBACK).strip("[]")
    return (LOOPBACK if host.lower() == "localhost" else host), int(found["port"])
