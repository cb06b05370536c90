"""A call of ``track`` or ``identify`` that can't be made yet: a snapshot, its time, its id."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import numbers
import os
import uuid
from collections import deque
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from whisperr import Whisperr

_MAX_DEPTH = 100  # levels; the client refuses what is nested deeper
_MAX_ITEMS = 2**20  # of a lazy sequence; the client refuses a longer one
_NEVER_CHANGES = (
    str,
    bytes,
    numbers.Number,
    decimal.Decimal,
    type(None),
    datetime.date,  # a datetime is one too
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    enum.Enum,
    os.PathLike,
    range,
)


class Call(NamedTuple):
    """``method`` of the client, and what follows the user's id."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def send(self, client: Whisperr, user_id: Any) -> None:
        getattr(client, self.method)(user_id, *self.arguments, **self.options)

    def kept(self) -> Call:
        """The same call, to be sent later: later changes don't reach it. Never raises."""
        arguments, options = snapshot(self.arguments), snapshot(self.options)
        if self.method == "track":
            if options["occurred_at"] is None:
                options["occurred_at"] = datetime.datetime.now(datetime.timezone.utc)
            if options["message_id"] is None:
                options["message_id"] = uuid.uuid4().hex
        return Call(self.method, tuple(arguments), options)


def track_call(
    event_type: str,
    properties: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None,
    occurred_at: datetime.datetime | None,
    message_id: str | None,
) -> Call:
    options = {"occurred_at": occurred_at, "message_id": message_id}
    return Call("track", (event_type, properties, context), options)


def snapshot(values: Any) -> Any:
    """A list or dict of the same values, each one that may change copied as far as JSON goes.

    What can't be copied is kept as it is: the client refuses it by itself, and reports it.
    """
    if isinstance(values, dict):
        return {name: _copied_or_itself(value) for name, value in values.items()}
    return [_copied_or_itself(value) for value in values]


def _copied_or_itself(value: Any) -> Any:
    try:
        return _copied(value, 0)
    except Exception:  # too deep, or raised by the value's own code
        return value


def _copied(value: Any, depth: int) -> Any:
    """The order is the client's own, so that a value becomes the same JSON with and without it."""
    if isinstance(value, _NEVER_CHANGES):
        return value
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    below = depth + 1
    if isinstance(value, dict):
        items = list(dict.items(value))  # in one step: another thread may be changing it
        return {key: _copied(item, below) for key, item in items}
    if isinstance(value, (list, tuple, deque, Set)):
        return [_copied(item, below) for item in list(value)]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return {key: _copied(item, below) for key, item in list(value.items())}
    if isinstance(value, Sequence):
        return value if len(value) > _MAX_ITEMS else [_copied(item, below) for item in list(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _copied(getattr(value, field.name), below) for field in fields}
    return value
