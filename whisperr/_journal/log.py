"""An append-only log over the segments of one owner: append, rotate, settle, delete.

The segments are one deque, oldest first: those recovered from a dead process, then those written
here. A record is settled by a later frame that names its number; segments are deleted oldest
first, so that such a frame outlives what it settles.

Guarantees:
    append() returns when the frame is in a file, or None when there is no file to be had; it
    waits for no other thread and may be interrupted anywhere, also by itself.
    A record leaves the disk only when it was settled, or counted by drop_oldest().
    A file is made only in a chain whose lock is held, and no record gets into one after that.
Lock-free:
    ``current`` is a hint that may lag behind. What counts is the deque: appends go to the first
    segment in it that is open.
    Publishing a new segment is one ``deque.append``. Two threads (or a handler inside a
    rotation) may each publish one; whoever finds that his is not the first open one seals it
    and takes it out again. If another thread has written to it by then, it stays.
    A chain that has lost its last segment is ended: first that is said (is_ended, for ever),
    then the deque is looked at once more, then the lock is given back. A segment is published
    first, and its chain looked at second: one that comes too late is not open, for anybody.
    settle() and all that deletes belong to the sender's pass, save for drop_oldest(), which
    may come from any thread: whoever takes a segment out of the deque has it.
An exception in the middle of a rotation leaves: a file that is in no deque, without a record (made,
    not published); one more open segment, which is used when the one before it is full
    (published); an empty, sealed one, which the next pass deletes (sealed).
Fork: the child closes what it inherited (close_in_child) and never appends: a rotation asks
    which process it is before it makes a file and before it returns one.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from typing import Callable, NamedTuple, Sequence

from whisperr._clock import monotonic
from whisperr._encoding.records import Record
from whisperr._journal.format import encode_settled
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import NoSegment, OwnSegment, RecoveredSegment, Segment
from whisperr._process.fork_token import ForkToken

# A segment holds what comes in ten seconds to a minute: making one costs a call some 0.3 ms. The
# first is one block of most file systems with its header, as many processes track once.
SMALLEST = 4096 - 256  # bytes
LARGEST = 4 * 1024 * 1024  # bytes
_BURST, _FAST, _SLOW = 1.0, 10.0, 60.0  # seconds in which one was filled
_BURST_GROWTH, _GROWTH = 16, 4

_NOWHERE = NoSegment()


class JournalFull(OSError):
    """There is no room under the limit, and none to be made."""


class Sizing(NamedTuple):
    """How large the segments of a log may be, and who is to hear of it."""

    smallest: int  # bytes
    largest: int
    #: Of so many bytes at least so many, and whether records may go for that; 0: there is no room.
    allowed: Callable[[int, int, bool], int]
    made: Callable[[int], None]  # one of that size is there


class Log:
    """The segments of this process, or those of a dead one and the notes on them."""

    def __init__(
        self,
        new_chain: Callable[[], Chain | None],
        where: bytes,
        environment: bytes,
        sizing: Sizing,
        on_failure: Callable[[OSError], None],
        token: ForkToken,
    ) -> None:
        self.current: OwnSegment | NoSegment | None = _NOWHERE  # None: no file is to be had
        self._segments: deque[Segment] = deque()
        self._by_handle: dict[int, Segment] = {}
        self._new_chain = new_chain  # None: there is none any more
        self._where = where
        self._environment = environment
        self._sizing = sizing
        self._on_failure = on_failure
        self._token = token
        self._unnoted: list[int] = []  # numbers that are settled, and whose frame found no room
        self._emptied: deque[Chain] = deque()  # that lost a segment, perhaps their last one
        self._left: set[int] = set()  # handles of segments that were left to the next process
        self._is_adopted = False  # no record is added, only notes

    def adopt(self, segments: Sequence[RecoveredSegment]) -> None:
        """Begin with the segments of a dead process, in order."""
        self._is_adopted = True
        self._by_handle.update((segment.handle, segment) for segment in segments)
        self._segments.extend(segments)

    # --- any thread

    def append(self, frame: bytes, is_note: bool = False) -> OwnSegment | None:
        """Where the frame is now, or None: it could not be written.

        ``is_note``: for which a full journal is no failure.
        """
        segment = self.current
        if segment is None:
            return None
        try:
            segment.write(frame)
            return segment  # type: ignore[return-value]  # NoSegment always raises
        except (ValueError, OSError) as error:
            return self.append_behind(segment, error, frame, is_note)

    def append_behind(
        self,
        segment: OwnSegment | NoSegment,
        error: Exception,
        frame: bytes,
        is_note: bool = False,
    ) -> OwnSegment | None:
        """The same, after this segment would not take it: it is full, or its disk is."""
        while True:
            if isinstance(error, OSError):
                self._fail(error)
                return None
            following = self._rotate(segment, len(frame), is_note)
            if following is None:
                return None
            try:
                following.write(frame)
                return following
            except (ValueError, OSError) as again:
                segment, error = following, again

    def find(self, handle: int) -> Segment | None:
        """The segment that a record names, while its file is there."""
        return self._by_handle.get(handle)

    def has_left(self, handle: int) -> bool:
        """The segment that a record names is on disk, for whoever adopts it."""
        return handle in self._left

    def segments(self) -> list[Segment]:
        """Those of this moment, oldest first."""
        while True:
            try:
                return list(self._segments)
            except RuntimeError:  # changed meanwhile, by a finalizer
                continue

    @property
    def is_empty(self) -> bool:
        """No segment is left."""
        return not self._segments

    def drop_oldest(self, last_too: bool = False) -> int | None:
        """Delete the oldest segment, settled or not; how many records are lost, or None: none is left.

        ``last_too``: also the one that is being written.
        """
        segments = self.segments()
        for segment in segments:
            if last_too or not (segment.is_open or segment is segments[-1]):
                lost = segment.drop()
                self._forget(segment)
                return lost
        return None

    def _rotate(
        self, full: OwnSegment | NoSegment, room: int, is_note: bool = False
    ) -> OwnSegment | None:
        """The open segment behind a full one, made here unless there is one. None: no file."""
        if not self._token[0]:  # a signal handler forked inside a call of the parent
            return None
        full.seal()
        try:
            following = self._first_open() or self._make_next(full, room, is_note)
        except OSError as error:
            if is_note and isinstance(error, JournalFull):
                return None
            self._fail(error)
            return None
        if following is not None:
            if not self._token[0]:  # likewise, since it was made
                following.close()
                return None
            self.current = following
        return following

    def _make_next(
        self, full: OwnSegment | NoSegment, room: int, is_note: bool
    ) -> OwnSegment | None:
        while self._token[0]:
            chain = self._last_chain()
            is_new = chain is None
            chain = chain or self._new_chain()
            if chain is None:
                return None
            try:
                made = self._make(chain, self._size_after(full), room, is_note)
            except BaseException:
                if is_new:
                    chain.release(remove=True)
                raise
            self._by_handle[made.handle] = made  # before anybody can find it
            self._segments.append(made)
            following = self._first_open()
            if following is made:
                self._sizing.made(made.size)
                return made
            self._withdraw(made)  # another one came first, or the chain was ended meanwhile
            if following is not None:
                return following
        return None

    def _first_open(self) -> OwnSegment | None:
        for segment in self.segments():
            if isinstance(segment, OwnSegment) and segment.is_open:
                return segment
        return None

    def _last_chain(self) -> Chain | None:
        """The one that takes new segments, if there is one."""
        for segment in reversed(self.segments()):
            if not segment.chain.is_ended:
                return segment.chain
        return None

    def _make(self, chain: Chain, size: int, room: int, is_note: bool) -> OwnSegment:
        smallest = max(self._sizing.smallest, room)
        size = self._sizing.allowed(max(size, room), smallest, not is_note)
        if size < smallest:
            raise JournalFull(errno.EDQUOT, "there is no room under max_journal_bytes")
        if size > smallest:
            with contextlib.suppress(OSError):  # perhaps there is room for a small one
                return self._create(chain, size)
        return self._create(chain, smallest)

    def _create(self, chain: Chain, size: int) -> OwnSegment:
        path, header = chain.new_segment(self._where, self._environment)
        return OwnSegment.create(path, chain, header, size)

    def _withdraw(self, made: OwnSegment) -> None:
        made.seal()
        if made.is_empty():
            self._forget(made)
            made.remove()
            self._release_emptied()

    def _size_after(self, full: OwnSegment | NoSegment) -> int:
        """By how long that one lasted: threads that rotate at once all come to the same."""
        lasted = monotonic() - full.made_at
        size = full.size
        if lasted < _FAST:
            size *= _BURST_GROWTH if lasted < _BURST else _GROWTH
        elif lasted > _SLOW:
            size //= _GROWTH
        return max(self._sizing.smallest, min(self._sizing.largest, size))

    def _fail(self, error: OSError) -> None:
        self.current = None
        self._on_failure(error)

    def _forget(self, segment: Segment) -> None:
        """Take it out: whatever it held is settled, lost or left."""
        with contextlib.suppress(ValueError):  # somebody else did
            self._segments.remove(segment)
        self._by_handle.pop(segment.handle, None)
        self._emptied.append(segment.chain)

    def _release_emptied(self) -> None:
        """Give up the chains of which nothing is left."""
        with contextlib.suppress(IndexError):  # another took the last one meanwhile
            while self._emptied:
                chain = self._emptied.popleft()
                if not self._has(chain):
                    chain.is_ended = True  # first said, then looked again: see above
                    if not self._has(chain):
                        chain.release(remove=True)

    def _has(self, chain: Chain) -> bool:
        return any(segment.chain is chain for segment in self.segments())

    # --- the sender's pass

    def reopen(self) -> bool:
        """Try again after a failure. True: there is a file."""
        if self.current is None:
            self.retire()  # what is done takes room, and no later frame can say so
            self._rotate(_NOWHERE, 0)
            self._note_settled([])
        return self.current is not None

    def settle(self, segment: Segment, records: Sequence[Record]) -> bool:
        """Records of one segment are done. True: of a dead process, and nothing of it is left.

        Then nothing is noted, either.
        """
        segment.settle(records)
        if self._is_adopted and self.retire_if_done():
            return True
        self._note_settled([record[0] for record in records])
        self.sweep()
        return False

    def _note_settled(self, numbers: list[int]) -> None:
        """Note on disk that these are done, and those for which there was no room before."""
        numbers = self._unnoted + numbers
        if not numbers:
            return
        frame = encode_settled(numbers)
        home = self.append(frame, is_note=True)
        self._unnoted = [] if home is not None else numbers
        if home is not None:
            home.settle_frame(frame)

    def close_full(self) -> None:
        """Keep nothing open of what is full."""
        for segment in self.segments()[:-1]:
            segment.close_sealed()

    def sweep(self, last_too: bool = False) -> None:
        """Delete what is done, oldest first. The newest stays (it is being written), or not."""
        segments = self.segments()
        for segment in segments:
            if segment.chain.is_ended:
                segment.seal()
            if (segment is segments[-1] and not last_too) or not segment.is_done():
                break
            if not segment.remove():
                break
            self._forget(segment)
        self._release_emptied()

    def retire(self) -> bool:
        """Delete everything if everything is done. True: nothing is left.

        What is appended later begins a new chain.
        """
        for segment in self.segments():
            segment.seal()
        self.sweep(last_too=True)
        if self._segments:
            return False
        self._unnoted = []  # with the segments that they were in
        return True

    def retire_if_done(self) -> bool:
        """retire(), for a log to which no more records come: what was written here are notes."""
        left = self.segments()
        if any(not each.is_done() for each in left if isinstance(each, RecoveredSegment)):
            self.sweep()
            return False
        return self.retire()

    def release(self) -> None:
        """Leave what there is to whoever adopts it."""
        for segment in self.segments():
            segment.chain.is_ended = True  # no segment is added
        left = [segment for segment in self.segments() if segment.chain.is_ended]
        for segment in left:  # all, before a lock is given back
            segment.seal()
            segment.close_sealed()
        self._left.update(segment.handle for segment in left)
        for segment in left:
            self._forget(segment)
        for segment in left:
            segment.chain.release(remove=False)
        self.current = _NOWHERE

    def is_lost(self) -> bool:
        """Somebody deleted the file that is being written."""
        segments = self.segments()
        # What was the newest a moment ago may have been dropped by drop_oldest() since.
        return bool(segments) and _is_deleted(segments[-1]) and not segments[-1].is_dropped

    def abandon_deleted(self) -> int:
        """Go on in a new chain, after is_lost(); how many records were lost with the files."""
        for segment in self.segments():
            segment.chain.is_ended = True
        lost = 0
        for segment in self.segments():
            if _is_deleted(segment):
                lost += segment.drop()
                self._forget(segment)
        self.sweep()
        self.current = None  # until reopen()
        return lost

    # --- a child

    def close_in_child(self) -> None:
        """The copies of what the parent goes on with."""
        for segment in self.segments():
            segment.close()
            segment.chain.close_descriptor()


def _is_deleted(segment: Segment) -> bool:
    return isinstance(segment, OwnSegment) and not segment.is_there()
