"""A client with a broker: what Redis has confirmed is delivered, all else is kept or told."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import run_program
from support.clients import NEVER, Reports, assert_closed, track
from support.deadlines import generous
from support.relays import EVENTS, IMPORTS, OwnRedis
from support.tls import https_before
from whisperr import Whisperr

NOWHERE = "redis://127.0.0.1:9/0"


@contextlib.contextmanager
def open_publisher(redis: OwnRedis, **options: Any) -> Iterator[Whisperr]:
    given: dict[str, Any] = {"app": "shop", "flush_at": NEVER, "flush_interval": NEVER}
    client = Whisperr(**{**given, "broker_url": redis.url, **options})
    yield client
    client.shutdown(generous(5.0))
    assert_closed(client.stats())


def messages(redis: OwnRedis, app: str = "shop") -> list[dict[bytes, bytes]]:
    return [fields for _, fields in redis.client.xrange(EVENTS + app)]


def numbers(redis: OwnRedis) -> list[int]:
    bodies = [json.loads(m[b"body"]) for m in messages(redis) if m[b"kind"] == b"events"]
    return [event["properties"]["n"] for body in bodies for event in body["events"]]


def test_what_is_published(own_redis: OwnRedis) -> None:
    """Identities first, then whole batches; the message says what a relay has to know."""
    with open_publisher(own_redis) as client:
        track(client, range(3))
        client.identify("user", email="user@example.org")
        assert client.flush()
        stats = client.stats()
    assert (stats["delivered"], stats["requests"], stats["pending"]) == (4, 2, 0)
    identity, events = messages(own_redis)
    assert (identity[b"kind"], identity[b"n"], events[b"kind"], events[b"n"]) == (
        *(b"identity", b"1"),
        *(b"events", b"3"),
    )
    assert len(identity[b"id"]) == 32 and events[b"id"] == b""
    assert {(m[b"v"], m[b"app"], m[b"key"]) for m in (identity, events)} == {(b"1", b"shop", b"")}
    assert numbers(own_redis) == [0, 1, 2]


def test_through_a_unix_socket(own_redis: OwnRedis) -> None:
    """unix:// and its path."""
    with open_publisher(own_redis, broker_url=f"unix://{own_redis.socket}?db=0") as client:
        track(client, [1])
        assert client.flush(), client.stats()
    assert numbers(own_redis) == [1]


