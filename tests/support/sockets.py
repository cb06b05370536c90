"""A tiny HTTP server that keeps what it hears to the byte, and a look at the kernel's sockets.

For what the ingestion server cannot show: bodies it refused, headers it does not log, a host
that must hear nothing, a proxy. It runs in threads of the test's own process.
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Callable
from urllib.parse import urlsplit

from support.clients import DEADLINE

CLOSE_WAIT = "08"  # a state of /proc/net/tcp: the other end has closed, this one has yet to


@dataclass(frozen=True)
class Heard:
    """One request: its target as in the request line, its headers in lower case, its body."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class Listener:
    """In a ``with`` block: answers every POST with what ``respond`` says."""

    def __init__(self, respond: Callable[[Heard], Answer] = lambda heard: Answer()) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self._respond = respond
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, heard: Heard) -> Answer:
        self.heard.append(heard)
        return self._respond(heard)


def forward(heard: Heard) -> Answer:
    """What a proxy does: ask the server that the target names, and hand back what it says."""
    target = urlsplit(heard.target)
    connection = http.client.HTTPConnection(target.netloc, timeout=DEADLINE)
    try:
        connection.request("POST", target.path, heard.body, heard.headers)
        response = connection.getresponse()
        return Answer(response.status, {}, response.read())
    finally:
        connection.close()


def await_peer_close(url: str) -> None:
    """Return when the server has closed a connection that a client on this machine keeps."""
    wanted = f":{urlsplit(url).port:04X}"
    deadline = time.monotonic() + DEADLINE
    while not any(
        remote.endswith(wanted) and state == CLOSE_WAIT for remote, state in _tcp_sockets()
    ):
        assert time.monotonic() < deadline, "the server keeps its idle connections"
        time.sleep(0.02)  # the kernel tells nobody but the owner of the socket


def _tcp_sockets() -> list[tuple[str, str]]:
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return [(row.split()[2], row.split()[3]) for row in rows]


class _Server(ThreadingHTTPServer):
    def __init__(self, listener: Listener) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listener = listener

    def process_request(self, request: Any, client_address: Any) -> None:
        self.listener.connections += 1
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE  # a thread that waits for the next request ends

    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.listener.answer(Heard(self.path, headers, body))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
