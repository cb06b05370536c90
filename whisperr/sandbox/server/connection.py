"""The connection under a request, for the faults that HTTP itself cannot express.

uvicorn's h11 protocol keeps the transport to itself. The subclass here hands every request a
``Connection`` in the state of its scope, through attributes that the protocol has had in all versions
since 0.33: ``app``, ``client``, ``cycle``, ``loop``, ``connection_made``, ``connection_lost``, ``shutdown``.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from whisperr.sandbox import defaults

# l_onoff, l_linger: on, and wait no second; closing then sends RST instead of FIN.
_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

_accepted = itertools.count(1)


class Connection:
    """One accepted connection. ``lost`` is done once nothing can be sent on it any more."""

    def __init__(self, transport: asyncio.Transport, port: int) -> None:
        self.name = f"{next(_accepted)}:{port}"  # ports are used again, the order of accept is not
        self.port = port
        self.lane = ""  # the process that spoke last
        self.accounts: set[int] = set()  # that have counted this connection
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport

    def reset(self) -> None:
        """Close with RST."""
        self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def close(self, data: bytes = b"") -> None:
        """Write the bytes as they are, and close with FIN."""
        self._transport.write(data)
        self._transport.close()

    async def wait_lost(self, seconds: float | None) -> None:
        """Return when the connection is lost, or after that many seconds."""
        await asyncio.wait({self.lost}, timeout=seconds)

    def peer_gone(self) -> bool:
        """Whether the client has closed its end, even if the event loop has yet to notice."""
        if self._transport.is_closing():
            return True
        own = self._socket()
        # asyncio's socket cannot be read; its twin shares the non-blocking descriptor.
        with socket.fromfd(own.fileno(), own.family, own.type) as twin:
            twin.setblocking(False)  # PyPy's is a blocking one
            try:
                return twin.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

    def _socket(self) -> Any:
        return self._transport.get_extra_info("socket")


class ConnectionProtocol(H11Protocol):
    """HTTP/1.1 whose requests know their connection, and which ends with the server."""

    first_request_timeout = defaults.READ_TIMEOUT  # seconds for the head of the first request
    _connection: Connection | None = None
    _first_request_timer: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # uvicorn narrows the transport too
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._connection = Connection(transport, self.client[1] if self.client else 0)
        self.app = _with_connection(self.app, self._connection)
        self._first_request_timer = self.loop.call_later(
            self.first_request_timeout, self._close_if_no_request
        )

    def _close_if_no_request(self) -> None:
        """Drop a client that has connected, and has not even sent the head of a request."""
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._first_request_timer is not None:
            self._first_request_timer.cancel()
        if self._connection is not None and not self._connection.lost.done():
            self._connection.lost.set_result(None)

    def shutdown(self) -> None:
        # A request that hangs on purpose must neither hold up the exit nor be answered by it.
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


def protocol_class(first_request_timeout: float) -> type[ConnectionProtocol]:
    """The protocol, with that many seconds for the head of the first request."""
    return type(
        "ConfiguredProtocol",
        (ConnectionProtocol,),
        {"first_request_timeout": first_request_timeout},
    )


def _with_connection(app: Any, connection: Connection) -> Any:
    inner: ASGIApp = app

    async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["connection"] = connection
        await inner(scope, receive, send)

    return with_connection