def test_through_tls(own_redis: OwnRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """rediss://, with a certificate that is trusted; one that is not gets nothing."""
    with https_before(own_redis.url, tmp_path) as (url, pem):
        tls = url.replace("https", "rediss")
        with open_publisher(own_redis, broker_url=f"{tls}?ssl_ca_certs={pem}") as client:
            track(client, [1])
            assert client.flush(), client.stats()
        untrusted = Whisperr(broker_url=tls, app="shop", max_retries=0, flush_at=NEVER)
        track(untrusted, [2])
        assert not untrusted.flush()
        untrusted.shutdown(0)
    assert numbers(own_redis) == [1]
    assert "can't be reached, or closed the connection" in caplog.text


def test_a_client_with_a_key_names_none(own_redis: OwnRedis) -> None:
    """Neither the key nor a part of it is in the broker."""
    with open_publisher(own_redis, app=None, api_key="wrk_0123456789abcdef") as client:
        track(client, [1])
        assert client.flush()
    (message,) = messages(own_redis, "")
    assert (message[b"app"], len(message[b"key"])) == (b"", 16)
    assert not any(b"0123456789abcdef"[at : at + 6] in repr(message).encode() for at in range(10))


def test_a_broker_that_has_no_memory(own_redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing counts as delivered; it is kept, told in words, and goes later."""
    own_redis.client.config_set("maxmemory", 1)
    try:
        with open_publisher(own_redis, max_retries=0) as client:
            track(client, range(3))
            assert not client.flush()
            assert (client.stats()["delivered"], client.stats()["pending"]) == (0, 3)
            assert (
                f"The broker at {own_redis.url} has no memory left, or its queue is full."
                in caplog.text
            )
            own_redis.client.config_set("maxmemory", 0)
            assert client.flush()
    finally:
        own_redis.client.config_set("maxmemory", 0)
    assert numbers(own_redis) == [0, 1, 2]


def test_a_broker_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """It is kept and told; the password shows nowhere."""
    reports = Reports()
    url = NOWHERE.replace("127", "user:s3cret@127")
    client = Whisperr(broker_url=url, app="shop", max_retries=0, flush_at=NEVER, on_error=reports)
    caplog.set_level(logging.DEBUG, "whisperr")
    track(client, [1])
    assert not client.flush()
    (error,) = reports.all
    assert (error.type, error.count) == ("retry_exhausted", 1)
    assert f"The broker at {NOWHERE} can't be reached" in caplog.text
    assert "s3cret" not in caplog.text + repr(client) + repr(client._settings) + repr(error)
    client.shutdown(0)


def test_a_pickle_shows_no_password() -> None:
    """Nor does a copy made of it know less."""
    client = Whisperr(broker_url=NOWHERE.replace("127", "user:s3cret@127"), app="shop")
    pickled = pickle.dumps(client)
    assert b"s3cret" not in pickled
    assert pickle.loads(pickled)._settings == client._settings


def test_a_broker_that_is_frozen(own_redis: OwnRedis) -> None:
    """A deadline bounds the wait for its answer; what may have arrived goes again under its ids."""
    with open_publisher(own_redis) as client:
        track(client, [1])
        assert client.flush()  # the connection is open
        with own_redis.frozen():
            track(client, [2])
            assert not client.flush(0.2)
        assert client.flush()
    ids = [
        (event["properties"]["n"], event["context"]["$message_id"])
        for message in messages(own_redis)
        for event in json.loads(message[b"body"])["events"]
    ]
    assert len(set(ids)) == 2 and {n for n, _ in ids} == {1, 2}


def test_a_body_over_the_limit_is_split(own_redis: OwnRedis) -> None:
    """Its halves are published; an event that alone is too large is dropped, and told."""
    reports = Reports()
    large = {"max_event_bytes": 32 << 20, "max_batch_bytes": 64 << 20, "on_error": reports}
    with open_publisher(own_redis, **large) as client:
        track(client, range(4), text="x" * (3 << 20))
        client.track("user", "too_large", {"text": "x" * (9 << 20)})
        assert client.flush()
        stats = client.stats()
    assert sorted(numbers(own_redis)) == [0, 1, 2, 3]
    assert (stats["delivered"], stats["dropped"]["rejected"]) == (4, 1)
    assert stats["splits"] >= 2
    (error,) = reports.all
    assert (error.type, error.status, error.event_types) == ("dropped", None, ("too_large",))
    assert "too large for one message" in error.message


FORKS = """
import gc, os, sys
from whisperr import Whisperr

client = Whisperr(broker_url=sys.argv[1], app="shop", flush_at=10**6, flush_interval=10**6)
client.track("user", "it_happened", {"n": 0})
assert client.flush()  # its connection is open from here on


def collected():
    global client
    client = None
    gc.collect()


def tracking():
    client.track("user", "it_happened", {"n": os.getpid()})
    assert client.flush()


children = [lambda: os._exit(0), sys.exit, collected, tracking]
for child in children:
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    client.track("user", "it_happened", {"n": pid})
    assert client.flush()
assert client.stats()["retries"] == 0, client.stats()
"""


def test_a_fork_with_an_open_connection(own_redis: OwnRedis, tmp_path: Path) -> None:
    """The parent's connection lives on, whatever its children do; one that publishes opens its own."""
    before = own_redis.client.info("stats")["total_connections_received"]
    run_program(FORKS, tmp_path, arguments=[own_redis.url])
    after = own_redis.client.info("stats")["total_connections_received"]
    assert after - before == 2  # the parent's, and that of the one child that tracks
    arrived = numbers(own_redis)
    assert (
        len(arrived) == 6 and len(set(arrived)) == 5
    )  # the child that tracks has its parent's number


def test_nothing_is_imported_after_the_client_is_made(own_redis: OwnRedis, tmp_path: Path) -> None:
    """Or a fork in the middle of it would leave a child with a locked module."""
    said = run_program(IMPORTS, tmp_path, arguments=[own_redis.url, NOWHERE]).stderr
    assert "looked for" not in said, said


def test_without_the_package(tmp_path: Path) -> None:
    """A ValueError that names the extra; a disabled client does without."""
    run_program(
        """
        import sys
        sys.modules["redis"] = None
        from whisperr import Whisperr
        Whisperr(broker_url="redis://127.0.0.1:9", app="shop", disabled=True)
        try:
            Whisperr(broker_url="redis://127.0.0.1:9", app="shop")
        except ValueError as error:
            assert "pip install 'whisperr[redis]'" in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )


@pytest.mark.parametrize(
    "url",
    [
        "kafka://127.0.0.1",
        "amqp://",
        "redis://",
        "unix://",
        "127.0.0.1:6379",
        "redis://h:x",
        "redis://h o",
        7,
    ],
)
def test_an_unusable_url(url: Any) -> None:
    """A ValueError when the client is made, which does not repeat what was given."""
    with pytest.raises(ValueError, match=r"^broker_url must be ") as caught:
        Whisperr("wrk_test", broker_url=url)
    assert "s3cret" not in str(caught.value)


def test_a_query_that_redis_does_not_take() -> None:
    """Told when the client is made, too, without the URL: it may hold a password."""
    with pytest.raises(ValueError, match=r"^broker_url is not one that redis takes") as caught:
        Whisperr(broker_url="redis://:s3cret@127.0.0.1?no_such=s3cret", app="shop")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("app", ["Shop", "my-shop", "", "a" * 65, 7])
def test_an_unusable_app(app: Any) -> None:
    """A name in snake_case, so that a variable of the environment can hold it."""
    with pytest.raises(ValueError, match=r"^app must be "):
        Whisperr(broker_url=NOWHERE, app=app)


def test_an_app_without_a_broker() -> None:
    """It would do nothing."""
    with pytest.raises(ValueError, match=r"^app .* needs broker_url"):
        Whisperr("wrk_test", app="shop")


def test_neither_a_key_nor_an_app() -> None:
    """With a broker, too, somebody must say whose events these are: by a key or, best, by a name."""
    with pytest.raises(ValueError, match=r"^api_key is required or.* app: .* set WHISPERR_APP$"):
        Whisperr(broker_url=NOWHERE)


def test_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """All from the environment."""
    monkeypatch.setenv("WHISPERR_BROKER_URL", NOWHERE)
    monkeypatch.setenv("WHISPERR_APP", "shop")
    assert repr(Whisperr()) == f"<Whisperr {NOWHERE} open>"
