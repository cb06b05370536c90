"""One connection to a RabbitMQ, by py-amqp: confirmed publishing, and errors that are ours.

Guarantees:
    A call returns or raises a BrokerError, within its seconds or a little more (a look-up of a name
    has no bound). Confirms are matched to messages here, by their numbers: py-amqp takes any confirm
    for that of the latest. After any error the connection is thrown away, save while the broker
    raises an alarm: it may have the message already, so the wait goes on at the next call.
Assumes:
    One thread at a time, save for abort(), and the process that made it: the sender that owns it is
    made anew in a child, where this one stays referenced, unused.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import amqp
import amqp.exceptions

from whisperr._broker import errors
from whisperr._broker.amqp_reading import BufferedConnection
from whisperr._clock import monotonic
from whisperr._settings import BrokerUrl

GLANCE = 1.0  # seconds in an alarm between two looks of the caller at whether it shall go on
SHORTEST = 0.001  # seconds; zero would make a socket non-blocking
AFTER_ALARM = 10.0  # seconds in which a broker whose alarm has ended works off what it has not read
FAREWELL = 1.0  # seconds for the broker's word at the end
STEPS = 3  # of opening a connection: each may take a third of the time
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # in a URL: as redis-py names them

T = TypeVar("T")

# The first that fits. A class before its base.
_BY_TYPE: Sequence[tuple[type[BaseException], type[errors.BrokerError]]] = (
    (amqp.exceptions.AccessRefused, errors.BrokerLogin),
    (amqp.exceptions.NotFound, errors.NoQueue),
    (amqp.exceptions.MessageNacked, errors.BrokerFull),
    (amqp.exceptions.ConnectionForced, errors.BrokerUnreachable),
    (amqp.exceptions.RecoverableConnectionError, errors.BrokerUnreachable),
    (socket.timeout, errors.BrokerTimeout),
    (OSError, errors.BrokerUnreachable),
)
_TOO_LARGE = "larger than"  # in the words of any RabbitMQ that refuses a message for its size


class Content(NamedTuple):
    """What is published."""

    body: bytes
    headers: Mapping[str, Any]
    id: str = ""


class Connection:
    """The way to one RabbitMQ. Opened at the first call, and again after it broke."""

    def __init__(self, url: BrokerUrl, heartbeat: float = 0) -> None:
        self._options = {**options_of(url), "heartbeat": heartbeat}
        self._connection: Any = None  # of py-amqp, which is untyped
        self._channel: Any = None
        self._generation = 0  # what came over one connection can't be settled over another
        self._published = 0  # over this connection; the number of the latest
        self._confirmed: dict[int, errors.BrokerError | None] = {}  # by number: None for yes
        self._unanswered: tuple[str, Content] | None = None  # the latest, during an alarm
        self._is_blocked = False
        self._blocked_until = 0.0  # monotonic; when an alarm has ended

    @property
    def is_open(self) -> bool:
        """Whether the next call goes over the connection of the one before."""
        return self._connection is not None

    def ask(self, seconds: float, question: Callable[[Any], T]) -> T:
        """What ``question`` returns, of a channel that confirms."""
        with self._errors_are_ours():
            channel = self._opened(seconds)
            self._limit(seconds)
            return question(channel)

    def look(self, queue: str, seconds: float) -> tuple[int, int]:
        """How many messages wait in a queue, and how many consumers it has. NoQueue: there is none."""
        found = self.ask(seconds, lambda channel: channel.queue_declare(queue, passive=True))
        return found.message_count, found.consumer_count

    def name_of(self, tag: int) -> bytes:
        """Of a delivery, among all connections that this one was and will be."""
        return b"%d-%d" % (self._generation, tag)

    def tag_of(self, name: bytes) -> int:
        """To settle it by. ComesAgain: it came over a connection that is gone."""
        generation, _, tag = name.partition(b"-")
        if not self.is_open or int(generation) != self._generation:
            raise errors.ComesAgain
        return int(tag)

    def drain(self, seconds: float) -> bool:
        """Take in what the broker has sent; wait for one thing at most so long. False: nothing came."""
        with self._errors_are_ours():
            self._opened(seconds)
            has_come = self._take_in(seconds)
            while self._connection.has_frame():
                self._connection.blocking_read()
            return has_come

    def keep_alive(self) -> None:
        """Once a second or so while nothing else is asked of it: say that we live, hear that it does."""
        if self._connection is not None:
            with self._errors_are_ours():
                self._connection.heartbeat_tick()

    def publish(self, queue: str, content: Content, seconds: float) -> None:
        """Returns when the broker has confirmed it: it is in the queue, and on a disk."""
        until = monotonic() + seconds
        with self._errors_are_ours():
            channel = self._opened(seconds)
            if self._unanswered is not None and self._unanswered != (queue, content):
                self._wait_for_confirm(until)  # whatever became of it
            if self._unanswered is None:
                self._wait_while_blocked(until)
                self._limit(until - monotonic())
                self._send(channel, queue, content)
            outcome = self._wait_for_confirm(until)
        if outcome is not None:
            self.close()
            raise outcome

    def abort(self) -> None:
        """From any thread: whoever waits for an answer has lost the connection."""
        made = getattr(getattr(self._connection, "_transport", None), "sock", None)
        if isinstance(made, socket.socket):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(made, socket.SHUT_RDWR)  # below TLS

    def leave(self, seconds: float = FAREWELL) -> None:
        """Close it as a broker wants it done, or its log has a warning. Only in its process."""
        if self._channel is not None:
            with contextlib.suppress(Exception):
                self._limit(min(FAREWELL, seconds))
                self._connection.close()
        self.close()

    def close(self) -> None:
        """Throw it away, without a word to the broker, which may be frozen. Only in its process."""
        connection, self._connection, self._channel = self._connection, None, None
        self._unanswered = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect()

    # --- confirms

    def _send(self, channel: Any, queue: str, content: Content) -> None:
        message = amqp.Message(
            content.body,
            content_type="application/octet-stream",
            delivery_mode=2,  # on disk, if the queue is
            application_headers=dict(content.headers),
            **({"message_id": content.id} if content.id else {}),
        )
        self._published += 1
        self._unanswered = (queue, content)
        channel.basic_publish(message, exchange="", routing_key=queue, mandatory=True)

    def _wait_for_confirm(self, until: float) -> errors.BrokerError | None:
        """None: it is confirmed. An error: it is not, and it is not there. Raises where nobody knows."""
        patient_until = monotonic() + GLANCE
        while self._published not in self._confirmed:
            has_alarm = self._is_blocked or monotonic() < self._blocked_until
            left = (min(until, patient_until) if has_alarm else until) - monotonic()
            if left <= 0:
                if has_alarm:
                    raise errors.BrokerAlarm("it has the message, or will read it")
                raise socket.timeout
            self._take_in(min(GLANCE, left))
        self._unanswered = None
        return self._confirmed.pop(self._published)

    def _wait_while_blocked(self, until: float) -> None:
        until = min(until, monotonic() + GLANCE)
        while self._is_blocked:
            left = until - monotonic()
            if left <= 0:
                raise errors.BrokerAlarm("it takes no message")
            self._take_in(left)

    def _take_in(self, seconds: float) -> bool:
        try:
            self._connection.drain_events(timeout=max(SHORTEST, seconds))
        except socket.timeout:
            return False
        return True

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._answer(number, multiple, None)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._answer(number, multiple, errors.BrokerFull("the queue refused it"))

    def _on_return(self, error: Exception, exchange: str, queue: str, message: Any) -> None:
        """It can't be routed. The confirm that follows is for having said so."""
        self._confirmed[self._published] = errors.NoQueue(f"there is no queue {queue}")

    def _answer(self, number: int, multiple: bool, outcome: errors.BrokerError | None) -> None:
        """One message is under way at a time: of earlier ones nobody waits for an answer."""
        if number == self._published or (multiple and number == 0):
            self._confirmed.setdefault(self._published, outcome)

    # --- opening, and errors

    def _opened(self, seconds: float) -> Any:
        if self._channel is None:
            connection = BufferedConnection(
                **self._options,
                connect_timeout=max(SHORTEST, seconds / STEPS),
                on_blocked=self._on_blocked,
                on_unblocked=self._on_unblocked,
            )
            self._connection = connection
            self._is_blocked, self._blocked_until = False, 0.0
            self._published, self._confirmed = 0, {}
            self._generation += 1
            connection.connect()
            self._limit(seconds)
            channel: Any = connection.channel()
            channel.confirm_select()
            for event in ("ack", "nack", "return"):
                channel.events[f"basic_{event}"].add(getattr(self, f"_on_{event}"))
            self._channel = channel
        return self._channel

    def _on_blocked(self, reason: str) -> None:
        self._is_blocked = True

    def _on_unblocked(self) -> None:
        self._is_blocked = False
        self._blocked_until = monotonic() + AFTER_ALARM

    def _limit(self, seconds: float) -> None:
        """Of each read and write from here on."""
        self._connection.transport.sock.settimeout(max(SHORTEST, seconds))

    @contextlib.contextmanager
    def _errors_are_ours(self) -> Iterator[None]:
        try:
            yield
        except errors.BrokerAlarm:
            raise  # the connection stays
        except errors.BrokerError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise _ours(error) from error


