"""What is tracked arrives, once, whatever the server says and however it says it."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import pytest

from support import run_program
from support.clients import (
    Reports,
    assert_arrived,
    assert_closed,
    flush_until_settled,
    numbers_at,
    open_client,
    track,
)
from support.sockets import Answer, Heard, Listener, await_peer_close, forward
from whisperr.sandbox import Sandbox

BAD = 17  # the number of the event that is refused
ONE_BAD = {"properties.n": BAD}

# --- one bad event, and many


def test_an_event_that_cannot_be_encoded_is_lost_alone(server: Sandbox, key: str) -> None:
    """500 events of which one can't be encoded: 499 arrive, without an extra request."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(BAD))
        client.track("user", "number_seen", {"n": BAD, "what": object()})
        track(client, range(BAD + 1, 500))
        assert client.flush()
        assert client.stats()["dropped"] == {"refused": 1}
    assert assert_arrived(server, key, 499)["requests"] == 1
    assert reports.brief() == [("dropped", None, 1)]


@pytest.mark.parametrize(
    ("status", "headers"),
    [(400, {}), (413, {}), (413, {"Retry-After": "30"}), (422, {})],
    ids=["400", "413", "413 with Retry-After", "422"],
)
def test_a_refused_event_is_lost_alone(
    server: Sandbox, key: str, status: int, headers: dict[str, str]
) -> None:
    """500 events of which the server refuses one: 499 arrive in order, for at most 20 requests
    more, and the one is reported."""
    server.inject(
        key, {"do": "refuse", "where": ONE_BAD, "status": status, "headers": headers, "body": "no"}
    )
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(500))
        assert client.flush()
        assert client.stats()["dropped"] == {"rejected": 1}
        assert client.stats()["delivered"] == 499
    assert assert_arrived(server, key, 499)["requests"] <= 21
    assert numbers_at(server, key) == [n for n in range(500) if n != BAD]
    assert reports.brief() == [("dropped", status, 1)]
    assert reports.all[0].detail == "no"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_everything_is_bounded(server: Sandbox, key: str, status: int) -> None:
    """All of 500 events refused: at most 64 requests more, and all are reported by count."""
    server.inject(key, {"do": "status", "status": status, "times": -1})
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(500))
        assert client.flush()  # settled: dropped and reported
        stats = client.stats()
        assert (stats["delivered"], stats["dropped"], stats["pending"]) == (0, {"rejected": 500}, 0)
    assert 2 <= assert_arrived(server, key, 0)["requests"] <= 65
    assert sum(reports.counts("dropped")) == 500
    assert {error.type for error in reports.all} == {"dropped"}


def test_a_few_bad_events_cost_a_few_events(server: Sandbox, key: str) -> None:
    """Three refused events in three places of a batch are found within the bound, alone."""
    bad = [3, 250, 499]
    for number in bad:
        server.inject(key, {"do": "refuse", "where": {"properties.n": number}})
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(500))
        assert client.flush()
    assert assert_arrived(server, key, 497)["requests"] <= 65
    assert numbers_at(server, key) == [n for n in range(500) if n not in bad]
    assert sum(reports.counts("dropped")) == 3


@pytest.mark.parametrize(
    ("status", "report"),
    [(503, "retry_exhausted"), (429, "retry_exhausted"), (401, "auth"), (302, "retry_exhausted")],
)
def test_a_stop_in_the_middle_of_a_split_keeps_the_rest(
    server: Sandbox, key: str, status: int, report: str
) -> None:
    """A server that fails while a refused batch is being split: what it took is not sent again,
    the rest goes back to the front in order and arrives later."""
    where = {"properties.n": 400}
    server.inject(
        key,
        {"do": "refuse", "where": where, "status": 400, "times": 1},  # all 500
        {"do": "refuse", "where": where, "status": status, "times": 1},  # the second half
        {"do": "refuse", "where": where, "status": 400},
    )
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        track(client, range(500))
        assert not client.flush()
        assert client.stats()["pending"] == 250
        assert_closed(client.stats())
        assert_arrived(server, key, 250)
        track(client, range(500, 600))
        assert client.flush()
        assert client.stats()["dropped"] == {"rejected": 1}
    assert_arrived(server, key, 599)
    assert numbers_at(server, key) == [n for n in range(600) if n != 400]
    assert reports.brief() == [(report, status, 250), ("dropped", 400, 1)]


# --- identities


def test_identities_do_not_split_batches(server: Sandbox, key: str) -> None:
    """200 identities and 200 events alternating, at default settings: at most 210 requests over
    one connection, the identities in order."""
    with open_client(server.url, key, flush_at=20, flush_interval=10.0) as client:
        for number in range(200):
            client.identify(f"user_{number}", traits={"n": number})
            client.track(f"user_{number}", "number_seen", {"n": number})
        flush_until_settled(client)
    ledger = assert_arrived(server, key, 200)
    assert ledger["identities"] == 200
    assert ledger["requests"] <= 210
    assert ledger["connections"] == 1
    users = [identity["external_user_id"] for identity in server.identities(key)]
    assert users == [f"user_{number}" for number in range(200)]


