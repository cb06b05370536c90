"""Bounded in-memory queue between callers and one sender.

Guarantees:
    put(), and the append of the hot path (``intake``), never wait and may come from any thread,
    a signal handler or ``__del__``.
    A record leaves only by settle(), by eviction of the oldest, or by abandon(), and each is
    counted once, in exactly one of these. One that is on disk, too, is not lost by the last two:
    it is spilled, and comes back by put().
Assumes:
    deque's append, appendleft, popleft, pop and copy are each one indivisible step.
Lock-free: no step here needs two things to change at once.
    A record is in one of three deques, and moves by popleft from one and append to the next; in
    between it is in the hands of the one thread that popped it.
    lease(), settle() and restore() belong to the delivery pass (one at a time), and so does
    _moves, by which a reader knows that it looked while nothing was on its way.
    put(), evict() and abandon() may come from anybody. Two that evict at once may drop a record
    more than one would have; each that is dropped is counted.
Fork: never reset. The engine throws the whole queue away in the child.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from typing import Any, Callable, TypeVar

from whisperr._atomic import Counter
from whisperr._encoding.records import Event, Identity, Record, type_of

R = TypeVar("R", Event, Identity)

_EVICTED_TYPES = 32  # that are remembered, to be told


class RecordQueue:
    """Events and identities that wait, and those in flight."""

    __slots__ = (
        "_event_size",
        "_evicted",
        "_evicted_types",
        "_in_flight",
        "_look_latest",
        "_moves",
        "_reported",
        "_spill",
        "bytes",
        "events",
        "identities",
        "look_at",
        "max_bytes",
        "max_records",
        "wake_at",
    )

    def __init__(
        self,
        event_size: Callable[[Event], int],
        max_records: int,
        max_bytes: int,
        spill: Callable[[Record], bool],
    ) -> None:
        self.events: deque[Event] = deque()
        self.identities: deque[Identity] = deque()
        self.wake_at = 1  # waiting records at which the sender thread wants to be woken
        #: Waiting records at which a call has to look further: to wake it, to keep the limits, or
        #: because the exit has begun.
        self.look_at = 1
        self._look_latest = max_records + 1
        self.bytes = Counter()  # of what waits; what is in flight is the sender's
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._in_flight: deque[Record] = deque()
        self._event_size = event_size
        self._evicted = Counter()
        self._evicted_types: deque[str] = deque(maxlen=_EVICTED_TYPES)  # of the latest
        self._spill = spill  # False: the record is on no disk, and so it is lost
        self._reported = 0
        self._moves = 0  # odd while the sender has a record in its hands, in no deque

    # --- anybody

    def put(self, record: Record) -> int:
        """Queue a record, and return how many wait. The oldest go when a limit is passed."""
        if isinstance(record, Identity):
            self.identities.append(record)
        else:
            self.events.append(record)
        self.bytes.add(self._size_of(record))
        self.evict()
        return self.waiting()

    def evict(self) -> None:
        """Drop the oldest until the limits hold. One record may be as large as it likes."""
        while self._is_over():
            queue = self.events if self._events_are_older() else self.identities
            try:
                record = queue.popleft()
            except IndexError:  # the sender leased the last one in this moment
                continue
            self.bytes.add(-self._size_of(record))
            if not self._spill(record):
                self._evicted_types.append(type_of(record))
                self._evicted.add(1)

    def wake_when(self, count: int) -> None:
        """Have the sender thread woken at so many waiting records."""
        self.wake_at = count
        self.look_at = min(count, self._look_latest)
        if self.look_at > self._look_latest:  # look_always() came between the two
            self.look_at = self._look_latest

    def look_always(self) -> None:
        """From now on every call looks further."""
        self._look_latest = 0
        self.look_at = 0

    def waiting(self) -> int:
        """How many records wait."""
        return len(self.events) + len(self.identities)

    def pending(self) -> int:
        """Records not settled yet: waiting or in flight."""
        return self.waiting() + len(self._in_flight)

    def is_empty(self) -> bool:
        """True when every record is settled. False, to be on the safe side, while one is moving."""
        moves = self._moves
        return self.pending() == 0 and self._moves == moves and moves % 2 == 0

    def newest(self) -> int:
        """The highest number that waits; -1 if none does."""
        found = -1
        for queue in (self.events, self.identities):
            with contextlib.suppress(IndexError):
                found = max(found, queue[-1][0])
        return found

    def evicted(self) -> int:
        """Records dropped by the limits so far."""
        return self._evicted.read()

    def abandon(self) -> tuple[list[Record], int]:
        """Give up everything, what is in flight too; what is lost, and how many are on disk."""
        records = [*_popped(self._in_flight), *self.take_all()]
        lost = [record for record in records if not self._spill(record)]
        return lost, len(records) - len(lost)

    def take_all(self) -> list[Record]:
        """Remove all that waits, identities first: for another queue, or for none."""
        records: list[Record] = [*_popped(self.identities), *_popped(self.events)]
        self.bytes.add(-sum(map(self._size_of, records)))
        return records

    def _is_over(self) -> bool:
        waiting = self.waiting()
        return waiting > self.max_records or (waiting > 1 and self.bytes.read() > self.max_bytes)

    def _events_are_older(self) -> bool:
        try:
            return self.events[0][0] < self.identities[0][0]
        except IndexError:
            return bool(self.events)

    def _size_of(self, record: Record) -> int:
        return len(record.body) if isinstance(record, Identity) else self._event_size(record)

    # --- delivery pass

    def lease_identity(self) -> list[Identity]:
        """Take the oldest identity into flight: a list of one, or of none."""
        return self._lease(self.identities, self._size_of, 1, 0)

    def lease_events(self, max_count: int, max_bytes: int) -> list[Event]:
        """Take the oldest events into flight, one at least when any waits."""
        return self._lease(self.events, self._event_size, max_count, max_bytes)

    def settle(self, count: int) -> int:
        """The oldest ``count`` in flight are done; how many of them were not abandoned before."""
        return len(_popped(self._in_flight, count))

    def restore(self) -> None:
        """Put what is in flight back to where it was: the front."""
        self._moves += 1
        while True:
            try:
                record = self._in_flight.pop()
            except IndexError:
                break
            if isinstance(record, Identity):
                self.identities.appendleft(record)
            else:
                self.events.appendleft(record)
            self.bytes.add(self._size_of(record))
        self._moves += 1
        self.evict()

    def newly_evicted(self) -> int:
        """Evictions since this was last asked."""
        total = self._evicted.read()
        fresh, self._reported = total - self._reported, total
        return fresh

    def newly_evicted_types(self) -> list[str]:
        """Event types of the latest evictions since this was last asked."""
        return _popped(self._evicted_types)

    def _lease(
        self, queue: deque[R], size_of: Callable[[R], int], max_count: int, max_bytes: int
    ) -> list[R]:
        taken: list[R] = []
        take, fly, keep = queue.popleft, self._in_flight.append, taken.append
        self._moves += 1
        with contextlib.suppress(IndexError):  # others take from the queue, too
            for _ in range(min(max_count, len(queue))):
                record = take()
                fly(record)
                keep(record)
        sizes = list(map(size_of, taken))
        total = sum(sizes)
        while total > max_bytes and len(taken) > 1:
            total -= sizes.pop()
            taken.pop()
            with contextlib.suppress(IndexError):  # abandoned meanwhile
                queue.appendleft(self._in_flight.pop())  # type: ignore[arg-type]
        self._moves += 1
        self.bytes.add(-total)
        return taken


def _popped(queue: deque[Any], limit: int = sys.maxsize) -> list[Any]:
    """The oldest, popped one by one: each record goes to one taker, whoever else pops."""
    records: list[Any] = []
    take, keep = queue.popleft, records.append
    with contextlib.suppress(IndexError):  # it is empty, or somebody else took the last one
        for _ in range(min(limit, len(queue))):
            keep(take())
    return records
