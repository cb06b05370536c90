"""Taking over what dead processes left: claim a chain, read it, make a log of it.

A look lists the chains of the folder; they are then claimed some at a time, as there is room for
their records. Few of them keep a descriptor, for their lock; of many the locks become one.

Guarantees:
    A chain is adopted whole or not at all, by one process, which holds its lock from then on.
    What is damaged, foreign or unreadable is told once, and keeps nothing else from being adopted.
    A process that dies meanwhile leaves each chain as it was, or with a note of what is settled.
Lock-free: drop_oldest() may come from any thread; all else belongs to the sender's pass. Both own a
    chain by its lock before they read it.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Callable, Iterable

from whisperr._journal import reader
from whisperr._journal.file_system import PASSING
from whisperr._journal.folder import (
    files,
    lock_path,
    sequences_of,
    sized_files,
)
from whisperr._journal.format import Producer
from whisperr._journal.log import Log
from whisperr._journal.notices import Notices, reason
from whisperr._journal.ownership import Chain
from whisperr._journal.reader import NO_FILE, ChainContents, SegmentContents
from whisperr._journal.segment import RecoveredSegment
from whisperr._reporting.ledger import Ledger

_MAX_DESCRIPTORS = 16  # of chains with a lock of their own
_DROPPED_AT_ONCE = 64 * 1024  # bytes of the oldest, of short lives
_MAX_TRIES = 256  # chains of which perhaps all belong to living processes
_SMALL = 16 * 1024  # bytes of the records that are kept in memory until they are wanted


class Adoption:
    """Finds the chains of the dead in the folder of one destination."""

    def __init__(
        self,
        where: bytes,
        environment: bytes,
        new_chain: Callable[[], Chain],
        new_log: Callable[[], Log],
        keep: Callable[[Log], None],
        ledger: Ledger,
        notices: Notices,
    ) -> None:
        self._where = where
        self._environment = environment  # for a segment that has lost its own
        self._new_chain = new_chain
        self._new_log = new_log
        self._keep = keep  # called for each log as soon as its records are this process's
        self._ledger = ledger
        self._notices = notices
        self._candidates: deque[str] = deque()  # chains that were not looked at yet
        self._newest: dict[str, int] = {}  # the highest sequence of each; 0: only its lock is there
        self._refused: set[str] = set()  # of them, those that somebody had when first looked at
        self._with_descriptor: list[Chain] = []
        self._holder: Chain | None = None  # whose lock is that of all others
        self._can_link = True

    # --- the sender's pass

    @property
    def has_more(self) -> bool:
        """Some chains were not looked at yet, and there is room for one."""
        return bool(self._candidates) and self._has_room()

    def look(self, folder: str) -> None:
        """Which chains are there? OSError: no folder."""
        self._newest = {}
        for name, sequence in files(folder):
            self._newest[name] = max(sequence, self._newest.get(name, 0))
        names = sorted(self._newest)
        start = int.from_bytes(os.urandom(4), "little") % len(names) if names else 0
        self._candidates = deque(names[start:] + names[:start])  # not all begin at the same one
        self._refused = set()
        self._can_link = True

    def claim(self, folder: str, count: int) -> None:
        """Claim so many chains of the dead, or all there are, and keep a log of each."""
        chains: deque[Chain] = deque()
        self._forget_closed()
        try:
            found = os.stat(folder)
            while self.has_more and len(chains) < count:
                chain = self._claim(folder, self._candidates.popleft(), found)
                if chain is not None:
                    chains.append(chain)
            listed = sequences_of(folder, {chain.name for chain in chains})
            while chains:
                self._take(chains[0], listed)
                chains.popleft()
        except OSError as error:  # no folder any more
            self._cannot_adopt(error, folder)
        finally:
            for chain in chains:
                chain.release(remove=False)

    def release_holder(self) -> None:
        """No adopted chain is left."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.release(remove=True)

    def close_in_child(self) -> None:
        """The copy of what the parent goes on with."""
        if self._holder is not None:
            self._holder.close_descriptor()

    def _has_room(self) -> bool:
        """For one more: with a descriptor of its own, or without one."""
        if not self._can_link:
            self._forget_closed()
        return self._can_link or self._has_room_for_descriptor()

    def _has_room_for_descriptor(self) -> bool:
        return len(self._with_descriptor) < _MAX_DESCRIPTORS

    def _forget_closed(self) -> None:
        """Those that were delivered since."""
        if not self._has_room_for_descriptor():
            self._with_descriptor = [each for each in self._with_descriptor if each.has_descriptor]

    def _claim(self, folder: str, name: str, found: os.stat_result) -> Chain | None:
        try:
            chain = Chain.claim(folder, name, self._newest.get(name, 0), found)
            if chain is None:
                self._note_refused(folder, name)
                return None
            if chain.is_linked or not self._has_room_for_descriptor():
                chain = self._linked(chain)
            if chain is not None and chain.has_descriptor:
                self._with_descriptor.append(chain)
            return chain
        except OSError as error:  # perhaps the same with all of them: told once
            self._cannot_adopt(error, name)
            return None

    def _note_refused(self, folder: str, name: str) -> None:
        """The lock of many chains of a dead adopter is held for a moment, by whoever claims one."""
        if name in self._refused:
            return
        self._refused.add(name)
        with contextlib.suppress(OSError):
            if os.stat(lock_path(folder, name)).st_nlink > 1:
                self._candidates.append(name)

    def _linked(self, chain: Chain) -> Chain | None:
        """The chain, under the lock of all. None: it is another's, or there is no room for it."""
        try:
            if self._holder is None:
                self._holder = self._new_chain()
            if chain.share_lock(self._holder):
                return chain
        except OSError:  # no links on this file system, or no more of them
            self._can_link = False
            if chain.has_descriptor and self._has_room_for_descriptor():
                return chain
            self._candidates.append(chain.name)
        chain.release(remove=False)
        return None

    def _take(self, chain: Chain, listed: dict[str, list[int]]) -> None:
        """Keep a log of it, if something of it waits."""
        try:
            contents = self._read(chain, listed.get(chain.name, ()))
        except OSError as error:
            chain.release(remove=False)
            self._cannot_adopt(error, chain.name)
            return
        if contents.is_newer:
            chain.release(remove=False)
            message = "a journal was written by a newer version, and is left to it"
            self._notices.once(message, chain.name)
            return
        self._adopt(chain, contents)

    def _read(self, chain: Chain, listed: Iterable[int]) -> ChainContents:
        """OSError: not now."""
        segments = []
        for path in chain.segments(listed):
            try:
                segments.append(reader.read_segment(path, self._where))
            except OSError as error:
                if error.errno in PASSING:  # without it, what it settles would be sent again
                    raise
                self._notices.once(f"a segment can't be read ({type(error).__name__})", path)
        return ChainContents(segments)

    def _adopt(self, chain: Chain, contents: ChainContents) -> None:
        segments = [self._recovered(chain, contents, each) for each in contents.segments]
        if not segments:
            chain.release(remove=True)
            return
        waiting = sum(len(segment.backlog) for segment in segments)
        self._count(waiting)
        log = self._new_log()
        log.adopt(segments)
        if waiting or not log.retire_if_done():
            self._keep(log)

    def _recovered(
        self, chain: Chain, contents: ChainContents, segment: SegmentContents
    ) -> RecoveredSegment:
        if segment.is_damaged:
            what = f"{segment.damaged} bytes of a journal are damaged"
            what = "a segment is no file" if segment.fault == NO_FILE else what
            self._notices.once(what, segment.path)
        header = segment.header
        environment = header.environment if header else self._environment
        waiting = contents.waiting(segment)
        frames = waiting if sum(frame.size for frame in waiting) <= _SMALL else None
        producer = Producer(chain.prefix, environment)
        numbers = [frame.number for frame in waiting]
        return RecoveredSegment(segment, chain, numbers, producer, frames)

    def _count(self, records: int) -> None:
        self._ledger.adopted.add(records)
        self._ledger.spilled.add(records)

    def _cannot_adopt(self, error: OSError, what: str) -> None:
        why = f"a journal can't be adopted ({reason(error)})"
        self._notices.once(why, what, topic=why)

    # --- any thread

    def drop_oldest(self, folder: str) -> int | None:
        """Make room at the cost of dead processes that left one segment each, the oldest first.

        How many records are lost, as if they had been adopted; None: there is no such process. One
        that left more is adopted first, as it takes longer to read. OSError: no folder.
        """
        found: dict[str, list[tuple[int, int, int]]] = {}
        for name, sequence, size, changed in sized_files(folder):
            if sequence:
                found.setdefault(name, []).append((changed, sequence, size))
        single = sorted((files[0], name) for name, files in found.items() if len(files) == 1)
        lost, freed = None, 0
        for (_, sequence, size), name in single[:_MAX_TRIES]:
            dropped = self._drop(folder, name, sequence)
            if dropped is not None:
                lost, freed = (lost or 0) + dropped, freed + size
            if freed >= _DROPPED_AT_ONCE:
                break
        return lost

    def _drop(self, folder: str, name: str, sequence: int) -> int | None:
        """None: it lives, or can't be dropped."""
        try:
            chain = Chain.claim(folder, name)
            if chain is None:
                return None
            is_dropped = False
            try:
                contents = self._read(chain, [sequence])
                if contents.is_newer:
                    return None
                for segment in contents.segments:
                    os.unlink(segment.path)
                is_dropped = True
            finally:
                chain.release(remove=is_dropped)
        except OSError:
            return None
        count = sum(len(contents.waiting(segment)) for segment in contents.segments)
        self._count(count)
        return count
