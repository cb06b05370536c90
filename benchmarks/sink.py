"""A server that takes everything: any POST is answered 200 at once, and its events are counted.

    python sink.py

Says its port in its first line of output and ends when its standard input does. ``GET``
answers with the number of events since it began, as text. Parses no JSON: what it costs
must not be what a benchmark measures.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import sys

MARK = b"payment_failed"  # once in every event, see workers/sdks.py

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding: *gzip", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Requests one after the other, each answered when its last byte is here."""

    events = 0

    def __init__(self) -> None:
        self._received = bytearray()
        self._need = 0  # bytes until the request is complete, when that is known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received and len(self._received) >= self._need:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            length = _LENGTH.search(head)
            self._need = end + 4 + (int(length.group(1)) if length else 0)
            if len(self._received) < self._need:
                return
            body = bytes(self._received[end + 4 : self._need])
            del self._received[: self._need]
            self._need = 0
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            text = str(Connection.events).encode()
        else:
            text = b"{}"
            Connection.events += (gzip.decompress(body) if _GZIP.search(head) else body).count(MARK)
        last = bool(_CLOSE.search(head))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
            % (len(text), b"Connection: close\r\n" if last else b"", text)
        )
        if last:
            self._transport.close()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