def test_a_stop_among_identities_keeps_their_order(server: Sandbox, key: str) -> None:
    """A server that fails in the middle of the identities gets the rest, in order, later, and
    the events after them."""
    server.inject(
        key,
        {"do": "refuse", "where": {"external_user_id": "user_5"}, "status": 503, "times": 1},
        {"do": "refuse", "where": {"external_user_id": "user_7"}, "status": 400, "times": 1},
    )
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        for number in range(10):
            client.identify(f"user_{number}", traits={"n": number})
        track(client, range(10))
        assert not client.flush()
        assert client.stats()["pending"] == 15
        assert client.flush()
    assert_arrived(server, key, 10)
    users = [identity["external_user_id"] for identity in server.identities(key)]
    assert users == [f"user_{number}" for number in range(10) if number != 7]
    assert server.requests(key)[-1]["path"] == "/v1/events/batch"
    assert reports.brief() == [("retry_exhausted", 503, 15), ("dropped", 400, 1)]


# --- what each status means


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Sandbox, key: str, status: int) -> None:
    """A 3xx is no delivery and is not followed, so that the key reaches no other host: everything
    is kept, reported once with the status, and arrives once the server is itself again."""
    reports = Reports()
    with Listener() as elsewhere, open_client(server.url, key, on_error=reports) as client:
        target = {"Location": f"{elsewhere.url}/v1/events/batch"}
        server.inject(key, {"do": "status", "status": status, "headers": target, "times": -1})
        track(client, range(10))
        assert not client.flush()
        assert client.stats()["pending"] == 10
        assert server.ledger(key)["requests"] == 1
        assert reports.brief() == [("retry_exhausted", status, 10)]
        server.clear_faults(key)
        assert client.flush()
        assert elsewhere.connections == 0
    assert_arrived(server, key, 10)


@pytest.mark.parametrize("status", [304, 300])
def test_other_3xx_are_no_delivery(server: Sandbox, key: str, status: int) -> None:
    """A 3xx without a place to go to is kept and reported as well."""
    server.inject(key, {"do": "status", "status": status})
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(10))
        assert not client.flush()
        assert client.flush()
    assert assert_arrived(server, key, 10)["requests"] == 2
    assert reports.brief() == [("retry_exhausted", status, 10)]


@pytest.mark.parametrize("status", [101, 103])
def test_a_final_1xx_is_no_delivery(server: Sandbox, key: str, status: int) -> None:
    """A 1xx in the place of an answer is not retried in this pass, kept and reported."""
    words = f"HTTP/1.1 {status} Wait\r\n\r\n"
    server.inject(key, {"do": "raw", "bytes": words})
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(10))
        assert not client.flush()
        assert reports.brief() == [("retry_exhausted", status, 10)]
        assert server.ledger(key)["requests"] == 1
        assert client.flush()
    assert_arrived(server, key, 10)


def test_a_100_continue_is_skipped(server: Sandbox, key: str) -> None:
    """A 100 before the answer is not the answer."""
    words = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
    server.inject(key, {"do": "raw", "bytes": words, "store": True})
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
    assert assert_arrived(server, key, 10)["requests"] == 1


@pytest.mark.parametrize("status", [402, 406, 409, 410, 418, 499])
def test_other_4xx_are_dropped(server: Sandbox, key: str, status: int) -> None:
    """A 4xx that blames neither key nor content drops the batch, undivided, by one report; the
    next one is delivered."""
    server.inject(key, {"do": "status", "status": status})
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(10))
        assert client.flush()
        track(client, range(10, 20))
        assert client.flush()
        assert client.stats()["dropped"] == {"rejected": 10}
    assert assert_arrived(server, key, 10)["requests"] == 2
    assert reports.brief() == [("dropped", status, 10)]


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_keeps_everything(server: Sandbox, key: str, status: int) -> None:
    """401 and 403 stop the pass at its first request, keep everything and are reported as ``auth``;
    all of it arrives once the key is taken."""
    server.inject(key, {"do": "status", "status": status, "times": -1})
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_batch_size=5) as client:
        track(client, range(10))
        client.identify("user")
        assert not client.flush()
        assert server.ledger(key)["requests"] == 1
        assert client.stats()["pending"] == 11
        assert reports.brief() == [("auth", status, 11)]
        server.clear_faults(key)
        assert client.flush()
    assert assert_arrived(server, key, 10)["identities"] == 1


