"""The names and the sizes of what lies in a journal folder.

<journal_dir>/<destination>/<chain>.lock              held by the owner for as long as it lives
<journal_dir>/<destination>/<chain>-<sequence>.seg    its segments
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from typing import Collection, Iterator

_NAME = re.compile(r"([0-9a-f]{20})-[0-9a-f]{8}")  # of a chain: prefix of its ids, random digits
_FILE = re.compile(rf"({_NAME.pattern})(?:\.lock|-([0-9a-f]{{8}})\.seg)")
_NAME_LENGTH = 29
_DESTINATION = re.compile(r"[0-9a-f]{32}")


def destination(base_url: str, key: str) -> bytes:
    """Says whether two clients deliver to the same place, and nothing of the key."""
    text = f"{base_url}\0{key}".encode()
    return hashlib.blake2b(text, digest_size=16, person=b"whisperr journal").digest()


def is_destination(name: str) -> bool:
    """Whether a folder of that name may be one of ours."""
    return _DESTINATION.fullmatch(name) is not None


def path_of(journal_dir: str, where: bytes) -> str:
    """The folder of one destination."""
    return os.path.join(journal_dir, where.hex())


def open_folder(journal_dir: str, where: bytes) -> str:
    """The folder of one destination, made if need be. OSError: it can't be used."""
    if not os.path.isdir(journal_dir):
        with contextlib.suppress(FileExistsError):
            os.makedirs(journal_dir, 0o700)
            os.chmod(journal_dir, 0o700)  # whatever the umask took away
    _check_folder(journal_dir)
    folder = path_of(journal_dir, where)
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


def segment_path(folder: str, chain: str, sequence: int) -> str:
    return f"{folder}/{chain}-{sequence:08x}.seg"


def lock_path(folder: str, chain: str) -> str:
    return f"{folder}/{chain}.lock"


def files(folder: str) -> Iterator[tuple[str, int]]:
    """Chain and sequence of every file of ours; sequence 0 is the lock."""
    for entry in os.listdir(folder):
        match = _FILE.fullmatch(entry)
        if match:
            yield match[1], int(match[3] or "0", 16)


def sequences_of(folder: str, chains: Collection[str]) -> dict[str, list[int]]:
    """Of the files of these chains. The names of all others cost next to nothing."""
    found: dict[str, list[int]] = {}
    for entry in os.listdir(folder) if chains else ():
        if entry[:_NAME_LENGTH] in chains:
            match = _FILE.fullmatch(entry)
            if match:
                found.setdefault(match[1], []).append(int(match[3] or "0", 16))
    return found


def usage(folder: str) -> tuple[int, int]:
    """What all segments of the folder have reserved, of the living and the dead, and how many write there.

    Who is dead and was not adopted yet counts as a writer; what an adopter has taken has one lock file.
    """
    used = writers = 0
    for _, sequence, found in _found_files(folder):
        if sequence:
            used += found.st_size
        else:
            writers += found.st_nlink == 1
    return used, writers


def sized_files(folder: str) -> Iterator[tuple[str, int, int, int]]:
    """As files(), with size and the time of the last change, in nanoseconds."""
    for name, sequence, found in _found_files(folder):
        yield name, sequence, found.st_size, found.st_mtime_ns


def _found_files(folder: str) -> Iterator[tuple[str, int, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _FILE.fullmatch(entry.name)
            if match:
                with contextlib.suppress(OSError):  # deleted meanwhile
                    found = entry.stat(follow_symlinks=False)
                    yield match[1], int(match[3] or "0", 16), found
