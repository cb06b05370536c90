"""One publish to a broker, in the place of one POST: the other way that a transport may go.

Belongs to one transport and so to one process, as a session does. What the broker has confirmed is
delivered. Of all else nobody knows, so it is kept and tried again by the rules for any destination;
events and identities carry their own ids, and a second copy is one that the API knows.
"""

from __future__ import annotations

import logging
from typing import Protocol

from whisperr._broker import errors
from whisperr._broker.messages import EVENTS, IDENTITY, MAX_MESSAGE_BYTES, Message, fingerprint
from whisperr._delivery.answers import explain_broker
from whisperr._delivery.outcome import Attempt, Outcome, Reply, failed
from whisperr._delivery.retry import RetryPolicy
from whisperr._encoding.bodies import IDENTIFY_PATH
from whisperr._reporting.reports import say
from whisperr._settings import BrokerUrl, Settings


class Producer(Protocol):
    """The way into one kind of broker."""

    def publish(self, message: Message, seconds: float) -> None:
        """Returns when it is confirmed; BrokerError: it is not, or nobody knows."""

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""

    def close(self) -> None:
        """Only in the process that made this."""


class Publisher:
    """The way to the messages of one app."""

    verb = "PUBLISH"

    def __init__(self, settings: Settings) -> None:
        assert settings.broker_url is not None
        #: before the first attempt of a send
        self.retries = RetryPolicy.allowing(settings.max_retries)
        self._app = settings.app or ""
        self._key = fingerprint(settings.key.reveal())
        self._place = settings.place
        self._has_told = False  # of an alarm
        self._producer = producer_for(settings.broker_url)

    def attempt(
        self, path: str, body: bytes, headers: dict[str, str], seconds: float, count: int
    ) -> Attempt:
        """Publish once. Too large for one message is as refused: its halves may go."""
        kind = IDENTITY if path == IDENTIFY_PATH else EVENTS
        own_id = headers.get("Idempotency-Key", "").encode()
        message = Message(kind, body, count, self._app, self._key, own_id)
        try:
            if len(body) > MAX_MESSAGE_BYTES:
                raise errors.MessageTooLarge("larger than a relay takes")
            self._producer.publish(message, seconds)
        except errors.MessageTooLarge as error:
            return Attempt(failed(error)._replace(outcome=Outcome.REFUSE))
        except errors.BrokerAlarm as error:
            self._tell(error)
            return Attempt(failed(error), on_hold=True)
        except errors.BrokerError as error:
            return Attempt(failed(error))
        self._has_told = False
        return Attempt(Reply(Outcome.OK))

    def _tell(self, error: errors.BrokerAlarm) -> None:
        """Once for each alarm: it may last, and no attempt ends meanwhile."""
        if not self._has_told:
            self._has_told = True
            found = explain_broker(error, self._place)
            say(logging.WARNING, f"{found.what} All is kept. {found.change}")

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""
        self._producer.abort()

    def close(self) -> None:
        """Only in the process that made this."""
        self._producer.close()


def producer_for(url: BrokerUrl) -> Producer:
    """Opens nothing. ValueError: its package does not take this URL; ImportError: it is missing."""
    if url.is_amqp:
        from whisperr._broker.amqp_producer import AmqpProducer

        return AmqpProducer(url)
    from whisperr._broker.redis_producer import RedisProducer

    return RedisProducer(url)
