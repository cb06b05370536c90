"""``whisperr doctor`` on a broker: whether it keeps what it has confirmed."""

from __future__ import annotations

import pytest

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
