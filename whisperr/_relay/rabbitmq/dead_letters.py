"""The dead letters in a RabbitMQ. Raises BrokerError.

A queue can't be looked into: all of it is taken, and what is not acknowledged goes back, in its
order, when the connection ends. Until then others see none of it.
"""

from __future__ import annotations

from typing import Any, Iterator

from whisperr._broker.amqp_connection import Connection, Content
from whisperr._broker.errors import NoQueue
from whisperr._broker.messages import DEAD_LETTER_QUEUE, queue_of
from whisperr._relay.interfaces import Letter
from whisperr._relay.rabbitmq.content import about_of, fields_of, headers_of
from whisperr._relay.rabbitmq.inbox import SECONDS

NAME = "tag"  # in what is about a letter: by which it is settled


def letters(connection: Connection) -> Iterator[Letter]:
    """The oldest first. Each is this connection's until it is deleted or the connection ends."""
    while True:
        try:
            message = connection.ask(SECONDS, _get)
        except NoQueue:
            return
        if message is None:
            return
        about = {**about_of(message), NAME: connection.name_of(message.delivery_tag).decode()}
        yield Letter(str(message.properties.get("message_id", "")), about, fields_of(message))


def _get(channel: Any) -> Any:
    return channel.basic_get(DEAD_LETTER_QUEUE)


def send_again(connection: Connection, outgoing: Connection, letter: Letter) -> bool:
    """Put its message back into the queue of its app, confirmed. False: it names none that there is."""
    app = letter.message.get(b"app")
    if app is None:
        return False
    body, headers = headers_of(letter.message)
    queue = queue_of(app.decode("utf-8", "replace"))
    try:
        outgoing.publish(queue, Content(body, headers), SECONDS)
    except NoQueue:
        return False
    delete(connection, letter)
    return True


def delete(connection: Connection, letter: Letter) -> None:
    """ComesAgain: the connection broke meanwhile, it is a dead letter as before."""
    tag = connection.tag_of(letter.about[NAME].encode())
    connection.ask(SECONDS, lambda channel: channel.basic_ack(tag))
