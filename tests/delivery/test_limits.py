"""Bounds on what is queued and on what is sent; whatever they cost is the oldest, and is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.clients import (
    Reports,
    assert_arrived,
    assert_closed,
    numbers_at,
    open_client,
    track,
)
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

KB = "x" * 1000  # about what most of these events weigh


def body_sizes(server: Sandbox, key: str) -> list[int]:
    return [int(request["headers"]["content-length"]) for request in _lower(server.requests(key))]


def _lower(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**request, "headers": {name.lower(): text for name, text in request["headers"].items()}}
        for request in requests
    ]


def users_at(server: Sandbox, key: str) -> list[str]:
    return [identity["external_user_id"] for identity in server.identities(key)]


# --- how many wait


def test_an_overflow_drops_the_oldest(server: Sandbox, key: str) -> None:
    """Of 250 events in a queue of 100 the newest 100 arrive; the 150 others are reported by count,
    and flush() says True, since nothing is left unsettled."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_queue_size=100) as client:
        track(client, range(250))
        assert client.stats()["pending"] == 100
        assert_closed(client.stats())
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 150}
    assert_arrived(server, key, 100)
    assert numbers_at(server, key) == list(range(150, 250))
    assert reports.brief() == [("dropped", None, 150)]


def test_a_full_queue_is_no_loss(server: Sandbox, key: str) -> None:
    """A queue that is exactly full loses nothing."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_queue_size=100) as client:
        track(client, range(100))
        assert client.flush()
    assert_arrived(server, key, 100)
    assert reports.all == []


def test_an_overflow_during_a_failure_is_reported_pass_by_pass(server: Sandbox, key: str) -> None:
    """While the server fails the queue stays bounded, what a pass gave back included; each pass
    reports what was dropped since the last one, and the newest arrive in order."""
    server.inject(key, {"do": "status", "status": 503, "times": -1})
    reports = Reports()
    with open_client(
        server.url, key, on_error=reports, max_queue_size=100, max_retries=0
    ) as client:
        for start in range(0, 300, 60):
            track(client, range(start, start + 60))
            assert not client.flush()
            assert client.stats()["pending"] <= 100
            assert_closed(client.stats())
        server.clear_faults(key)
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 200}
    assert_arrived(server, key, 100)
    assert numbers_at(server, key) == list(range(200, 300))
    assert reports.counts("dropped") == [20, 60, 60, 60]


def test_an_overflow_while_a_batch_is_out_costs_no_delivered_event(
    server: Sandbox, key: str
) -> None:
    """A queue that overflows while a batch is being sent drops what waits, never what is out, and
    counts nothing twice."""
    server.inject(key, {"do": "delay", "seconds": 0.5})
    with open_client(server.url, key, max_queue_size=50, max_batch_size=50, flush_at=50) as client:
        track(client, range(50))
        server.wait_for(key, 50)  # stored; the answer is to come
        track(client, range(50, 200))
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 100}
        assert client.stats()["delivered"] == 100
    assert_arrived(server, key, 100)
    assert numbers_at(server, key) == [*range(50), *range(150, 200)]


def test_a_batch_that_comes_back_to_a_full_queue_is_the_oldest(server: Sandbox, key: str) -> None:
    """A batch that fails after the queue has filled up behind it does not push the queue over its
    limit: its events, the oldest, are dropped and reported, the queued ones arrive."""
    server.inject(key, {"do": "hang"})
    reports = Reports()
    options = {"max_queue_size": 100, "max_retries": 0, "request_timeout": 1.0}
    with open_client(server.url, key, on_error=reports, flush_at=50, **options) as client:
        track(client, range(50))
        server.wait_for(key, 1, field="requests")
        track(client, range(50, 150))
        assert client.stats()["pending"] == 150  # 50 of them out
        reports.wait(2)
        assert client.stats()["pending"] == 100
        assert_closed(client.stats())
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 50}
    assert_arrived(server, key, 100)
    assert numbers_at(server, key) == list(range(50, 150))
    assert reports.counts("dropped") == [50]
    assert reports.counts("retry_exhausted") == [100]


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_an_event_larger_than_the_queue_may_be(
    server: Sandbox, key: str, tmp_path: Path, journal: bool
) -> None:
    """It is delivered all the same, when it is the only one that waits."""
    kept = {"journal_dir": tmp_path / "journal"} if journal else {}
    with open_client(server.url, key, max_queue_bytes=10_000, flush_at=1, **kept) as client:
        for number in range(3):
            track(client, [number], text="x" * 50_000)
            server.wait_for(key, number + 1)
        assert client.flush()
        assert (client.stats()["delivered"], client.stats()["spilled"]) == (3, 0)
        assert client.stats()["requests"] == 3
    assert_arrived(server, key, 3)


def test_identities_and_events_are_evicted_by_age(server: Sandbox, key: str) -> None:
    """The oldest go, whether event or identity."""
    with open_client(server.url, key, max_queue_size=10) as client:
        client.identify("oldest")
        track(client, range(3))
        for number in range(3):
            client.identify(f"user_{number}")
        track(client, range(3, 8))  # twelve so far: the identity and event 0 go
        assert client.stats()["dropped"] == {"overflow": 2}
        client.identify("newest")
        track(client, [8])  # events 1 and 2 go
        client.identify("last")  # and user_0
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 5}
    assert_arrived(server, key, 6)
    assert numbers_at(server, key) == list(range(3, 9))
    assert users_at(server, key) == ["user_1", "user_2", "newest", "last"]


# --- how many bytes wait


def test_a_queue_of_too_many_bytes_drops_the_oldest(server: Sandbox, key: str) -> None:
    """``max_queue_bytes`` holds for events as it does for their number: the newest arrive, as many
    as fit, and the rest is reported."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_queue_bytes=50_000) as client:
        track(client, range(200), filler=KB)
        kept = client.stats()["pending"]
        assert 50_000 // 1500 <= kept <= 50
        assert client.flush()
        assert client.stats()["dropped"] == {"overflow": 200 - kept}
        assert client.stats()["bytes"] <= 50_000 + 100
    assert_arrived(server, key, kept)
    assert numbers_at(server, key) == list(range(200 - kept, 200))
    assert reports.brief() == [("dropped", None, 200 - kept)]


