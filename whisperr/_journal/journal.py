"""Crash durability: what track() has returned from survives SIGKILL.

Each client of each process writes a log of its own and delivers from memory; the disk is read
again only for what memory had no room for (spilled), and for what dead processes left behind
(adopted). Both are the backlog of a segment, and both come back through refill().

Guarantees:
    keep_*() returns when the record is in a file; where there is none to be had, the record is
    in memory alone, which is reported once, and the disk is tried again at every pass.
    What is adopted is delivered with its own ids, its own times and its own environment.
Guarded by nothing: keep_*() may come from any thread and any handler. All else belongs to the
    sender's pass, save for _trim(), which is one call's turn: it goes on until the limit holds.
Fork: the child closes its copies (after_fork_in_child) and has a journal of its own.
"""

from __future__ import annotations

import errno
import os
import time
from bisect import bisect_right
from collections import deque
from itertools import groupby
from typing import Callable, NamedTuple, Sequence

from whisperr._atomic import Turn
from whisperr._encoding.records import Event, Identity, Record
from whisperr._journal import format as file_format
from whisperr._journal import ownership
from whisperr._journal.log import SMALLEST, Log
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import PASSING, Found, Segment
from whisperr._process import at_fork
from whisperr._process.fork_token import ForkToken
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import logger
from whisperr._settings import Settings

ADOPT_INTERVAL = 60.0  # seconds between two looks for what dead processes left behind
_MAX_ADOPTED = 16  # chains at once: each costs a descriptor
_MAX_REFILL = 2000  # records at once
_NOTES = 4 * 1024  # bytes of a segment in which an adopter notes what is done
_SHARES = 8  # processes that may write as fast as this one, before a look at the folder


def _segment_of(record: Record) -> int | None:
    return record.segment if isinstance(record, Identity) else record[4]


class News(NamedTuple):
    """What the application should hear of. ``lost``: records, 0 if none is."""

    lost: int
    message: str
    detail: str | None = None


