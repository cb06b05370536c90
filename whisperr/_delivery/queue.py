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
from collections import deque
from itertools import repeat
from typing import Any, Callable, Iterable, Iterator, Protocol

from whisperr._atomic import Counter
from whisperr._encoding.records import Event, Identity, Record, type_of


class Sizes(Protocol):
    """What an event will have in bytes, as the queue needs it of the encoder."""

    def size(self, event: Event) -> int:
        """Of one."""
        ...

    def sizes(self, events: Iterable[Event]) -> list[int]:
        """Of each of many."""
        ...


_EVICTED_TYPES = 32  # that are remembered, to be told


class RecordQueue:
    """Events and identities that wait, and those in flight."""

    __slots__ = (
        "_evicted",
        "_evicted_types",
        "_in_flight",
        "_look_latest",
        "_moves",
        "_reported",
        "_sizes",
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
        sizes: Sizes,
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
        self._sizes = sizes
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
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Drop the oldest record that waits."""
        queue = self.events if self._events_are_older() else self.identities
        try:
            record = queue.popleft()
        except IndexError:  # the sender leased the last one in this moment
            return
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
        records = [*_all_of(self._in_flight), *self.take_all()]
        lost = [record for record in records if not self._spill(record)]
        return lost, len(records) - len(lost)

    def take_all(self) -> list[Record]:
        """Remove all that waits, identities first: for another queue, or for none."""
        records: list[Record] = [*_all_of(self.identities), *_all_of(self.events)]
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
        return len(record.body) if isinstance(record, Identity) else self._sizes.size(record)

    # --- delivery pass

    def lease_identity(self) -> Identity | None:
        """Take the oldest identity into flight, if any waits."""
        leased: list[Identity] = self._lease(self.identities, 1)
        self.bytes.add(-sum(map(self._size_of, leased)))
        return leased[0] if leased else None

    def lease_events(self, max_count: int, max_bytes: int) -> list[Event]:
        """Take the oldest events into flight, one at least when any waits."""
        leased: list[Event] = self._lease(self.events, max_count)
        sizes = self._sizes.sizes(leased)
        total = sum(sizes)
        self._moves += 1
        while total > max_bytes and len(leased) > 1:
            total -= sizes.pop()
            leased.pop()
            with contextlib.suppress(IndexError):  # abandoned meanwhile
                self.events.appendleft(self._in_flight.pop())  # type: ignore[arg-type]
        self._moves += 1
        self.bytes.add(-total)
        return leased

    def settle(self, count: int) -> int:
        """The oldest ``count`` in flight are done; how many of them were not abandoned before."""
        done: deque[Record] = deque()
        _move(self._in_flight, done, count)
        return len(done)

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """While records are on their way into this queue."""
        self._moves += 1
        try:
            yield
        finally:
            self._moves += 1

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
        return list(_all_of(self._evicted_types))

    def _lease(self, queue: deque[Any], count: int) -> list[Any]:
        """Nothing else is in flight when a lease begins: the one before was settled or restored."""
        self._moves += 1
        _move(queue, self._in_flight, min(count, len(queue)))
        leased = list(self._in_flight.copy())  # less what was abandoned in this moment
        self._moves += 1
        return leased


def _move(source: deque[Any], target: deque[Any], count: int) -> None:
    """Move the oldest, one by one: each record goes to one taker, whoever else takes from there.

    In one call into C, so that an exception of a signal handler finds none of them in between.
    """
    with contextlib.suppress(IndexError):  # it is empty, or somebody else took the last one
        target.extend(map(deque.popleft, repeat(source, count)))


def _all_of(queue: deque[Any]) -> deque[Any]:
    """All that is there, taken out."""
    taken: deque[Any] = deque()
    _move(queue, taken, len(queue))
    return taken
