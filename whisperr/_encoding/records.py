"""What goes over the wire: one call -> a record, once; records -> a request body.

A record is what a call leaves behind: the caller's part already encoded, a snapshot that
nothing later can change, and the little from which the rest is derived when a body is
built. Events and identities never share a request, so they are two kinds of record.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from itertools import islice
from time import time_ns
from typing import Any, NamedTuple, Optional, Tuple, Union

from whisperr._encoding.values import (
    MAX_DEPTH,
    OPTIONS,
    check_depth,
    convert,
    dumps,
    encode,
    encode_by_rules,
    key_text,
    members,
)
from whisperr._version import SDK_NAME, __version__

EVENTS_PATH = "/v1/events/batch"
IDENTIFY_PATH = "/v1/identify"

CHANNELS = ("email", "sms", "push")

# What only few calls have: the members of a context of their own, a message id of their own.
Extra = Tuple[Optional[bytes], Optional[bytes]]
# (number, nanoseconds since the epoch, the encoded call without its last brace, extra, the segment
# of the journal that holds it, too). A plain tuple: it is made in every track(), and a named one
# costs three times as much. Of numbers and bytes alone: the garbage collector soon ignores it.
Event = Tuple[int, int, bytes, Optional[Extra], Optional[int]]
_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_MAX_CACHED = 1000  # event types: an application has dozens; a mistake may have millions
_MAX_CHANNELS = 1000  # of one identity
_MAX_SHOWN = 200  # characters of a refused value in a detail

_CALL_DEPTH = MAX_DEPTH + 1  # what a caller passes stands in one object of ours
_SHALLOW = 2 * _CALL_DEPTH  # bytes; no shorter text can be nested deeper
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000_000  # nanoseconds
_MILLISECOND = 1_000_000  # nanoseconds
_BATCH_OPEN, _BATCH_CLOSE = b'{"events":[', b"]}"
_TAILS = [b'%02x"}},' % last for last in range(256)]  # of an event: the end of its id, a comma
# What an event has beside its call (without the last brace) and its context.
_EVENT_FRAME = (
    len(b'},"occurred_at":"2026-01-01T00:00:00.000Z","context":{,"$message_id":"","}}') + 32
)


class Identity(NamedTuple):
    """One identify() call: its number and the whole body of its request."""

    number: int
    body: bytes
    segment: int | None = None  # of the journal
    id: bytes | None = None  # of one that another process made


Record = Union[Event, Identity]


class Refused(ValueError):
    """A call that can't be queued. The text holds no value of the caller's; ``detail`` may."""

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail


class Ignored(Exception):
    """A call without an event type: nothing to queue and nothing to report."""


class Encoder:
    """Calls -> records, under one client's settings. Holds nothing of a process."""

    def __init__(self, app_version: str | None, max_event_bytes: int) -> None:
        self._environment = {"sdk_name": SDK_NAME, "sdk_version": __version__}
        if app_version:
            self._environment["app_version"] = app_version
        #: the members that the SDK puts into a context, encoded
        self.environment_bytes = encode(self._environment)[1:-1]
        #: bytes of an event on the wire beside its call, when it brings no context of its own
        self.overhead = _EVENT_FRAME + len(self.environment_bytes)
        self._limit = max_event_bytes
        self._plain_limit = max_event_bytes - self.overhead
        self._types: dict[Any, str] = {}  # as given -> stripped; only legal ones

    # --- caller's thread

    def event(
        self,
        number: int,
        user_id: Any,
        event_type: Any,
        properties: Any,
        context: Any,
        occurred_at: datetime | None,
        message_id: Any,
    ) -> Event:
        """Encode one track() call. Refused, or Unencodable, when it can't be sent."""
        if type(user_id) is not str:
            user_id = _user_id(user_id)
        try:
            kind = self._types[event_type]
        except (KeyError, TypeError):
            kind = self._event_type(event_type)
        if properties is None:
            properties = {}
        elif type(properties) is not dict:
            properties = _mapping(properties, "properties")
        whole = {"external_user_id": user_id, "event_type": kind, "properties": properties}
        try:  # encode(), without the call of it: 6 % of a burst's median (benchmarks: burst)
            encoded = dumps(whole, convert, OPTIONS)
            if len(encoded) > _SHALLOW:
                check_depth(encoded, _CALL_DEPTH)
        except TypeError:
            _unicode(user_id, "external_user_id")
            encoded = encode_by_rules(whole, _CALL_DEPTH)
        # Also a copy: what orjson returns holds a scratch buffer of a kilobyte or more.
        call = encoded[:-1]
        when = time_ns() if occurred_at is None else _nanoseconds(occurred_at)
        event: Event = (number, when, call, None, None)
        if context or message_id is not None:
            event = (number, when, call, (self._members(context), _message_id(message_id)), None)
        elif len(call) <= self._plain_limit:
            return event
        if self.size(event) > self._limit:
            raise Refused(f"an event of over max_event_bytes ({self._limit})")
        return event

    def identity(self, number: int, fields: dict[str, Any]) -> Identity:
        """Encode one identify() call. Refused, or Unencodable, when it can't be sent."""
        body: dict[str, Any] = {"external_user_id": _user_id(fields["external_user_id"])}
        if fields["traits"] is not None:
            traits = _mapping(fields["traits"], "traits")
            if traits:
                body["traits"] = traits
        if fields["preferred_channel"]:
            body["preferred_channel"] = _preferred(fields["preferred_channel"])
        if fields["channels"] is not None:
            channels = _explicit_channels(fields["channels"])
        else:
            channels = _shortcut_channels(fields)
        if channels:
            body["channels"] = channels
        encoded = encode(body, _CALL_DEPTH)
        if len(encoded) > self._limit:
            raise Refused(f"an identity of over max_event_bytes ({self._limit})")
        return Identity(number, _compact(encoded))

    def _event_type(self, given: Any) -> str:
        if not isinstance(given, str):
            raise Refused(f"event_type must be a string, not {type(given).__name__}")
        stripped = str.strip(given)
        if not stripped:
            raise Ignored
        if not _SNAKE.fullmatch(stripped):
            raise Refused("invalid event_type: expected lowercase snake_case", _shown(given))
        if type(given) is str and len(self._types) < _MAX_CACHED:
            self._types[given] = stripped
        return stripped

    def _members(self, context: Any) -> bytes | None:
        """A caller's context with ours under it, encoded; its key wins, save over the id."""
        if not context:
            return None
        given = {key_text(key): item for key, item in members(_mapping(context, "context"))}
        given.pop("$message_id", None)
        return encode({**self._environment, **given})[1:-1]

    # --- sender's thread

    def size(self, event: Event) -> int:
        """Bytes of one event on the wire, its comma included; never less than it will be."""
        size = len(event[2]) + self.overhead
        if event[3] is not None:
            size += sum(len(part) for part in event[3] if part)
        return size

    def batch(self, events: list[Event], prefix: bytes) -> bytes:
        """The body of one request. ``prefix``: what makes the ids of this process unique.

        Most events differ from the one before in their call and in the last two digits of their
        number. All else is rendered once for each millisecond, and for each 256 numbers: a third
        of the time of a format for each event.
        """
        parts: list[bytes] = [_BATCH_OPEN]
        environment = self.environment_bytes
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
                    text = _second_text(second)
                opening = b',"occurred_at":"%b.%03dZ","context":{' % (text, millisecond % 1000)
                frame = b'%b%b,"$message_id":"%b%010x' % (opening, environment, prefix, block)
            if extra is None:
                parts += (call, frame, _TAILS[number & 255])
                continue
            context, message_id = extra
            message_id = message_id or b'"%b"' % generated_id(prefix, number)
            parts.append(
                b'%b%b%b,"$message_id":%b}},' % (call, opening, context or environment, message_id)
            )
        parts[-1] = parts[-1][:-1]  # its comma
        parts.append(_BATCH_CLOSE)
        return b"".join(parts)


