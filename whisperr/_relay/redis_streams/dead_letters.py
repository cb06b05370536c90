"""What the relays could not deliver: look at it, send it again, delete it. Raises BrokerError."""

from __future__ import annotations

from typing import Any, Iterator

from whisperr._broker.messages import APPS, DEAD_LETTERS, stream_of
from whisperr._broker.redis_connection import Argument, Connection
from whisperr._relay.interfaces import Letter
from whisperr._relay.redis_streams.inbox import ORIGINAL, SECONDS, fields_of

_PAGE = 100  # letters in one read


def letters(connection: Connection) -> Iterator[Letter]:
    """The oldest first."""
    begin = "-"
    while True:
        rows = connection.call(SECONDS, "XRANGE", DEAD_LETTERS, begin, "+", "COUNT", _PAGE)
        for row in rows:
            yield _letter(row)
        if len(rows) < _PAGE:
            return
        begin = f"({rows[-1][0].decode()}"


def send_again(connection: Connection, letter: Letter) -> bool:
    """Put its message back into the stream that it came from, as it came. False: it names none."""
    stream = letter.about.get("stream", "")
    app = stream[len(stream_of("")) :]
    if stream != stream_of(app):
        return False
    fields: list[Argument] = [part for item in letter.message.items() for part in item]
    add = ("XADD", stream, "*", *fields)
    connection.transaction(SECONDS, [add, ("SADD", APPS, app), ("XDEL", DEAD_LETTERS, letter.id)])
    return True


def delete(connection: Connection, letter: Letter) -> None:
    connection.call(SECONDS, "XDEL", DEAD_LETTERS, letter.id)


def _letter(row: Any) -> Letter:
    fields = fields_of(row[1]) or {}
    of_message = {name for name in fields if name.startswith(ORIGINAL)}
    about = {_text(name): _text(fields[name]) for name in fields if name not in of_message}
    message = {name[len(ORIGINAL) :]: fields[name] for name in fields if name in of_message}
    return Letter(_text(row[0]), about, message)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
