"""Taking over what dead processes left: claim a chain, read it, make a log of it.

Guarantees:
    A chain is adopted whole or not at all, by one process, which holds its lock from then on.
    What is damaged, foreign or unreadable is told once, and keeps nothing else from being adopted.
Belongs to the sender's pass.
"""

from __future__ import annotations

import os
from typing import Callable, Iterator

from whisperr._journal import reader
from whisperr._journal.file_system import PASSING
from whisperr._journal.folder import files
from whisperr._journal.format import Producer
from whisperr._journal.log import Log
from whisperr._journal.notices import Notices, reason
from whisperr._journal.ownership import Chain
from whisperr._journal.reader import NO_FILE, ChainContents, SegmentContents
from whisperr._journal.segment import RecoveredSegment
from whisperr._reporting.ledger import Ledger


class Adoption:
    """Finds the chains of the dead in the folder of one destination."""

    def __init__(
        self,
        where: bytes,
        environment: bytes,
        new_log: Callable[[], Log],
        ledger: Ledger,
        notices: Notices,
    ) -> None:
        self._where = where
        self._environment = environment  # for a segment that has lost its own
        self._new_log = new_log
        self._ledger = ledger
        self._notices = notices

    def claim_all(self, folder: str) -> Iterator[Log]:
        """One log after the other, for as long as the caller asks. OSError: no folder."""
        names = sorted({name for name, _ in files(folder)})
        start = os.getpid() % len(names) if names else 0  # not all processes at the same one
        for name in names[start:] + names[:start]:
            try:
                log = self._claim(folder, name)
            except OSError as error:  # perhaps the same with all of them: told once
                why = f"a journal can't be adopted ({reason(error)})"
                self._notices.once(why, name, topic=why)
                continue
            if log is not None:
                yield log

    def _claim(self, folder: str, name: str) -> Log | None:
        chain = Chain.claim(folder, name)
        if chain is None:
            return None
        try:
            contents = self._read(chain)
        except BaseException:
            chain.release(remove=False)
            raise
        if contents.is_newer:
            chain.release(remove=False)
            message = "a journal was written by a newer version, and is left to it"
            self._notices.once(message, name)
            return None
        return self._adopted(chain, contents)

    def _read(self, chain: Chain) -> ChainContents:
        """OSError: not now."""
        segments = []
        for path in chain.segments():
            try:
                segments.append(reader.read_segment(path, self._where))
            except OSError as error:
                if error.errno in PASSING:  # without it, what it settles would be sent again
                    raise
                self._notices.once(f"a segment can't be read ({type(error).__name__})", path)
        return ChainContents(segments)

    def _adopted(self, chain: Chain, contents: ChainContents) -> Log | None:
        """None: nothing of it waits."""
        segments = [self._recovered(chain, contents, each) for each in contents.segments]
        count = sum(len(segment.backlog) for segment in segments)
        self._ledger.adopted.add(count)
        self._ledger.spilled.add(count)
        if not segments:
            chain.release(remove=True)
            return None
        log = self._new_log()
        log.adopt(segments)
        return None if log.retire_if_done() else log

    def _recovered(
        self, chain: Chain, contents: ChainContents, segment: SegmentContents
    ) -> RecoveredSegment:
        if segment.is_damaged:
            what = f"{segment.damaged} bytes of a journal are damaged"
            what = "a segment is no file" if segment.fault == NO_FILE else what
            self._notices.once(what, segment.path)
        header = segment.header
        environment = header.environment if header else self._environment
        waiting = [frame.number for frame in contents.waiting(segment)]
        producer = Producer(chain.prefix, environment)
        return RecoveredSegment(segment, chain, waiting, producer)
