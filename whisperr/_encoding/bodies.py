"""Records -> the bodies of requests, and the paths that take them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Iterable

from whisperr._encoding.records import CALL_OPENING, Event, generated_id

EVENTS_PATH = "/v1/events/batch"
IDENTIFY_PATH = "/v1/identify"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = 1_000_000  # nanoseconds
_LIST_OPENING, _BATCH_END = b'{"events":[', b"]}"
_BATCH_OPENING = _LIST_OPENING + CALL_OPENING
_NEXT = b"}}," + CALL_OPENING  # ends an event, and begins another
# The end of an id, for each value of its last two digits.
_ID_ENDS = [b'%02x"' % last + _NEXT for last in range(256)]


def batch(events: Iterable[Event], prefix: bytes, environment: bytes) -> bytes:
    """The body of one request.

    Most events differ from the one before in their call and in the last two digits of their
    number. All else is rendered once for each millisecond, and for each 256 numbers: a third of
    the time of a format for each event.

    Args:
        events: One at least.
        prefix: What makes the ids of this process unique, 20 hex digits.
        environment: The members that the SDK puts into a context, encoded.
    """
    parts: list[bytes] = [_BATCH_OPENING]
    begin = end = 0  # nanoseconds
    second = block = None  # block: a number without its last two digits
    text = opening = frame = b""
    for number, when, call, extra, _ in events:
        if not begin <= when < end or number >> 8 != block:
            millisecond = when // _MILLISECOND
            begin = millisecond * _MILLISECOND
            end = begin + _MILLISECOND
            block = number >> 8
            if millisecond // 1000 != second:
                second = millisecond // 1000
                text = (_EPOCH + timedelta(seconds=second)).isoformat()[:19].encode()
            opening = b',"occurred_at":"%b.%03dZ","context":{' % (text, millisecond % 1000)
            frame = b'%b%b,"$message_id":"%b%010x' % (opening, environment, prefix, block)
        if extra is None:
            parts += (call, frame, _ID_ENDS[number & 255])
            continue
        context, message_id = extra
        message_id = message_id or b'"%b"' % generated_id(prefix, number)
        members = context or environment
        parts += (call, opening, members, b',"$message_id":', message_id, _NEXT)
    parts[-1] = parts[-1][: -len(_NEXT) + 2] + _BATCH_END
    return b"".join(parts)


# --- bodies that were made elsewhere, for the relay


def events_of(body: bytes) -> bytes:
    """What is between the brackets of a body made by batch(). ValueError: it is none, by its ends."""
    if not (body.startswith(_BATCH_OPENING) and body.endswith(_BATCH_END)):
        raise ValueError("not the body of a batch")
    return body[len(_LIST_OPENING) : -len(_BATCH_END)]


def body_of(events: Iterable[bytes]) -> bytes:
    """One body of what events_of() or each_event() gave."""
    return b"%b%b%b" % (_LIST_OPENING, b",".join(events), _BATCH_END)


def each_event(events: bytes) -> list[bytes]:
    """Of what events_of() gave, each event by itself, byte for byte. ValueError: it is no such JSON."""
    text = events.decode()
    decoder = json.JSONDecoder()
    found, begin = [], 0
    while True:
        value, end = decoder.raw_decode(text, begin)
        if not isinstance(value, dict):
            raise ValueError("an event is an object")
        found.append(text[begin:end].encode())
        if end == len(text):
            return found
        if text[end] != ",":
            raise ValueError("events are separated by commas")
        begin = end + 1
