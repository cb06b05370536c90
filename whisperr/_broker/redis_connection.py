"""One connection to a Redis: commands with an end, and errors that are ours.

Guarantees:
    A call returns an answer or raises a BrokerError, within its seconds (a look-up of a name has no
    bound). Nothing is ever sent twice by itself. After any error but the refusal of one command the
    connection is thrown away: what comes over it could be the answer to something else.
Assumes:
    One thread at a time, save for abort(), and the process that made it: the sender that owns it is
    made anew in a child, where this one stays referenced, unused.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Sequence, Union

import redis.connection
import redis.exceptions

from whisperr._broker import errors
from whisperr._clock import monotonic
from whisperr._settings import BrokerUrl

SHORTEST = 0.001  # seconds; zero would make a socket non-blocking

Argument = Union[bytes, str, int]

# The first that fits. A class before its base.
_BY_TYPE: Sequence[tuple[type[Exception], type[errors.BrokerError]]] = (
    (redis.exceptions.AuthenticationError, errors.BrokerLogin),
    (redis.exceptions.AuthorizationError, errors.BrokerLogin),
    (redis.exceptions.AuthenticationWrongNumberOfArgsError, errors.BrokerLogin),
    (redis.exceptions.NoPermissionError, errors.BrokerLogin),
    (redis.exceptions.OutOfMemoryError, errors.BrokerFull),
    (redis.exceptions.ReadOnlyError, errors.BrokerReadOnly),
    (redis.exceptions.BusyLoadingError, errors.BrokerBusy),
    (redis.exceptions.TimeoutError, errors.BrokerTimeout),
    (redis.exceptions.ConnectionError, errors.BrokerUnreachable),
    (OSError, errors.BrokerUnreachable),
)
_BY_WORDS = (
    ("bulk length", errors.MessageTooLarge),
    ("NOGROUP", errors.NoGroup),
    ("OOM ", errors.BrokerFull),
    ("MISCONF", errors.BrokerReadOnly),
    ("LOADING", errors.BrokerBusy),
)


class Connection:
    """The way to one Redis. Opened at the first call, and again after it broke."""

    def __init__(self, url: BrokerUrl) -> None:
        self._url = url
        self._connection: Any = None  # of redis-py; its stubs differ by version
        new_connection(url, 1.0)  # now: a URL that redis-py does not take is a ValueError

    def call(self, seconds: float, *command: Argument) -> Any:
        """The answer of one command."""
        return self._exchange([command], seconds)[0]

    @property
    def is_open(self) -> bool:
        """Whether the next call goes over the connection of the one before."""
        return self._connection is not None

    def transaction(self, seconds: float, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The answers of commands that are all done, or none of them."""
        block = [("MULTI",), *commands, ("EXEC",)]
        answers = self._exchange(block, seconds)[-1]
        for answer in answers:
            if isinstance(answer, Exception):
                raise _ours(answer)
        return list(answers)

    def _exchange(self, commands: Sequence[Sequence[Argument]], seconds: float) -> list[Any]:
        until = monotonic() + seconds
        try:
            connection = self._opened(seconds)
            limit = max(SHORTEST, until - monotonic())
            connection._sock.settimeout(limit)
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [connection.read_response() for _ in commands]
        except redis.exceptions.ResponseError as error:
            found = _ours(error)
            if len(commands) > 1 or isinstance(found, errors.MessageTooLarge):
                self.close()  # more answers follow, or it has been closed over there
            raise found from error
        except Exception as error:
            self.close()
            raise _ours(error) from error

    def _opened(self, seconds: float) -> Any:
        if self._connection is None:
            connection = new_connection(self._url, max(SHORTEST, seconds))
            connection.connect()
            self._connection = connection
        return self._connection

    def abort(self) -> None:
        """From any thread: whoever waits for an answer has lost the connection."""
        made = getattr(self._connection, "_sock", None)
        if isinstance(made, socket.socket):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(made, socket.SHUT_RDWR)  # below TLS

    def close(self) -> None:
        """Throw it away. Only in the process that made this."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()


def new_connection(url: BrokerUrl, seconds: float) -> Any:
    """One of redis-py that is not open yet. ValueError: it does not take such a URL."""
    try:
        parse: Any = redis.connection.parse_url  # untyped
        options: dict[str, Any] = dict(parse(url.reveal()))
        kind: Any = options.pop("connection_class", redis.connection.Connection)
        options.update(socket_timeout=seconds, socket_connect_timeout=seconds, protocol=2)
        if kind is redis.connection.UnixDomainSocketConnection:
            del options["socket_connect_timeout"]
        return kind(**options)
    except (TypeError, ValueError, redis.exceptions.RedisError) as error:
        # Its text may repeat a part of the URL, and so a password.
        kind_of_error = type(error).__name__
        raise ValueError(f"broker_url is not one that redis takes ({kind_of_error})") from None


def _ours(error: BaseException) -> errors.BrokerError:
    text = str(error)
    for kind, ours in _BY_TYPE:
        if isinstance(error, kind):
            return ours(text)
    for words, ours in _BY_WORDS:
        if words in text:
            return ours(text)
    return errors.BrokerRefusal(text)
