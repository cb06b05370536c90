"""One call -> a record: what each argument has to be, and how it is encoded.

The common case of track() is not here: it is put together in ``_delivery.intake``, where the
whole of the hot path is read in one place. Here is what it calls where a call is not the common one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, Callable

from whisperr._encoding import arguments
from whisperr._encoding.records import CALL_OPENING, Event
from whisperr._encoding.unencodable import Unencodable, type_name
from whisperr._encoding.values import (
    MAX_DEPTH,
    dump,
    encode,
    encode_by_rules,
    is_plain,
    is_tracked,
    key_text,
    members,
    write,
)
from whisperr._version import SDK_NAME, __version__

CHANNELS = ("email", "sms", "push")
CALL_DEPTH = MAX_DEPTH + 1  # what a caller passes stands in one object of ours

_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_MAX_CACHED = 1000  # event types: an application has dozens; a mistake may have millions
_MAX_CHANNELS = 1000  # of one identity
_MAX_SHOWN = 200  # characters of a refused value in a detail

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000_000  # nanoseconds
# What an event has beside its call (as it is in a record) and its context; 32 digits are its id.
_EVENT_FRAME = 32 + len(
    CALL_OPENING + b'},"occurred_at":"2026-01-01T00:00:00.000Z","context":{,"$message_id":"","}}'
)


class Refused(ValueError):
    """A call that can't be queued. The text holds no value of the caller's; ``detail`` may."""

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail


class Encoder:
    """Calls -> records, under one client's settings. Holds nothing of a process.

    What is constant for a client, and what only few calls of track() need.
    """

    def __init__(self, app_version: str | None, max_event_bytes: int) -> None:
        self._environment = {"sdk_name": SDK_NAME, "sdk_version": __version__}
        if app_version:
            self._environment["app_version"] = app_version
        #: the members that the SDK puts into a context, encoded
        self.environment_bytes = encode(self._environment)[1:-1]
        #: bytes of an event on the wire beside its call, when it brings no context of its own
        self.overhead = _EVENT_FRAME + len(self.environment_bytes)
        self.max_event_bytes = max_event_bytes
        #: event types as given -> their part of an encoded call; only legal ones, and no empty one
        self.event_types: dict[object, bytes] = {}

    def event_type(self, given: object) -> bytes:
        """Its part of an encoded call; b"" for one of white space alone. Refused, unless it is legal."""
        text = _plain_text(given, "event_type")
        if text is None:
            raise Refused(f"event_type must be a string, not {type_name(given)}")
        stripped = text.strip()
        if not stripped:
            return b""
        if not _SNAKE.fullmatch(stripped):
            raise Refused("invalid event_type: expected lowercase snake_case", _shown(text))
        part = b',"event_type":"%b","properties":' % stripped.encode()
        if type(given) is str and len(self.event_types) < _MAX_CACHED:
            self.event_types[given] = part
        return part

    def context(self, given: object) -> bytes | None:
        """The members of a caller's context with ours under them; its key wins, save over the id."""
        if not given:
            return None
        own = {key_text(key): item for key, item in members(mapping(given, "context"))}
        own.pop("$message_id", None)
        try:
            return encode({**self._environment, **own})[1:-1]
        except Unencodable as error:
            error.path.insert(0, "context")
            raise

    def identity(self, fields: dict[str, Any]) -> bytes:
        """The body of one identify() call. Refused, or Unencodable, when it can't be sent."""
        body: dict[str, Any] = {"external_user_id": user_id_text(fields["external_user_id"])}
        if fields["traits"] is not None:
            traits = mapping(fields["traits"], "traits")
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
        encoded = encode(body, CALL_DEPTH)
        if len(encoded) > self.max_event_bytes:
            raise Refused(f"an identity of over max_event_bytes ({self.max_event_bytes})")
        return compact(encoded)

    def size(self, event: Event) -> int:
        """Bytes of one event on the wire, its comma included; never less than it will be."""
        size = len(event[2]) + self.overhead
        if event[3] is not None:
            size += sum(len(part) for part in event[3] if part)
        return size

    def sizes(self, events: Iterable[Event]) -> list[int]:
        """``size`` of each; of a batch it is cheaper."""
        overhead, size = self.overhead, self.size
        return [size(event) if event[3] else len(event[2]) + overhead for event in events]


#: Of an encoded user id, the part of an event type, encoded properties: the call as a record holds
#: it. Nothing else is in there: what an encoder returns may hold a scratch buffer of a kilobyte.
join = b"".join


def encode_call(user_id: str, kind: bytes, properties: Mapping[Any, Any]) -> bytes:
    """A track() call as a record holds it, as track() itself encodes it in the common case.

    Refused, or Unencodable, when it can't be sent.

    Args:
        kind: What ``Encoder.event_type()`` gave.
    """
    if type(properties) is dict and (not is_tracked(properties) or is_plain(properties)):
        try:
            return join((write(user_id), kind, dump(properties)))
        except (TypeError, ValueError):  # a value that the encoder does not take
            pass
    return encode_call_by_rules(user_id, kind, properties)


