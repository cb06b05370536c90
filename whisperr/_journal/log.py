"""An append-only log over the segments of one owner: append, rotate, settle, delete.

The segments are a linked list, oldest first. A record is settled by a later frame that names
its number; segments are deleted oldest first, so that such a frame outlives what it settles.

Guarantees:
    append() returns when the frame is in a file, or None when there is no file to be had; it
    waits for no other thread and may be interrupted anywhere, also by itself.
    A record leaves the disk only when it was settled, or counted by drop_oldest().
Guarded by nothing:
    ``current`` may lag behind: whoever writes to a full segment finds its successor by
    ``next``, which is published by one dict.setdefault; the loser deletes its candidate.
    _oldest moves in the sender's pass alone. drop_oldest() may come from any thread: a
    segment that is dropped stays in the list until the pass removes it.
Fork: the child disowns what it inherits and never appends: _rotate asks which process it is,
    and the maps are closed.
"""

from __future__ import annotations

import time
from typing import Callable, Iterator, Sequence

from whisperr._encoding.records import Record
from whisperr._journal.format import encode_settled
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import Segment
from whisperr._process.fork_token import ForkToken

# A segment holds what comes in ten seconds to a minute: making one costs a call some 0.3 ms.
SMALLEST = 64 * 1024  # bytes
_LARGEST = 4 * 1024 * 1024  # bytes
_FAST, _SLOW = 10.0, 60.0  # seconds in which one was filled
_GROWTH = 4

Failed = Callable[[OSError], None]


