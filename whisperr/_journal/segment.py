"""One file of the journal: written by this process, or recovered from a dead one.

Guarantees:
    write() of an own segment is one indivisible append, see store. A number in the backlog of
    a segment is given out once, see backlog.
Lock-free:
    What is settled is counted by the sender's pass alone. drop() may come from any thread.
Fork: the child closes its copies (close) and never writes: see store.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import count
from typing import Callable, Sequence, Union

from whisperr._clock import monotonic
from whisperr._encoding.records import Record
from whisperr._journal import format as file_format
from whisperr._journal import reader
from whisperr._journal.backlog import Backlog
from whisperr._journal.file_system import PASSING
from whisperr._journal.format import Frame, Header, Producer
from whisperr._journal.ownership import Chain
from whisperr._journal.reader import SegmentContents
from whisperr._journal.store import MappedStore, Store, WrittenStore

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_MODE = 0o600
_handles = count(1)  # a record names its segment by one of these


class _File:
    """What both kinds of segments have in common."""

    _producer: Producer | None = None  # None: this process

    def __init__(self, path: str, chain: Chain, waiting: Sequence[int] = ()) -> None:
        self.path = path
        self.chain = chain
        self.handle = next(_handles)
        self.backlog = Backlog(waiting)
        self._frames: dict[int, Frame] | None = None  # while they are being loaded

    @property
    def is_dropped(self) -> bool:
        return self.backlog.is_closed

    def drop(self) -> int:
        """Delete the file, settled or not; how many records are lost by that. Any thread."""
        self.backlog.is_closed = True  # who adds to it from now on finds that out
        _delete(self.path)
        return self.backlog.close()

    def load(self, count: int) -> tuple[list[Record], int]:
        """At most ``count`` of the backlog, and how many could not be read.

        OSError: they can't be read now, and are here still.
        """
        numbers = self.backlog.take(count)
        frames = self._frames or {}
        if any(number not in frames for number in numbers):
            try:
                frames = self._read()
            except OSError:
                lost = self.backlog.give_back(numbers)
                if not lost:
                    raise
                return [], lost
        records = []
        for number in numbers:
            frame = frames.get(number)
            record = frame and file_format.decode_record(frame, self.handle, self._producer)
            if record is not None:
                records.append(record)
        self._frames = frames if self.backlog else None
        return records, len(numbers) - len(records)

    def _read(self) -> dict[int, Frame]:
        try:
            contents = reader.read_segment(self.path)
        except OSError as error:
            if error.errno in PASSING:
                raise
            return {}
        return {frame.number: frame for frame in contents.records}


class OwnSegment(_File):
    """A file that this process made, and may still be writing."""

    def __init__(
        self, path: str, chain: Chain, store: Store, size: int, header_bytes: int, inode: int
    ) -> None:
        super().__init__(path, chain)
        self.write: Callable[[bytes], object] = store.write  # see Store
        self.size = size  # bytes beside the header
        self.made_at = monotonic()
        self._store = store
        self._header_bytes = header_bytes
        self._settled = header_bytes  # of all that was written
        self._inode = inode

    @staticmethod
    def create(path: str, chain: Chain, header: Header, size: int) -> OwnSegment:
        """A new file of at least ``size`` bytes beside its header. OSError: no room, no right."""
        encoded = file_format.encode_header(header)
        is_mappable = chain.is_mappable()
        fd = os.open(path, _CREATE, _MODE)
        try:
            found = os.fstat(fd)
            if stat.S_IMODE(found.st_mode) != _MODE:  # the umask would stop an adopter
                os.fchmod(fd, _MODE)
            whole = size + len(encoded)
            store: Store = MappedStore(fd, whole) if is_mappable else WrittenStore(fd, whole)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
                os.unlink(path)
            raise
        try:
            store.write(encoded)
            return OwnSegment(path, chain, store, size, len(encoded), found.st_ino)
        except BaseException:  # of a full disk, where nothing is reserved
            store.close()
            os.unlink(path)
            raise

    # --- any thread

    @property
    def is_open(self) -> bool:
        """More may be written to it, as far as there is room."""
        return self._store.is_open and not self.chain.is_ended

    def seal(self) -> None:
        """Let nothing more in."""
        self._store.seal()

    def is_empty(self) -> bool:
        """It is sealed, and nothing was written to it."""
        return self._store.end() == self._header_bytes

    def close_sealed(self) -> None:
        """Keep nothing open of one that is full: an outage may leave a thousand."""
        self._store.close_sealed()

    def close(self) -> None:
        """Write no more. In a child: to the parent's segment, which goes on unharmed."""
        self._store.close()

    def drop(self) -> int:
        self.seal()
        self.close_sealed()
        return super().drop()

    # --- the sender's pass

    def settle(self, records: Sequence[Record]) -> None:
        """They are done: delivered, or dropped for good."""
        self._settled += file_format.size_of_all(records)

    def settle_frame(self, frame: bytes) -> None:
        """It needs no settling."""
        self._settled += len(frame)

    def is_done(self) -> bool:
        """Nothing here is needed any more, and nothing can be added."""
        return self._store.end() == self._settled

    def remove(self) -> bool:
        """Delete the file. False: it can't be done now."""
        self._store.close()
        return _delete(self.path)

    def is_there(self) -> bool:
        """The file is where it was made, and so will be found."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # nobody can tell now
            return True


class RecoveredSegment(_File):
    """A file that a dead process wrote. Its backlog is what was not settled."""

    is_open = False

    def __init__(
        self,
        contents: SegmentContents,
        chain: Chain,
        waiting: Sequence[int],
        producer: Producer,
        frames: Sequence[Frame] | None = None,
    ) -> None:
        super().__init__(contents.path, chain, waiting)
        if frames is not None:  # so few that they need not be read again
            self._frames = {frame.number: frame for frame in frames}
        self._producer = producer
        self._left = len(waiting)  # records that are not settled
        self._is_damaged = contents.is_damaged

    def load(self, count: int) -> tuple[list[Record], int]:
        records, unreadable = super().load(count)
        self._left -= unreadable  # nobody will settle them
        return records, unreadable

    def settle(self, records: Sequence[Record]) -> None:
        """They are done: delivered, or dropped for good."""
        self._left -= len(records)

    def is_done(self) -> bool:
        """Nothing here is needed any more."""
        return self._left == 0

    def remove(self) -> bool:
        """Delete the file, or set it aside when it is damaged. False: it can't be done now."""
        if not self._is_damaged:
            return _delete(self.path)
        try:
            os.replace(self.path, self.path + ".damaged")
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True

    def seal(self) -> None:
        """Nobody can write to it."""

    def close_sealed(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


Segment = Union[OwnSegment, RecoveredSegment]


class NoSegment:
    """Where a log begins: full, so that the first append makes a segment."""

    handle = 0
    size = 0
    made_at = float("-inf")

    def write(self, frame: bytes) -> object:
        raise ValueError("nothing is written here")

    def seal(self) -> None:
        """It is."""


def _delete(path: str) -> bool:
    """False: it can't be done now."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
