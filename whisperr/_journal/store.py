"""How bytes get into the file of a segment: through a map where that is safe, else by write(2).

A file is reserved whole before it is used, and filled through a map where the file system
promises that a reserved block can be stored to (a store that finds no block kills the process,
by SIGBUS).

Guarantees:
    write() is one indivisible append; it raises ValueError when there is no room, and for
    ever after seal(). What it returned from survives the death of the process.
    end() is exact: all bytes that were written, and none can follow.
Lock-free:
    ``mmap.write`` moves its position and copies in one step of the interpreter. seal() fills
    what is left by the same step, so that the end it finds is exact. Who seals is decided by
    popping a token; an exception in the middle of that gives the token back.
    A write(2) is counted before and after: a descriptor is closed when both counts are equal.
Fork: the child shares the pages of a map, so it closes its copy. A child that a signal handler
    forked inside write() may go on there, but only before the at-fork hook has run or after:
    before, it stores what its parent stores; after, the map is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import sys
from collections import deque
from typing import Any, Callable, Protocol

from whisperr._atomic import Counter

# Up to 3.12 a map keeps a descriptor of its own, and closes it by number.
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_ZEROS = bytes(64 * 1024)
_MOST_CACHED = 16 * 1024 * 1024  # bytes; a larger segment is for one large event


class Store(Protocol):
    """How bytes get into a segment."""

    @property
    def write(self) -> Callable[[bytes], object]: ...

    @property
    def is_open(self) -> bool:
        """Nobody has sealed it, or begun to."""
        ...

    def seal(self) -> None:
        """Let nothing more in. Twice is once."""

    def end(self) -> int | None:
        """Bytes written, once no more can come; None before that."""

    def close_sealed(self) -> None:
        """Keep nothing open, as soon as nobody writes, if it is sealed."""

    def close(self) -> None:
        """At once: of what is done, or in a child."""


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

    @property
    def is_open(self) -> bool:
        return bool(self._may_seal)

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

    def close_sealed(self) -> None:
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
        self._closing = False  # by whoever writes last

    @property
    def is_open(self) -> bool:
        return not self._sealed

    def write(self, frame: bytes) -> None:
        try:
            self._write(frame)
        finally:
            if self._closing:
                self._close_unused()

    def _write(self, frame: bytes) -> None:
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

    def close_sealed(self) -> None:
        if self._sealed:
            self._closing = True  # first said, then looked, as write() counts and then looks
            self._close_unused()

    def _close_unused(self) -> None:
        if self._written.read() == self._begun.read():  # nobody is in write()
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