def test_every_2xx_is_a_delivery(server: Sandbox, key: str) -> None:
    """200, 201, 204 and 299 settle a batch."""
    statuses = (200, 201, 204, 299)
    server.inject(key, *({"do": "status", "status": code, "store": True} for code in statuses))
    with open_client(server.url, key) as client:
        for number in range(len(statuses)):
            track(client, [number])
            assert client.flush()
    assert assert_arrived(server, key, len(statuses))["requests"] == len(statuses)


# --- answers that break off, swell, or mean nothing


def _head(*lines: str, status: str = "202 Accepted") -> str:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""])


CONFIRMATIONS = {
    "a body cut short": _head("Content-Length: 100") + '{"acc',
    "no body where one is promised": _head("Content-Length: 2"),
    "a body of 4 MB": _head(f"Content-Length: {4 << 20}") + "x" * (4 << 20),
    "a body without a length": _head("Connection: close") + "x" * 100_000,
    "chunks": _head("Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n",
    "chunks cut short": _head("Transfer-Encoding: chunked") + "ff\r\n{}",
    "chunks that are none": _head("Transfer-Encoding: chunked") + "zz\r\n{}\r\n",
    "gzip": _head("Content-Encoding: gzip") + gzip.compress(b"{}").decode("latin-1"),
    "gzip that is none": _head("Content-Encoding: gzip", "Content-Length: 2") + "{}",
    "no JSON": _head("Content-Length: 4") + "\xff\xfe\x00<",
    "two answers": _head("Content-Length: 0") + _head("Content-Length: 0", status="500 Two"),
}


@pytest.mark.parametrize("words", CONFIRMATIONS.values(), ids=list(CONFIRMATIONS))
def test_a_status_counts_whatever_follows(server: Sandbox, key: str, words: str) -> None:
    """A 2xx confirms a batch, however its body ends: nothing is sent again, and the next batch is
    not harmed."""
    server.inject(key, {"do": "raw", "bytes": words, "store": True})
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
        track(client, range(10, 20))
        # It may find out only now that the server has closed the connection, and use another.
        assert client.flush()
    ledger = assert_arrived(server, key, 20)
    assert (ledger["requests"], ledger["resent"]) == (2, 0)


NO_ANSWERS = {
    "nothing": "",
    "garbage": "\x00\x01\x02 not HTTP at all \xff\r\n\r\n",
    "half a status line": "HTTP/1.1 2",
    "a status that is no number": "HTTP/1.1 abc Hm\r\n\r\n",
    "a status beyond HTTP": _head("Content-Length: 0", status="799 Hm"),
    "a line without an end": "HTTP/1.1 202 " + "x" * 100_000,
    "too many headers": _head(*(f"X-{n}: y" for n in range(200))),
}


@pytest.mark.parametrize("store", [False, True], ids=["lost", "stored"])
@pytest.mark.parametrize("words", NO_ANSWERS.values(), ids=list(NO_ANSWERS))
def test_what_is_no_answer_is_retried(server: Sandbox, key: str, words: str, store: bool) -> None:
    """A reply that isn't HTTP says nothing: the same events are sent again with the same ids, which
    the server, had it stored them, counts as resent and not as twice."""
    server.inject(key, {"do": "raw", "bytes": words, "store": store})
    with open_client(server.url, key) as client:
        track(client, range(10))
        assert client.flush()
        assert client.stats()["retries"] == 1
    ledger = assert_arrived(server, key, 10)
    assert (ledger["requests"], ledger["resent"]) == (2, 10 if store else 0)


@pytest.mark.parametrize("status", [404, 410, 422, 503])
def test_an_endless_refusal_is_cut(server: Sandbox, key: str, status: int) -> None:
    """What a server says with an error is kept for on_error to 2 KiB, however long it goes on."""
    words = _head(f"Content-Length: {3 << 20}", status=f"{status} No") + "x" * (3 << 20)
    server.inject(key, {"do": "raw", "bytes": words})
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        track(client, [0])
        client.flush()
        track(client, [1])
        flush_until_settled(client)
    assert [(error.status, error.detail) for error in reports.all] == [(status, "x" * 2048)]


def test_cookies_are_not_kept(key: str) -> None:
    """A cookie that a server sets is never sent back."""
    cookie = Answer(202, {"Set-Cookie": "session=1; Path=/"})
    with Listener(lambda heard: cookie) as listener, open_client(listener.url, key) as client:
        for number in range(3):
            track(client, [number])
            assert client.flush()
    assert len(listener.heard) == 3
    assert not any("cookie" in heard.headers for heard in listener.heard)


# --- connections


def test_one_connection_serves_all(server: Sandbox, key: str) -> None:
    """5,000 events in 10 flushes travel over one connection."""
    with open_client(server.url, key) as client:
        for start in range(0, 5000, 500):
            track(client, range(start, start + 500))
            assert client.flush()
    ledger = assert_arrived(server, key, 5000)
    assert (ledger["requests"], ledger["connections"]) == (10, 1)
    assert numbers_at(server, key) == list(range(5000))


def test_the_last_request_of_a_pass_is_filled_up(server: Sandbox, key: str) -> None:
    """By what came meanwhile: 600 events, and 400 more while the first 500 wait for their answer,
    are two requests."""
    server.inject(key, {"do": "delay", "seconds": 2, "times": 1})
    with open_client(server.url, key) as client:
        track(client, range(600))
        flushing = threading.Thread(target=client.flush)
        flushing.start()
        server.wait_for(key, 500)
        track(client, range(600, 1000))
        flushing.join()
        assert client.stats()["delivered"] == 1000
    assert assert_arrived(server, key, 1000)["requests"] == 2
    assert numbers_at(server, key) == list(range(1000))


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 302])
def test_errors_keep_the_connection(server: Sandbox, key: str, status: int) -> None:
    """An answer that is an error is read to its end, and its connection serves the next request."""
    server.inject(key, {"do": "status", "status": status, "body": "x" * 8000})
    with open_client(server.url, key, max_retries=0) as client:
        track(client, range(10))
        client.flush()
        track(client, range(10, 20))
        assert client.flush()
    assert server.ledger(key)["connections"] == 1


