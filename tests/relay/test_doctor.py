"""``whisperr doctor`` on a broker: whether it keeps what it has confirmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.deadlines import DEADLINE
from support.relays import OwnRedis, findings
from whisperr.cli._broker import of_redis

GOOD = {
    "redis_version": "7.2.4",
    "role": "master",
    "aof_enabled": "1",
    "maxmemory": "1000000",
    "maxmemory_policy": "noeviction",
}
BAD = {
    "old": ({"redis_version": "6.0.16"}, "WRONG", "6.2"),
    "replica": ({"role": "slave"}, "WRONG", "primary"),
    "memory-only": ({"aof_enabled": "0"}, "advice", "appendonly yes"),
    "evicting": ({"maxmemory_policy": "allkeys-lru"}, "WRONG", "noeviction"),
}


def test_a_good_one() -> None:
    """Also one whose policy does not matter, because its memory has no limit."""
    unlimited = {**GOOD, "maxmemory": "0", "maxmemory_policy": "allkeys-lru"}
    for info in (GOOD, unlimited):
        assert [finding.level for finding in of_redis(info)] == ["ok"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_one(kind: str) -> None:
    """Each is told with what to change, alone."""
    changed, level, change = BAD[kind]
    (found,) = [finding for finding in of_redis({**GOOD, **changed}) if finding.level != "ok"]
    assert found.level == level
    assert change in found.change


def test_a_real_one(own_redis: OwnRedis) -> None:
    """As it is set, then as one that drops messages."""
    ((level, what),) = findings(own_redis.url)
    assert level == "ok" and what.startswith("Redis "), what
    own_redis.client.config_set("maxmemory", "500mb")
    own_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (_, (level, what)) = findings(own_redis.url)
    finally:
        own_redis.client.config_set("maxmemory-policy", "noeviction")
        own_redis.client.config_set("maxmemory", "0")
    assert level == "wrong" and "allkeys-lru" in what


def test_one_that_is_not_there() -> None:
    """It is named, without its password."""
    ((level, what),) = findings("redis://:secret@127.0.0.1:9")
    assert level == "wrong" and "redis://127.0.0.1:9" in what and "secret" not in what


def doctor(**environment: str) -> list[tuple[str, str, str]]:
    """Of its findings on the broker and the test event: about what, level, sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "whisperr", "doctor", "--json", "--timeout", "2"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
    )
    found = json.loads(done.stdout)["findings"]
    return [
        (each["about"], each["level"].lower(), each["what"])
        for each in found
        if each["about"] in ("broker", "test event")
    ]


def test_where_a_relay_runs(own_redis: OwnRedis) -> None:
    """Its keys are in a file: without an app and without a key the broker is looked at all the same."""
    broker, event = doctor(WHISPERR_BROKER_URL=own_redis.url)
    assert broker[:2] == ("broker", "ok")
    assert event == (
        "test event",
        "advice",
        "None was sent: neither WHISPERR_APP nor WHISPERR_API_KEY is set.",
    )


@pytest.mark.parametrize(
    "package, url", [("redis", "redis://127.0.0.1:9"), ("amqp", "amqp://127.0.0.1:9")]
)
def test_a_missing_package(package: str, url: str, tmp_path: Path) -> None:
    """It is named once, and nothing is said of a connection that nobody has tried."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules['{package}'] = None\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    broker, event = doctor(WHISPERR_BROKER_URL=url, WHISPERR_APP="shop", PYTHONPATH=path)
    assert broker == ("broker", "wrong", f"The package {package} is missing.")
    assert event == ("test event", "ok", f"none was sent, without the package {package}")


def test_what_is_said_of_requests_alone() -> None:
    """Variables that requests are made with have no say in a broker's connection."""
    found = doctor(
        WHISPERR_BROKER_URL="redis://127.0.0.1:9",
        WHISPERR_APP="shop",
        REQUESTS_CA_BUNDLE="/etc/ssl/certs/ca-certificates.crt",
    )
    assert [each[:2] for each in found] == [("broker", "wrong"), ("test event", "wrong")]
