"""A sign that a relay lives: a key that expires. Without it others take what that relay holds.

Lock-free: only the thread that beats writes; the lanes read one number.
"""

from __future__ import annotations

from typing import Iterable

from whisperr._broker.errors import BrokerError
from whisperr._broker.messages import APPS, alive_key, stream_of
from whisperr._broker.redis_connection import Connection
from whisperr._clock import monotonic

SECONDS = 5.0  # for a command


class RedisPresence:
    """Of one relay. ``claim_after``: seconds after its last sign at which it counts as dead."""

    def __init__(self, connection: Connection, consumer: str, claim_after: float) -> None:
        self.claim_after = claim_after
        self._connection = connection
        self._consumer = consumer
        self._steady_since: float | None = None  # monotonic; each sign of life came in time since

    def beat(self, seconds: float) -> None:
        """Give a sign of life."""
        lasts = int(1000 * self.claim_after)
        begun = monotonic()
        try:
            self._connection.call(seconds, "SET", alive_key(self._consumer), "1", "PX", lasts)
        except BrokerError:
            self._steady_since = None  # nobody's sign may have come meanwhile
            raise
        if self._steady_since is None or monotonic() - begun > self.claim_after / 5:
            self._steady_since = monotonic()

    def may_claim(self) -> bool:
        """Whether all who live have had the time to say so."""
        since = self._steady_since
        return since is not None and monotonic() - since >= self.claim_after

    def unserved(self, served: Iterable[str]) -> list[str]:
        """Apps whose messages wait, and that are not among these."""
        names = self._connection.call(SECONDS, "SMEMBERS", APPS)
        apps = {name.decode("utf-8", "replace") for name in names} - set(served)
        return sorted(app for app in apps if self._connection.call(SECONDS, "XLEN", stream_of(app)))

    def leave(self, seconds: float) -> None:
        """Or the key expires."""
        self._connection.call(seconds, "DEL", alive_key(self._consumer))
        self._connection.close()