def generated_id(prefix: bytes, number: int) -> bytes:
    """The idempotency id of one record: 20 hex digits of its process, 12 of its number."""
    return b"%b%012x" % (prefix, number)


def _compact(encoded: bytes) -> bytes:
    """A copy without the scratch buffer that orjson leaves behind what it returns."""
    return b"%b" % encoded


def renumbered(record: Record, number: int) -> Record:
    """The same record under a number of the process that took it over."""
    if isinstance(record, Identity):
        return record._replace(number=number)
    return (number, *record[1:])


# --- one check per argument: the value to send, or Refused


def _user_id(given: Any) -> str:
    if isinstance(given, str):
        return _unicode(str.__str__(given), "external_user_id")
    if isinstance(given, int) and not isinstance(given, bool):
        return int.__repr__(given)  # its digits, also of an IntEnum
    if isinstance(given, uuid.UUID):
        return str(given)
    raise Refused(f"external_user_id must be a string, not {type(given).__name__}")


def _message_id(given: Any) -> bytes | None:
    if given is None:
        return None
    if isinstance(given, uuid.UUID):
        given = str(given)
    if not isinstance(given, str) or not given:
        raise Refused("message_id must be a string that is not empty")
    return _compact(encode(_unicode(str.__str__(given), "message_id")))


