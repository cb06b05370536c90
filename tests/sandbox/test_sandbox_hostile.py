"""The sandbox and those who mean it harm, or know no better: it refuses, and goes on."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from support.sandboxes import (
    BATCH,
    DEADLINE,
    IDENTIFY,
    TRACK,
    ApiClient,
    connected,
    event,
    identity,
    raw_request,
    read_to_end,
    serving,
)
from whisperr.sandbox import Sandbox

HUGE = 100 * 1024 * 1024  # bytes


# --- bodies


def head(key: str, *lines: str, path: str = BATCH) -> bytes:
    """The head of a request, with further lines."""
    known = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-API-Key: {key}",
        "User-Agent: whisperr-python/1.2.3",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*known, *lines, "", ""]).encode("latin-1")


def pour(sock: socket.socket, piece: bytes, size: int) -> int:
    """Send a piece again and again, for that many bytes or until nobody takes them."""
    sent = 0
    try:
        while sent < size:
            sock.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def memory(box: Sandbox) -> int:
    """Bytes of memory that the server has ever had at once."""
    with open(f"/proc/{box.pid}/status", encoding="ascii") as lines:
        peak = next(line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
def test_a_body_of_100_mb(framing: str, key: str) -> None:
    """A body of 100 MB is neither kept nor read to its end, and everybody else is served."""
    piece = b" " * 65536
    lines = [f"Content-Length: {HUGE}"]
    if framing == "chunked":
        piece = b"10000\r\n" + piece + b"\r\n"
        lines = ["Transfer-Encoding: chunked"]
    with Sandbox() as box:  # of its own: its memory is looked at
        with connected(box) as sock:
            sock.sendall(head(key, *lines))
            assert pour(sock, piece, HUGE) < HUGE
            read_to_end(sock)
        api = ApiClient(box.url, key)
        assert api.send(event(1))[0] == 202
        api.close()
        assert box.ledger(key)["statuses"] == {"202": 1, "413": 1}
        if sys.platform == "linux":
            assert memory(box) < 80 * 1024 * 1024


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "x-unknown", "identity, gzip"])
def test_an_encoding_that_is_not_known(coding: str, api: ApiClient) -> None:
    """A body in any content encoding is refused, and the answer names the header."""
    status, answer = api.send(event(1))
    assert status == 202
    status, answer = api.post(BATCH, {"events": [event(1)]}, Content_Encoding=coding)
    assert (status, answer["problems"]) == (
        400,
        ["header Content-Encoding: no encoding is understood"],
    )


@pytest.mark.parametrize("depth", [50, 300, 480, 500, 900, 950, 985, 1000, 3000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting(depth: int, opening: str, box: Sandbox, key: str, api: ApiClient) -> None:
    """However deep a value is, it is stored and shown as it is, or refused: never an error of ours."""
    closing = "]" if opening == "[" else "}"
    deep = opening * depth + "1" + closing * depth
    body = json.dumps({"events": [event(1, properties={"x": "DEEP"})]}).replace('"DEEP"', deep)
    status, answer = api.post(BATCH, body.encode())
    assert status in (202, 400)
    if status == 400:
        assert answer["problems"] == ["body: nested too deeply"]
    assert box.ledger(key)["arrived"] == (status == 202)
    rows = api.get(f"/page/rows?type={'order_paid' if status == 202 else ''}")["rows"]
    assert api.get(f"/page/rows/{rows[0]['seq']}")["seq"] == rows[0]["seq"]


def test_what_no_text_can_hold(box: Sandbox, key: str, api: ApiClient) -> None:
    """Lone surrogates and NUL are JSON: they are kept, counted, listed and found as they came."""
    odd = "\ud800 \x00 \udfff"
    sent = event(1, odd, external_user_id=odd, properties={odd: odd})
    assert api.send(sent)[0] == 202
    assert api.send(sent)[0] == 202
    assert api.post(IDENTIFY, identity(odd, traits={odd: odd}))[0] == 200
    assert box.events(key) == [sent]
    ledger = box.ledger(key)
    assert (ledger["arrived"], ledger["twice"], ledger["identities"]) == (1, 1, 1)
    rows = api.get("/page/rows?type=order_paid")["rows"]
    assert api.get(f"/page/rows/{rows[0]['seq']}")["copies"]


def test_a_key_given_twice_among_very_many(api: ApiClient) -> None:
    """An object of half a million keys, the last one twice, is answered before the client gives up.

    Comparing every key with every other would take hours.
    """
    body = ",".join(f'"k{n}":1' for n in range(500_000))
    status, answer = api.post(BATCH, f'{{{body},"k499999":1}}'.encode())
    assert (status, answer["problems"]) == (
        400,
        ["body: the key 'k499999' occurs twice in one object"],
    )


# --- slow ones


def test_slow_clients_are_dropped(key: str) -> None:
    """Who sends no head, or not the whole body, is dropped in the end; others do not wait for it."""
    with serving("--read-timeout", "0.5") as server:
        silent = [socket.create_connection(server.address, DEADLINE) for _ in range(100)]
        half = socket.create_connection(server.address, DEADLINE)
        half.sendall(raw_request(key, TRACK, event(1))[:-1])
        api = ApiClient(server.url, key)
        assert api.send(event(2))[0] == 202
        assert read_to_end(half).startswith(b"HTTP/1.1 408 ")
        for sock in [*silent, half]:
            assert read_to_end(sock) == b""
            sock.close()
        assert api.send(event(3))[0] == 202
        ledger = api.get(f"/sandbox/{key}/ledger")
        assert ledger["statuses"] == {"202": 2, "408": 1}
        api.close()


# --- smuggling

SMUGGLED = raw_request("wrk_smuggled", TRACK, event("smuggled"))
CHUNKED = b"0\r\n\r\n" + SMUGGLED

AMBIGUOUS: list[tuple[str, list[str], bytes]] = [
    ("both", ["Content-Length: 5", "Transfer-Encoding: chunked"], CHUNKED),
    ("both, the other way", ["Transfer-Encoding: chunked", "Content-Length: 5"], CHUNKED),
    ("two lengths", ["Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    ("a list of lengths", [f"Content-Length: 0, {len(SMUGGLED)}"], SMUGGLED),
    ("a length with a sign", ["Content-Length: +0"], SMUGGLED),
    ("a length in hex", ["Content-Length: 0x0"], SMUGGLED),
    ("an unknown coding", ["Transfer-Encoding: xchunked"], CHUNKED),
    ("two codings", ["Transfer-Encoding: chunked, identity"], CHUNKED),
    ("a blank before the colon", ["Transfer-Encoding : chunked"], CHUNKED),
]


@pytest.mark.parametrize(
    ("lines", "body"), [row[1:] for row in AMBIGUOUS], ids=[r[0] for r in AMBIGUOUS]
)
def test_an_ambiguous_request_smuggles_nothing(
    lines: list[str], body: bytes, box: Sandbox, key: str
) -> None:
    """Where two readers could see different ends of a request, it is refused and the line is cut."""
    with connected(box) as sock:
        sock.sendall(head(key, *lines) + body)
        answer = read_to_end(sock)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[9:12] in (b"", b"400", b"501")
    assert box.ledger("wrk_smuggled")["requests"] == 0


# --- pages of others


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:3000"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example:80"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "10.0.0.1"},
    {"Host": ""},
    {"Host": "["},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_writes_nothing(
    headers: dict[str, str], box: Sandbox, key: str, api: ApiClient
) -> None:
    """A foreign page, also under a name that was made to point here, is refused and leaves no trace."""
    for path, body in (
        (TRACK, event(1)),
        (IDENTIFY, identity()),
        (f"/sandbox/{key}/faults", {"do": "reset"}),
        ("/sandbox/faults", {"do": "reset"}),
        (f"/sandbox/{key}/killed", {}),
    ):
        status, answer = api.post(path, body, **headers)
        assert (path, status) == (path, 403)
        assert answer["error"].startswith("header ")
    assert box.ledger(key)["requests"] == 0
    assert (box.faults(key), api.get("/sandbox/faults")) == ([], [])


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/page/rows", "/page/stream", "/page/export"]
)
def test_a_rebound_name_reads_nothing(path: str, box: Sandbox) -> None:
    """The page and all that it asks for answer to a name of this machine only."""
    for line in ("Host: evil.example", "Host: 127.0.0.1\r\nOrigin: http://evil.example"):
        with connected(box) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\n{line}\r\nConnection: close\r\n\r\n".encode())
            assert read_to_end(sock).startswith(b"HTTP/1.1 403 ")


def test_its_own_page_may_write(box: Sandbox, api: ApiClient) -> None:
    """The origin of the page itself is as good as none."""
    own = box.url.partition("//")[2]
    fault = {"do": "reset", "path": IDENTIFY}
    headers = {"Host": own, "Origin": box.url, "Sec_Fetch_Site": "same-origin"}
    assert api.post("/sandbox/faults", fault, **headers) == (200, {"injected": 1})
    assert api.get("/sandbox/faults") == [{**fault, "times": 1}]
    with connected(box) as sock:
        sock.sendall(
            b"DELETE /sandbox/faults HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 ")
    assert api.get("/sandbox/faults") == []


def test_another_name_can_be_allowed(key: str) -> None:
    """--allow-host adds a name; listening to all, any address will do, and still no other name."""
    with serving("--allow-host", "sandbox.test") as server:
        api = ApiClient(server.url, key)
        assert api.post(TRACK, event(1), Host="sandbox.test:80")[0] == 202
        assert api.post(TRACK, event(2), Host="other.test")[0] == 403
        api.close()
    with serving("--host", "0.0.0.0") as server:
        api = ApiClient(server.url.replace("0.0.0.0", "127.0.0.1"), key)
        assert api.post(TRACK, event(1), Host="192.0.2.7:80")[0] == 202
        assert api.post(TRACK, event(2), Host="other.test")[0] == 403
        api.close()
