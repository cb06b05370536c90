"""Answers by who gave them, and answers that have no end, no shape, or a wish of their own."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import urllib3

from support.clients import (
    DEADLINE,
    Reports,
    assert_arrived,
    flush_until_settled,
    numbers_at,
    open_client,
    track,
)
from support.sockets import Answer, Listener
from whisperr import Whisperr
from whisperr._delivery import session as session_module
from whisperr.sandbox import Sandbox

PAGE = {"Content-Type": "text/html; charset=utf-8"}
ENDLESS = 10**9  # bytes; what a test sends of it is counted


# --- who answered


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((status, {}) for status in (404, 405, 407, 421, 423, 451)),
        *((status, PAGE) for status in (200, 202, 203)),
    ],
    ids=str,
)
def test_an_answer_from_elsewhere_is_no_verdict(
    server: Sandbox, key: str, status: int, headers: dict[str, str]
) -> None:
    """A gateway's, a filter's, a log-in page: one request, everything is kept, the pass is over,
    and the report has the status. Behind it all that was kept arrives."""
    server.inject(key, {"do": "status", "status": status, "headers": headers})
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_batch_size=5) as client:
        client.identify("user_0", traits={"n": 0})
        track(client, range(10))
        assert not client.flush()
        assert (client.stats()["requests"], client.stats()["pending"]) == (1, 11)
        assert reports.brief() == [("retry_exhausted", status, 11)]
        assert client.flush()
    assert_arrived(server, key, 10)
    assert numbers_at(server, key) == list(range(10))


@pytest.mark.parametrize("status", [408, 425])
def test_what_an_intermediary_asks_to_repeat_is_repeated(key: str, status: int) -> None:
    """And after ``max_retries`` kept, as after a 429."""
    reports = Reports()
    answers: Iterator[Answer] = iter([Answer(status, {"Retry-After": "0"})] * 3)
    with Listener(lambda heard: next(answers, Answer())) as listener, open_client(
        listener.url, key, on_error=reports, max_retries=2
    ) as client:
        track(client, range(10))
        assert not client.flush()
        assert (client.stats()["retries"], client.stats()["pending"]) == (2, 10)
        assert reports.brief() == [("retry_exhausted", status, 10)]
        assert client.flush()
    assert len({heard.body for heard in listener.heard}) == 1


@pytest.mark.parametrize("status", [400, 413, 414, 422, 431])
def test_what_is_refused_for_its_content_is_split(server: Sandbox, key: str, status: int) -> None:
    """Down to the event that is to blame, which is dropped alone."""
    fault = {"do": "refuse", "where": {"properties.n": 3}, "status": status}
    server.inject(key, fault)
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(8))
        assert client.flush()
    assert_arrived(server, key, 7)
    assert reports.brief() == [("dropped", status, 1)]


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/V1", "/v1/events", "/v1/events/batch", "/v1/events/track/", "/v1/identify"],
)
@pytest.mark.parametrize("before", ["", "/proxy"])
def test_a_base_url_has_no_path_of_the_api(path: str, before: str) -> None:
    """A ValueError names what the URL ends in: every request would be answered with a 404."""
    with pytest.raises(ValueError, match=rf"base_url must not end in {path.rstrip('/').lower()}:"):
        Whisperr("wrk_x", base_url=f"http://127.0.0.1:9{before}{path}")


@pytest.mark.parametrize(
    "url", ["http://v1", "http://v1:80/", "http://a/v1x", "http://a/v1/eu", "http://a/xv1"]
)
def test_what_only_looks_like_it_is_a_base_url(url: str) -> None:
    """A host of that name, another path, a version of somebody else's."""
    Whisperr("wrk_x", base_url=url).shutdown(0)


# --- Retry-After, whatever the status


@pytest.mark.parametrize(
    "wish",
    [
        "0",
        "-5",
        "1.5",
        "soon",
        "",
        " ",
        "9" * 5000,
        "Sat, 01 Jan 2000 00:00:00 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Mon, 99 Foo 2026 00:00:00 GMT",
        "1, 2",
        ",",
        "\xff\xfe",
    ],
)
@pytest.mark.parametrize("status", [202, 302, 400, 401, 404, 410, 413, 200, 503])
def test_no_wish_of_a_server_ends_the_sender(key: str, status: int, wish: str) -> None:
    """Whatever ``Retry-After`` says on whatever answer, that answer means what it means."""
    headers = {"Retry-After": wish}
    reports = Reports()
    with Listener(lambda heard: Answer(status, headers)) as listener:
        client = Whisperr(
            key, base_url=listener.url, flush_interval=999, max_retries=0, on_error=reports
        )
        track(client, [0])
        assert client.flush() == (status < 300 or status in (400, 410, 413))
        assert client.stats()["requests"] == 1
        client.shutdown(0)
    kinds = {200: None, 202: None, 401: "auth", 400: "dropped", 410: "dropped", 413: "dropped"}
    kind = kinds.get(status, "retry_exhausted")
    told = [] if kind is None else [(kind, status, 1)]
    assert reports.brief()[:1] == told


