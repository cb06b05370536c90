"""One Redis, for relays and for who looks after them."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from whisperr._broker.redis_connection import Connection
from whisperr._relay.interfaces import Letter, Waiting
from whisperr._relay.redis_streams import dead_letters
from whisperr._relay.redis_streams.inbox import RedisInbox
from whisperr._relay.redis_streams.presence import RedisPresence
from whisperr._relay.redis_streams.status import status, waiting
from whisperr._settings import BrokerUrl


class RedisBroker:
    """Opens a connection for each who has a thread of its own."""

    def __init__(self, url: BrokerUrl) -> None:
        self._url = url
        self._connection = Connection(url)

    def presence(self, consumer: str, claim_after: float) -> RedisPresence:
        return RedisPresence(Connection(self._url), consumer, claim_after)

    def inbox(self, app: str, consumer: str, presence: RedisPresence) -> RedisInbox:
        return RedisInbox(Connection(self._url), app, consumer, presence)

    def waiting(self, apps: Sequence[str], seconds: float) -> Waiting:
        connection = Connection(self._url)
        try:
            return waiting(connection, apps, seconds)
        finally:
            connection.close()

    def status(self, apps: Iterable[str]) -> dict[str, Any]:
        return status(self._connection)  # it knows of all that have published

    def letters(self) -> Iterator[Letter]:
        return dead_letters.letters(self._connection)

    def send_again(self, letter: Letter) -> bool:
        return dead_letters.send_again(self._connection, letter)

    def delete(self, letter: Letter) -> None:
        dead_letters.delete(self._connection, letter)

    def close(self) -> None:
        self._connection.close()
