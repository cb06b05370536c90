"""What a call leaves behind: a record.

It holds the caller's part already encoded, a snapshot that nothing later can change, and the
little from which the rest is derived when the body of a request is built (``bodies``). Events
and identities never share a request, so they are two kinds of record.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Iterable, NamedTuple, Optional, Tuple, Union

#: With this every encoded call begins, so no record holds it.
CALL_OPENING = b'{"external_user_id":'

# What only few calls have: the members of a context of their own, a message id of their own.
Extra = Tuple[Optional[bytes], Optional[bytes]]
# (number, nanoseconds since the epoch, the encoded call without CALL_OPENING and its last brace,
# extra, the segment of the journal that holds it, too). A plain tuple: it is made in every track(),
# and a named one costs three times as much. Of numbers and bytes alone: the garbage collector soon
# ignores it.
Event = Tuple[int, int, bytes, Optional[Extra], Optional[int]]


class Identity(NamedTuple):
    """One identify() call: its number and the whole body of its request."""

    number: int
    body: bytes
    segment: int | None = None  # of the journal
    id: bytes | None = None  # of one that another process, or a discarded client, made


Record = Union[Event, Identity]


_EVENT_TYPE = re.compile(rb'"(?:[^"\\]|\\.)*","event_type":"([a-z0-9_]+)"')


def type_of(record: Record) -> str:
    """The event type of a record, "identify" for an identity: what may be said of it in a log."""
    if isinstance(record, Identity):
        return "identify"
    found = _EVENT_TYPE.match(record[2])
    return found.group(1).decode() if found else "?"


def types_of(records: Iterable[Record]) -> tuple[str, ...]:
    """Their event types, the most frequent first."""
    return tuple(name for name, _ in Counter(map(type_of, records)).most_common())


def generated_id(prefix: bytes, number: int) -> bytes:
    """The idempotency id of one record: 20 hex digits of its process, 12 of its number."""
    return b"%b%012x" % (prefix, number)


def with_own_id(record: Record, prefix: bytes) -> Record:
    """The same record, which keeps the id that it had here wherever it goes, and is on no disk."""
    if isinstance(record, Identity):
        return record._replace(id=record.id or generated_id(prefix, record.number), segment=None)
    number, when, call, extra, _ = record
    context, message_id = extra or (None, None)
    message_id = message_id or b'"%b"' % generated_id(prefix, number)
    return (number, when, call, (context, message_id), None)


def renumbered(record: Record, number: int) -> Record:
    """The same record under a number of the process that took it over."""
    if isinstance(record, Identity):
        return record._replace(number=number)
    return (number, *record[1:])
