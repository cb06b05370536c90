"""A server that takes everything: any POST is answered 200 at once, and its events are counted.

    python sink.py

Says its port in its first line of output and ends when its standard input does. Each SDK is
answered in its own protocol: JSON, or an empty protobuf message for OTLP. Bodies are not
parsed, only searched: what the sink costs must not be what a benchmark measures.

    GET /             how many events and identities came since it began, as text
    GET /requests     how many requests with some
    GET /gate/close   from now on requests are read, and neither counted nor answered
    GET /gate/open    all of them are, and those that follow
"""

from __future__ import annotations

import asyncio
import gzip
import re
import sys

MARK = b"payment_failed"  # once in every event and every identity, see workers/sdks.py

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding: *gzip", re.IGNORECASE)
_PROTOBUF = re.compile(rb"\r\ncontent-type: *application/x-protobuf", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Counter:
    """What all connections share."""

    def __init__(self) -> None:
        self.count = 0
        self.requests = 0
        self.open = True
        self.waiting: list[tuple[Connection, bytes, bytes]] = []

    def turn(self, opened: bool) -> None:
        self.open = opened
        if opened:
            waiting, self.waiting = self.waiting, []
            for connection, head, body in waiting:
                connection.answer_post(head, body)


class Connection(asyncio.Protocol):
    """Requests one after the other, each answered when its last byte is here."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
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
            if _CHUNKED.search(head):
                self._transport.abort()  # none of them sends so; better no figure than a wrong one
                return
            self._need = end + 4 + (int(length.group(1)) if length else 0)
            if len(self._received) < self._need:
                return
            body = bytes(self._received[end + 4 : self._need])
            del self._received[: self._need]
            self._need = 0
            self._handle(head, body)

    def _handle(self, head: bytes, body: bytes) -> None:
        counter = self._counter
        if not head.startswith(b"GET"):
            if counter.open:
                self.answer_post(head, body)
            else:
                counter.waiting.append((self, head, body))
            return
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/gate/"):
            counter.turn(path == b"/gate/open")
        number = counter.requests if path == b"/requests" else counter.count
        self._answer(head, str(number).encode(), b"text/plain")

    def answer_post(self, head: bytes, body: bytes) -> None:
        self._counter.requests += 1
        self._counter.count += (gzip.decompress(body) if _GZIP.search(head) else body).count(MARK)
        if _PROTOBUF.search(head):
            self._answer(head, b"", b"application/x-protobuf")
        else:
            self._answer(head, b"{}", b"application/json")

    def _answer(self, head: bytes, text: bytes, kind: bytes) -> None:
        last = bool(_CLOSE.search(head))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b"
            % (kind, len(text), b"Connection: close\r\n" if last else b"", text)
        )
        if last:
            self._transport.close()


async def serve() -> None:
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counter), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
