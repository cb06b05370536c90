"""The client's own ledger: closed, and the same as the server's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support.clients import (
    Reports,
    assert_arrived,
    assert_closed,
    flush_until_settled,
    open_client,
    track,
)
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

EMPTY = {
    "accepted": 0,
    "adopted": 0,
    "delivered": 0,
    "dropped": {},
    "pending": 0,
    "spilled": 0,
    "requests": 0,
    "retries": 0,
    "splits": 0,
    "ignored": 0,
    "bytes": 0,
    "last_error": None,
}


def assert_agrees(client: Whisperr, server: Sandbox, key: str) -> dict[str, Any]:
    """What the client counts is what the server saw. Returns the client's figures."""
    stats, ledger = client.stats(), server.ledger(key)
    assert_closed(stats)
    assert stats["requests"] == ledger["requests"]
    assert stats["delivered"] == ledger["arrived"] + ledger["identities"]
    assert stats["bytes"] == sum(
        int(text)
        for request in server.requests(key)
        for name, text in request["headers"].items()
        if name.lower() == "content-length"
    )
    return stats


def test_a_new_client_has_done_nothing(server: Sandbox, key: str) -> None:
    """Before the first call everything is zero, and looking changes nothing."""
    with open_client(server.url, key) as client:
        for _ in range(3):
            assert client.stats() == EMPTY
    assert server.ledger(key)["requests"] == 0


def test_a_disabled_client_stays_at_zero() -> None:
    """A disabled client has the same keys, all of them zero, whatever is called."""
    client = Whisperr(disabled=True)
    track(client, range(10))
    client.identify("user")
    assert client.flush()
    assert client.stats() == EMPTY
    assert client.shutdown()
    assert client.stats() == EMPTY


def test_what_waits_is_pending(server: Sandbox, key: str) -> None:
    """Accepted calls are pending until they are sent."""
    with open_client(server.url, key) as client:
        track(client, range(7))
        client.identify("user")
        assert client.stats() == {**EMPTY, "accepted": 8, "pending": 8}


def test_ignored_calls_are_not_counted(server: Sandbox, key: str) -> None:
    """A call without a user or an event type never was one: apart, and no part of the ledger."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        client.track("", "number_seen")
        client.track("user", "")
        client.track("user", "  ")
        client.identify("")
        assert client.stats() == {**EMPTY, "ignored": 4}
    assert reports.all == []


def test_deliveries_agree(server: Sandbox, key: str) -> None:
    """Requests, bytes and deliveries are what the server saw."""
    with open_client(server.url, key) as client:
        track(client, range(1200))
        for number in range(3):
            client.identify(f"user_{number}", traits={"n": number})
        assert client.flush()
        stats = assert_agrees(client, server, key)
    assert (stats["accepted"], stats["delivered"]) == (1203, 1203)
    assert (stats["requests"], stats["retries"], stats["splits"]) == (6, 0, 0)
    assert stats["last_error"] is None


def test_retries_agree(server: Sandbox, key: str) -> None:
    """Every attempt is a request, also where no answer came, and those but the first are retries."""
    server.inject(key, {"do": "status", "status": 503}, {"do": "reset"})
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
        stats = assert_agrees(client, server, key)
    assert (stats["requests"], stats["retries"]) == (3, 2)


def test_splits_agree(server: Sandbox, key: str) -> None:
    """Each split makes one request into two more, and the one bad event is dropped as rejected."""
    server.inject(key, {"do": "refuse", "where": {"properties.n": 17}})
    with open_client(server.url, key) as client:
        track(client, range(500))
        assert client.flush()
        stats = assert_agrees(client, server, key)
    assert stats["splits"] == 9 or stats["splits"] == 8  # halving 500 down to one
    assert stats["requests"] == 1 + 2 * stats["splits"]
    assert stats["dropped"] == {"rejected": 1}


def test_every_reason_of_a_drop_is_told_apart(server: Sandbox, key: str) -> None:
    """One client that loses in every way there is has a closed ledger with every reason in it."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_queue_size=10, max_retries=0) as client:
        client.track("user", "Not Snake Case")  # refused
        track(client, range(13))  # overflow: 3
        server.inject(key, {"do": "status", "status": 410})  # rejected: 10
        assert client.flush()
        track(client, range(13, 17))
        assert client.flush()
        server.inject(key, {"do": "status", "status": 503, "times": -1})  # undelivered: 5
        track(client, range(17, 22))
        assert not client.shutdown(1)
        track(client, range(22, 24))  # closed: 2
        stats = assert_agrees(client, server, key)
    assert stats["dropped"] == {
        "refused": 1,
        "overflow": 3,
        "rejected": 10,
        "undelivered": 5,
        "closed": 2,
    }
    assert (stats["accepted"], stats["delivered"]) == (25, 4)
    assert sum(reports.counts("dropped")) == 20  # after a shutdown only the first is told


def test_resent_events_are_delivered_once(server: Sandbox, key: str) -> None:
    """What the server got twice, since its answer was lost, counts as delivered once."""
    server.inject(key, {"do": "close", "store": True})
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
        assert_agrees(client, server, key)
    assert assert_arrived(server, key, 10)["resent"] == 10


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"do": "status", "status": 503}, "status 503"),
        ({"do": "status", "status": 401}, "status 401"),
        ({"do": "status", "status": 301}, "status 301"),
        ({"do": "status", "status": 410}, "status 410"),
        ({"do": "reset"}, "ConnectionError"),
    ],
)
def test_the_last_error_is_a_sentence(
    server: Sandbox, key: str, fault: dict[str, Any], words: str
) -> None:
    """``last_error`` says what went wrong last, in the words on_error was given, and stays."""
    server.inject(key, fault)
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        track(client, range(10))
        client.flush()
        flush_until_settled(client)
        assert client.stats()["last_error"] == reports.all[-1].message
        assert words in reports.all[-1].message
        assert key not in reports.all[-1].message


def test_the_ledger_closes_after_a_storm(server: Sandbox, key: str) -> None:
    """8 threads that track, identify, overflow and flush against a failing server leave a closed
    ledger, in which every call is counted and everything delivered has arrived."""
    server.inject(
        key,
        {"do": "refuse", "where": {"properties.bad": True}, "times": 6},
        *({"do": "status", "status": status} for status in (503, 404, 401, 302, 422)),
    )
    reports = Reports()

    def work(first: int) -> None:
        for number in range(first, first + 500):
            client.track("user", "number_seen", {"n": number, "bad": number % 400 == 3})
            if number % 50 == 0:
                client.identify(f"user_{number}")
                client.track("user", "Not Snake Case")
            if number % 100 == 99:
                client.flush(timeout=10)

    with open_client(
        server.url, key, on_error=reports, flush_at=50, max_queue_size=300, max_retries=0
    ) as client:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 4000, 500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        flush_until_settled(client)
        stats = assert_agrees(client, server, key)
    assert stats["accepted"] == 8 * (500 + 10 + 10)
    assert stats["dropped"]["refused"] == 80
    assert sum(stats["dropped"].values()) == sum(reports.counts("dropped"))
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"], ledger["identities_twice"]) == (0, 0, 0)
