"""Failures that may pass: how often, how long apart, and for how long a batch is tried again."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from urllib3.util.retry import Retry

from support.clients import (
    Reports,
    assert_arrived,
    flush_until_settled,
    numbers_at,
    open_client,
    track,
)
from support.deadlines import generous
from support.sockets import Answer, Listener
from whisperr._delivery.outcome import Outcome
from whisperr._delivery.retry import (
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    LONGEST_RETRY_AFTER,
    RetryPolicy,
    retry_after,
)
from whisperr._delivery.transport import Transport
from whisperr._settings import Settings, make_settings, option_names
from whisperr.sandbox import Sandbox

CLOCK_STEP = 0.01  # seconds by which two clocks of one machine may differ


def failing(status: int, **more: Any) -> dict[str, Any]:
    return {"do": "status", "status": status, **more}


def asking_for(text: str, **more: Any) -> dict[str, Any]:
    """A 429 with ``Retry-After``."""
    return failing(429, headers={"Retry-After": text}, **more)


def gaps_between_requests(server: Sandbox, key: str) -> list[float]:
    times = [request["time"] for request in server.requests(key)]
    return [later - earlier for earlier, later in zip(times, times[1:])]


# --- a server in trouble


def test_a_bad_minute_of_the_server_loses_nothing(server: Sandbox, key: str) -> None:
    """500 five times, 429 with ``Retry-After: 1`` three times, three connection resets, then
    healthy: 2,000 of 2,000 events arrive at default settings, none twice, and the pass
    that had to give up is reported."""
    server.inject(key, failing(500, times=5), asking_for("1", times=3), {"do": "reset", "times": 3})
    reports = Reports()
    with open_client(server.url, key, on_error=reports, flush_at=20, flush_interval=10.0) as client:
        track(client, range(2000))
        flush_until_settled(client)
        assert client.stats()["delivered"] == 2000
    ledger = assert_arrived(server, key, 2000)
    assert ledger["resent"] == 0
    assert (ledger["statuses"]["500"], ledger["statuses"]["429"]) == (5, 3)
    assert ledger["statuses"]["0"] == 3
    assert numbers_at(server, key) == list(range(2000))
    assert {error.type for error in reports.all} == {"retry_exhausted"}
    assert reports.all[0].status == 429  # the seventh attempt, and the last of six retries


def test_what_was_stored_before_a_reset_is_resent(server: Sandbox, key: str) -> None:
    """Three resets after the server has stored the batch: each repeat carries the ids of the first,
    so that the server counts it as resent and nothing as twice."""
    server.inject(key, {"do": "reset", "times": 3, "store": True})
    with open_client(server.url, key) as client:
        track(client, range(500))
        client.track("user", "number_seen", {"n": 500}, message_id="my-own")
        flush_until_settled(client)
    ledger = assert_arrived(server, key, 501)
    assert ledger["resent"] == 3 * 500
    ids = [event["context"]["$message_id"] for event in server.events(key)]
    assert ids[-1] == "my-own"


def test_a_retry_repeats_the_request(key: str) -> None:
    """Within a pass and in the next one a batch is sent again byte for byte, ids included."""
    statuses = iter([503, 429, 500])
    with Listener(lambda heard: Answer(next(statuses, 202))) as listener, open_client(
        listener.url, key, max_retries=1
    ) as client:
        track(client, range(20))
        assert not client.flush()
        assert client.flush()
    assert len(listener.heard) == 4
    assert len({heard.body for heard in listener.heard}) == 1


def test_an_identity_keeps_its_idempotency_key(key: str) -> None:
    """An identity, which has no id in its body, is repeated under the same ``Idempotency-Key``, and
    another identity has another one."""
    statuses = iter([503, 503])
    with Listener(lambda heard: Answer(next(statuses, 200))) as listener, open_client(
        listener.url, key, max_retries=1
    ) as client:
        client.identify("user", traits={"n": 1})
        assert not client.flush()
        client.identify("user", traits={"n": 1})
        assert client.flush()
    keys = [heard.headers["idempotency-key"] for heard in listener.heard]
    assert keys[0] == keys[1] == keys[2] != keys[3]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_what_may_pass_is_retried(server: Sandbox, key: str, status: int) -> None:
    """408, 425, 429 and every 5xx are tried again within the pass, and nobody is bothered."""
    server.inject(key, failing(status))
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(10))
        assert client.flush()
        assert client.stats()["retries"] == 1
    assert assert_arrived(server, key, 10)["requests"] == 2
    assert reports.all == []


@pytest.mark.parametrize(
    ("fault", "status"), [(failing(503), 503), (failing(429), 429), ({"do": "reset"}, None)]
)
@pytest.mark.parametrize("max_retries", [0, 2])
def test_retries_are_counted(
    server: Sandbox, key: str, fault: dict[str, Any], status: int | None, max_retries: int
) -> None:
    """A pass makes ``max_retries`` retries and no more, then keeps everything and says so once,
    with the status, or none where there was no answer."""
    server.inject(key, {**fault, "times": -1})
    reports = Reports()
    with open_client(
        server.url, key, on_error=reports, max_retries=max_retries, max_batch_size=5
    ) as client:
        track(client, range(10))
        assert not client.flush()
        assert server.ledger(key)["requests"] == 1 + max_retries
        assert (client.stats()["retries"], client.stats()["pending"]) == (max_retries, 10)
        assert reports.brief() == [("retry_exhausted", status, 10)]
        server.clear_faults(key)
        assert client.flush()
    assert_arrived(server, key, 10)
    assert numbers_at(server, key) == list(range(10))


@pytest.mark.parametrize("store", [False, True], ids=["lost", "stored"])
def test_a_silent_server_is_left_after_request_timeout(
    server: Sandbox, key: str, store: bool
) -> None:
    """A server that takes a request and says nothing is tried again after ``request_timeout``."""
    server.inject(key, {"do": "hang", "store": store})
    with open_client(server.url, key, request_timeout=0.5) as client:
        track(client, range(10))
        assert client.flush()
        assert client.stats()["retries"] == 1
    ledger = assert_arrived(server, key, 10)
    assert ledger["resent"] == (10 if store else 0)
    assert gaps_between_requests(server, key)[0] >= 0.5 - CLOCK_STEP


def test_a_server_that_is_not_there_is_a_network_error(key: str) -> None:
    """A refused connection is reported without a status, and keeps everything."""
    with Listener() as gone:
        pass
    reports = Reports()
    with open_client(gone.url, key, on_error=reports, max_retries=1) as client:
        track(client, range(10))
        assert not client.flush()
        assert client.stats()["requests"] == 2
        assert reports.brief() == [("retry_exhausted", None, 10)]
        assert not client.shutdown(0)


# --- Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(server: Sandbox, key: str, status: int) -> None:
    """Between an answer with ``Retry-After: 2`` and the next request at least 2 s go by."""
    server.inject(key, failing(status, headers={"Retry-After": "2"}))
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
    assert_arrived(server, key, 10)
    assert gaps_between_requests(server, key)[0] >= 2 - CLOCK_STEP


def test_a_date_in_retry_after_is_honoured(server: Sandbox, key: str) -> None:
    """No request is made before the date that ``Retry-After`` names."""
    date = int(time.time()) + 3
    server.inject(key, asking_for(formatdate(date, usegmt=True)))
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
    assert_arrived(server, key, 10)
    assert server.requests(key)[1]["time"] >= date - CLOCK_STEP


@pytest.mark.parametrize("text", ["soon", "", "-1", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_malformed_retry_after_is_ignored(server: Sandbox, key: str, text: str) -> None:
    """A ``Retry-After`` that can't be read is no reason to stop: the usual back-off is waited."""
    server.inject(key, asking_for(text))
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(10))
        assert client.flush()
    assert_arrived(server, key, 10)
    assert reports.all == []
    assert gaps_between_requests(server, key)[0] >= FIRST_BACKOFF / 2 - CLOCK_STEP