def options_of(url: BrokerUrl) -> dict[str, Any]:
    """py-amqp's, of a URL. ValueError, which repeats nothing of it: it takes no such."""
    parts = urlsplit(url.reveal())
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if set(query) - set(_TLS_OPTIONS) or (query and parts.scheme != "amqps"):
        names = ", ".join(_TLS_OPTIONS)
        raise ValueError(f"broker_url may have these options, with amqps:// alone: {names}")
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    options: dict[str, Any] = {
        "host": f"{host}:{port}",
        "userid": unquote(parts.username or "guest"),
        "password": unquote(parts.password or "guest"),
        "login_method": "PLAIN",
        "virtual_host": unquote(parts.path[1:]) or "/",
        # py-amqp gives up on whoever does not acknowledge a packet for a second.
        "socket_settings": _TCP,
    }
    if parts.scheme == "amqps":
        given = {name[len("ssl_") :]: value for name, value in query.items()}
        verified = {"server_hostname": parts.hostname, "cert_reqs": ssl.CERT_REQUIRED}
        options["ssl"] = {**verified, **given}
    return options


_TCP = {socket.TCP_USER_TIMEOUT: 0} if hasattr(socket, "TCP_USER_TIMEOUT") else {}


def _ours(error: BaseException) -> errors.BrokerError:
    text = str(error)
    if isinstance(error, amqp.exceptions.PreconditionFailed) and _TOO_LARGE in text:
        return errors.MessageTooLarge(text)
    for kind, ours in _BY_TYPE:
        if isinstance(error, kind):
            return ours(text)
    if isinstance(error, amqp.exceptions.AMQPError):
        return errors.BrokerRefusal(text)
    return errors.BrokerUnreachable(f"{type(error).__name__}: {text}")  # it broke inside py-amqp
