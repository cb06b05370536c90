"""One publish to a broker, in the place of one POST: the other way that a transport may go.

Belongs to one transport and so to one process, as a session does. What Redis has confirmed is
delivered. Of all else nobody knows, so it is kept and tried again by the rules for any destination;
events and identities carry their own ids, and a second copy is one that the API knows.
"""

from __future__ import annotations

from whisperr._broker import errors
from whisperr._broker.connection import Argument, Connection
from whisperr._broker.messages import (
    APPS,
    EVENTS,
    IDENTITY,
    MAX_MESSAGE_BYTES,
    Message,
    fingerprint,
    stream_of,
)
from whisperr._delivery.outcome import Attempt, Outcome, Reply, failed
from whisperr._delivery.retry import RetryPolicy
from whisperr._encoding.bodies import IDENTIFY_PATH
from whisperr._settings import BrokerUrl, Settings


class Publisher:
    """The way to the stream of one app."""

    verb = "PUBLISH"

    def __init__(self, settings: Settings) -> None:
        assert settings.broker_url is not None
        #: before the first attempt of a send
        self.retries = RetryPolicy.allowing(settings.max_retries)
        self._app = settings.app or ""
        self._key = fingerprint(settings.key.reveal())
        self._connection = Connection(settings.broker_url)

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
            self._publish(message, seconds)
        except errors.MessageTooLarge as error:
            return Attempt(failed(error)._replace(outcome=Outcome.REFUSE))
        except errors.BrokerError as error:
            return Attempt(failed(error))
        return Attempt(Reply(Outcome.OK))

    def _publish(self, message: Message, seconds: float) -> None:
        add: tuple[Argument, ...] = ("XADD", stream_of(self._app), "*", *message.fields())
        if self._connection.is_open:
            self._connection.call(seconds, *add)
        else:  # the relays learn of an app by its name; both or none, or a copy for each try
            self._connection.transaction(seconds, [("SADD", APPS, self._app), add])

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""
        self._connection.abort()

    def close(self) -> None:
        """Only in the process that made this."""
        self._connection.close()


def check(url: BrokerUrl) -> None:
    """ValueError: redis-py does not take this URL. Opens nothing."""
    Connection(url)
