"""Running the server: one listening socket, one event loop, and every way to end it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from types import FrameType
from typing import Callable, NamedTuple, cast

import uvicorn
from starlette.types import ASGIApp

from whisperr.sandbox.server.connection import protocol_class

BACKLOG = 2048  # connections that may wait to be accepted
EXIT_GRACE = 1  # second that requests get at the end
EXIT_TIMEOUT = 5.0  # seconds after which an exit with the parent no longer waits for the event loop


class Limits(NamedTuple):
    """Seconds. keep_alive: of an idle connection. head: until the first request has begun."""

    keep_alive: float
    head: float


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Naming the protocol matters: asyncio switches Nagle off only where it reads "TCP".
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    listener: socket.socket,
    app: ASGIApp,
    limits: Limits,
    on_listening: Callable[[], None],
    exit_with_parent: bool,
) -> None:
    """Serve until SIGTERM, SIGINT or, if asked, the end of standard input."""
    config = uvicorn.Config(
        app,
        http=protocol_class(limits.head),
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error",
        backlog=BACKLOG,
        # Typed as whole seconds; it goes to loop.call_later, which takes fractions.
        timeout_keep_alive=cast(int, limits.keep_alive),
        timeout_graceful_shutdown=EXIT_GRACE,
    )
    server = _Server(config, on_listening)
    # uvicorn raises a signal again after it has shut down: end quietly then, and before it serves.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_quietly)
    if exit_with_parent:
        threading.Thread(target=_exit_with_parent, args=(server,), daemon=True).start()
    asyncio.run(server.serve(sockets=[listener]))


def _exit_quietly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _exit_with_parent(server: uvicorn.Server) -> None:
    """Thread: wait for the end of standard input, which only the parent holds open."""
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    server.should_exit = True
    threading.Event().wait(EXIT_TIMEOUT)
    os._exit(1)
