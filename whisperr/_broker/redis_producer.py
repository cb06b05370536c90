"""Publishes to the stream of one app in a Redis. Confirmed is what Redis has answered for."""

from __future__ import annotations

from whisperr._broker.messages import APPS, Message, stream_of
from whisperr._broker.redis_connection import Argument, Connection
from whisperr._settings import BrokerUrl


class RedisProducer:
    """One connection, opened at the first message."""

    def __init__(self, url: BrokerUrl) -> None:
        self._connection = Connection(url)

    def publish(self, message: Message, seconds: float) -> None:
        """Returns when it is confirmed; BrokerError: nobody knows whether it has arrived."""
        add: tuple[Argument, ...] = ("XADD", stream_of(message.app), "*", *message.fields())
        if self._connection.is_open:
            self._connection.call(seconds, *add)
        else:  # the relays learn of an app by its name; both or none, or a copy for each try
            self._connection.transaction(seconds, [("SADD", APPS, message.app), add])

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""
        self._connection.abort()

    def close(self) -> None:
        """Only in the process that made this."""
        self._connection.close()
