"""The sandbox itself: real server processes, real sockets, nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.forks import forks_beside_threads
from support.sandboxes import (
    BATCH,
    DEADLINE,
    GONE,
    IDENTIFY,
    TRACK,
    ApiClient,
    Json,
    channel,
    connected,
    context,
    event,
    identity,
    raw_request,
    read_all,
    read_to_end,
    running,
    serving,
    stamp,
    without,
)
from whisperr.sandbox import Sandbox

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


# --- the rules


def test_good_requests_are_accepted(box: Sandbox, key: str, api: ApiClient) -> None:
    """What the contract writes down is accepted, and kept as it was sent."""
    events = [event(n) for n in range(500)]
    single = event("one", properties={}, context=context("m-one", app_version="7", ip="::1"))
    whole = identity(
        traits={"app_language": "de"},
        preferred_channel="sms",
        channels=[channel(), channel(channel="sms", opted_in=False, verified=True)],
    )
    assert api.send(*events) == (202, {"accepted": 500})
    assert api.post(TRACK, single) == (202, {"accepted": 1})
    assert api.post(IDENTIFY, whole) == (200, {"accepted": 1})
    assert api.post(IDENTIFY, identity("user-2")) == (200, {"accepted": 1})
    assert box.events(key) == [*events, single]
    assert box.identities(key) == [whole, identity("user-2")]
    ledger = box.ledger(key)
    assert ledger["statuses"] == {"200": 2, "202": 2}
    assert (ledger["requests"], ledger["connections"]) == (4, 1)
    assert (ledger["arrived"], ledger["numbers"], ledger["identities"]) == (501, 500, 2)
    assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, 0, 0)


BAD_EVENTS: list[tuple[str, Json]] = [
    ("external_user_id: missing", {"external_user_id": GONE}),
    ("external_user_id: must be", {"external_user_id": 7}),
    ("external_user_id: must be", {"external_user_id": ""}),
    ("external_user_id: must be", {"external_user_id": None}),
    ("event_type: missing", {"event_type": GONE}),
    ("event_type: must be", {"event_type": 7}),
    ("event_type: must be", {"event_type": ""}),
    ("event_type: must be", {"event_type": "OrderPaid"}),
    ("event_type: must be", {"event_type": "order-paid"}),
    ("event_type: must be", {"event_type": "order__paid"}),
    ("event_type: must be", {"event_type": "_order"}),
    ("event_type: must be", {"event_type": "order_"}),
    ("event_type: must be", {"event_type": "order_paid\n"}),
    ("event_type: must be", {"event_type": "größe"}),
    ("occurred_at: missing", {"occurred_at": GONE}),
    ("occurred_at: must read", {"occurred_at": 1700000000}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T00:00:00Z"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T00:00:00.123456Z"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T00:00:00.123+00:00"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01 00:00:00.123Z"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T00:00:00.123z"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T24:00:00.000Z"}),
    ("occurred_at: must read", {"occurred_at": "٢٠٢٤-01-01T00:00:00.123Z"}),
    ("occurred_at: must read", {"occurred_at": "2024-01-01T00:00:00.123Z\n"}),
    ("occurred_at: not a date", {"occurred_at": "2023-02-29T00:00:00.123Z"}),
    ("properties: missing", {"properties": GONE}),
    ("properties: must be", {"properties": None}),
    ("properties: must be", {"properties": []}),
    ("context: missing", {"context": GONE}),
    ("context: must be", {"context": "x"}),
    ("context.$message_id: missing", {"context": context(GONE)}),
    ("context.$message_id: must be", {"context": context("")}),
    ("context.$message_id: must be", {"context": context(7)}),
    ("context.sdk_name: missing", {"context": context(sdk_name=GONE)}),
    ("context.sdk_name: must be", {"context": context(sdk_name=None)}),
    ("context.sdk_version: missing", {"context": context(sdk_version=GONE)}),
    ("context.sdk_version: must be", {"context": context(sdk_version=1)}),
    ("message_id: unknown field", {"message_id": "m-1"}),
    ("traits: unknown field", {"traits": {}}),
]


@pytest.mark.parametrize(("problem", "changes"), BAD_EVENTS)
def test_bad_event_refuses_its_batch(
    problem: str, changes: Json, box: Sandbox, key: str, api: ApiClient
) -> None:
    """One event that breaks a rule refuses its whole batch, and the answer says which and why."""
    status, answer = api.send(event(1), event(2, **changes))
    assert (status, len(answer["problems"])) == (400, 1)
    assert answer["problems"][0].startswith(f"events[1].{problem}")
    assert api.post(TRACK, event(2, **changes))[1]["problems"][0].startswith(problem)
    ledger = box.ledger(key)
    assert (ledger["arrived"], ledger["refused"], ledger["statuses"]) == (0, 3, {"400": 2})


def test_clock_of_an_event(api: ApiClient) -> None:
    """An event may lie up to 5 minutes ahead and 30 days back, no further."""
    assert api.send(event(1, occurred_at=stamp(minutes=4, seconds=30)))[0] == 202
    assert api.send(event(2, occurred_at=stamp(days=-29, hours=-23)))[0] == 202
    ahead = api.send(event(3, occurred_at=stamp(minutes=5, seconds=30)))
    back = api.send(event(4, occurred_at=stamp(days=-30, seconds=-30)))
    assert ahead[1]["problems"] == ["events[0].occurred_at: more than 5 minutes ahead"]
    assert back[1]["problems"] == ["events[0].occurred_at: more than 30 days back"]


BAD_IDENTITIES: list[tuple[str, Json]] = [
    ("external_user_id: missing", {"external_user_id": GONE}),
    ("external_user_id: must be", {"external_user_id": ""}),
    ("traits: must be", {"traits": {}}),
    ("traits: must be", {"traits": None}),
    ("preferred_channel: must be", {"preferred_channel": "fax"}),
    ("preferred_channel: must be", {"preferred_channel": None}),
    ("channels: must be", {"channels": {}}),
    ("channels[0]: must be", {"channels": ["email"]}),
    ("channels[1].type: unknown field", {"channels": [channel(), channel(type="email")]}),
    ("channels[0].channel: missing", {"channels": [channel(channel=GONE)]}),
    ("channels[0].channel: must be", {"channels": [channel(channel="")]}),
    ("channels[0].address: missing", {"channels": [channel(address=GONE)]}),
    ("channels[0].address: must be", {"channels": [channel(address=5)]}),
    ("channels[0].opted_in: missing", {"channels": [channel(opted_in=GONE)]}),
    ("channels[0].opted_in: must be", {"channels": [channel(opted_in=1)]}),
    ("channels[0].verified: must be", {"channels": [channel(verified=None)]}),
    ("channels[0].label: unknown field", {"channels": [channel(label="x")]}),
    ("email: unknown field", {"email": "a@example.org"}),
    ("message_id: unknown field", {"message_id": "i-1"}),
]


@pytest.mark.parametrize(("problem", "changes"), BAD_IDENTITIES)
def test_bad_identity_is_refused(
    problem: str, changes: Json, box: Sandbox, key: str, api: ApiClient
) -> None:
    """An identity that breaks a rule is refused, and the answer says where and why."""
    status, answer = api.post(IDENTIFY, without(identity(**changes)))
    assert (status, len(answer["problems"])) == (400, 1)
    assert answer["problems"][0].startswith(problem)
    assert (box.ledger(key)["refused"], box.ledger(key)["identities"]) == (1, 0)


GOOD = json.dumps({"events": [event(1)]})

BAD_BODIES: list[tuple[str, bytes]] = [
    ("body: ", b""),
    ("body: ", b"{"),
    ("body: ", GOOD.encode() + b"x"),
    ("body: ", b"\xef\xbb\xbf" + GOOD.encode()),
    ("body: ", GOOD.encode("utf-16")),
    ("body: not UTF-8 at byte 0", b"\xff"),
    ("body: NaN is not JSON", GOOD.replace('"n": 1', '"n": NaN').encode()),
    ("body: Infinity is not JSON", GOOD.replace('"n": 1', '"n": Infinity').encode()),
    ("body: -Infinity is not JSON", GOOD.replace('"n": 1', '"n": -Infinity').encode()),
    ("body: the number 1e999", GOOD.replace('"n": 1', '"n": 1e999').encode()),
    ("body: the key 'n' occurs twice", GOOD.replace('"n": 1', '"n": 1, "n": 1').encode()),
    ("body: nested too deeply", b"[" * 200_000),
    ("body: must be an object", b"[]"),
    ("events: missing", b"{}"),
    ("events: must be an array", b'{"events": {}}'),
    ("events: holds 0 events", b'{"events": []}'),
    ("events: holds 501 events", json.dumps({"events": [event(1)] * 501}).encode()),
    ("events[0]: must be an object", b'{"events": [7]}'),
    ("sent_at: unknown field", GOOD.replace('{"events"', '{"sent_at": 1, "events"').encode()),
]


@pytest.mark.parametrize(("problem", "body"), BAD_BODIES)
def test_bad_body_is_refused(problem: str, body: bytes, api: ApiClient) -> None:
    """A body is one unambiguous UTF-8 JSON object with 1 to 500 events."""
    status, answer = api.post(BATCH, body)
    assert status == 400
    assert answer["problems"][0].startswith(problem)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("User-Agent", None),
        ("User-Agent", "python-requests/2.31"),
        ("User-Agent", "whisperr-python/"),
        ("User-Agent", "whisperr-python/1.0 extra"),
        ("Content-Type", None),
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/json; charset=latin-1"),
        ("Content-Encoding", "gzip"),
        ("X-Whisperr-Relay", ""),
        ("X-Whisperr-Relay", "a name"),
    ],
)
def test_headers_are_checked(header: str, value: str | None, api: ApiClient) -> None:
    """A request says who it is and that it is plain JSON."""
    status, answer = api.post(BATCH, GOOD.encode(), **{header.replace("-", "_"): value})
    assert status == 400
    assert answer["problems"][0].startswith(f"header {header}: ")


def test_at_most_ten_problems_are_named(api: ApiClient) -> None:
    """An answer names ten problems and no more, however many there are."""
    status, answer = api.send(*[{} for _ in range(500)])
    assert (status, len(answer["problems"])) == (400, 10)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"X_API_Key": ""},
        {"X_API_Key": "wrk_"},
        {"X_API_Key": "key_1"},
        {"Authorization": "wrk_1"},
        {"Authorization": "Basic wrk_1"},
        {"X_API_Key": "wrk_1", "Authorization": "Bearer wrk_2"},
    ],
)
def test_no_key_no_entry(shown: Json, api: ApiClient) -> None:
    """Without exactly one key that begins with wrk_ the answer is 401."""
    assert api.post(BATCH, GOOD.encode(), **{"X_API_Key": None, **shown})[0] == 401


def test_bearer_is_the_same_key(box: Sandbox, key: str, api: ApiClient) -> None:
    """Authorization: Bearer names the same account as X-API-Key."""
    api.send(event(1))
    api.post(BATCH, {"events": [event(2)]}, X_API_Key=None, Authorization=f"Bearer {key}")
    assert box.ledger(key)["arrived"] == 2


def test_huge_body(box: Sandbox, key: str, api: ApiClient) -> None:
    """More than 8 MiB is answered 413, readably, and the connection goes on."""
    huge = b" " * (8 * 1024 * 1024) + GOOD.encode()
    assert api.post(BATCH, huge)[0] == 413
    assert api.send(event(1))[0] == 202
    assert box.ledger(key)["connections"] == 1


def test_other_paths_do_not_exist(box: Sandbox, key: str, api: ApiClient) -> None:
    """The API is three POSTs; nothing else is counted."""
    assert api.post_raw("/v1/events", {"events": [event(1)]})[0] == 404
    assert api.post_raw(BATCH + "/", {"events": [event(1)]})[0] != 202
    with connected(box) as sock:
        sock.sendall(f"GET {BATCH} HTTP/1.0\r\nX-API-Key: {key}\r\n\r\n".encode())
        assert read_all(sock).startswith(b"HTTP/1.1 405 ")
    assert box.ledger(key)["requests"] == 0


def test_the_request_log(box: Sandbox, key: str, api: ApiClient) -> None:
    """The log tells path, status, count, connection, time and headers, and never the key."""
    before = time.time()
    api.post(IDENTIFY, identity(), Idempotency_Key="i-1")
    api.send(event(1), {})
    first, second = box.requests(key)
    assert (first["path"], first["status"], first["count"]) == (IDENTIFY, 200, 1)
    assert (second["path"], second["status"], second["count"]) == (BATCH, 400, 2)
    assert first["headers"]["Idempotency-Key"] == "i-1"
    assert first["headers"]["User-Agent"] == "whisperr-python/1.2.3"
    assert first["connection"] == second["connection"]
    assert before - 1 <= first["time"] <= second["time"] <= time.time() + 1
    assert key not in json.dumps([first, second])


# --- faults


def test_status_fault(box: Sandbox, key: str, api: ApiClient) -> None:
    """A status fault answers what it was told, as often as it was told, and stores nothing."""
    fault = {"do": "status", "status": 503, "headers": {"Retry-After": "7"}, "times": 2}
    box.inject(key, {**fault, "body": "later"}, {"do": "status", "status": 204})
    assert api.post_raw(BATCH, {"events": [event(1)]}) == (503, b"later")
    assert [waiting["times"] for waiting in box.faults(key)] == [1, 1]
    assert api.post_raw(BATCH, {"events": [event(1)]}) == (503, b"later")
    assert api.post_raw(BATCH, {"events": [event(1)]}) == (204, b"")
    assert api.send(event(1))[0] == 202
    ledger = box.ledger(key)
    assert ledger["statuses"] == {"202": 1, "204": 1, "503": 2}
    assert (ledger["arrived"], ledger["resent"], ledger["twice"]) == (1, 0, 0)
    assert [entry.get("fault") for entry in box.requests(key)] == ["status"] * 3 + [None]


def test_status_fault_sends_its_headers(box: Sandbox, key: str) -> None:
    """The headers of a fault replace those of the sandbox."""
    headers = {"Retry-After": "7", "content-type": "text/html", "Connection": "close"}
    box.inject(key, {"do": "status", "status": 429, "headers": headers, "body": {"a": 1}})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 7" in head.lower()
    assert head.lower().count(b"content-type") == 1
    assert body == b'{"a":1}'


def test_reset_fault(box: Sandbox, key: str) -> None:
    """A reset closes the connection with RST after the request was read."""
    box.inject(key, {"do": "reset"})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    ledger = box.ledger(key)
    assert (ledger["requests"], ledger["arrived"], ledger["statuses"]) == (1, 0, {"0": 1})


def test_close_fault(box: Sandbox, key: str) -> None:
    """A close ends the connection with FIN and without a byte."""
    box.inject(key, {"do": "close"})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        assert sock.recv(1) == b""


def test_raw_fault(box: Sandbox, key: str) -> None:
    """A raw fault writes its latin-1 bytes as they are and closes."""
    box.inject(key, {"do": "raw", "bytes": "HTTP/1.1 199 \xff\r\n\r\n"})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        assert read_all(sock) == b"HTTP/1.1 199 \xff\r\n\r\n"


def test_hang_fault(box: Sandbox, key: str, api: ApiClient) -> None:
    """A hung request was read and gets no answer, while others are served."""
    box.inject(key, {"do": "hang"})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        box.wait_for(key, 1, DEADLINE, field="requests")
        assert api.send(event(2))[0] == 202
        assert select.select([sock], [], [], 0)[0] == []


def test_delay_fault(box: Sandbox, key: str, api: ApiClient) -> None:
    """A delayed request is stored at once and answered no earlier than it was told."""
    box.inject(key, {"do": "delay", "seconds": 0.3})
    start = time.monotonic()
    assert api.send(event(1))[0] == 202
    assert time.monotonic() - start >= 0.3
    box.inject(key, {"do": "delay", "seconds": 600})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(2)))
        assert box.wait_for(key, 2, DEADLINE)["statuses"] == {"202": 2}


def test_refuse_fault(box: Sandbox, key: str, api: ApiClient) -> None:
    """A refuse fault refuses every request that holds the entry it means, for ever by default."""
    box.inject(
        key,
        {"do": "refuse", "where": {"properties.n": 17}, "body": {"error": "bad"}},
        {"do": "refuse", "where": {"external_user_id": "u-9"}, "status": 422, "times": 1},
    )
    for _ in range(3):
        assert api.send(event(16), event(17)) == (400, {"error": "bad"})
    assert api.send(event(16), event("17"), event(True))[0] == 202
    assert api.post(IDENTIFY, identity("u-9"))[0] == 422
    assert api.post(IDENTIFY, identity("u-9"))[0] == 200
    assert api.send(event(18), event(17.0))[0] == 400
    ledger = box.ledger(key)
    assert (ledger["refused"], ledger["arrived"]) == (9, 3)


def test_faults_are_taken_in_order_by_path(box: Sandbox, key: str, api: ApiClient) -> None:
    """A request takes the first fault that matches its path; -1 stays until it is cleared."""
    box.inject(
        key,
        {"do": "status", "status": 500, "path": IDENTIFY},
        {"do": "status", "status": 501},
        {"do": "status", "status": 502, "times": -1},
    )
    assert api.send(event(1))[0] == 501
    assert api.post(IDENTIFY, identity())[0] == 500
    assert [api.send(event(1))[0] for _ in range(3)] == [502] * 3
    assert [fault["status"] for fault in box.faults(key)] == [502]
    box.clear_faults(key)
    assert api.send(event(1))[0] == 202


def test_rules_come_before_faults(box: Sandbox, key: str, api: ApiClient) -> None:
    """A request that breaks a rule says so and uses no fault up."""
    box.inject(key, {"do": "status", "status": 503})
    assert api.send({})[0] == 400
    assert len(box.faults(key)) == 1


@pytest.mark.parametrize(
    ("problem", "fault"),
    [
        ("faults[0]: must be an object", 7),
        ("faults[0].do: must be one of status", {}),
        ("faults[0].do: must be one of", {"do": "explode"}),
        ("faults[0].status: missing", {"do": "status"}),
        ("faults[0].status: must be 200 to 599", {"do": "status", "status": 103}),
        ("faults[0].status: must be 200 to 599", {"do": "status", "status": "503"}),
        ("faults[0].seconds: unknown field", {"do": "reset", "seconds": 1}),
        ("faults[0].store: unknown field", {"do": "delay", "seconds": 1, "store": True}),
        ("faults[0].store: must be", {"do": "reset", "store": 1}),
        ("faults[0].times: must be", {"do": "reset", "times": 0}),
        ("faults[0].times: must be", {"do": "reset", "times": True}),
        ("faults[0].path: must be one of", {"do": "reset", "path": "/v1"}),
        ("faults[0].seconds: must be", {"do": "delay", "seconds": -1}),
        ("faults[0].seconds: must be", {"do": "delay", "seconds": "1"}),
        ("faults[0].bytes: must be", {"do": "raw", "bytes": "€"}),
        ("faults[0].where: must be", {"do": "refuse", "where": {}}),
        ("faults[0].headers: must be", {"do": "status", "status": 503, "headers": []}),
        (
            "faults[0].headers.Content-Length: not a header",
            {"do": "status", "status": 503, "headers": {"Content-Length": "1"}},
        ),
        (
            "faults[0].headers.A: not a header",
            {"do": "status", "status": 503, "headers": {"A": "b\r\nC: d"}},
        ),
    ],
)
def test_what_is_not_a_fault_is_refused(problem: str, fault: Any, box: Sandbox, key: str) -> None:
    """What cannot be understood is refused with its reason, and none of its list is kept."""
    with pytest.raises(ValueError) as caught:
        box.inject(key, fault, {"do": "reset"})
    assert str(caught.value).startswith(problem)
    assert box.faults(key) == []


# --- counting


def counts(box: Sandbox, key: str) -> tuple[int, int, int, int]:
    ledger = box.ledger(key)
    return ledger["arrived"], ledger["numbers"], ledger["twice"], ledger["resent"]


def lose_answer(box: Sandbox, key: str, path: str, body: object) -> None:
    """Send a request and wait for the end of its connection, with or without RST."""
    with connected(box) as sock:
        sock.sendall(raw_request(key, path, body))
        read_to_end(sock)


def test_a_repeat_without_a_fault_is_twice(box: Sandbox, key: str, api: ApiClient) -> None:
    """An id that comes again although its answer was delivered counts as twice."""
    sent = event(1)
    api.send(sent)
    api.send(sent)
    assert counts(box, key) == (1, 1, 1, 0)
    api.send(event(2), event(2))
    assert counts(box, key) == (2, 2, 2, 0)


def test_one_number_under_two_ids_is_twice(box: Sandbox, key: str, api: ApiClient) -> None:
    """One properties.n under two ids is twice; 17 and 17.0 are one number, "17" is another."""
    api.send(event(17, "a"), event(17.0, "b"), event("17", "c"), event(1, "d"), event(True, "e"))
    assert counts(box, key) == (5, 4, 1, 0)


def test_without_a_number_only_ids_count(box: Sandbox, key: str, api: ApiClient) -> None:
    """An event without properties.n is counted by its id alone."""
    api.send(event(1, "a", properties={}), event(1, "b", properties={}))
    assert counts(box, key) == (2, 0, 0, 0)


@pytest.mark.parametrize("fault", ["reset", "close", "raw"])
def test_read_but_not_stored_is_no_arrival(
    fault: str, box: Sandbox, key: str, api: ApiClient
) -> None:
    """What a fault read without storing has not arrived, so its repeat is the first copy."""
    extra = {"bytes": "?"} if fault == "raw" else {}
    box.inject(key, {"do": fault, **extra})
    sent = event(1)
    lose_answer(box, key, TRACK, sent)
    assert counts(box, key) == (0, 0, 0, 0)
    api.send(sent)
    assert counts(box, key) == (1, 1, 0, 0)


@pytest.mark.parametrize("fault", ["reset", "close", "raw"])
def test_stored_and_unanswered_excuses_one_repeat(
    fault: str, box: Sandbox, key: str, api: ApiClient
) -> None:
    """A stored event whose answer a fault swallowed may come once more; the third copy is twice."""
    extra = {"bytes": "?"} if fault == "raw" else {}
    box.inject(key, {"do": fault, "store": True, **extra})
    sent = event(1)
    lose_answer(box, key, TRACK, sent)
    assert counts(box, key) == (1, 1, 0, 0)
    api.send(sent, event(2))
    assert counts(box, key) == (2, 2, 0, 1)
    api.send(sent)
    assert counts(box, key) == (2, 2, 1, 1)


def test_each_fault_excuses_one_repeat(box: Sandbox, key: str, api: ApiClient) -> None:
    """Two faults in a row that store excuse two repeats; one that does not store excuses none."""
    sent = event(1)
    box.inject(key, {"do": "reset", "store": True, "times": 2}, {"do": "reset"})
    for _ in range(3):
        lose_answer(box, key, TRACK, sent)
    assert counts(box, key) == (1, 1, 0, 1)
    api.send(sent)
    assert counts(box, key) == (1, 1, 0, 2)
    api.send(sent)
    assert counts(box, key) == (1, 1, 1, 2)


def test_stored_status_faults(box: Sandbox, key: str, api: ApiClient) -> None:
    """A stored 503 excuses the repeat; a stored 2xx told the client enough."""
    box.inject(key, *({"do": "status", "status": code, "store": True} for code in (503, 200)))
    api.send(event(1))
    api.send(event(1, occurred_at=box.events(key)[0]["occurred_at"]))
    assert counts(box, key) == (1, 1, 0, 1)
    api.send(box.events(key)[0])
    assert counts(box, key) == (1, 1, 1, 1)


def test_a_hang_that_stored_excuses(box: Sandbox, key: str, api: ApiClient) -> None:
    """A client that gives up on a hung request which was stored may repeat it."""
    sent = event(1)
    box.inject(key, {"do": "hang", "store": True})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, sent))
        box.wait_for(key, 1, DEADLINE)
    api.send(sent)
    assert counts(box, key) == (1, 1, 0, 1)


def test_a_delay_excuses_who_gave_up(box: Sandbox, key: str, api: ApiClient) -> None:
    """A delayed answer excuses the client that left before it, and not the one that got it."""
    first, second = event(1), event(2)
    box.inject(key, {"do": "delay", "seconds": 600})
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, first))
        box.wait_for(key, 1, DEADLINE)
    api.send(first)
    assert counts(box, key) == (1, 1, 0, 1)
    assert box.wait_for(key, 1, DEADLINE, field="hung_up")["hung_up"] == 1
    box.inject(key, {"do": "delay", "seconds": 0.01})
    api.send(second)
    api.send(second)
    api.send(first)
    assert counts(box, key) == (2, 2, 2, 1)


@posix_only
def test_a_client_that_left_before_its_answer(box: Sandbox, key: str, api: ApiClient) -> None:
    """Events of a client that was gone before the answer arrive, and may come once more."""
    sent = event(1)
    box.pause()
    try:
        with connected(box) as sock:
            sock.sendall(raw_request(key, TRACK, sent))
    finally:
        box.resume()
    ledger = box.wait_for(key, 1, DEADLINE, field="hung_up")
    assert (ledger["arrived"], ledger["statuses"]) == (1, {"202": 1})
    api.send(sent)
    api.send(sent)
    assert counts(box, key) == (1, 1, 1, 1)


def test_a_killed_client_may_repeat_its_last_request(
    box: Sandbox, key: str, api: ApiClient
) -> None:
    """After a kill the last request of each connection is excused once, and no earlier one."""
    api.send(event(1))
    api.send(event(2))
    assert box.killed(key) == 1
    assert box.killed(key) == 0
    first, second = box.events(key)
    api.send(first, second)
    assert counts(box, key) == (2, 2, 1, 1)
    api.send({})  # whoever writes again on a connection has read its last answer
    assert box.killed(key) == 0


def test_changed_content_is_twice(box: Sandbox, key: str, api: ApiClient) -> None:
    """An excused repeat must be the same event; only what names the sender may differ."""
    sent = event(1)
    box.inject(key, {"do": "status", "status": 503, "store": True, "times": 2})
    api.send(sent)
    api.send({**sent, "context": context("m-1", sdk_version="9", app_version="2")})
    assert counts(box, key) == (1, 1, 0, 1)
    api.send({**sent, "properties": {"n": 1.0}})
    assert counts(box, key) == (1, 1, 1, 1)


def test_a_request_half_read_is_no_request(box: Sandbox, key: str, api: ApiClient) -> None:
    """A client that dies while it writes has sent nothing."""
    with connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1))[:-1])
    api.send(event(2))
    assert box.ledger(key)["requests"] == 1


def identity_counts(box: Sandbox, key: str) -> tuple[int, int, int]:
    ledger = box.ledger(key)
    return ledger["identities"], ledger["identities_twice"], ledger["identities_resent"]


def test_identities_are_counted_by_user(box: Sandbox, key: str, api: ApiClient) -> None:
    """A user identified again is twice, unless excused and under the same Idempotency-Key."""
    fault = {"do": "status", "status": 503, "store": True}
    box.inject(key, fault)
    api.post(IDENTIFY, identity("a"), Idempotency_Key="i-1")
    api.post(IDENTIFY, identity("a"), Idempotency_Key="i-1")
    assert identity_counts(box, key) == (1, 0, 1)
    api.post(IDENTIFY, identity("a"), Idempotency_Key="i-1")
    assert identity_counts(box, key) == (1, 1, 1)
    box.inject(key, fault)
    api.post(IDENTIFY, identity("b"), Idempotency_Key="i-2")
    api.post(IDENTIFY, identity("b"), Idempotency_Key="i-3")
    assert identity_counts(box, key) == (2, 2, 1)
    box.inject(key, fault)
    api.post(IDENTIFY, identity("c"))
    api.post(IDENTIFY, identity("c"))
    assert identity_counts(box, key) == (3, 3, 1)
    assert box.ledger(key)["twice"] == 0


def test_a_stored_identity_that_was_reset(box: Sandbox, key: str, api: ApiClient) -> None:
    """An identity read without being stored has not arrived, as with events."""
    box.inject(key, {"do": "reset"})
    lose_answer(box, key, IDENTIFY, identity("a"))
    assert identity_counts(box, key) == (0, 0, 0)
    api.post(IDENTIFY, identity("a"))
    assert identity_counts(box, key) == (1, 0, 0)


def test_keys_are_apart(box: Sandbox, key: str, api: ApiClient) -> None:
    """One key's events, faults and forgetting are nothing to another's."""
    other = key + "_other"
    box.inject(other, {"do": "status", "status": 503})
    assert api.send(event(1))[0] == 202
    assert api.post(BATCH, {"events": [event(1)]}, X_API_Key=other)[0] == 503
    assert api.post(BATCH, {"events": [event(1)]}, X_API_Key=other)[0] == 202
    assert counts(box, key) == counts(box, other) == (1, 1, 0, 0)
    box.inject(other, {"do": "reset"})
    box.forget(other)
    assert (box.ledger(other)["requests"], box.requests(other), box.events(other)) == (0, [], [])
    assert (box.faults(other), box.ledger(key)["requests"]) == ([], 1)


# --- the controls


def test_wait_for_wakes_when_it_is_reached(box: Sandbox, key: str, api: ApiClient) -> None:
    """A waiting call returns the ledger as soon as enough has arrived."""
    found: list[Json] = []
    waiter = threading.Thread(target=lambda: found.append(box.wait_for(key, 3, DEADLINE)))
    waiter.start()
    for n in range(3):
        api.send(event(n))
    waiter.join(DEADLINE)
    assert found[0]["arrived"] == 3


def test_wait_for_ends_in_time(box: Sandbox, key: str, api: ApiClient) -> None:
    """A wait that is not reached raises TimeoutError and shows the ledger."""
    api.send(event(1))
    with pytest.raises(TimeoutError, match="'arrived': 1"):
        box.wait_for(key, 2, 0.05)
    with pytest.raises(ValueError, match="colour"):
        box.wait_for(key, 1, field="colour")


def control(box: Sandbox, path: str, method: str = "GET", **headers: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=DEADLINE)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/sandbox/health", "/sandbox/wrk_x/ledger"])
def test_control_is_for_this_machine_only(path: str, box: Sandbox) -> None:
    """Control answers to a loopback Host, and not to a page that comes from elsewhere."""
    for host in ("127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:80", "127.9.9.9"):
        assert control(box, path, Host=host) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"):
        assert control(box, path, Host=host) == 403
    assert control(box, path, Host="") == 403
    assert control(box, path, Origin="https://evil.example") == 403
    assert control(box, path, Origin="null") == 403
    assert control(box, path, Origin="http://localhost:3000") == 200


def test_control_wants_a_key(box: Sandbox) -> None:
    """A ledger is asked for by a possible key: a slip of the pen is not an empty ledger."""
    assert control(box, "/sandbox/nokey/ledger") == 404
    with pytest.raises(ValueError, match="begins with wrk_"):
        box.ledger("nokey")


def test_proxies_of_the_environment_are_ignored(
    box: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controls talk to the server directly, whatever the environment says."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert box.ledger(key)["requests"] == 0


# --- the process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@posix_only
def test_a_signal_ends_it_in_spite_of_hung_requests(number: int, key: str) -> None:
    """SIGTERM and SIGINT end the server in silence, though a request hangs for ever."""
    with serving() as server, socket.create_connection(server.address, timeout=DEADLINE) as sock:
        api = ApiClient(server.url, key)
        hang = json.dumps([{"do": "hang"}]).encode()
        assert api.post(f"/sandbox/{key}/faults", hang) == (200, {"injected": 1})
        sock.sendall(raw_request(key, TRACK, event(1)))
        assert count_is_reached(server.url, key, "requests=1")
        server.process.send_signal(number)
        assert server.process.wait(DEADLINE) == 0
        assert read_to_end(sock) == b""
        api.close()
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_it_ends_with_its_parent() -> None:
    """With --exit-with-parent the end of standard input is the end of the server."""
    with serving("--exit-with-parent") as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(DEADLINE) == 0


@posix_only
def test_a_killed_test_leaves_no_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed inside its Sandbox block takes server and folder with it."""
    code = (
        "import os, signal, sys\n"
        "from whisperr.sandbox import Sandbox\n"
        "box = Sandbox().start()\n"
        "print(box.url, flush=True)\n"
        "sys.stdin.readline()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running([sys.executable, "-c", code]) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        parts = urlsplit(parent.stdout.readline().strip())
        address = (parts.hostname or "", parts.port or 0)
        with socket.create_connection(address, timeout=DEADLINE) as sock:
            parent.stdin.write("now\n")
            parent.stdin.flush()
            assert parent.wait(DEADLINE) == -signal.SIGKILL
            assert read_to_end(sock) == b""  # it waits for the server to go
    assert list(tmp_path.iterdir()) == []


@posix_only
@forks_beside_threads
def test_a_fork_does_not_stop_it(box: Sandbox, key: str) -> None:
    """stop() in a forked child leaves the server to its owner."""
    pid = os.fork()
    if pid == 0:
        try:
            box.stop()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert box.ledger(key)["requests"] == 0


def test_stop_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """stop() ends the process and removes its folder; it may be repeated, and start() too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    box = Sandbox()
    with pytest.raises(RuntimeError, match="not started"):
        _ = box.pid
    for _ in range(2):
        box.start()
        with connected(box) as sock:
            box.stop()
            assert read_to_end(sock) == b""
        box.stop()
        assert list(tmp_path.iterdir()) == []


@posix_only
def test_a_paused_server_can_be_stopped() -> None:
    """stop() wakes a paused server first, and so need not kill it."""
    with Sandbox() as box:
        box.pause()


def test_idle_connections_are_closed_when_asked(key: str) -> None:
    """keep_alive is the idle time after which the server closes a connection."""
    with Sandbox(keep_alive=0.05) as box, connected(box) as sock:
        sock.sendall(raw_request(key, TRACK, event(1)))
        assert read_all(sock).startswith(b"HTTP/1.1 202 ")


def test_small_answers_do_not_wait(api: ApiClient) -> None:
    """An answer leaves at once: the fastest of 50 waits for no delayed acknowledgement (40 ms)."""
    taken = []
    for n in range(50):
        start = time.monotonic()
        assert api.send(event(n))[0] == 202
        taken.append(time.monotonic() - start)
    assert min(taken) < 0.04


def test_connections_are_told_apart(box: Sandbox, key: str, api: ApiClient) -> None:
    """The ledger counts the TCP connections that carried requests."""
    api.send(event(1))
    lose = ApiClient(box.url, key)
    lose.send(event(2))
    lose.close()
    assert box.ledger(key)["connections"] == 2
    assert len({entry["connection"] for entry in box.requests(key)}) == 2


def test_the_ready_file_holds_the_url(tmp_path: Path) -> None:
    """The ready file holds the URL once the server answers, with no draft of it beside."""
    with serving("--ready-file", str(tmp_path / "ready"), "--exit-with-parent") as server:
        assert count_is_reached(server.url, "wrk_ready", "requests=0")
        assert (tmp_path / "ready").read_text() == server.url + "\n"
        assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    """By default nobody else can reach it; told to listen to all, it says so, and goes on."""
    with serving() as server:
        assert server.address[0] == "127.0.0.1"
    with running([sys.executable, "-m", "whisperr.sandbox", "--host", "0.0.0.0"]) as process:
        assert process.stderr is not None
        assert "listens to other machines" in process.stderr.readline()
        assert process.poll() is None


@pytest.mark.parametrize(
    ("complaint", "options"),
    [
        ("--host: must be an IP address", ["--host", "example.org"]),
        ("--keep: must be 1 or more", ["--keep", "0"]),
    ],
)
def test_an_unusable_option_is_named(complaint: str, options: list[str]) -> None:
    """What cannot be done ends with status 2, and with the name of the option."""
    with running([sys.executable, "-m", "whisperr.sandbox", *options]) as process:
        assert process.wait(DEADLINE) == 2
        assert process.stderr is not None
        assert complaint in process.stderr.read()


def test_a_taken_port_is_refused() -> None:
    """A port that somebody else has is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        box = Sandbox(port=taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="cannot listen on"):
            box.start()


def count_is_reached(url: str, key: str, target: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE)
    try:
        connection.request("GET", f"/sandbox/{key}/wait?{target}&timeout={DEADLINE}")
        return bool(json.loads(connection.getresponse().read())["reached"])
    finally:
        connection.close()


def test_numbers_are_counted_only_when_asked(tmp_path: Path) -> None:
    """Three users' events with the same n are three events, and none of them came twice."""
    for asked, counted in ((False, (3, 0, 0)), (True, (3, 1, 2))):
        with Sandbox(numbers=asked) as box:
            with contextlib.closing(ApiClient(box.url, "wrk_n")) as api:
                api.send(*(event(2, f"mine-{copy}") for copy in range(3)))
            ledger = box.ledger("wrk_n")
        assert (ledger["arrived"], ledger["numbers"], ledger["twice"]) == counted