def test_identities_weigh_as_well(server: Sandbox, key: str) -> None:
    """Identities count towards ``max_queue_bytes``."""
    with open_client(server.url, key, max_queue_bytes=50_000) as client:
        for number in range(200):
            client.identify(f"user_{number}", traits={"filler": KB})
        kept = client.stats()["pending"]
        assert 50_000 // 1500 <= kept <= 50
        assert client.flush()
    assert users_at(server, key) == [f"user_{number}" for number in range(200 - kept, 200)]


def test_bytes_are_given_back(server: Sandbox, key: str) -> None:
    """What was delivered, given back or dropped weighs no more: 100 times the limit pass through."""
    server.inject(key, {"do": "status", "status": 503}, {"do": "status", "status": 410})
    reports = Reports()
    with open_client(
        server.url, key, on_error=reports, max_queue_bytes=20_000, max_retries=0
    ) as client:
        for start in range(0, 1000, 10):
            track(client, range(start, start + 10), filler=KB)
            client.identify(f"user_{start}", traits={"filler": KB})
            assert client.flush() or client.flush()
    # 503 for the first identity, 410 for it again.
    assert assert_arrived(server, key, 1000)["identities"] == 99
    assert reports.counts("dropped") == [1]


# --- the size of an event


def test_a_large_event_is_refused_alone(server: Sandbox, key: str) -> None:
    """An event over ``max_event_bytes`` is refused at the call and reported; the others arrive."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_event_bytes=2000) as client:
        track(client, [0], filler=KB)
        track(client, [1], filler=2 * KB)
        assert reports.brief() == [("dropped", None, 1)]
        client.identify("large", traits={"filler": 2 * KB})
        client.identify("small", traits={"filler": KB})
        track(client, [2], filler=KB)
        assert client.flush()
        assert client.stats()["dropped"] == {"refused": 2}
    assert_arrived(server, key, 2)
    assert numbers_at(server, key) == [0, 2]
    assert users_at(server, key) == ["small"]
    assert "max_event_bytes" in reports.all[0].message


@pytest.mark.parametrize("part", ["properties", "context", "user", "message_id"])
def test_every_part_of_an_event_weighs(server: Sandbox, key: str, part: str) -> None:
    """Whatever makes an event large, it is refused: properties, context, the user, its own id."""
    large = "x" * 2000
    with open_client(server.url, key, max_event_bytes=2000) as client:
        _track_large(client, part, large)
        assert client.stats()["dropped"] == {"refused": 1}
        _track_large(client, part, "small")
        assert client.flush()
    assert_arrived(server, key, 1)


def _track_large(client: Whisperr, part: str, text: str) -> None:
    client.track(
        text if part == "user" else "user",
        "number_seen",
        {"n": text if part == "properties" else "0"},
        {"page": text} if part == "context" else None,
        message_id=text if part == "message_id" else None,
    )


def test_the_limit_of_an_event_is_that_of_its_text(server: Sandbox, key: str) -> None:
    """``max_event_bytes`` counts bytes as sent: text outside ASCII weighs what UTF-8 makes of it."""
    with open_client(server.url, key, max_event_bytes=2000) as client:
        track(client, [0], filler="é" * 600)  # 1200 bytes
        track(client, [1], filler="é" * 1000)  # 2000
        assert client.flush()
        assert client.stats()["dropped"] == {"refused": 1}
    assert numbers_at(server, key) == [0]


@pytest.mark.parametrize("large", [10_000, 1_000_000])
def test_default_limits_take_what_is_usual(server: Sandbox, key: str, large: int) -> None:
    """At default settings an event of 10 KB is sent and one of 1 MB refused."""
    with open_client(server.url, key) as client:
        track(client, [0], filler="x" * large)
        track(client, [1])
        assert client.flush()
    assert numbers_at(server, key) == ([0, 1] if large < 256 * 1024 else [1])


# --- the size of a request


@pytest.mark.parametrize("size", [10, 300, 1000])
@pytest.mark.parametrize("limit", [5_000, 20_000, 100_000])
def test_bodies_stay_within_their_limit(server: Sandbox, key: str, size: int, limit: int) -> None:
    """No body exceeds ``max_batch_bytes``, and none is much smaller than it needs to be."""
    with open_client(server.url, key, max_batch_bytes=limit) as client:
        track(client, range(300), filler="x" * size)
        assert client.flush()
    assert_arrived(server, key, 300)
    assert numbers_at(server, key) == list(range(300))
    sizes = body_sizes(server, key)
    assert max(sizes) <= limit
    assert all(size >= 0.5 * limit for size in sizes[:-1])


def test_an_event_larger_than_a_body_goes_alone(server: Sandbox, key: str) -> None:
    """An event within its own limit is sent though it exceeds ``max_batch_bytes``, by itself."""
    with open_client(server.url, key, max_batch_bytes=2000, max_event_bytes=50_000) as client:
        track(client, [0])
        track(client, [1], filler=20 * KB)
        track(client, [2])
        assert client.flush()
    assert_arrived(server, key, 3)
    assert [request["count"] for request in server.requests(key)] == [1, 1, 1]


def test_no_queue_makes_one_huge_request(server: Sandbox, key: str) -> None:
    """21 events of 250 KB, within every default, make requests of 1 MiB at most."""
    with open_client(server.url, key) as client:
        track(client, range(21), filler=250 * KB)
        assert client.flush()
    assert_arrived(server, key, 21)
    assert max(body_sizes(server, key)) <= 1024 * 1024


@pytest.mark.parametrize(("size", "requests"), [(1, 30), (7, 5), (30, 1), (500, 1)])
def test_batches_hold_max_batch_size(server: Sandbox, key: str, size: int, requests: int) -> None:
    """No request holds more events than ``max_batch_size``, and none fewer than it could."""
    with open_client(server.url, key, max_batch_size=size) as client:
        track(client, range(30))
        assert client.flush()
    assert assert_arrived(server, key, 30)["requests"] == requests
    assert max(request["count"] for request in server.requests(key)) <= size


def test_a_larger_batch_than_the_service_takes_is_clamped(server: Sandbox, key: str) -> None:
    """``max_batch_size=5000`` makes batches of 500, which is all that the service takes."""
    with open_client(server.url, key, max_batch_size=5000) as client:
        track(client, range(1100))
        assert client.flush()
    assert_arrived(server, key, 1100)
    assert [request["count"] for request in server.requests(key)] == [500, 500, 100]
