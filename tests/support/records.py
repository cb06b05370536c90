"""Records as track() and identify() make them, without a client."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from whisperr._encoding.calls import Encoder, encode_call, message_id_text, nanoseconds
from whisperr._encoding.records import Event, Identity


def event_of(
    encoder: Encoder,
    number: int,
    user: str,
    event_type: str,
    properties: dict[str, Any],
    context: dict[str, Any] | None = None,
    occurred_at: datetime | None = None,
    message_id: str | None = None,
) -> Event:
    """The record of one track() call."""
    call = encode_call(user, encoder.event_type(event_type), properties)
    when = time.time_ns() if occurred_at is None else nanoseconds(occurred_at)
    extra = None
    if context or message_id is not None:
        extra = (encoder.context(context), message_id_text(message_id))
    return (number, when, call, extra, None)


def identity_of(encoder: Encoder, number: int, fields: dict[str, Any]) -> Identity:
    """The record of one identify() call."""
    return Identity(number, encoder.identity(fields))