def encode_call_by_rules(user_id: str, kind: bytes, properties: Mapping[Any, Any]) -> bytes:
    """Likewise, where the encoder must not see them, or refused.

    Refused, or Unencodable, when it can't be sent.
    """
    user = encode_by_rules(unicode_text(user_id, "external_user_id"), MAX_DEPTH)
    try:
        encoded = encode_by_rules(mapping(properties, "properties"), MAX_DEPTH)
    except Unencodable as error:
        error.path.insert(0, "properties")
        raise
    return join((user, kind, encoded))


def compact(encoded: bytes) -> bytes:
    """A copy without the scratch buffer that orjson leaves behind what it returns."""
    return b"%b" % encoded


# --- one check per argument: the value to send, or Refused


def user_id_text(given: object) -> str:
    """A user id as it is sent: text, the digits of an int, the text of a UUID."""
    plain = _looked_at(arguments.scalar, given, "external_user_id")
    if type(plain) is str:
        return unicode_text(plain, "external_user_id")
    if type(plain) is int:
        return int.__repr__(plain)
    if isinstance(plain, uuid.UUID):
        return str(plain)
    raise Refused(f"external_user_id must be a string, not {type_name(given)}")


def message_id_text(given: object) -> bytes | None:
    """A caller's idempotency key, encoded; None for none."""
    if given is None:
        return None
    plain = _looked_at(arguments.scalar, given, "message_id")
    if isinstance(plain, uuid.UUID):
        plain = str(plain)
    if type(plain) is not str or not plain:
        raise Refused("message_id must be a string that is not empty")
    return compact(encode(unicode_text(plain, "message_id")))


def unicode_text(text: str, name: str) -> str:
    """An id with a replaced character would be another's id: refuse it instead."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} holds a lone surrogate", repr(text[:_MAX_SHOWN])) from None
    return text


def mapping(given: object, name: str) -> Mapping[Any, Any]:
    """The mapping that an argument is, or is a proxy of."""
    found: Mapping[Any, Any] | None = _looked_at(arguments.mapping, given, name)
    if found is None:
        raise Refused(f"{name} must be a mapping, not {type_name(given)}")
    return found


def nanoseconds(given: object) -> int:
    """A moment with a time zone, in nanoseconds since the epoch."""
    moment: datetime | None = _looked_at(arguments.moment, given, "occurred_at")
    if moment is None:
        raise Refused(f"occurred_at must be a datetime, not {type_name(given)}")
    if moment.utcoffset() is None:
        raise Refused("occurred_at must have a time zone")
    # Not the subtraction of a subclass: pendulum's gives no plain timedelta.
    when = datetime.__sub__(moment, _EPOCH) // _MICROSECOND * 1000
    _ = _EPOCH + timedelta(seconds=when // _SECOND)  # the calendar's ends may lie outside in UTC
    return when


def _looked_at(look: Callable[[Any], Any], given: object, name: str) -> Any:
    try:
        return look(given)
    except Unencodable as error:
        raise Refused(f"{name}: {error}") from None


def _plain_text(given: object, name: str) -> str | None:
    """The text that an argument is in any disguise (an Enum of text, a proxy); None for others."""
    text: str | None = _looked_at(arguments.plain_text, given, name)
    return text


def _preferred(given: object) -> str:
    text = _plain_text(given, "preferred_channel")
    if text in CHANNELS:
        return text
    detail = None if text is None else _shown(text)
    raise Refused("preferred_channel must be email, sms or push", detail)


def _explicit_channels(given: object) -> list[dict[str, Any]]:
    listed = _looked_at(arguments.unwrap, given, "channels")
    if isinstance(listed, (str, bytes, Mapping)) or not isinstance(listed, Iterable):
        raise Refused("channels must be a list of mappings")
    items = list(islice(listed, _MAX_CHANNELS + 1))  # a generator may have no end
    if len(items) > _MAX_CHANNELS:
        raise Refused(f"over {_MAX_CHANNELS} channels")
    return [_channel(item) for item in items]


def _channel(item: object) -> dict[str, Any]:
    given = mapping(item, "a channel")
    kind = _plain_text(given.get("type") or given.get("channel"), "the type of a channel")
    if kind is None:
        raise Refused("a channel needs a type (or channel), a string")
    address = _plain_text(given.get("address"), "the address of a channel")
    if not address:
        raise Refused("a channel needs an address, a string that is not empty")
    channel: dict[str, Any] = {"channel": kind, "address": address, "opted_in": True}
    for flag in ("opted_in", "verified"):
        if flag in given:
            channel[flag] = _looked_at(arguments.scalar, given[flag], flag)
        if type(channel.get(flag, True)) is not bool:
            raise Refused(f"{flag} of a channel must be True or False")
    return channel


def _shortcut_channels(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    channels = []
    for name, kind in (("email", "email"), ("phone", "sms"), ("push_token", "push")):
        if not given[name]:
            continue
        address = _plain_text(given[name], name)
        if address is None:
            raise Refused(f"{name} must be a string, not {type_name(given[name])}")
        channels.append({"channel": kind, "address": address, "opted_in": True})
    return channels


def _shown(given: str) -> str:
    return repr(given[:_MAX_SHOWN])