class Journal:
    """What one client of this process has on disk."""

    def __init__(
        self,
        settings: Settings,
        environment: bytes,
        prefix: bytes,
        ledger: Ledger,
        token: ForkToken,
    ) -> None:
        assert settings.journal_dir is not None
        self.adopt_at = 0.0  # monotonic; at once
        self._token = token
        self._folder = settings.journal_dir
        self._where = ownership.destination(settings.base_url, settings.key.reveal())
        self._environment = environment
        self._prefix = prefix
        self._ledger = ledger
        self._max_bytes = settings.max_journal_bytes
        self._news: deque[News] = deque()
        self._is_off = False  # and that was reported
        self._adopted: list[Log] = []
        self.more_dead = False  # left unclaimed, as there was no room
        self._told: set[str] = set()  # names of files that were reported once
        self._trimming = Turn()
        self._room = 0  # bytes in the folder up to the limit, when it was last looked at
        self._made = 0  # bytes since then
        self._log = self._new_log(self._new_chain, SMALLEST, self._failed, self._trim)
        at_fork.join(self)

    def _new_log(
        self,
        new_chain: Callable[[], Chain],
        smallest: int,
        on_failure: Callable[[OSError], None],
        on_rotation: Callable[[int], None],
    ) -> Log:
        return Log(
            new_chain,
            self._where,
            self._environment,
            smallest,
            self._max_bytes // 16,
            on_failure,
            on_rotation,
            self._token,
        )

    # --- any thread

    def keep_event(self, event: Event) -> Event:
        """The same record, on disk if that is possible."""
        if self._log.current is None:
            return event
        segment = self._log.append(file_format.encode_event(event))
        if segment is None:
            return event
        number, when, call, extra, _ = event
        return (number, when, call, extra, segment.handle)

    def keep_identity(self, identity: Identity) -> Identity:
        """The same record, on disk if that is possible."""
        if self._log.current is None:
            return identity
        segment = self._log.append(file_format.encode_identity(identity))
        return identity if segment is None else identity._replace(segment=segment.handle)

    def keep(self, record: Record) -> Record:
        return (
            self.keep_identity(record) if isinstance(record, Identity) else self.keep_event(record)
        )

    def spill(self, record: Record) -> bool:
        """Memory has no room for it. False: it is on no disk, and so it is lost."""
        handle = _segment_of(record)
        if handle is None:
            return False
        segment = self._find(handle)[1]
        if segment is None:
            left = any(log.has_left(handle) for log in [*self._adopted, self._log])
            self._ledger.spilled.add(int(left))
            return left
        self._ledger.spilled.add(1)
        if not segment.spill(record[0]):
            self._ledger.spilled.add(-1)
            return False
        if segment.take_settled(record[0]):  # it was in flight, and the answer came meanwhile
            self._ledger.spilled.add(-1)
            self._ledger.delivered.add(1)
        return True

    def _find(self, handle: int) -> tuple[Log, Segment | None]:
        for log in [*self._adopted, self._log]:
            segment = log.find(handle)
            if segment is not None:
                return log, segment
        return self._log, None

    def _new_chain(self) -> Chain:
        return Chain.create(self._open_folder(), self._prefix)

    def _open_folder(self) -> str:
        return ownership.open_folder(self._folder, self._where)

    def _failed(self, error: OSError) -> None:
        if not self._is_off:
            self._is_off = True
            why = os.strerror(error.errno) if error.errno else type(error).__name__
            message = f"the journal can't be used ({why}): memory only until it works again"
            self._news.append(News(0, message, f"{self._folder}: {error.strerror}"))

    def _trim(self, size: int) -> None:
        """After a rotation: drop the oldest segments that are held here until the limit holds.

        A look at the folder is spared while this process has made but a part of the room there
        was: others may have made more.
        """
        self._made += size
        if self._made * _SHARES < self._room or not self._trimming.take():
            return
        try:
            self._made = 0
            self._trim_to_limit(self._open_folder())
        except OSError as error:
            self._failed(error)
        finally:
            self._trimming.release()

    def _trim_to_limit(self, folder: str) -> None:
        while True:
            self._room = self._max_bytes - ownership.used_bytes(folder)
            lost = self._drop_oldest() if self._room < 0 else None
            if lost is None:
                return
            self._lost(lost, "the journal is full (max_journal_bytes): dropped the oldest")

    def _drop_oldest(self) -> int | None:
        for log in [*self._adopted, self._log]:
            lost = log.drop_oldest(last_too=log is not self._log)
            if lost is not None:
                return lost
        return None

    def _lost(self, count: int, message: str) -> None:
        if count:
            self._ledger.spilled.add(-count)
            self._ledger.dropped[Reason.JOURNAL].add(count)
            self._news.append(News(count, f"{message}, {count} record{'s' * (count > 1)}"))

    # --- the sender's pass

    def news(self) -> list[News]:
        """What has happened since this was last asked."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def backlog(self) -> int:
        """Records that are on disk and not in memory."""
        return sum(segment.backlog() for log in [self._log, *self._adopted] for segment in log)

    def is_due(self) -> bool:
        """A pass would find something: a backlog, or the time to look for one."""
        return time.monotonic() >= self.adopt_at or self.backlog() > 0

    def look_after(self) -> None:
        """At the begin of each pass: is the folder there, does it work again, who has died?"""
        if self._is_inherited():
            return
        if self._log.is_lost():
            self._failed(FileNotFoundError(errno.ENOENT, "its files were deleted"))
            self._lost(self._log.forsake(), "the journal's files were deleted")
        if self._log.reopen() and self._is_off:
            self._is_off = False
            logger.info("the journal works again")
        self._log.let_go()
        self._retire_adopted()
        for log in self._adopted:  # or what is delivered from now on could not be noted
            log.reopen()
        if time.monotonic() >= self.adopt_at:
            self.adopt_at = time.monotonic() + ADOPT_INTERVAL
            self._adopt()

    def settle(self, records: Sequence[Record]) -> None:
        """They were delivered, or dropped for good."""
        if self._is_inherited():
            return
        by_segment: dict[int, list[Record]] = {}
        for handle, run in groupby(records, key=_segment_of):
            if handle is not None:
                by_segment.setdefault(handle, []).extend(run)
        for handle, settled in by_segment.items():
            log, segment = self._find(handle)
            if segment is not None:
                log.settle(segment, settled)
        self._retire_adopted()

    def arrived_after_all(self, records: Sequence[Record]) -> int:
        """An exit gave some of these up while they were in flight; how many of them it had spilled.

        Else they would be read again, sent again, and settled twice.
        """
        found = 0
        for record in records:
            handle = _segment_of(record)
            segment = None if handle is None else self._find(handle)[1]
            if segment is not None:
                segment.settled_early.add(record[0])  # first noted, then looked, as in spill()
                found += segment.take_settled(record[0])
        self._ledger.spilled.add(-found)
        return found

    def newest_spilled(self) -> int:
        """The highest number of this process that is on disk alone; -1 if there is none."""
        return max((segment.newest_spilled() for segment in self._log), default=-1)

    def has_older(self, number: int) -> bool:
        """Something of this process is on disk alone that is older than this."""
        return any(segment.has_older(number) for segment in self._log)

    def _retire_adopted(self) -> None:
        for log in [log for log in self._adopted if log.retire_if_done()]:
            self._adopted.remove(log)

    def refill(self, room: int) -> list[Record] | None:
        """Some of what is on disk alone, the dead processes' first; no more than there is room for.

        None: it can't be read now.
        """
        if self._is_inherited():
            return []
        if self.more_dead and not self._adopted:
            self._adopt()
        lost = 0
        try:
            for segment in (segment for log in [*self._adopted, self._log] for segment in log):
                while segment.backlog():
                    records, unreadable = segment.load(max(1, min(room, _MAX_REFILL)))
                    self._ledger.spilled.add(-len(records))
                    lost += unreadable
                    if records:
                        return records
            return []
        except OSError as error:
            why = f"the journal can't be read now ({os.strerror(error.errno or 0)})"
            self._tell(self._folder, why, once=why)
            return None
        finally:
            self._lost(lost, "the journal could not be read")

    def retire(self) -> None:
        """At an exit, with everything delivered: leave no file behind."""
        if not self._is_inherited():
            self._log.retire()

    def release(self) -> None:
        """Leave what is not delivered to the next process."""
        if self._is_inherited():
            return
        for log in [*self._adopted, self._log]:
            if not log.retire():
                log.release()

    def is_clean(self) -> bool:
        """No file of this process is left."""
        return all(not segment.path for segment in self._log)

    def _adopt(self) -> None:
        """Claim chains of dead processes, as many as there is room for."""
        self.more_dead = False
        try:
            folder = self._open_folder()
            names = sorted({name for name, _ in ownership.files(folder)})
        except OSError as error:
            self._failed(error)
            return
        start = os.getpid() % len(names) if names else 0  # not all processes at the same one
        for name in names[start:] + names[:start]:
            if len(self._adopted) >= _MAX_ADOPTED:
                self.more_dead = True
                return
            try:
                chain = Chain.claim(folder, name)
                if chain is not None:
                    self._take_over(chain, self._found(chain))
            except OSError as error:  # perhaps the same with all of them: reported once
                why = f"a journal can't be adopted ({os.strerror(error.errno or 0)})"
                self._tell(name, why, once=why)

    def _found(self, chain: Chain) -> list[Found]:
        """Its segments. OSError: not now; the chain is released."""
        found = []
        try:
            for path in chain.segments():
                try:
                    found.append(Found(path, chain.prefix, self._environment, self._where))
                except OSError as error:
                    if error.errno in PASSING:  # without it, what it settles would be sent again
                        raise
                    self._tell(path, f"a segment can't be read ({type(error).__name__})")
        except BaseException:
            chain.release(remove=False)
            raise
        return found

    def _take_over(self, chain: Chain, found: list[Found]) -> None:
        name = chain.name
        if any(item.fault == file_format.NEWER for item in found):
            chain.release(remove=False)
            self._tell(name, "a journal was written by a newer version, and is left to it")
            return
        done = SettledNumbers([numbers for item in found for numbers in item.settled])
        count = sum(item.open(done.contains) for item in found)
        for item in found:
            if item.segment.is_damaged:
                what = f"{item.damaged} bytes of a journal are damaged"
                self._tell(item.segment.path, what if item.is_file else "a segment is no file")
        self._ledger.adopted.add(count)
        self._ledger.spilled.add(count)
        log = self._new_log(lambda: chain, _NOTES, self._cannot_note, lambda size: None)
        log.inherit(chain, [item.segment for item in found])
        if not log.retire_if_done():
            self._adopted.append(log)

    def _cannot_note(self, error: OSError) -> None:
        """It is delivered all the same, and sent again by the next process, under the same ids."""
        why = f"no note can be made of what is adopted ({os.strerror(error.errno or 0)})"
        self._tell(self._folder, why, once=why)

    def _tell(self, name: str, message: str, once: str | None = None) -> None:
        if (once or name) not in self._told:
            self._told.add(once or name)
            self._news.append(News(0, message, name))

    # --- a child

    def _is_inherited(self) -> bool:
        """A signal handler forked inside a pass, and in the child the pass goes on, to here."""
        return not self._token[0]

    def after_fork_in_child(self) -> None:
        """Close what the parent goes on with. Again, where a fork ran no hook: no harm."""
        if self._token[0]:  # made in this child: another hook came before ours
            return
        for log in [self._log, *self._adopted]:
            log.disown()


class SettledNumbers:
    """A set of numbers, kept as ranges."""

    def __init__(self, ranges: list[range]) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for numbers in sorted(ranges, key=lambda numbers: numbers.start):
            if self._stops and numbers.start <= self._stops[-1]:
                self._stops[-1] = max(self._stops[-1], numbers.stop)
            else:
                self._starts.append(numbers.start)
                self._stops.append(numbers.stop)

    def contains(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]
