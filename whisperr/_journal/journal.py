"""Crash durability: what track() has returned from survives SIGKILL.

Each client of each process writes a log of its own and delivers from memory; the disk is read
again only for what memory had no room for (spilled), and for what dead processes left behind
(adopted). Both are the backlog of a segment, and both come back through refill().

What many dead processes left is taken as one: refill() claims chains until it has the records for
full batches. A pass that somebody waits for takes all the time it needs for that. Any other takes
no longer than this process has lived already, so that one which dies young loses little by it.

Guarantees:
    appender() and keep_*() return when the record is in a file; where there is none to be
    had, the record is in memory alone, which is told once, and the disk is tried again at
    every pass.
    What is adopted is delivered with its own ids, its own times and its own environment.
Lock-free: the methods under "any thread" may come from any thread and any signal handler, see
    log. All else belongs to the sender's pass.
Fork: the child closes its copies (close_in_child) and has a journal of its own.
"""

from __future__ import annotations

import errno
import logging
import math
from itertools import chain as chained
from itertools import groupby
from typing import Callable, Iterator, Sequence

from whisperr._clock import monotonic
from whisperr._encoding.records import Event, Identity, Record
from whisperr._journal import folder as folders
from whisperr._journal.adoption import Adoption
from whisperr._journal.format import encode_event, encode_identity
from whisperr._journal.log import LARGEST, SMALLEST, JournalFull, Log, Sizing
from whisperr._journal.notices import Notice, Notices, reason
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import Segment
from whisperr._journal.space_limit import SpaceLimit
from whisperr._process import at_fork
from whisperr._process.fork_token import ForkToken
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import say
from whisperr._settings import Settings

ADOPT_INTERVAL = 60.0  # seconds between two looks for what dead processes left behind
_FIRST_CLAIM, _LARGEST_CLAIM = 32, 512  # chains at once: each claim is twice the one before
_MAX_REFILL = 2000  # records at once
# Of the segments in which an adopter notes what is done: nothing is dropped for them.
_NOTES = Sizing(SMALLEST, SMALLEST, lambda wanted, least, may_drop: wanted, lambda size: None)


def _no_chain() -> None:
    """An adopter's notes go into the chain that it has adopted, and into no other."""