# --- answers without an end


class Speaker:
    """In a ``with`` block: answers one request on each connection by ``speak``, in threads."""

    def __init__(self, speak: Callable[[Callable[[bytes], None]], None]) -> None:
        self._speak = speak
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self.sent = 0  # bytes
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Speaker:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):  # the client has gone
                    connection.settimeout(DEADLINE)
                    _read_request(connection)
                    self._speak(lambda data, to=connection: self._send(to, data))  # type: ignore[misc]

    def _send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent += len(data)


def _read_request(connection: socket.socket) -> None:
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += connection.recv(65536)
    head, _, body = heard.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def forever(head: bytes, chunk: bytes) -> Callable[[Callable[[bytes], None]], None]:
    def speak(send: Callable[[bytes], None]) -> None:
        send(head)
        for _ in range(ENDLESS // len(chunk)):
            send(chunk)

    return speak


HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nLocation: /elsewhere\r\n%s\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("speak", "status", "kind"),
    [
        (forever(HEAD % (b"503 No", b""), b"x" * 65536), 503, "retry_exhausted"),
        (forever(HEAD % (b"503 No", CHUNKED), b"2\r\nxx\r\n" * 8192), 503, "retry_exhausted"),
        (forever(HEAD % (b"302 Found", b""), b"x" * 65536), 302, "retry_exhausted"),
        (forever(HEAD % (b"401 No", CHUNKED), b"2\r\nxx\r\n" * 8192), 401, "auth"),
        (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2048), None, "retry_exhausted"),
        (forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2048), 103, "retry_exhausted"),
    ],
    ids=["error", "chunked error", "redirect", "chunked refusal", "continue", "early hints"],
)
def test_an_answer_without_end_is_cut(
    key: str, speak: Callable[[Callable[[bytes], None]], None], status: int | None, kind: str
) -> None:
    """Of a body, of interim answers, of whatever status, so much is read and no more: each attempt
    costs a connection, and the back-off goes on as with any other."""
    reports = Reports()
    with Speaker(speak) as speaker:
        client = Whisperr(
            key, base_url=speaker.url, flush_interval=999, max_retries=1, on_error=reports
        )
        track(client, [0])
        assert not client.flush()
        client.shutdown(0)
    attempts = 2 if status in (None, 503) else 1
    assert speaker.connections == attempts
    assert reports.brief()[0] == (kind, status, 1)
    assert speaker.sent < ENDLESS / 10  # what the sockets buffer, and a few reads


@pytest.mark.skipif(
    not hasattr(urllib3.HTTPResponse, "read1"), reason="can't read what there is: a known limit"
)
def test_a_body_that_drips_is_left(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then keeps the sender for one ``request_timeout``."""
    gone = threading.Event()

    def drip(send: Callable[[bytes], None]) -> None:
        send(HEAD % (b"202 Accepted", b"Content-Length: 9999\r\n"))
        while not gone.wait(0.05):
            send(b"x")

    monkeypatch.setattr(session_module, "_READS", 10**6)  # it is the time that ends it
    with Speaker(drip) as speaker:
        client = Whisperr(key, base_url=speaker.url, flush_interval=999, request_timeout=0.5)
        track(client, [0])
        assert client.flush()
        gone.set()
        client.shutdown(0)
    assert speaker.sent < 9999


# --- whose words the application reads


MALFORMED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nthis is no header\r\n\r\n{}"


@pytest.mark.parametrize("name", ["urllib3", "requests"])
def test_only_our_logger_speaks_of_our_connections(
    key: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Resets, time-outs, errors, redirects, malformed headers: no record at WARNING but ours, and
    the levels and filters of the application's urllib3 are untouched."""
    before = [(log.name, log.level, log.filters[:]) for log in _loggers(name)]
    caplog.set_level(logging.DEBUG, name)
    script = iter(
        [
            lambda send: None,  # a connection that ends without an answer
            lambda send: send(b"nonsense\r\n\r\n"),
            lambda send: send(b"HTTP/1.1 503 No\r\nRetry-After: 0\r\nConnection: close\r\n\r\n"),
            lambda send: send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n{"),
        ]
    )
    said: list[int] = []

    def speak(send: Callable[[bytes], None]) -> None:
        said.append(1)
        next(script, lambda send: send(MALFORMED))(send)

    with Speaker(speak) as speaker:
        client = Whisperr(key, base_url=speaker.url, flush_interval=999)
        for number in range(3):
            track(client, [number])
            flush_until_settled(client)
        client.shutdown(0)
    assert len(said) == 6
    loud = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert not [record for record in loud if record.name.split(".")[0] != "whisperr"], loud
    caplog.set_level(logging.NOTSET, name)
    assert [(log.name, log.level, log.filters[:]) for log in _loggers(name)] == before


def _loggers(name: str) -> list[Any]:
    names = [one for one in logging.root.manager.loggerDict if one.partition(".")[0] == name]
    return [logging.getLogger(one) for one in sorted(names)]
