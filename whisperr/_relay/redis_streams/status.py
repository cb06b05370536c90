"""What waits in a broker, and who delivers it. Only reads. Raises BrokerError."""

from __future__ import annotations

import time
from typing import Any

from whisperr._broker.errors import BrokerRefusal, NoGroup
from whisperr._broker.messages import APPS, DEAD_LETTERS, stream_of
from whisperr._broker.redis_connection import Connection
from whisperr._relay.redis_streams.inbox import SECONDS, consumers, lives


def status(connection: Connection) -> dict[str, Any]:
    """All apps, by name; relays; the number of dead letters."""
    names = sorted(name.decode() for name in connection.call(SECONDS, "SMEMBERS", APPS))
    return {
        "apps": [_app(connection, name) for name in names],
        "dead_letters": connection.call(SECONDS, "XLEN", DEAD_LETTERS),
    }


def _app(connection: Connection, app: str) -> dict[str, Any]:
    stream = stream_of(app)
    oldest = connection.call(SECONDS, "XRANGE", stream, "-", "+", "COUNT", 1)
    held = _held(connection, stream)
    return {
        "app": app,
        "messages": connection.call(SECONDS, "XLEN", stream),
        "held": sum(held.values()),
        "age": _age(oldest[0][0]) if oldest else None,
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
