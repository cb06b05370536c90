"""The metrics and the health of a relay: a real process, asked over HTTP while it works and while it can't."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.deadlines import DEADLINE, wait_until
from support.parts import need
from support.relays import (
    OwnRedis,
    RunningRelay,
    command,
    publish,
    running_relay,
)
from support.sockets import Answer, Heard, Listener
from whisperr import Whisperr
from whisperr._clock import monotonic
from whisperr._relay.brokers import broker_at
from whisperr._relay.depth import DepthGauge
from whisperr._relay.health import problems
from whisperr._relay.lane import Lane
from whisperr._relay.relay import Relay, Times
from whisperr._settings import find, make_settings
from whisperr.sandbox import Sandbox

PREFIX = "whisperr_relay_"
#: What is read from the broker, and is not there while that is not.
OF_BROKER = {"waiting_messages", "oldest_message_age_seconds", "stored_dead_letters"}


@contextlib.contextmanager
def observed_relay(
    folder: Path, redis_url: str, base_url: str, *arguments: str, **keys: str
) -> Iterator[tuple[RunningRelay, str]]:
    """A relay, and where it listens."""
    listen = ("--listen", "0")
    with running_relay(folder, redis_url, base_url, *listen, *arguments, **keys) as relay:
        found = re.search(r"metrics at http://(\S+)/metrics, health at ", relay.said())
        assert found is not None, relay.said()
        yield relay, found[1]


def get(place: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, type and body."""
    connection = http.client.HTTPConnection(place, timeout=DEADLINE)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def scraped(place: str) -> Any:
    """Name without what all have in common -> app -> value, as the official parser reads it."""
    status, _, text = get(place, "/metrics")
    assert status == 200, text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            assert sample.name.startswith(PREFIX), sample
            found.setdefault(sample.name[len(PREFIX) :], {})[sample.labels.get("app", "")] = (
                sample.value
            )
    return found


def wait_until_it_grows(place: str, name: str, value: float) -> None:
    assert wait_until(lambda: scraped(place)[name]["shop"] > value), name


def health(place: str) -> tuple[int, Any]:
    status, _, text = get(place, "/healthz")
    return status, json.loads(text)