def _segment_of(record: Record) -> int | None:
    return record.segment if isinstance(record, Identity) else record[4]


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
        self._where = folders.destination(*settings.destination)
        self._environment = environment
        self._prefix = prefix
        self._ledger = ledger
        self._made_at = monotonic()
        self._notices = Notices()
        self._is_off = False  # and that was told
        self._limit = SpaceLimit(
            settings.max_journal_bytes, self._open_folder, self._drop_oldest, self._failed
        )
        largest = max(SMALLEST, min(LARGEST, settings.max_journal_bytes // 16))
        self._log = Log(
            self._new_chain,
            self._where,
            environment,
            Sizing(SMALLEST, largest, self._limit.allowed, self._limit.made),
            self._failed,
            token,
        )
        self._adopted: list[Log] = []
        self._home: dict[int, Log] = {}  # by handle of a segment: which of the adopted ones has it
        self._adoption = Adoption(
            self._where,
            environment,
            self._new_chain,
            self._new_adopted_log,
            self._keep_adopted,
            ledger,
            self._notices,
        )
        at_fork.join(self)

    def _new_adopted_log(self) -> Log:
        return Log(
            _no_chain,
            self._where,
            self._environment,
            _NOTES,
            self._cannot_note,
            self._token,
        )

    def _keep_adopted(self, log: Log) -> None:
        self._home.update((segment.handle, log) for segment in log.segments())
        self._adopted.append(log)

    # --- any thread

    def appender(
        self, append: Callable[[Event], object], report: Callable[[Exception], object]
    ) -> Callable[[Event], None]:
        """What appends an event to the disk, and then by ``append``, with what names its place there.

        One function with all it needs at hand: it is in every track(). ``report`` hears of what
        nobody expects here (no memory, a defect); the event is appended all the same.
        """
        log = self._log

        def append_event(event: Event) -> None:
            number, when, call, extra, handle = event
            try:
                segment = log.current  # and so Log.append() is written out, without its call
                if segment is not None:
                    frame = encode_event(number, when, call, extra)
                    try:
                        segment.write(frame)
                        handle = segment.handle
                    except (ValueError, OSError) as error:
                        home = log.append_behind(segment, error, frame)
                        handle = None if home is None else home.handle
            except Exception as error:
                report(error)
            append((number, when, call, extra, handle))

        return append_event

    def keep_event(self, event: Event) -> Event:
        """The same record, on disk if that is possible."""
        segment = self._log.append(encode_event(*event[:4]))
        return event if segment is None else (*event[:4], segment.handle)

    def keep_identity(self, identity: Identity) -> Identity:
        """The same record, on disk if that is possible."""
        if self._log.current is None:
            return identity
        segment = self._log.append(encode_identity(identity))
        return identity if segment is None else identity._replace(segment=segment.handle)

    def keep(self, record: Record) -> Record:
        """A record of either kind, on disk if that is possible."""
        if isinstance(record, Identity):
            return self.keep_identity(record)
        return self.keep_event(record)

    def spill(self, record: Record) -> bool:
        """Memory has no room for it. False: it is on no disk, and so it is lost."""
        handle = _segment_of(record)
        if handle is None:
            return False
        segment = self._find(handle)[1]
        if segment is None:
            left = any(log.has_left(handle) for log in self._logs())
            self._ledger.spilled.add(int(left))
            return left
        self._ledger.spilled.add(1)
        if not segment.backlog.add(record[0]):
            self._ledger.spilled.add(-1)
            return False
        if segment.backlog.take_arrived(record[0]):  # in flight, and the answer came meanwhile
            self._ledger.spilled.add(-1)
            self._ledger.delivered.add(1)
        return True

    def _logs(self) -> list[Log]:
        """All, the oldest records first."""
        return [*self._adopted, self._log]

    def _segments(self) -> Iterator[Segment]:
        return chained.from_iterable(log.segments() for log in self._logs())

    def _find(self, handle: int) -> tuple[Log, Segment | None]:
        log = self._home.get(handle, self._log)
        return log, log.find(handle)

    def _new_chain(self) -> Chain:
        return Chain.create(self._open_folder(), self._prefix)

    def _open_folder(self) -> str:
        return folders.open_folder(self._folder, self._where)

    def _failed(self, error: OSError) -> None:
        if not self._is_off:
            self._is_off = True
            why = reason(error) if error.errno else type(error).__name__
            message = f"the journal in {self._folder} can't be used ({why}): memory only until it works again"
            if isinstance(error, JournalFull):
                message = f"the journal in {self._folder} is full (max_journal_bytes): memory only until there is room"
            self._notices.add(message, f"{self._folder}: {error.strerror}")

    def _drop_oldest(self) -> bool:
        """To make room: of the dead first. False: nothing is left that may be dropped."""
        for drop in (self._drop_adopted, self._drop_unclaimed, self._log.drop_oldest):
            lost = drop()
            if lost is not None:
                self._lost(lost, "the journal is full (max_journal_bytes): dropped the oldest")
                return True
        return False

    def _drop_adopted(self) -> int | None:
        for log in list(self._adopted):
            lost = log.drop_oldest(last_too=True)
            if lost is not None:
                return lost
        return None

    def _drop_unclaimed(self) -> int | None:
        return self._adoption.drop_oldest(self._open_folder())

    def _lost(self, count: int, message: str) -> None:
        if count:
            self._ledger.spilled.add(-count)
            self._ledger.dropped[Reason.JOURNAL].add(count)
            self._notices.add(f"{message}, {count} record{'s' * (count > 1)}", lost=count)

    # --- the sender's pass

    def notices(self) -> list[Notice]:
        """What has happened since this was last asked."""
        return self._notices.take()

    def backlog(self) -> int:
        """Records that are on disk and not in memory."""
        return sum(len(segment.backlog) for segment in self._segments())

    def is_due(self) -> bool:
        """A pass would find something: a backlog, or the time to look for one."""
        return monotonic() >= self.adopt_at or self.more_dead or self.backlog() > 0

    def maintain(self) -> None:
        """At the begin of each pass: is the folder there, does it work again, who has died?"""
        if self._is_forked_copy():
            return
        if self._log.is_lost():
            self._failed(FileNotFoundError(errno.ENOENT, "its files were deleted"))
            self._lost(self._log.abandon_deleted(), "the journal's files were deleted")
        if self._log.reopen() and self._is_off:
            self._is_off = False
            say(logging.INFO, f"the journal in {self._folder} works again")
        self._log.close_full()
        self._retire_adopted()
        for log in self._adopted:  # or what is delivered from now on could not be noted
            log.reopen()
        if monotonic() >= self.adopt_at:
            self.adopt_at = monotonic() + ADOPT_INTERVAL
            try:
                self._adoption.look(self._open_folder())
            except OSError as error:
                self._failed(error)

    def settle(self, records: Sequence[Record]) -> None:
        """They were delivered, or dropped for good."""
        if self._is_forked_copy():
            return
        by_segment: dict[int, list[Record]] = {}
        for handle, run in groupby(records, key=_segment_of):
            if handle is not None:
                by_segment.setdefault(handle, []).extend(run)
        is_done = False
        for handle, settled in by_segment.items():
            log, segment = self._find(handle)
            if segment is not None:
                is_done = log.settle(segment, settled) or is_done
        if is_done:
            self._forget_done()

    def arrived_after_all(self, records: Sequence[Record]) -> int:
        """An exit gave some of these up while they were in flight; how many of them it had spilled.

        Else they would be read again, sent again, and settled twice.
        """
        found = 0
        for record in records:
            handle = _segment_of(record)
            segment = None if handle is None else self._find(handle)[1]
            if segment is not None:
                found += segment.backlog.note_arrived(record[0])
        self._ledger.spilled.add(-found)
        return found

    def newest_spilled(self) -> int:
        """The highest number of this process that is on disk alone; -1 if there is none."""
        return max((each.backlog.newest() for each in self._log.segments()), default=-1)

    def has_older(self, number: int) -> bool:
        """Something of this process is on disk alone that is older than this."""
        return any(each.backlog.has_older(number) for each in self._log.segments())

    @property
    def more_dead(self) -> bool:
        """Chains are there that were not looked at yet."""
        return self._adoption.has_more

    def refill(self, room: int, is_waited_for: bool) -> list[Record] | None:
        """Some of what is on disk alone, the dead processes' first; no more than there is room for.

        None: it can't be read now.
        """
        if self._is_forked_copy():
            return []
        wanted = max(1, min(room, _MAX_REFILL))
        begun = monotonic()
        give_up_at = math.inf if is_waited_for else 2 * begun - self._made_at
        chains = _FIRST_CLAIM
        records = self._load(self._segments(), wanted)
        while records is not None and len(records) < wanted and self._adoption.has_more:
            known = len(self._adopted)
            self._adoption.claim(folders.path_of(self._folder, self._where), chains)
            chains = min(2 * chains, _LARGEST_CLAIM)
            new = chained.from_iterable(log.segments() for log in self._adopted[known:])
            more = self._load(new, wanted - len(records))
            if more is None:
                break
            records += more
            if records and monotonic() >= give_up_at:
                break
        return records

    def _load(self, segments: Iterator[Segment], wanted: int) -> list[Record] | None:
        """So many records of their backlogs, or all. None: one can't be read now."""
        found: list[Record] = []
        lost = 0
        try:
            for segment in segments:
                while segment.backlog and len(found) < wanted:
                    records, unreadable = segment.load(wanted - len(found))
                    self._ledger.spilled.add(-len(records))
                    lost += unreadable
                    found += records
        except OSError as error:
            why = f"the journal can't be read now ({reason(error)})"
            self._notices.once(why, self._folder, topic=why)
            return found or None
        finally:
            self._lost(lost, "the journal could not be read")
        return found

    def retire(self) -> None:
        """At an exit, with everything delivered: leave no file behind."""
        if not self._is_forked_copy():
            self._log.retire()

    def release(self) -> None:
        """Leave what is not delivered to the next process."""
        if self._is_forked_copy():
            return
        for log in self._logs():
            if not log.retire():
                log.release()
        self._adoption.release_holder()

    def is_clean(self) -> bool:
        """No file of this process is left."""
        return not self._log.segments()

    def _retire_adopted(self) -> None:
        if sum(log.retire_if_done() for log in self._adopted):  # of all of them, so not any()
            self._forget_done()

    def _forget_done(self) -> None:
        self._adopted = [log for log in self._adopted if not log.is_empty]
        self._home = {each.handle: log for log in self._adopted for each in log.segments()}
        if not self._adopted:
            self._adoption.release_holder()

    def _cannot_note(self, error: OSError) -> None:
        """It is delivered all the same, and sent again by the next process, under the same ids."""
        why = f"no note can be made of what is adopted ({reason(error)})"
        self._notices.once(why, self._folder, topic=why)

    # --- a child

    def _is_forked_copy(self) -> bool:
        """A signal handler forked inside a pass, and in the child the pass goes on, to here."""
        return not self._token[0]

    def close_in_child(self) -> None:
        """Close what the parent goes on with. Again, where a fork ran no hook: no harm."""
        if self._is_forked_copy():  # else made in this child: another hook came before ours
            for log in self._logs():
                log.close_in_child()
            self._adoption.close_in_child()

    after_fork_in_child = close_in_child  # as at_fork calls it
