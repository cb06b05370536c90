"""Which process owns which chain: what one client of one process wrote, in order.

Ownership is a POSIX lock, never the pid in a name: the lock dies with its process, however that
ends, in any pid namespace, and a forked child that still has the descriptor doesn't own the lock.

An adopter of many chains has one descriptor for all of them (share_lock): their lock files become
links to one file, whose lock it holds.

Guarantees:
    A chain is owned by one process at most, and there by one owner at most.
    A chain whose owner lives is never touched.
Assumes:
    Locks of ``fcntl`` work between all processes of the folder: not over every network file
    system, and not between machines.
Lock-free:
    _owned_here is a dict of this process that is changed by single steps. It is needed because
    the kernel grants a lock to the process that has it already, and because *any* close of a
    locked file drops the lock: a chain that is owned here is never opened again, nor is a file
    that is open here under another name (two chains of one dead adopter).
    share_lock() unlinks the lock file of a chain that it owns, then links it anew. Whoever comes
    between the two makes a file of his own and owns the chain: the link fails, and that is it.
Fork: entries of _owned_here carry the pid, so a child sees none of its parent's. It closes its
    copies of the descriptors, which does the parent's locks no harm.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from itertools import count
from typing import Iterable, Tuple

from whisperr._journal.file_system import can_map
from whisperr._journal.folder import files, lock_path, segment_path
from whisperr._journal.format import Header

_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid: as Linux has it
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_TRIES = 8  # an adopter may come between the making and the locking of a lock file

# By pid, device and inode of the folder, and chain: whose it is. And by pid, device and inode of a
# lock file, and no name: who has it open.
_Key = Tuple[int, int, int, str]
_owned_here: dict[_Key, object] = {}


class Chain:
    """The right to one chain of segments, while its lock is held."""

    def __init__(self, folder: str, name: str, key: _Key, owner: object) -> None:
        self.folder = folder
        self.name = name
        self.prefix = name[:20].encode()
        #: Once true, true for ever: no segment is added to it any more, see Log.
        self.is_ended = False
        self._path = lock_path(folder, name)
        self._key = key
        self._owner = owner  # as _owned_here has it
        self._is_mappable: bool | None = None  # not known yet
        self._sequences = count(1)
        self._fds: list[int] = []  # one, while the lock is held
        self._file: os.stat_result | None = None
        self._file_key: _Key | None = None  # as _owned_here has it, while the file is open
        self._holder: Chain | None = None  # whose lock is this one's, too

    @staticmethod
    def create(folder: str, prefix: bytes) -> Chain:
        """A new chain of this process. OSError: no room, no right."""
        for _ in range(_TRIES):
            name = f"{prefix.decode()}-{os.urandom(4).hex()}"
            chain = _lock_chain(folder, name, os.O_EXCL)
            if chain is not None:
                return chain
        raise OSError(errno.EAGAIN, "no lock to be had")

    @staticmethod
    def claim(
        folder: str, name: str, sequence: int | None = None, found: os.stat_result | None = None
    ) -> Chain | None:
        """A chain whose owner is dead. None: it lives, or another was quicker.

        ``sequence``: of a segment that was there. Where neither it nor a lock file is there any more,
        another has delivered the chain, and a claim would only make a lock file and delete it again.
        ``found``: what stat() says of the folder, for whoever claims many.
        """
        return _lock_chain(folder, name, 0, sequence, found)

    def is_mappable(self) -> bool:
        """Whether its segments may be filled through a map. OSError: the folder is gone."""
        if self._is_mappable is None:
            self._is_mappable = can_map(os.stat(self.folder).st_dev)
        return self._is_mappable

    def new_segment(self, where: bytes, environment: bytes) -> tuple[str, Header]:
        """Path and header of its next segment. OSError: this is a child of the owner."""
        if self._key[0] != os.getpid():  # a signal handler forked inside the rotation
            raise OSError(errno.EPERM, "the chain of another process")
        sequence = next(self._sequences)
        path = segment_path(self.folder, self.name, sequence)
        return path, Header(where, self.prefix, sequence, time.time_ns(), environment)

    def segments(self, listed: Iterable[int] | None = None) -> list[str]:
        """The paths of its files, in order; a new one will follow them.

        ``listed``: their sequences, if somebody has looked since the chain was claimed.
        """
        if listed is None:
            listed = (number for name, number in files(self.folder) if name == self.name)
        found = sorted(number for number in listed if number)
        self._sequences = count((found or [0])[-1] + 1)
        return [segment_path(self.folder, self.name, sequence) for sequence in found]

    @property
    def has_descriptor(self) -> bool:
        """Of its lock file, open: its lock is its own."""
        return bool(self._fds)

    @property
    def is_linked(self) -> bool:
        """Its lock file has other names, of chains that belong to a dead adopter, too."""
        return self._file is not None and self._file.st_nlink > 1

    def share_lock(self, holder: Chain) -> bool:
        """Have the holder's lock for one's own, and no descriptor. False: the chain is another's now.

        OSError: there are no links here, or not so many; it may be another's then, too.
        """
        os.unlink(self._path)
        try:
            os.link(holder._path, self._path)
        except FileExistsError:
            self._close()
            return False
        except OSError:
            self._close()
            with contextlib.suppress(FileExistsError):
                if self._lock(os.O_EXCL):
                    raise
            return False
        self._holder = holder
        self._close()
        return True

    def release(self, remove: bool) -> None:
        """Give the lock back. ``remove``: nothing of the chain is left, so delete the lock file."""
        self.is_ended = True
        holder, self._holder = self._holder, None
        is_held = self._fds or holder is not None
        # One that is the holder's goes in any case: its lock stays, and a chain without one is free.
        if (remove or holder is not None) and is_held and self._key[0] == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._close()
        _disown(self._key, self._owner)

    def _close(self) -> None:
        self.close_descriptor()
        file_key, self._file_key = self._file_key, None
        if file_key is not None:
            _disown(file_key, self._owner)

    def close_descriptor(self) -> None:
        """In a child: of the parent's lock. Only if it still is the one of the lock file."""
        if not self._fds:
            return
        with contextlib.suppress(IndexError, OSError):
            fd = self._fds.pop()
            if self._file is not None and os.path.samestat(os.fstat(fd), self._file):
                os.close(fd)

    def _lock(self, flags: int, sequence: int | None = None) -> bool:
        """Take the lock. False: another has it, or unlinked the file meanwhile."""
        if not flags and not self._may_open(sequence):
            return False
        fd = os.open(self._path, _LOCK_FLAGS | flags, 0o600)
        self._fds.append(fd)
        self._file = os.fstat(fd)
        self._note_open(self._file)
        if stat.S_IMODE(self._file.st_mode) & 0o600 != 0o600:  # the umask would stop an adopter
            os.fchmod(fd, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(self._file, os.stat(self._path))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            return False

    def _may_open(self, sequence: int | None) -> bool:
        """Whether nobody here has that file open, under this name or another one, and see claim()."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return sequence is None or os.path.lexists(
                segment_path(self.folder, self.name, sequence)
            )
        return self._note_open(found)

    def _note_open(self, file: os.stat_result) -> bool:
        """False: another one here has it open."""
        file_key = (self._key[0], file.st_dev, file.st_ino, "")
        if _owned_here.setdefault(file_key, self._owner) is not self._owner:
            return False
        self._file_key = file_key
        return True


def _disown(key: _Key, owner: object) -> None:
    if _owned_here.get(key) is owner:  # not another owner's by now
        _owned_here.pop(key, None)


def _lock_chain(
    folder: str,
    name: str,
    flags: int,
    sequence: int | None = None,
    found: os.stat_result | None = None,
) -> Chain | None:
    found = found or os.stat(folder)
    key = (os.getpid(), found.st_dev, found.st_ino, name)
    owner = object()
    if _owned_here.setdefault(key, owner) is not owner:  # before the file is opened, see above
        return None
    chain = None
    try:
        chain = Chain(folder, name, key, owner)
        if chain._lock(flags, sequence):
            return chain
        chain.release(remove=False)
        return None
    except BaseException:
        if chain is not None:
            chain.release(remove=bool(flags))  # with the file, if it was made here
        _owned_here.pop(key, None)
        raise


def owner_of(folder: str, chain: str) -> int | None:
    """The pid of the process that owns a chain, 0 if it has none here; None: nobody owns it.

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
