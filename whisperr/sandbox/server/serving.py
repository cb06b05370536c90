"""Running the server: one listening socket, one event loop, and every way to end it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from types import FrameType
from typing import Callable, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from whisperr._serving import configuration
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


def serve(
    listener: socket.socket,
    app: ASGIApp,
    limits: Limits,
    on_listening: Callable[[], None],
    exit_with_parent: bool,
) -> None:
    """Serve until SIGTERM, SIGINT or, if asked, the end of standard input."""
    config = configuration(
        app,
        http=protocol_class(limits.head),
        backlog=BACKLOG,
        timeout_keep_alive=limits.keep_alive,
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
