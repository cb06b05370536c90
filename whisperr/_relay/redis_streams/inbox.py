"""One app's stream as one relay sees it: read, claim, settle. Raises BrokerError, never waits for long.

A message that was read stays pending, under this relay's name, until it is settled: acknowledged and
deleted, in one transaction with what becomes a dead letter of it. Whatever ends before that has
changed nothing.
"""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from whisperr._broker.errors import BrokerError, BrokerRefusal, NoGroup
from whisperr._broker.messages import DEAD_LETTERS, GROUP, alive_key, stream_of
from whisperr._broker.redis_connection import Argument, Connection
from whisperr._clock import monotonic
from whisperr._relay.interfaces import DeadLetter, Entry, Fields
from whisperr._relay.redis_streams.presence import RedisPresence

SECONDS = 10.0  # for a command
ORIGINAL = b"o:"  # before the name of each field that a dead letter's message had


class RedisInbox:
    """The stream of one app, for one consumer."""

    def __init__(
        self, connection: Connection, app: str, consumer: str, presence: RedisPresence
    ) -> None:
        self._connection = connection
        self._stream = stream_of(app)
        self._consumer = consumer
        self._presence = presence
        self._claim_at = 0.0  # monotonic
        self._is_prepared = False
        self._looks_back: bytes | None = None  # after which of its own messages it reads
        self._unsure: bytes | None = None  # one that may have been settled: the answer was lost

    def read(self, count: int, seconds: float) -> list[Entry]:
        """What was its own before, what the dead have left, then new ones."""
        try:
            return self._next(count, seconds)
        except NoGroup:
            self._is_prepared = False
            raise

    def _next(self, count: int, seconds: float) -> list[Entry]:
        if not self._is_prepared:
            self._prepare()
            self._is_prepared = True
        if self._looks_back is not None:
            entries = self._read(SECONDS, count, (), self._looks_back)
            self._looks_back = entries[-1][0] if entries else None
            return entries
        if monotonic() >= self._claim_at and self._presence.may_claim():
            entries = self._claim(count, self._presence.claim_after)
            if entries:
                return entries
            self._claim_at = monotonic() + self._presence.claim_after / 5
        block = max(1, int(1000 * seconds))
        return self._read(SECONDS + seconds, count, ("BLOCK", block), ">")

    def lose(self) -> None:
        """It is pending under this consumer's name, and is read again from there."""
        self._looks_back = b"0"

    def keep_alive(self) -> None:
        """A connection to Redis may be idle."""

    def _prepare(self) -> None:
        """Make the stream and its group, unless they are there, and put this consumer on the list."""
        try:
            self._call("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except BrokerRefusal as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._call("XGROUP", "CREATECONSUMER", self._stream, GROUP, self._consumer)

    def _read(
        self, seconds: float, count: int, more: Sequence[Argument], after: Argument
    ) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *more)
        found = self._connection.call(seconds, *command, "STREAMS", self._stream, after)
        return _entries(found[0][1]) if found else []

    def _claim(self, count: int, min_idle: float) -> list[Entry]:
        """Messages that dead relays were given so many seconds ago, at most ``count``.

        Who lives says so by a key of his own, so a slow relay is not robbed.
        """
        for other, pending in consumers(self._connection, self._stream).items():
            if other == self._consumer or not pending or lives(self._connection, other):
                continue
            idle = int(1000 * min_idle)
            rows = self._call(
                *("XPENDING", self._stream, GROUP, "IDLE", idle, "-", "+", count, other)
            )
            if rows:
                ids = [row[0] for row in rows]
                claim = ("XCLAIM", self._stream, GROUP, self._consumer, idle, *ids)
                return _entries(self._call(*claim))
        return []

    def settle(self, ids: Sequence[bytes], dead: Iterable[DeadLetter]) -> None:
        """All of it, or nothing."""
        if self._unsure == ids[0] and not self._is_pending(ids[0]):
            self._unsure = None
            return
        commands = [self._add(letter) for letter in dead]
        commands.append(("XACK", self._stream, GROUP, *ids))
        commands.append(("XDEL", self._stream, *ids))
        try:
            self._connection.transaction(SECONDS, commands)
        except BrokerError:
            self._unsure = ids[0]
            raise

    def _is_pending(self, entry: bytes) -> bool:
        """Whether it still waits to be settled, by whomever."""
        try:
            return bool(self._call("XPENDING", self._stream, GROUP, entry, entry, 1))
        except NoGroup:
            return False

    def leave(self) -> None:
        """Take the consumer's name off the list, if nothing is pending under it."""
        try:
            self._leave()
        finally:
            self._connection.close()

    def _leave(self) -> None:
        pending = self._call("XPENDING", self._stream, GROUP, "-", "+", 1, self._consumer)
        if not pending:
            self._call("XGROUP", "DELCONSUMER", self._stream, GROUP, self._consumer)

    def _add(self, letter: DeadLetter) -> tuple[Argument, ...]:
        about: dict[str, Argument] = {"stream": self._stream, **letter.about()}
        parts: list[Argument] = [part for item in about.items() for part in item]
        for name, value in letter.fields.items():
            parts += (ORIGINAL + name, value)
        return ("XADD", DEAD_LETTERS, "*", *parts)

    def _call(self, *command: Argument) -> Any:
        return self._connection.call(SECONDS, *command)


def consumers(connection: Connection, stream: str) -> dict[str, int]:
    """Who has read from a stream -> the messages in his hands."""
    rows = connection.call(SECONDS, "XINFO", "CONSUMERS", stream, GROUP)
    named = [dict(zip(row[::2], row[1::2])) for row in rows]
    return {row[b"name"].decode("utf-8", "replace"): int(row[b"pending"]) for row in named}


def lives(connection: Connection, consumer: str) -> bool:
    """Whether that relay has given a sign of life of late."""
    return bool(connection.call(SECONDS, "EXISTS", alive_key(consumer)))


def _entries(rows: Any) -> list[Entry]:
    return [(row[0], fields_of(row[1])) for row in rows if row]


def fields_of(flat: Any) -> Fields | None:
    """name, value, name, value; None for None."""
    return None if flat is None else dict(zip(flat[::2], flat[1::2]))
