"""One Redis for the whole session: the one in ``REDIS_URL``, or one of our own.

Our own runs on loopback in a temporary folder and ends with the session. Its program is on
PATH, or comes with the wheels of the group ``redis-server``.

A given Redis may serve others as well. It is never flushed: every key begins with the prefix
of this session, and those alone are deleted at the end.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis_server import own_redis

from support.parts import need


@dataclass(frozen=True)
class Broker:
    """Where it is, and what every key of this session begins with."""

    url: str
    prefix: str


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Redis that answers."""
    need("redis")
    prefix = f"whisperr-test-{uuid.uuid4().hex}-"
    given = os.environ.get("REDIS_URL")
    if given:
        try:
            yield Broker(given, prefix)
        finally:
            _delete_keys(given, prefix)
    else:
        with own_redis(tmp_path_factory.mktemp("redis")) as url:
            yield Broker(url, prefix)


def _delete_keys(url: str, prefix: str) -> None:
    import redis

    client: Any = redis.Redis.from_url(url)
    try:
        for name in client.scan_iter(f"{prefix}*"):
            client.delete(name)
    finally:
        client.close()
