"""One RabbitMQ, for relays and for who looks after them."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from whisperr._broker.amqp_connection import Connection
from whisperr._broker.errors import NoQueue
from whisperr._broker.messages import DEAD_LETTER_QUEUE, queue_of
from whisperr._relay.interfaces import Depth, Letter, Waiting
from whisperr._relay.rabbitmq import dead_letters
from whisperr._relay.rabbitmq.inbox import SECONDS, RabbitInbox
from whisperr._settings import BrokerUrl

HEARTBEAT = 60.0  # seconds; twice as long without a word, and the broker gives all to others


class RabbitPresence:
    """The broker sees itself which relays are there; of apps nobody knows but those who have keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, seconds: float) -> None:
        """Nobody needs a sign; whether the broker answers is worth knowing all the same."""
        self._connection.ask(seconds, lambda channel: channel.basic_qos(0, 0, False))

    def unserved(self, served: Iterable[str]) -> list[str]:
        return []

    def leave(self, seconds: float) -> None:
        self._connection.leave(seconds)


class RabbitBroker:
    """Opens a connection for each who has a thread of its own."""

    def __init__(self, url: BrokerUrl, declare: str | None, heartbeat: float = HEARTBEAT) -> None:
        self._url = url
        self._declare = declare
        self._heartbeat = heartbeat
        self._connection = Connection(url)
        self._outgoing = Connection(url)  # an error over this one does not give letters back

    def presence(self, consumer: str, claim_after: float) -> RabbitPresence:
        return RabbitPresence(Connection(self._url))

    def inbox(self, app: str, consumer: str, presence: RabbitPresence) -> RabbitInbox:
        connection = Connection(self._url, self._heartbeat)
        return RabbitInbox(connection, Connection(self._url), app, self._declare)

    def waiting(self, apps: Sequence[str], seconds: float) -> Waiting:
        connection = Connection(self._url)
        try:
            counts = {app: _count(connection, queue_of(app), seconds) for app in apps}
            depths = {app: Depth(counts[app], None) for app in apps}
            return Waiting(depths, _count(connection, DEAD_LETTER_QUEUE, seconds))
        finally:
            connection.leave()

    def status(self, apps: Iterable[str]) -> dict[str, Any]:
        rows = [self._queue(app, queue_of(app)) for app in sorted(apps)]
        letters = self._queue("", DEAD_LETTER_QUEUE)
        return {
            "apps": [row for row in rows if row is not None],
            "dead_letters": 0 if letters is None else letters["messages"],
        }

    def _queue(self, app: str, queue: str) -> dict[str, Any] | None:
        """None: there is no such queue. It does not say what relays hold, nor how old anything is."""
        try:
            count, relays = self._connection.look(queue, SECONDS)
        except NoQueue:
            return None
        return {"app": app, "messages": count, "held": None, "age": None, "relays": relays}

    def letters(self) -> Iterator[Letter]:
        return dead_letters.letters(self._connection)

    def send_again(self, letter: Letter) -> bool:
        return dead_letters.send_again(self._connection, self._outgoing, letter)

    def delete(self, letter: Letter) -> None:
        dead_letters.delete(self._connection, letter)

    def close(self) -> None:
        self._connection.leave()
        self._outgoing.leave()


def _count(connection: Connection, queue: str, seconds: float) -> int:
    """Messages that wait in it. In one that nobody has declared yet there are none."""
    try:
        return connection.look(queue, seconds)[0]
    except NoQueue:
        return 0