@pytest.mark.parametrize("status", [400, 413, 422, 404, 401, 301])
def test_retry_after_retries_nothing_else(server: Sandbox, key: str, status: int) -> None:
    """``Retry-After`` makes no retry of an answer that is none: a 413 with it is a refusal at once."""
    headers = {"Retry-After": "30"}
    server.inject(key, failing(status, headers=headers, times=-1))
    with open_client(server.url, key) as client:
        track(client, [0])
        client.flush()
        assert (client.stats()["requests"], client.stats()["retries"]) == (1, 0)
        server.clear_faults(key)


# --- the policy as a value


NOW = "Fri, 27 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("60", 60),
        ("61", LONGEST_RETRY_AFTER),
        ("3600", LONGEST_RETRY_AFTER),
        ("9" * 400, LONGEST_RETRY_AFTER),
        ("9" * 5000, LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 2100 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("Fri, 27 Nov 2026 12:00:09 GMT", 9),
        ("Fri, 27 Nov 2026 13:00:09 +0100", 9),
        ("Friday, 27-Nov-26 12:00:09 GMT", 9),
        ("Fri Nov 27 12:00:09 2026", 9),
        ("soon", None),
        ("", None),
        ("   ", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("NaN", None),
        ("inf", None),
        ("\u0663", None),
        ("1, 2", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 99 Foo 2026 00:00:00 GMT", None),
        ("Fri, 27 Nov 2026", None),
        (",", None),
        (None, None),
    ],
)
def test_retry_after_is_capped(text: str | None, seconds: float | None) -> None:
    """No more than 60 s are waited for a server, and a text that can't be read says nothing."""
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday", "1, 2"])
def test_a_date_is_counted_from_our_own_clock_without_the_servers(date: str | None) -> None:
    """Where the answer has no ``Date`` that can be read, ours is all there is."""
    assert retry_after("Fri, 31 Dec 2100 23:59:59 GMT", date) == LONGEST_RETRY_AFTER
    assert retry_after("Sat, 01 Jan 2000 00:00:00 GMT", date) == 0
    assert 25 < (retry_after(formatdate(time.time() + 30, usegmt=True), date) or 0) <= 30


class Waits:
    """A pause that takes no time and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return True


def settings(url: str, key: str, **changes: Any) -> Settings:
    options = {name: getattr(Settings, name) for name in option_names()}
    return make_settings(key, {**options, "base_url": url, **changes})


def test_the_wait_is_the_callers(key: str) -> None:
    """How long to wait is the policy's, the waiting itself that of whoever made it."""
    waits = Waits()
    answers = iter(
        [Answer(503, {"Retry-After": "3600"}), Answer(503), Answer(429, {"Retry-After": "0"})]
    )
    with Listener(lambda heard: next(answers, Answer())) as listener:
        transport = Transport(settings(listener.url, key), waits, lambda: None)
        assert transport.send("/v1/events/batch", b"{}").outcome is Outcome.OK
        transport.close()
    assert waits.asked[0] == LONGEST_RETRY_AFTER
    assert FIRST_BACKOFF <= waits.asked[1] <= 2 * FIRST_BACKOFF
    assert waits.asked[2:] == [0]


def after(failures: int) -> RetryPolicy:
    policy: RetryPolicy | None = RetryPolicy.allowing(failures)
    for _ in range(failures):
        assert policy is not None
        policy = policy.after_failure("/v1/events/batch")
    assert policy is not None
    return policy


@pytest.mark.parametrize("failures", [1, 2, 3, 6, 7, 50, 99])
def test_the_back_off_doubles_up_to_a_bound(failures: int) -> None:
    """Each wait is drawn from the upper half of 0.5 s doubled per failure, 30 s at most."""
    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (failures - 1))
    policy = after(failures)
    waits = {policy.get_backoff_time() for _ in range(50)}
    assert longest / 2 <= min(waits) < max(waits) <= longest


