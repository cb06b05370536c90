"""One file of the journal: written by its owner, read by whoever adopts it.

A segment is reserved whole before it is used, and filled through a map where the file system
promises that a reserved block can be stored to (a store that finds no block kills the process,
by SIGBUS); elsewhere by write(2). Readers use read(2), never a map.

Guarantees:
    write() is one indivisible append; it raises ValueError when there is no room, and for
    ever after seal(). What it returned from survives the death of the process.
    A number that was spilled is given out once, by load() or in the count of drop().
Guarded by nothing:
    ``mmap.write`` moves its position and copies in one step of the interpreter.
    seal() fills what is left by the same step, so that the end it finds is exact.
    _settled belongs to the sender's pass. _spilled is a deque of numbers that everybody pops.
    ``next`` is published by one dict.setdefault, as two threads may rotate at once.
Fork: the child shares the pages, so it closes its copy of the map (disown). A child that a
    signal handler forked inside write() may go on there, but only before the hook has run or
    after: before, it stores what its parent stores; after, the map is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import sys
import time
from collections import deque
from itertools import count
from typing import Any, Callable, Protocol, Sequence

from whisperr._atomic import Counter
from whisperr._encoding.records import Record
from whisperr._journal import format as file_format
from whisperr._journal.format import Contents, Dead, Frame, Header

# File systems on which a reserved block is a promise; on one that copies on write it is not.
_MAPPABLE = frozenset({b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs"})
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
# Without O_NONBLOCK a pipe of that name would hang the reader.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_MODE = 0o600
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # errors that may be over soon
# Up to 3.12 a map keeps a descriptor of its own, and closes it by number.
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_ZEROS = bytes(64 * 1024)
_MOST_CACHED = 16 * 1024 * 1024  # bytes; a larger segment is for one large event
_handles = count(1)  # a record names its segment by one of these


class Store(Protocol):
    """How bytes get into a segment."""

    @property
    def write(self) -> Callable[[bytes], object]: ...

    def seal(self) -> None: ...

    def end(self) -> int | None:
        """Bytes written, once no more can come."""

    def let_go(self) -> None:
        """Close it, if no more can come."""

    def close(self) -> None: ...


class MappedStore:
    """Through a map of reserved blocks: no system call in an append."""

    def __init__(self, fd: int, size: int) -> None:
        os.posix_fallocate(fd, 0, size)
        _bring_into_cache(fd, size)
        self._map = mmap.mmap(fd, size, **_NO_DESCRIPTOR)
        self.write = self._map.write
        self._size = size
        self._end: int | None = None
        self._may_seal = deque([True])  # whoever pops it; a second one could not tell the end
        os.close(fd)

    def seal(self) -> None:
        with contextlib.suppress(IndexError):
            self._may_seal.pop()
            try:
                self._end = self._fill()
            finally:
                if self._end is None:
                    self._may_seal.append(True)

    def _fill(self) -> int | None:
        """Leave no room for any frame, and return where the last one ends."""
        while True:
            try:
                end = self._map.tell()
                self._map.write(bytes(self._size - end))
                return end
            except ValueError:  # somebody wrote meanwhile: look again
                if self._map.closed:
                    return None

    def end(self) -> int | None:
        return self._end

    def let_go(self) -> None:
        if self._end is not None:
            self._map.close()

    def close(self) -> None:
        self._map.close()


def _bring_into_cache(fd: int, size: int) -> None:
    """Write zeros, in one system call, so that the stores find their pages in memory.

    On ext4 the p99 of a call falls from 3 to 0.8 µs by that, the mean by a fifth (burst with the
    journal), and no call pays for a page of a megabyte. It is no reservation.
    """
    whole, rest = divmod(min(size, _MOST_CACHED), len(_ZEROS))
    os.pwritev(fd, [*[_ZEROS] * whole, _ZEROS[:rest]], 0)


class WrittenStore:
    """By write(2), where a map is no promise. Slower, and each call lets other threads run."""

    def __init__(self, fd: int, size: int) -> None:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
        self._fd = [fd]
        self._file = os.fstat(fd)
        self._size = size
        self._begun = Counter()  # bytes, before they are written
        self._written = Counter()
        self._sealed = False

    def write(self, frame: bytes) -> None:
        # First counted, then looked: whoever sealed before sees either the count or no write.
        if self._begun.add(len(frame)) > self._size or self._sealed:
            self._begun.add(-len(frame))
            raise ValueError("full")
        written = 0
        try:
            written = os.write(self._fd[0], frame) if self._is_ours() else 0
        finally:
            if written == len(frame):
                self._written.add(written)
            else:
                self._sealed = True  # what is torn stays behind
                self._begun.add(-len(frame))
        if written != len(frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def seal(self) -> None:
        self._sealed = True

    def end(self) -> int | None:
        return self._begun.read() if self._sealed else None

    def let_go(self) -> None:
        if self._sealed and self._written.read() == self._begun.read():  # nobody is in write()
            self.close()

    def close(self) -> None:
        with contextlib.suppress(IndexError, OSError):
            is_ours = self._is_ours()
            fd = self._fd.pop()
            if is_ours:
                os.close(fd)

    def _is_ours(self) -> bool:
        """Whether nobody closed the descriptor, as some daemonizers do, and opened another file."""
        try:
            return bool(self._fd) and os.path.samestat(os.fstat(self._fd[0]), self._file)
        except (OSError, IndexError):
            return False


class Segment:
    """A file, or (without a path) the empty place where the first one will follow."""

    def __init__(self, path: str = "", dead: Dead | None = None) -> None:
        self.path = path
        self.handle = next(_handles)
        self.next: dict[str, Segment] = {}
        self.size = 0  # bytes beside the header, when this process made it
        self.made_at = 0.0  # monotonic seconds, likewise
        self.is_damaged = False
        self._dead = dead
        self._store: Store | None = None
        self._inode = 0
        self.write: Callable[[bytes], object] = _refuse
        # In bytes of frames, or (of a dead process's) in records.
        self._end = 0
        self._settled = 0
        self.is_dropped = False
        self.settled_early: set[int] = set()  # numbers that an exit gave up, and that arrived
        self._spilled: deque[int] = deque()  # ascending, as far as others don't come between
        self._frames: dict[int, Frame] | None = None  # while they are being loaded

    # --- the owner, any thread

    @staticmethod
    def create(path: str, header: Header, size: int, mapped: bool) -> Segment:
        """A new file of at least ``size`` bytes beside its header. OSError: no room, no right."""
        encoded = file_format.encode_header(header)
        segment = Segment(path)
        segment.size, segment.made_at = size, time.monotonic()
        segment._settled = len(encoded)
        fd = os.open(path, _CREATE, _MODE)
        try:
            found = os.fstat(fd)
            segment._inode = found.st_ino
            if stat.S_IMODE(found.st_mode) != _MODE:  # the umask would stop an adopter
                os.fchmod(fd, _MODE)
            size += len(encoded)
            store: Store = MappedStore(fd, size) if mapped else WrittenStore(fd, size)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
                os.unlink(path)
            raise
        try:
            store.write(encoded)
        except BaseException:  # of a full disk, where nothing is reserved
            store.close()
            os.unlink(path)
            raise
        segment._store = store
        segment.write = store.write
        return segment

    def seal(self) -> None:
        if self._store is not None:
            self._store.seal()

    def spill(self, number: int) -> bool:
        """From now on the record is here alone. False: it isn't here, and so it is lost."""
        if self.has_older(number):
            self._spilled.append(number)
        else:  # the first; or it was read, and there was no room for it
            self._spilled.appendleft(number)
        if self.is_dropped:
            with contextlib.suppress(IndexError):  # drop() has counted it
                self._spilled.popleft()
                return False
        return True

    def take_settled(self, number: int) -> bool:
        """Take one out again that has arrived. False: it isn't one, or is not here (yet)."""
        if number not in self.settled_early:
            return False
        try:
            self._spilled.remove(number)
        except ValueError:
            return False
        return True

    def drop(self) -> int:
        """Delete the file, settled or not; how many records are lost by that."""
        self.is_dropped = True
        self._unlink()
        lost = 0
        with contextlib.suppress(IndexError):
            while True:
                self._spilled.popleft()
                lost += 1
        return lost

    # --- the sender's pass

    def settle(self, records: Sequence[Record]) -> None:
        """They are done: delivered, or dropped for good."""
        self._settled += len(records) if self._dead else file_format.size_of_all(records)

    def settle_frame(self, frame: bytes) -> None:
        """It needs no settling."""
        self._settled += len(frame)

    def is_done(self) -> bool:
        """Nothing here is needed any more, and nothing can be added."""
        end = self._end if self._store is None else self._store.end()
        return self.is_dropped or (end is not None and end == self._settled)

    def is_there(self) -> bool:
        """The file is where it was made, and so will be found."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # nobody can tell now
            return True

    def backlog(self) -> int:
        """Records that are here alone."""
        return len(self._spilled)

    def has_older(self, number: int) -> bool:
        """Its oldest record that is here alone is older than this."""
        try:
            return self._spilled[0] < number
        except IndexError:
            return False

    def newest_spilled(self) -> int:
        """The number of its newest record that is here alone; -1 if none is."""
        try:
            return self._spilled[-1]
        except IndexError:
            return -1

    def load(self, count: int) -> tuple[list[Record], int]:
        """At most ``count`` of those that are here alone, and how many could not be read.

        OSError: they can't be read now, and are here still.
        """
        numbers: list[int] = []
        with contextlib.suppress(IndexError):
            while len(numbers) < count:
                numbers.append(self._spilled.popleft())
        frames = self._frames or {}
        if any(number not in frames for number in numbers):
            try:
                frames = self._read()
            except OSError:
                dropped = sum(not self.spill(number) for number in reversed(numbers))
                if not dropped:
                    raise
                return [], dropped
        records = []
        for number in numbers:
            frame = frames.get(number)
            record = frame and file_format.decode_record(frame, self.handle, self._dead)
            if record is not None:
                records.append(record)
        self._frames = frames if self._spilled else None
        missing = len(numbers) - len(records)
        if self._dead:
            self._settled += missing  # nobody will settle them
        return records, missing

    def remove(self) -> bool:
        """Delete the file, or set it aside when it is damaged. False: it can't be done now."""
        if self._store is not None:
            self._store.close()
        if self.is_dropped or not self.path:
            return True
        return self._unlink()

    def let_go(self) -> None:
        """Keep nothing open of one that is full: an outage may leave a thousand."""
        if self._store is not None:
            self._store.let_go()

    def close(self) -> None:
        """Write no more. In a child: of the parent's segment, which goes on unharmed."""
        if self._store is not None:
            self._store.close()

    def _read(self) -> dict[int, Frame]:
        try:
            data = read_file(self.path)
        except OSError as error:
            if error.errno in PASSING:
                raise
            return {}
        contents = Contents(data, file_format.decode_header(data)[2])
        return {frame.number: frame for frame in contents.records}

    def _unlink(self) -> bool:
        """Or set it aside when it is damaged. False: it can't be done now."""
        try:
            if self.is_damaged and not self.is_dropped:
                os.replace(self.path, self.path + ".damaged")
            else:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True


