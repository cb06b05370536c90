"""What waits in a broker, and who delivers it. Only reads. Raises BrokerError."""

from __future__ import annotations

import time
from typing import Any, Sequence

from whisperr._broker.errors import BrokerRefusal, NoGroup
from whisperr._broker.messages import APPS, DEAD_LETTERS, stream_of
from whisperr._broker.redis_connection import Connection
from whisperr._relay.interfaces import Depth, Waiting
from whisperr._relay.redis_streams.inbox import SECONDS, consumers, lives


def waiting(connection: Connection, apps: Sequence[str], seconds: float) -> Waiting:
    """In one exchange."""
    streams = [stream_of(app) for app in apps]
    lengths = [("XLEN", stream) for stream in [*streams, DEAD_LETTERS]]
    oldest = [("XRANGE", stream, "-", "+", "COUNT", 1) for stream in streams]
    found = connection.transaction(seconds, [*lengths, *oldest])
    ages = [_age(rows[0][0]) if rows else None for rows in found[len(lengths) :]]
    return Waiting(dict(zip(apps, map(Depth, found, ages))), found[len(apps)])


def status(connection: Connection) -> dict[str, Any]:
    """All apps, by name; relays; the number of dead letters."""
    names = sorted(name.decode() for name in connection.call(SECONDS, "SMEMBERS", APPS))
    found = waiting(connection, names, SECONDS)
    return {
        "apps": [_app(connection, name, depth) for name, depth in found.apps.items()],
        "dead_letters": found.dead_letters,
    }


def _app(connection: Connection, app: str, depth: Depth) -> dict[str, Any]:
    held = _held(connection, stream_of(app))
    return {
        "app": app,
        "messages": depth.messages,
        "held": sum(held.values()),
        "age": depth.age,
        "relays": sorted(name for name in held if lives(connection, name)),
    }


def _held(connection: Connection, stream: str) -> dict[str, int]:
    """By relay."""
    try:
        return consumers(connection, stream)
    except (NoGroup, BrokerRefusal):  # no relay has ever been there
        return {}


def _age(entry: bytes) -> float:
    """Seconds since it was published: the id begins with the time, in milliseconds."""
    return max(0.0, round(time.time() - int(entry.partition(b"-")[0]) / 1000, 1))