@pytest.mark.parametrize("max_retries", [0, 1, 6, 100])
def test_so_many_retries_and_no_more(max_retries: int) -> None:
    """The policy is urllib3's Retry: it counts, and after the last retry it allows none."""
    policy = after(max_retries)
    assert isinstance(policy, Retry)
    assert policy.after_failure("/v1/events/batch") is None


def test_the_jitter_is_of_the_policys_own() -> None:
    """The application's seed, which forks and workers share, does not make them retry in step."""
    waits = set()
    for _ in range(20):
        random.seed(1)
        waits.add(after(1).get_backoff_time())
    assert len(waits) > 1


# --- waits that end early


@contextlib.contextmanager
def in_back_off(server: Sandbox, key: str, reports: Reports, **fault: Any) -> Iterator[Any]:
    """A client that was told ``Retry-After: 60`` by a first request."""
    server.inject(key, asking_for("60", **fault))
    with open_client(server.url, key, on_error=reports, flush_at=1) as client:
        track(client, [0])
        server.wait_for(key, 1, field="requests")
        yield client


def test_a_shutdown_ends_a_wait_and_delivers(server: Sandbox, key: str) -> None:
    """shutdown() during ``Retry-After: 60`` doesn't wait for it: the events are sent at once."""
    reports = Reports()
    with in_back_off(server, key, reports) as client:
        track(client, range(1, 10))
        begun = time.monotonic()
        assert client.shutdown(timeout=50)
        assert time.monotonic() - begun < generous(3)
    assert_arrived(server, key, 10)
    assert reports.all == []


def test_a_shutdown_in_vain_is_bounded_and_says_what_is_lost(server: Sandbox, key: str) -> None:
    """shutdown() returns at its time-out though the server wants a minute, says False,
    and reports what is lost by count."""
    reports = Reports()
    with in_back_off(server, key, reports, times=-1) as client:
        track(client, range(1, 10))
        begun = time.monotonic()
        assert not client.shutdown(timeout=2)
        assert time.monotonic() - begun < generous(3)
        assert client.stats()["dropped"] == {"undelivered": 10}
    assert_arrived(server, key, 0)
    assert reports.brief() == [("dropped", None, 10)]


def test_a_flush_does_not_outlast_its_time_out_in_a_wait(server: Sandbox, key: str) -> None:
    """flush(timeout=1) during ``Retry-After: 60`` says False then, keeps everything, and
    shortens the server's wait for nobody."""
    reports = Reports()
    with in_back_off(server, key, reports) as client:
        begun = time.monotonic()
        assert not client.flush(timeout=1)
        assert 1 <= time.monotonic() - begun < generous(1.5)
        assert client.stats()["pending"] == 1
        assert server.ledger(key)["requests"] == 1
    assert_arrived(server, key, 1)
