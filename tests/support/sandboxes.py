"""A sandbox as its own tests see it: a client that can also speak nonsense, servers by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterator, Tuple
from urllib.parse import urlsplit

from support.deadlines import DEADLINE
from whisperr.sandbox import Sandbox

BATCH, TRACK, IDENTIFY = "/v1/events/batch", "/v1/events/track", "/v1/identify"

Answer = Tuple[int, Any]
Json = Dict[str, Any]


class PatientSandbox(Sandbox):
    """One that waits for what must arrive as long as it takes on a busy machine. It counts numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"numbers": True, **options})

    def wait_for(
        self, key: str, count: int, timeout: float = DEADLINE, *, field: str = "arrived"
    ) -> dict[str, Any]:
        return super().wait_for(key, count, timeout, field=field)


class ApiClient:
    """One connection that speaks as the SDK does; a header given as None is left out."""

    def __init__(self, url: str, key: str) -> None:
        self.headers: dict[str, str] = {
            "X-API-Key": key,
            "User-Agent": "whisperr-python/1.2.3",
            "Content-Type": "application/json",
        }
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE)

    def post(self, path: str, body: object, **headers: str | None) -> Answer:
        status, data = self.post_raw(path, body, **headers)
        return status, json.loads(data)

    def post_raw(self, path: str, body: object, **headers: str | None) -> tuple[int, bytes]:
        sent: dict[str, str | None] = {**self.headers}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kept = {name: value for name, value in sent.items() if value is not None}
        self._connection.request("POST", path, data, kept)
        response = self._connection.getresponse()
        return response.status, response.read()

    def get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())

    def send(self, *events: object) -> Answer:
        return self.post(BATCH, {"events": list(events)})

    def close(self) -> None:
        self._connection.close()


def stamp(**ahead: float) -> str:
    """The wire's text of a moment that lies a timedelta ahead of now."""
    moment = datetime.now(timezone.utc) + timedelta(**ahead)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def event(n: object = 1, own_id: str | None = None, **changes: Any) -> Json:
    made: Json = {
        "external_user_id": "user-1",
        "event_type": "order_paid",
        "occurred_at": stamp(),
        "properties": {"n": n},
        "context": context(f"m-{n}" if own_id is None else own_id),
    }
    made.update(changes)
    return without(made)


def context(message_id: object = "m-1", **changes: Any) -> Json:
    made = {"$message_id": message_id, "sdk_name": "whisperr-python", "sdk_version": "1.2.3"}
    return without({**made, **changes})


GONE = object()


def without(value: Json) -> Json:
    return {name: item for name, item in value.items() if item is not GONE}


def identity(user: str = "user-1", **changes: Any) -> Json:
    return {"external_user_id": user, **changes}


def channel(**changes: Any) -> Json:
    made: Json = {"channel": "email", "address": "a@example.org", "opted_in": True, **changes}
    return without(made)


def raw_request(key: str, path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n"
        "User-Agent: whisperr-python/1.2.3\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@contextlib.contextmanager
def connected(box: Sandbox) -> Iterator[socket.socket]:
    parts = urlsplit(box.url)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=DEADLINE) as sock:
        yield sock


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_to_end(sock: socket.socket) -> bytes:
    """What comes before the connection ends, with FIN or RST."""
    try:
        return read_all(sock)
    except ConnectionResetError:
        return b""


# --- servers that are started by hand


class Serving:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = process.stdout.readline().strip()
        parts = urlsplit(self.url)
        self.address = (parts.hostname or "", parts.port or 0)


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A child process in a folder of its own, that is dead afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Serving]:
    with running([sys.executable, "-m", "whisperr.sandbox", *options]) as process:
        yield Serving(process)
