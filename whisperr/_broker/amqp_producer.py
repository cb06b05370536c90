"""Publishes to the queue of one app in a RabbitMQ. Confirmed is what the broker has on its disk.

It never declares a queue: one that exists may have been made with other arguments, which is an error.
"""

from __future__ import annotations

from whisperr._broker.amqp_connection import Connection, Content
from whisperr._broker.messages import Message, queue_of
from whisperr._settings import BrokerUrl


class AmqpProducer:
    """One connection, opened at the first message."""

    def __init__(self, url: BrokerUrl) -> None:
        self._connection = Connection(url)

    def publish(self, message: Message, seconds: float) -> None:
        """Returns when it is confirmed; BrokerError: it is not, or nobody knows."""
        content = Content(message.body, message.headers())
        self._connection.publish(queue_of(message.app), content, seconds)

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""
        self._connection.abort()

    def close(self) -> None:
        """Only in the process that made this."""
        self._connection.leave()
