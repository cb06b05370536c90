"""What ``Whisperr.track()`` has at hand in one process, and where its uncommon calls go.

The common call is written out in track() itself, so that it is read, and runs, in one place: no
call of ours on the way, nothing looked up that does not change. An Intake holds what it needs.

Guarantees:
    Nothing here waits; everything may come from any thread, a signal handler or ``__del__``.
    A call that can't be queued is refused, reported and counted, alone.
Lock-free: each step that others may take at once is one indivisible operation (``_atomic``).
    A record gets its number, is journaled, is appended, and its bytes are counted, in this order.
    What comes between two of these (an exception out of a signal handler, a fork) leaves a record
    that is counted and not queued, or in the journal and not queued: then the next process
    delivers it from there.
Fork: a handler that forks inside track() leaves a child in which the call goes on, on the queue of
    the parent, which nobody sends there; the parent's own call delivers it.
"""

from __future__ import annotations

import time
from datetime import datetime
from io import SEEK_CUR
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Protocol

from whisperr._delivery.queue import RecordQueue
from whisperr._encoding.calls import (
    Encoder,
    Refused,
    encode_call,
    mapping,
    message_id_text,
    nanoseconds,
    user_id_text,
)
from whisperr._encoding.records import Event
from whisperr._encoding.values import members

if TYPE_CHECKING:  # what few clients have
    from whisperr._encoding.call_filter import CallFilter

Properties = Mapping[str, object]

_NOTHING_FITS = -1  # bytes


def is_nobody(user_id: object) -> bool:
    """An empty user id. Not 0, which may be one."""
    return user_id is None or user_id == ""


def _as_dict(given: object, name: str) -> dict[Any, Any]:
    """Of a mapping of any kind, or of None."""
    return {} if given is None else dict(members(mapping(given, name)))


class Accepting(Protocol):
    """The engine, as an Intake needs it."""

    def wake(self) -> None:
        """Enough records wait."""

    def deliver_late(self) -> None:
        """The exit has begun, so nobody else will deliver what was just queued."""

    def ignore(self, why: str, event_type: object) -> None:
        """The call says nothing: count it."""

    def leave_out(self, event_type: object) -> None:
        """``before_send`` wants the call not to be sent: count it."""

    def refuse(self, error: Exception, event_type: object = None) -> None:
        """The call can't be queued: report it, count it."""

    def refuse_closed(self) -> None:
        """Likewise, because the client is shut down."""


class Intake:
    """The state of the hot path, of one engine. Slots: they are the cheapest to read."""

    __slots__ = (
        "_encoder",
        "_engine",
        "add_bytes",
        "append",
        "beside_call",
        "event_types",
        "events",
        "filter",
        "identities",
        "is_ending",
        "max_size",
        "max_total",
        "numbers",
        "queue",
    )

    def __init__(
        self,
        engine: Accepting,
        encoder: Encoder,
        queue: RecordQueue,
        numbers: Iterator[int],
        call_filter: CallFilter | None = None,
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self.filter = call_filter
        self.event_types = encoder.event_types
        self.numbers = numbers  # the next one is the next record's
        self.queue = queue
        self.events, self.identities = queue.events, queue.identities
        self.append: Callable[[Event], object] = queue.events.append  # or to the journal, and there
        self.add_bytes = queue.bytes.move
        self.max_total = queue.max_bytes + queue.bytes.ZERO
        #: bytes of an event on the wire beside its encoded call
        self.beside_call = encoder.overhead
        self.max_size = encoder.max_event_bytes - self.beside_call  # of an encoded call
        self.is_ending = False  # closed, or the exit of the process has begun

    def close(self) -> None:
        """From now on nothing is taken: every call leaves the common path, and is refused."""
        self.max_size = _NOTHING_FITS
        self.end()

    def end(self) -> None:
        """From now on every record that is queued is delivered at once: nobody will later."""
        self.is_ending = True
        self.queue.look_always()

    # --- the uncommon calls

    def ignore(self, why: str, event_type: object = None) -> None:
        """A call without a user, or without an event type."""
        self._engine.ignore(why, event_type)

    def event_type(self, given: object) -> bytes:
        """Its part of an encoded call; b"" for an empty one. Refused, unless it is legal."""
        return self._encoder.event_type(given) if given else b""

    def put_filtered(
        self,
        external_user_id: object,
        event_type: object,
        properties: object,
        context: object,
        occurred_at: object,
        message_id: object,
    ) -> None:
        """Queue what the client's filter makes of a call."""
        if self.max_size == _NOTHING_FITS or self.filter is None:
            self._engine.refuse_closed()
            return
        call = self.filter.event(
            {
                "external_user_id": external_user_id,
                "event_type": event_type,
                "properties": properties
                if type(properties) is dict
                else _as_dict(properties, "properties"),
                "context": {} if context is None else _as_dict(context, "context"),
                "occurred_at": occurred_at,
                "message_id": message_id,
            }
        )
        if call is None:
            self._engine.leave_out(event_type)
            return
        user_id, kind, given = call["external_user_id"], call["event_type"], call["properties"]
        if not user_id and is_nobody(user_id):
            self.ignore("no user", kind)
            return
        known = self.event_types.get(kind) if type(kind) is str else None
        part = known or self.event_type(kind)
        if not part:
            self.ignore("no event type")
            return
        if type(user_id) is not str:
            user_id = user_id_text(user_id)
        if type(given) is not dict:
            given = _as_dict(given, "properties")
        encoded = encode_call(user_id, part, given)
        self.put(encoded, call["context"], call["occurred_at"], call["message_id"])

    def put(
        self,
        call: bytes,
        context: Properties | None,
        occurred_at: datetime | None,
        message_id: str | None,
    ) -> None:
        """Queue a call that is large, or brings more than properties; or refuse it."""
        when = time.time_ns() if occurred_at is None else nanoseconds(occurred_at)
        extra = None
        size = len(call)
        if context or message_id is not None:
            extra = (self._encoder.context(context), message_id_text(message_id))
            size += sum(len(part) for part in extra if part)
        if self.max_size == _NOTHING_FITS:
            self._engine.refuse_closed()
            return
        if size > self.max_size:
            raise Refused(f"an event of over max_event_bytes ({self._encoder.max_event_bytes})")
        self.append((next(self.numbers), when, call, extra, None))
        total = self.add_bytes(size + self.beside_call, SEEK_CUR)
        waiting = len(self.events) + len(self.identities)
        if waiting >= self.queue.look_at or total > self.max_total:
            self.after_put()

    def after_put(self) -> None:
        """Keep the limits, and wake the sender when it wants to be."""
        self.queue.evict()
        if self.queue.waiting() >= self.queue.wake_at:
            self._engine.wake()
        if self.is_ending:
            self._engine.deliver_late()