def test_an_idle_connection_may_be_closed(key: str) -> None:
    """A connection that the server closes between two batches costs neither an event nor a retry."""
    with Sandbox(keep_alive=1, numbers=True) as hasty, open_client(hasty.url, key) as client:
        track(client, range(10))
        assert client.flush()
        await_peer_close(hasty.url)
        track(client, range(10, 20))
        assert client.flush()
        assert client.stats()["retries"] == 0
        ledger = assert_arrived(hasty, key, 20)
        assert (ledger["connections"], ledger["resent"]) == (2, 0)


@pytest.mark.parametrize("what", ["reset", "close"])
@pytest.mark.parametrize("store", [False, True], ids=["lost", "stored"])
def test_a_lost_connection_is_retried(server: Sandbox, key: str, what: str, store: bool) -> None:
    """A connection that ends without an answer, by RST or FIN, loses and doubles nothing."""
    server.inject(key, {"do": what, "store": store})
    with open_client(server.url, key) as client:
        client.identify("user")
        track(client, range(10))
        assert client.flush()
    ledger = assert_arrived(server, key, 10)
    assert (ledger["identities"], ledger["identities_resent"]) == (1, 1 if store else 0)
    assert ledger["connections"] == 2


# --- the environment


def _deliver_in_program(server: Sandbox, key: str, folder: Path, **environment: str) -> None:
    source = """
    import sys
    from whisperr import Whisperr
    url, key = sys.argv[1:]
    client = Whisperr(key, base_url=url)
    client.track("user", "number_seen", {"n": 0})
    assert client.flush(), client.stats()
    """
    run_program(source, folder, arguments=(server.url, key), environment=environment)


def test_netrc_does_not_replace_the_key(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A ``.netrc`` that knows the host changes nothing: the server, which refuses credentials other
    than the key, takes the events."""
    home = tmp_path / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    _deliver_in_program(server, key, tmp_path, HOME=str(home), NETRC=str(netrc))
    assert_arrived(server, key, 1)


def test_proxies_of_the_environment_are_used(server: Sandbox, key: str, tmp_path: Path) -> None:
    """``HTTP_PROXY`` is honoured, as the rest of the application's requests honour it."""
    with Listener(forward) as proxy:
        _deliver_in_program(server, key, tmp_path, http_proxy=proxy.url)
    assert [heard.target for heard in proxy.heard] == [f"{server.url}/v1/events/batch"]
    assert_arrived(server, key, 1)


def test_a_proxy_that_fails_is_tried_again(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What a proxy says in place of the server is classified like any answer; nothing is lost."""
    statuses = iter([502, 504])

    def fail_first(heard: Heard) -> Answer:
        status = next(statuses, None)
        return forward(heard) if status is None else Answer(status)

    with Listener(fail_first) as proxy:
        _deliver_in_program(server, key, tmp_path, http_proxy=proxy.url)
    assert len(proxy.heard) == 3
    assert_arrived(server, key, 1)


def test_a_base_url_with_a_path(server: Sandbox, key: str) -> None:
    """Everything that a base URL says before the path of the API is kept, a slash at its end not."""
    with Listener() as listener, open_client(f"{listener.url}/in/", key) as client:
        track(client, [0])
        client.identify("user")
        assert client.flush()
    targets = [heard.target for heard in listener.heard]
    assert targets == ["/in/v1/identify", "/in/v1/events/batch"]
    assert {heard.headers["x-api-key"] for heard in listener.heard} == {key}
