"""A call of ``track`` or ``identify`` that can't be made yet: a snapshot, its time, its id."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from whisperr import Whisperr, snapshot


class Call(NamedTuple):
    """``method`` of the client, and what follows the user's id."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def send(self, client: Whisperr, user_id: Any) -> None:
        getattr(client, self.method)(user_id, *self.arguments, **self.options)

    def kept(self) -> Call:
        """The same call, to be sent later: later changes don't reach it. Never raises."""
        options = {name: _kept(value) for name, value in self.options.items()}
        if self.method == "track":
            if options["occurred_at"] is None:
                options["occurred_at"] = datetime.datetime.now(datetime.timezone.utc)
            if options["message_id"] is None:
                options["message_id"] = uuid.uuid4().hex
        return Call(self.method, tuple(map(_kept, self.arguments)), options)


def track_call(
    event_type: str,
    properties: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None,
    occurred_at: datetime.datetime | None,
    message_id: str | None,
) -> Call:
    options = {"occurred_at": occurred_at, "message_id": message_id}
    return Call("track", (event_type, properties, context), options)


def _kept(value: Any) -> Any:
    """A snapshot of what may change. What has none is kept: the client refuses and reports it."""
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes)):
        with suppress(Exception):  # it has no JSON form, or its own code raised
            return snapshot(value)
    return value
