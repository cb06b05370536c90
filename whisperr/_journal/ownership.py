"""Who owns which files of a journal folder.

    <journal_dir>/<destination>/<chain>.lock              held by the owner for as long as it lives
    <journal_dir>/<destination>/<chain>-<sequence>.seg    its segments, see _segments

A chain is what one client of one process wrote, in order. Ownership is a POSIX lock, never the
pid in a name: the lock dies with its process, however that ends, in any pid namespace, and a
forked child that still holds the descriptor doesn't hold the lock.

Guarantees:
    A chain is held by one process at most, and there by one owner at most.
    A chain whose owner lives is never touched.
Assumes:
    Locks of ``fcntl`` work between all processes of the folder: not over every network file
    system, and not between machines.
Guarded by nothing: _held is a dict of this process that is changed by single steps. It is needed
    because the kernel grants a lock to the process that has it already, and because *any* close
    of a locked file drops the lock: a lock file that is held here is never opened again.
Fork: entries of _held carry the pid, so a child sees none of its parent's. It closes its copies
    of the descriptors, which does the parent's locks no harm.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import struct
import time
from itertools import count
from typing import Iterator

from whisperr._journal.format import Header
from whisperr._journal.segment import Segment, can_map

_NAME = re.compile(r"([0-9a-f]{20})-[0-9a-f]{8}")  # of a chain: prefix of its ids, and a lot
_FILE = re.compile(rf"({_NAME.pattern})(?:\.lock|-([0-9a-f]{{8}})\.seg)")
_DESTINATION = re.compile(r"[0-9a-f]{32}")
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid: as Linux has it
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_TRIES = 8  # an adopter may come between the making and the locking of a lock file

_held: dict[tuple[int, int, int, str], object] = {}  # pid, device and inode of the folder, chain


def destination(base_url: str, key: str) -> bytes:
    """Says whether two clients deliver to the same place, and nothing of the key."""
    text = f"{base_url}\0{key}".encode()
    return hashlib.blake2b(text, digest_size=16, person=b"whisperr journal").digest()


def open_folder(journal_dir: str, where: bytes) -> str:
    """The folder of one destination, made if need be. OSError: it can't be used."""
    if not os.path.isdir(journal_dir):
        with contextlib.suppress(FileExistsError):
            os.makedirs(journal_dir, 0o700)
            os.chmod(journal_dir, 0o700)  # whatever the umask took away
    _check_folder(journal_dir)
    folder = os.path.join(journal_dir, where.hex())
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if stat.S_IMODE(_check_folder(folder).st_mode) & 0o777 != 0o700:
        os.chmod(folder, 0o700)
    return folder


def _check_folder(path: str) -> os.stat_result:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder, or a link to one")
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the folder belongs to another user")
    return found


class Chain:
    """The right to one chain of segments, while its lock is held."""

    def __init__(
        self, folder: str, name: str, key: tuple[int, int, int, str], token: object
    ) -> None:
        self.folder = folder
        self.name = name
        self.prefix = name[:20].encode()
        self._key = key
        self._token = token  # of _held
        self._mapped: bool | None = None  # not known yet
        self._sequences = count(1)
        self._fds: list[int] = []  # one, while the lock is held
        self._file: os.stat_result | None = None

    @property
    def is_held(self) -> bool:
        return bool(self._fds)

    @staticmethod
    def create(folder: str, prefix: bytes) -> Chain:
        """A new chain of this process. OSError: no room, no right."""
        for _ in range(_TRIES):
            name = f"{prefix.decode()}-{os.urandom(4).hex()}"
            chain = _take(folder, name, os.O_EXCL)
            if chain is not None:
                return chain
        raise OSError(errno.EAGAIN, "no lock to be had")

    @staticmethod
    def claim(folder: str, name: str) -> Chain | None:
        """A chain whose owner is dead. None: it lives, or another was quicker."""
        return _take(folder, name, 0)

    def new_segment(self, where: bytes, environment: bytes, size: int) -> Segment:
        """The next one of this chain. OSError: no room, no right."""
        if self._mapped is None:
            self._mapped = can_map(os.stat(self.folder).st_dev)
        if self._key[0] != os.getpid():  # a signal handler forked inside the rotation
            raise OSError(errno.EPERM, "the chain of another process")
        sequence = next(self._sequences)
        header = Header(where, self.prefix, sequence, time.time_ns(), environment)
        path = segment_path(self.folder, self.name, sequence)
        return Segment.create(path, header, size, self._mapped)

    def segments(self) -> list[str]:
        """The paths of its files, in order; a new one will follow them."""
        found = sorted(
            number for name, number in files(self.folder) if name == self.name and number
        )
        self._sequences = count((found or [0])[-1] + 1)
        return [segment_path(self.folder, self.name, sequence) for sequence in found]

    def release(self, remove: bool) -> None:
        """Give the lock back. ``remove``: nothing of the chain is left."""
        if remove and self._fds and self._key[0] == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(lock_path(self.folder, self.name))
        self.disown()
        if _held.get(self._key) is self._token:  # not another owner's by now
            _held.pop(self._key, None)

    def disown(self) -> None:
        """Close the descriptor, if it still is the one of the lock file."""
        with contextlib.suppress(IndexError, OSError):
            fd = self._fds.pop()
            if self._file is not None and os.path.samestat(os.fstat(fd), self._file):
                os.close(fd)

    def _lock(self, flags: int) -> bool:
        """Take the lock. False: another has it, or unlinked the file meanwhile."""
        path = lock_path(self.folder, self.name)
        fd = os.open(path, _LOCK_FLAGS | flags, 0o600)
        self._fds.append(fd)
        self._file = os.fstat(fd)
        if stat.S_IMODE(self._file.st_mode) & 0o600 != 0o600:  # the umask would stop an adopter
            os.fchmod(fd, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(self._file, os.stat(path))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            return False


def _take(folder: str, name: str, flags: int) -> Chain | None:
    found = os.stat(folder)
    key = (os.getpid(), found.st_dev, found.st_ino, name)
    token = object()
    if _held.setdefault(key, token) is not token:  # before the file is opened, see above
        return None
    chain = None
    try:
        chain = Chain(folder, name, key, token)
        if chain._lock(flags):
            return chain
        chain.release(remove=False)
        return None
    except BaseException:
        if chain is not None:
            chain.release(remove=bool(flags))  # with the file, if it was made here
        _held.pop(key, None)
        raise


def segment_path(folder: str, chain: str, sequence: int) -> str:
    return os.path.join(folder, f"{chain}-{sequence:08x}.seg")


def lock_path(folder: str, chain: str) -> str:
    return os.path.join(folder, chain + ".lock")


def is_destination(name: str) -> bool:
    """Whether a folder of that name may be one of ours."""
    return _DESTINATION.fullmatch(name) is not None


def owner(folder: str, chain: str) -> int | None:
    """The pid of the process that holds a chain, 0 if it has none here; None: nobody holds it.

    Asks, and takes nothing. Not for a process that may hold the lock itself.
    """
    try:
        fd = os.open(lock_path(folder, chain), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    try:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else max(0, pid)
    finally:
        os.close(fd)


def files(folder: str) -> Iterator[tuple[str, int]]:
    """Chain and sequence of every file of ours; sequence 0 is the lock."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _FILE.fullmatch(entry.name)
            if match:
                yield match[1], int(match[3] or "0", 16)


def used_bytes(folder: str) -> int:
    """What all segments of the folder have reserved, of the living and the dead."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if _FILE.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # deleted meanwhile
                    total += entry.stat(follow_symlinks=False).st_size
    return total