def _unicode(text: str, name: str) -> str:
    """An id with a replaced character would be another's id: refuse it instead."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} holds a lone surrogate", repr(text[:_MAX_SHOWN])) from None
    return text


def _mapping(given: Any, name: str) -> Mapping[Any, Any]:
    if isinstance(given, Mapping):
        return given
    raise Refused(f"{name} must be a mapping, not {type(given).__name__}")


def _nanoseconds(moment: Any) -> int:
    if not isinstance(moment, datetime):
        raise Refused(f"occurred_at must be a datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise Refused("occurred_at must have a time zone")
    # Not the subtraction of a subclass: pendulum's gives no plain timedelta.
    when = datetime.__sub__(moment, _EPOCH) // _MICROSECOND * 1000
    _second_text(when // _SECOND)  # the first or last day of the calendar may lie outside in UTC
    return when


def _second_text(second: int) -> bytes:
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19].encode()


def _preferred(given: Any) -> str:
    text = str.__str__(given) if isinstance(given, str) else None  # also of an Enum of strings
    if text in CHANNELS:
        return text
    detail = None if text is None else _shown(text)
    raise Refused("preferred_channel must be email, sms or push", detail)


def _explicit_channels(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise Refused("channels must be a list of mappings")
    items = list(islice(given, _MAX_CHANNELS + 1))  # a generator may have no end
    if len(items) > _MAX_CHANNELS:
        raise Refused(f"over {_MAX_CHANNELS} channels")
    return [_channel(item) for item in items]


def _channel(item: Any) -> dict[str, Any]:
    given = _mapping(item, "a channel")
    kind = given.get("type") or given.get("channel")
    if not isinstance(kind, str):
        raise Refused("a channel needs a type (or channel), a string")
    address = given.get("address")
    if not isinstance(address, str) or not address:
        raise Refused("a channel needs an address, a string that is not empty")
    channel = {"channel": kind, "address": address, "opted_in": given.get("opted_in", True)}
    if "verified" in given:
        channel["verified"] = given["verified"]
    for flag in ("opted_in", "verified"):
        if not isinstance(channel.get(flag, True), bool):
            raise Refused(f"{flag} of a channel must be True or False")
    return channel


def _shortcut_channels(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    channels = []
    for name, kind in (("email", "email"), ("phone", "sms"), ("push_token", "push")):
        address = given[name]
        if not address:
            continue
        if not isinstance(address, str):
            raise Refused(f"{name} must be a string, not {type(address).__name__}")
        channels.append({"channel": kind, "address": address, "opted_in": True})
    return channels


def _shown(given: str) -> str:
    return repr(str.__str__(given)[:_MAX_SHOWN])