class Log:
    """One list of segments: this process's own, or that of a dead one."""

    def __init__(
        self,
        new_chain: Callable[[], Chain],
        where: bytes,
        environment: bytes,
        smallest_bytes: int,
        largest_bytes: int,
        on_failure: Failed,
        on_rotation: Callable[[int], None],
        token: ForkToken,
    ) -> None:
        self.current: Segment | None = Segment()  # None: there is no file to be had
        self._oldest: Segment = self.current
        self._files: dict[int, tuple[Segment, Chain]] = {}  # by handle
        self._new_chain = new_chain
        self._where = where
        self._environment = environment
        self._smallest = smallest_bytes
        self._largest = max(smallest_bytes, min(_LARGEST, largest_bytes))
        self._on_failure = on_failure
        self._on_rotation = on_rotation
        self._unsaid: list[int] = []  # numbers that are done, and whose frame found no room
        self._token = token
        self._left: set[int] = set()  # handles of segments that were left to the next process

    def inherit(self, chain: Chain, segments: Sequence[Segment]) -> None:
        """Begin with the segments of a dead process, in order."""
        for segment in segments:
            self._files[segment.handle] = (segment, chain)
            self._newest().next["next"] = segment
        self.current = self._newest()
        if not segments:
            chain.release(remove=True)

    # --- any thread

    def append(self, frame: bytes) -> Segment | None:
        """Where the frame is now, or None: it could not be written."""
        segment = self.current
        while segment is not None:
            try:
                segment.write(frame)
                return segment
            except ValueError:  # full
                segment = self._rotate(segment, len(frame))
            except OSError as error:
                self._fail(error)
                return None
        return None

    def find(self, handle: int) -> Segment | None:
        """The segment that a record names, while its file is there."""
        found = self._files.get(handle)
        return found[0] if found else None

    def has_left(self, handle: int) -> bool:
        """The segment that a record names is on disk, for whoever adopts it."""
        return handle in self._left

    def drop_oldest(self, last_too: bool = False) -> int | None:
        """Delete the oldest segment, settled or not; how many records are lost, or None: none is left.

        ``last_too``: also the one that is being written.
        """
        for segment in self:
            if last_too and segment.path and not segment.next:
                segment.seal()
                segment.next.setdefault("next", Segment())
            if segment.path and segment.next and not segment.is_dropped:
                return segment.drop()
        return None

    def __iter__(self) -> Iterator[Segment]:
        segment: Segment | None = self._oldest
        while segment is not None:
            yield segment
            segment = segment.next.get("next")

    def _rotate(self, full: Segment, room: int) -> Segment | None:
        """The segment behind a full one; a new one, unless another thread has made it."""
        if not self._token[0]:  # a signal handler forked inside a call of the parent
            return None
        full.seal()
        following = full.next.get("next")
        if following is None:
            try:
                following = self._follow(full, room)
            except OSError as error:
                self._fail(error)
                return None
        self.current = following
        return following

    def _follow(self, full: Segment, room: int) -> Segment:
        chain = self._chain_of(full)
        first = chain is None
        chain = chain or self._new_chain()
        try:
            made = self._make(chain, self._size_after(full), room)
        except BaseException:
            if first:
                chain.release(remove=True)
            raise
        self._files[made.handle] = (made, chain)  # before anybody can find it
        following = full.next.setdefault("next", made)
        if following is made:
            self._on_rotation(made.size)
        else:
            del self._files[made.handle]
            made.remove()
            if first:
                chain.release(remove=True)
        return following

    def _make(self, chain: Chain, size: int, room: int) -> Segment:
        size, smallest = max(size, room), max(self._smallest, room)
        try:
            return chain.new_segment(self._where, self._environment, size)
        except OSError:
            if size == smallest:
                raise
        return chain.new_segment(self._where, self._environment, smallest)  # perhaps there is room

    def _size_after(self, full: Segment) -> int:
        """By how long that one lasted: threads that rotate at once all come to the same."""
        lasted = time.monotonic() - full.made_at
        size = full.size
        if lasted < _FAST:
            size *= _GROWTH
        elif lasted > _SLOW:
            size //= _GROWTH
        return max(self._smallest, min(self._largest, size))

    def _fail(self, error: OSError) -> None:
        self.current = None
        self._on_failure(error)

    # --- the sender's pass

    def reopen(self) -> bool:
        """Try again after a failure. True: there is a file."""
        if self.current is None:
            self.retire()  # what is done takes room, and no later frame can say so
            self._rotate(self._newest(), 0)
            self._say([])
        return self.current is not None

    def settle(self, segment: Segment, records: Sequence[Record]) -> None:
        """Records of one segment are done."""
        segment.settle(records)
        self._say([record[0] for record in records])
        self.sweep()

    def _say(self, numbers: list[int]) -> None:
        """Note on disk that these are done, and those for which there was no room before."""
        numbers = self._unsaid + numbers
        if not numbers:
            return
        frame = encode_settled(numbers)
        home = self.append(frame)
        self._unsaid = [] if home is not None else numbers
        if home is not None:
            home.settle_frame(frame)

    def let_go(self) -> None:
        """Close what is full."""
        for segment in self:
            if segment.next:
                segment.let_go()

    def sweep(self) -> None:
        """Delete what is done, oldest first. The newest stays: it is being written."""
        while True:
            segment, following = self._oldest, self._oldest.next.get("next")
            if following is None or not segment.is_done() or not segment.remove():
                return
            chain = self._chain_of(segment)
            self._files.pop(segment.handle, None)
            self._oldest = following
            if chain is not None and self._chain_of(following) is not chain:
                chain.release(remove=True)

    def retire(self) -> bool:
        """Delete everything if everything is done. True: nothing is left.

        What is appended later begins a new chain.
        """
        newest = self._newest()
        newest.seal()
        self.sweep()
        if self._oldest is newest and newest.is_done():
            newest.next.setdefault("next", Segment())
            self.sweep()
        if self._oldest.path:
            return False
        self._unsaid = []  # with the segments that they were in
        return True

    def retire_if_done(self) -> bool:
        """retire(), for a log to which no more records come."""
        self.sweep()
        return "next" not in self._oldest.next and self.retire()

    def release(self) -> None:
        """Leave what there is to whoever adopts it."""
        newest = self._newest()
        newest.seal()
        newest.next.setdefault("next", Segment())
        segments = list(self)
        for segment in segments:  # all, before the lock is given back
            segment.let_go()
        self._left.update(self._files)
        chains = {id(chain): chain for _, chain in self._files.values()}
        for segment in segments:
            self._files.pop(segment.handle, None)
        for chain in chains.values():
            chain.release(remove=False)
        self._oldest = self.current = self._newest()

    def is_lost(self) -> bool:
        """Somebody deleted the file that is being written."""
        newest = self._newest()
        # What was the newest a moment ago may have been dropped by drop_oldest() since.
        return bool(newest.path) and not newest.is_there() and not newest.is_dropped

    def forsake(self) -> int:
        """Go on elsewhere, after is_lost(); how many records were lost with the files."""
        self._newest().seal()
        self._newest().next.setdefault("next", Segment())
        lost = sum(segment.drop() for segment in self if segment.path and not segment.is_there())
        self.sweep()
        self.current = None  # until reopen()
        return lost

    def _newest(self) -> Segment:
        segment = self._oldest
        while "next" in segment.next:
            segment = segment.next["next"]
        return segment

    def _chain_of(self, segment: Segment) -> Chain | None:
        found = self._files.get(segment.handle)
        return found[1] if found else None

    # --- a child

    def disown(self) -> None:
        for segment in self:
            segment.close()
        for _, chain in list(self._files.values()):
            chain.disown()
