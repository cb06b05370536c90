"""py-amqp's connection, with a buffer: it takes whatever has come by one call of the system's.

py-amqp itself reads a frame by three calls and sets the time-out of the socket twice for it: 26
calls for a message of the broker, a third of what a relay did.

Guarantees:
    A time-out in the middle of a frame loses nothing: the next read goes on there. The socket is not
    asked while a whole frame is here, so nobody waits for what has come already.
Assumes:
    py-amqp reads by ``Connection.blocking_read`` alone, which is public, and so since 5.0.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import amqp
import amqp.exceptions

if TYPE_CHECKING:

    class _Connection:
        """What is used here of py-amqp's, which is untyped."""

        transport: Any
        on_inbound_frame: Any

        def __init__(self, **options: Any) -> None: ...
        def connect(self) -> None: ...
        def collect(self) -> None: ...
        def close(self) -> None: ...
        def channel(self) -> Any: ...
        def drain_events(self, timeout: float | None = None) -> None: ...
        def heartbeat_tick(self) -> None: ...

else:
    _Connection = amqp.Connection

CHUNK = 64 * 1024  # bytes; from 128 KiB on, malloc() asks the system for memory each time

_HEAD = Struct(">BHI")  # type, channel, bytes of the payload
_END = 0xCE  # the last byte of each frame


class BufferedConnection(_Connection):
    """Used as an ``amqp.Connection`` is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._received = b""
        self._at = 0  # where in it the next frame begins

    def has_frame(self) -> bool:
        """Whether the next read does not wait."""
        return self._end_of_frame() <= len(self._received)

    def blocking_read(self, timeout: float | None = None) -> bool:
        """Take in one frame, and wait for it at most so long. True: something is complete by it."""
        while not self.has_frame():
            self._receive(timeout)
        return bool(self.on_inbound_frame(self._next_frame()))

    def _end_of_frame(self) -> int:
        """That of its head, while this is not here."""
        end = self._at + _HEAD.size
        if len(self._received) < end:
            return end
        size: int = _HEAD.unpack_from(self._received, self._at)[2]
        return end + size + 1

    def _receive(self, timeout: float | None) -> None:
        with self.transport.having_timeout(timeout) as sock:
            chunk = sock.recv(CHUNK)
        if not chunk:
            raise OSError("the broker has closed the connection")
        self._received = self._received[self._at :] + chunk
        self._at = 0

    def _next_frame(self) -> tuple[int, int, bytes]:
        kind, channel, size = _HEAD.unpack_from(self._received, self._at)
        begin = self._at + _HEAD.size
        end = begin + size
        if self._received[end] != _END:
            raise amqp.exceptions.UnexpectedFrame("a frame does not end where it says")
        self._at = end + 1
        return kind, channel, self._received[begin:end]
