"""What the file system promises, and a file of ours read safely, whatever stands at its path."""

from __future__ import annotations

import errno
import os
import stat

# File systems on which a reserved block is a promise; on one that copies on write it is not.
_MAPPABLE = frozenset({b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs"})
# Without O_NONBLOCK a pipe of that name would hang the reader.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # errors that may be over soon


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


def read_file(path: str) -> bytes:
    """All of a regular file of this user. OSError: it is none, or can't be read."""
    fd = os.open(path, _READ)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of this user")
        parts: list[bytes] = []
        while True:
            part = os.read(fd, found.st_size + 1)  # at once, as a rule
            parts.append(part)
            if len(part) <= found.st_size:  # the end of a file gives less than was asked for
                return part if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(fd)