def test_the_figures_are_what_the_server_has_counted(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """By app: events and identities, requests, repeated ones, and what became a dead letter."""
    blog = f"{key}_blog"
    server.inject(
        key,
        {"do": "status", "status": 503, "times": 2},
        {"do": "refuse", "where": {"properties.n": 3}},
    )
    publish(own_redis.url, range(30))
    publish(own_redis.url, range(7), "blog")
    with Whisperr(broker_url=own_redis.url, app="blog") as client:
        client.identify("user", email="user@example.org")
    with observed_relay(tmp_path, own_redis.url, server.url, shop=key, blog=blog) as (relay, place):
        done = {"shop": 29, "blog": 8}
        assert wait_until(lambda: own_redis.waiting() == own_redis.waiting("blog") == 0)
        assert wait_until(lambda: scraped(place)["held_messages"] == {"shop": 0, "blog": 0})
        found, ledgers = scraped(place), {"shop": server.ledger(key), "blog": server.ledger(blog)}
        assert found["delivered_total"] == done
        assert found["delivered_total"] == {
            app: ledger["arrived"] + ledger["identities"] for app, ledger in ledgers.items()
        }
        assert found["requests_total"] == {
            app: ledger["requests"] for app, ledger in ledgers.items()
        }
        assert found["retries_total"] == {"shop": 2, "blog": 0}
        assert found["dead_letters_total"] == {"shop": 1, "blog": 0}
        assert found["stored_dead_letters"] == {"": len(own_redis.dead())} == {"": 1}
        assert found["waiting_messages"] == {"shop": 0, "blog": 0}
        assert found["oldest_message_age_seconds"] == {"shop": 0, "blog": 0}
        assert found["broker_up"] == {"": 1}
        assert set(found["last_delivery_age_seconds"]) == {"shop", "blog"}
        assert "37 delivered, 1 dead letters" in relay.stop()


def test_what_waits(own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path) -> None:
    """What the API does not take is held, and grows older. A delivery ends that."""
    server.inject(key, {"do": "status", "status": 503, "times": -1})
    for begin in range(0, 30, 10):
        publish(own_redis.url, range(begin, begin + 10))
    with observed_relay(tmp_path, own_redis.url, server.url, shop=key) as (relay, place):
        assert wait_until(lambda: scraped(place)["held_messages"] == {"shop": 3})
        earlier = scraped(place)
        assert earlier["waiting_messages"] == {"shop": 3}
        assert earlier["delivered_total"] == {"shop": 0}
        for name in ("oldest_message_age_seconds", "last_delivery_age_seconds"):
            wait_until_it_grows(place, name, earlier[name]["shop"])
        server.clear_faults(key)
        assert wait_until(lambda: scraped(place)["delivered_total"] == {"shop": 30})
        assert wait_until(lambda: scraped(place)["waiting_messages"] == {"shop": 0})
        begun = monotonic()
        publish(own_redis.url, range(30, 31))
        assert wait_until(lambda: scraped(place)["delivered_total"] == {"shop": 31})
        age = scraped(place)["last_delivery_age_seconds"]["shop"]
        assert age <= monotonic() - begun
        relay.stop()


def test_two_pages_and_no_more(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The text format, or that of OpenMetrics for who asks for it; health as JSON; nothing is changed."""
    with observed_relay(tmp_path, own_redis.url, server.url, shop=key) as (relay, place):
        assert get(place, "/metrics")[1].startswith("text/plain; version=0.0.4")
        _, kind, text = get(place, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n")
        assert wait_until(lambda: health(place) == (200, {"status": "ok"}))
        for path in ("/", "/metrics/shop", "/docs", "/sandbox"):
            assert get(place, path)[0] == 404
        for path in ("/metrics", "/healthz"):
            assert get(place, path, "POST")[0] == 405
        assert key not in get(place, "/metrics")[2]
        relay.stop()


def test_without_the_option_nothing_listens(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A relay is a client of others alone, unless it is told otherwise."""
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        assert "metrics" not in relay.stop()


def test_the_broker_is_killed_for_a_while(
    server: Sandbox, key: str, tmp_path: Path, mortal_redis: OwnRedis
) -> None:
    """The health says so, and a scrape has all that the relay knows by itself; then all is as before."""
    redis = mortal_redis
    with observed_relay(tmp_path, redis.url, server.url, shop=key) as (relay, place):
        publish(redis.url, range(10))
        assert wait_until(lambda: scraped(place)["delivered_total"] == {"shop": 10})
        assert wait_until(lambda: health(place)[0] == 200)
        all_names = set(scraped(place))
        assert all_names >= OF_BROKER
        redis.kill()
        assert wait_until(lambda: health(place)[0] == 503)
        ((problem,), said) = health(place)[1]["problems"], health(place)[1]["status"]
        assert re.fullmatch(r"the broker has not answered for \d+ s", problem), problem
        assert said == "failing"
        found = scraped(place)
        assert found["broker_up"] == {"": 0} and set(found) == all_names - OF_BROKER
        assert found["delivered_total"] == {"shop": 10}
        assert found["broker_contact_age_seconds"][""] > 10
        redis.start()
        assert wait_until(lambda: health(place) == (200, {"status": "ok"}))
        assert wait_until(lambda: scraped(place)["broker_up"] == {"": 1})
        relay.stop()


def test_a_broker_that_was_never_there(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The relay waits for it, and is not healthy."""
    nowhere = "redis://127.0.0.1:9"
    with observed_relay(tmp_path, nowhere, server.url, shop=key) as (relay, place):
        problems = {"status": "failing", "problems": ["the broker has not answered yet"]}
        assert health(place) == (503, problems)
        assert scraped(place)["broker_up"] == {"": 0}
        relay.stop()


def test_a_frozen_broker(server: Sandbox, key: str, tmp_path: Path, mortal_redis: OwnRedis) -> None:
    """It takes connections and answers nothing: scrapes are answered while it does."""
    redis = mortal_redis
    with observed_relay(tmp_path, redis.url, server.url, shop=key) as (relay, place):
        assert wait_until(lambda: health(place)[0] == 200)
        with redis.frozen():
            for _ in range(3):
                assert scraped(place)["broker_up"] == {"": 0}
            assert wait_until(lambda: health(place)[0] == 503)
        assert wait_until(lambda: health(place)[0] == 200)
        assert wait_until(lambda: scraped(place)["broker_up"] == {"": 1})
        relay.stop()


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one wait that a connection does not bound: who asks goes on without an answer."""
    asked, over = threading.Event(), threading.Event()

    def hang(*of: object, **more: object) -> Any:
        asked.set()
        over.wait()
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    url = find("broker_url", {"broker_url": "redis://broker.invalid"}, {}).value
    before = set(threading.enumerate())
    try:
        assert DepthGauge(broker_at(url), ["shop"]).read() is None
        assert asked.is_set()
    finally:
        over.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_a_lane_that_has_ended(
    own_redis: OwnRedis, server: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nobody delivers an app's messages is said by name, unless the relay was told to stop."""
    monkeypatch.setattr(Lane, "run", lambda lane: None)
    url = find("broker_url", {"broker_url": own_redis.url}, {}).value
    settings = make_settings(key, {"base_url": server.url})
    relay = Relay(
        broker_at(url), url.place, {"shop": settings, "": settings}, Times(0.05, 15.0, 0.0)
    )
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        assert wait_until(
            lambda: (
                problems(relay)
                == [
                    "messages of the app shop are delivered no longer",
                    "messages that name no app are delivered no longer",
                ]
            )
        )
    finally:
        relay.stop()
        thread.join(DEADLINE)
    assert not thread.is_alive()
    assert problems(relay) == []


def test_sigterm_delivers_what_is_held(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Who is connected, with half a request or with none, holds up nothing."""
    publish(own_redis.url, range(10))
    patient = ("--linger", "3600")
    with observed_relay(tmp_path, own_redis.url, server.url, *patient, shop=key) as (relay, place):
        assert wait_until(lambda: scraped(place)["held_messages"] == {"shop": 1})
        host, port = place.split(":")
        address = (host, int(port))
        with socket.create_connection(address) as half, socket.create_connection(address) as idle:
            half.sendall(b"GET /metrics HT")
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
            assert idle.recv(1)
            assert "10 delivered, 0 dead letters" in relay.stop()
    assert own_redis.waiting() == 0
    assert server.ledger(key)["arrived"] == 10


def test_the_drain_can_be_watched(
    own_redis: OwnRedis, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between SIGTERM and its end the relay answers, and says what it does."""
    monkeypatch.setenv("WHISPERR_REQUEST_TIMEOUT", str(DEADLINE))
    go_on = threading.Event()

    def answer(heard: Heard) -> Answer:
        go_on.wait(DEADLINE)
        return Answer()

    publish(own_redis.url, range(10))
    patient = ("--stop-timeout", str(DEADLINE))
    with Listener(answer) as api, observed_relay(
        tmp_path, own_redis.url, api.url, *patient, shop=key
    ) as (relay, place):
        try:
            assert wait_until(lambda: len(api.heard) == 1)
            relay.group.send(signal.SIGTERM)
            assert wait_until(lambda: health(place) == (200, {"status": "stopping"}))
            assert scraped(place)["held_messages"] == {"shop": 1}
        finally:
            go_on.set()
        assert "10 delivered, 0 dead letters" in relay.stop()
    assert own_redis.waiting() == 0


def test_a_port_that_is_taken(own_redis: OwnRedis, key: str, tmp_path: Path) -> None:
    """One sentence, status 2, and every message is where it was."""
    publish(own_redis.url, range(10))
    keys = tmp_path / "keys.toml"
    keys.write_text(f'shop = "{key}"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = command(own_redis.url, "--keys", str(keys), "--listen", address)
    words = f"whisperr relay: --listen: cannot listen on {address}: Address already in use\n"
    assert (status, said) == (2, words)
    assert (own_redis.waiting(), own_redis.held()) == (1, {})


@pytest.mark.parametrize(
    "address", ["", "nowhere", ":9464", "127.0.0.1:", "::1:9464", "1.1.1.1:65536"]
)
def test_what_is_no_address(key: str, tmp_path: Path, address: str) -> None:
    """Status 2, and what it must be. No host is not all hosts."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'shop = "{key}"\n')
    status, said = command("redis://127.0.0.1:9", "--keys", str(keys), "--listen", address)
    assert (status, said.splitlines()[0]) == (
        2,
        "whisperr relay: --listen must be a port, or HOST:PORT; an IPv6 address in brackets",
    )


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_a_host_that_is_named(server: Sandbox, key: str, tmp_path: Path, host: str) -> None:
    """By its name, or by an address of either kind."""
    if host == "[::1]":
        need("IPv6")
    nowhere, listen = "redis://127.0.0.1:9", ("--listen", f"{host}:0")
    with running_relay(tmp_path, nowhere, server.url, *listen, shop=key) as relay:
        found = re.search(r"health at http://(\S+)/healthz", relay.said())
        assert found is not None and health(found[1])[0] == 503
        relay.stop()


@pytest.mark.parametrize("package", ["prometheus_client", "starlette", "uvicorn"])
def test_a_package_that_is_missing(tmp_path: Path, package: str) -> None:
    """Status 2, and the extra. Without the option it is not missed."""
    source = f"import sys; sys.modules[{package!r}] = None; from whisperr.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", source, "relay", "--listen", "0"],
        env={
            **os.environ,
            "WHISPERR_BROKER_URL": "redis://127.0.0.1:9",
            "WHISPERR_KEY_SHOP": "wrk_x",
        },
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 2, done.stdout
    words = "--listen needs the packages prometheus_client, starlette and uvicorn: pip install 'whisperr[relay]'"
    assert words in done.stdout