class Found:
    """A segment of a dead process, and what stands in it."""

    def __init__(self, path: str, prefix: bytes, environment: bytes, destination: bytes) -> None:
        """Read it. ``environment``: of a segment that has lost its own. OSError: unreadable."""
        self.is_file = stat.S_ISREG(os.lstat(path).st_mode)
        data = read_file(path) if self.is_file else b""
        header, self.fault, start = file_format.decode_header(data)
        if header is not None and header.destination != destination:
            header, self.fault = None, file_format.FOREIGN
        self.segment = Segment(path, Dead(prefix, header.environment if header else environment))
        self.numbers: list[int] = []  # of its records
        self.settled: list[range] = []
        self.damaged = 0  # bytes
        if self.fault == file_format.FOREIGN:
            self.damaged = len(data)
        elif self.fault not in (file_format.NEWER, file_format.EMPTY):
            contents = Contents(data, start)
            self.numbers = [frame.number for frame in contents.records]
            self.settled, self.damaged = contents.settled, contents.damaged
        whole = self.is_file and self.fault != file_format.DAMAGED
        self.segment.is_damaged = self.damaged > 0 or not whole

    def open(self, settled: Callable[[int], bool]) -> int:
        """What is not settled is from now on the segment's backlog; how many records that is."""
        unsettled = [number for number in self.numbers if not settled(number)]
        self.segment._end = len(unsettled)
        self.segment._spilled.extend(unsettled)
        return len(unsettled)


def read_file(path: str) -> bytes:
    """All of a regular file of ours, whatever stands at that path. OSError: it is none."""
    fd = os.open(path, _READ)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of this user")
        parts: list[bytes] = []
        while True:
            part = os.read(fd, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(fd)


def can_map(device: int) -> bool:
    """Whether a store to a reserved block can't fail on the file system of this device number."""
    if not hasattr(os, "posix_fallocate"):
        return False
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", "rb", buffering=0) as mounts:
            lines = mounts.readall().splitlines()
        for line in lines:
            if wanted in line:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index(b"-") + 1] in _MAPPABLE
    except (OSError, ValueError, IndexError):
        pass
    return False


def _refuse(frame: bytes) -> object:
    raise ValueError("nothing is written here")
