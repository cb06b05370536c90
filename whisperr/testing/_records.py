"""What a recording holds: events and identities as the service would see them, and refused calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, Union

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

Json = Dict[str, Any]


@dataclass(frozen=True)
class Tracked:
    """One event, decoded from the bytes that would have been sent.

    Attributes:
        event_type: Without white space around it.
        user: The ``external_user_id``, always text.
        properties: With the values of JSON: a ``Decimal`` is a float here, a date is text.
            ``{}`` if there were none.
        context: With what the SDK adds, ``$message_id`` and ``sdk_name`` among it.
        occurred_at: When, in UTC, cut to whole milliseconds.
        pid: The process that tracked it.
    """

    event_type: str
    user: str
    properties: Json
    context: Json = field(repr=False)
    occurred_at: datetime = field(repr=False)
    pid: int = field(repr=False)

    @property
    def external_user_id(self) -> str:
        """``user``, by the word of ``track()``."""
        return self.user

    @property
    def message_id(self) -> str:
        """The idempotency key, given or made by the client; also ``context["$message_id"]``."""
        return str(self.context["$message_id"])


@dataclass(frozen=True)
class Identified:
    """One identity, decoded from the bytes that would have been sent.

    Attributes:
        user: The ``external_user_id``, always text.
        traits: With the values of JSON; ``{}`` if there were none.
        preferred_channel: ``"email"``, ``"sms"``, ``"push"`` or None.
        channels: Each with ``channel``, ``address`` and ``opted_in``, as they would be sent;
            ``[]`` if there were none.
        pid: The process that made the call.
    """

    user: str
    traits: Json
    preferred_channel: str | None
    channels: list[Json]
    pid: int = field(repr=False)

    @property
    def external_user_id(self) -> str:
        """``user``, by the word of ``identify()``."""
        return self.user


@dataclass(frozen=True)
class Refused:
    """One call that would never have been sent.

    Attributes:
        message: What is wrong, the sentence that ``on_error`` got.
        detail: The refused value, or where in the call it stands; None if there is nothing to show.
        where: ``file:line`` of the call in your code.
        pid: The process that made the call.
    """

    message: str
    detail: str | None
    where: str
    pid: int = field(repr=False)


Record = Union[Tracked, Identified, Refused]


def tracked(event: Json, pid: int) -> Tracked:
    """From an event of the wire."""
    return Tracked(
        event["event_type"],
        event["external_user_id"],
        event["properties"],
        event["context"],
        datetime.strptime(event["occurred_at"], _TIME).replace(tzinfo=timezone.utc),
        pid,
    )


def identified(identity: Json, pid: int) -> Identified:
    """From an identity of the wire."""
    return Identified(
        identity["external_user_id"],
        identity.get("traits", {}),
        identity.get("preferred_channel"),
        identity.get("channels", []),
        pid,
    )


# --- for another process: one record, one line


def to_line(record: Record) -> bytes:
    fields = dict(vars(record))
    if isinstance(record, Tracked):
        fields["occurred_at"] = record.occurred_at.strftime(_TIME)
    return json.dumps([type(record).__name__, fields]).encode() + b"\n"


def from_line(line: bytes) -> Record:
    kind, fields = json.loads(line)
    if kind == "Tracked":
        when = datetime.strptime(fields.pop("occurred_at"), _TIME)
        return Tracked(occurred_at=when.replace(tzinfo=timezone.utc), **fields)
    return Identified(**fields) if kind == "Identified" else Refused(**fields)
