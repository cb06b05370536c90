"""The doctor looks at a folder that shall hold a journal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import Iterator

from whisperr._settings import Settings
from whisperr.cli._findings import Finding, advice, ok, wrong

ABOUT = "journal folder"
NEEDED = Settings.max_journal_bytes

# File systems, and what is to be said of them.
_VOLATILE = {
    "tmpfs": "is in memory, a restart of the machine empties it",
    "ramfs": "is in memory, a restart of the machine empties it",
    "overlay": "belongs to the container, and goes with it",
}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs"}
_MOUNT = re.compile(r"(?:\S+ ){4}(\S+) .* - (\S+) ")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def examine(text: str) -> Iterator[Finding]:
    """Whether this process may keep a journal there that survives it."""
    path = Path(text)
    try:
        found = path.lstat()
    except FileNotFoundError:
        yield from _missing(path)
        return
    except OSError as error:
        yield wrong(ABOUT, f"{path} can't be looked at: {error.strerror}.", "Let this user in.")
        return
    if stat.S_ISLNK(found.st_mode):
        yield wrong(ABOUT, f"{path} is a symbolic link.", "Name the folder that it points to.")
    elif not stat.S_ISDIR(found.st_mode):
        yield wrong(ABOUT, f"{path} is no folder.", "Name a folder.")
    else:
        yield from _access(path, found)
        yield from _space(path)
        yield from _file_system(path)


def _missing(path: Path) -> Iterator[Finding]:
    """The first client makes it, if it may."""
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if above.is_dir() and os.access(str(above), os.W_OK | os.X_OK):
        yield ok(ABOUT, f"{path} does not exist yet; the first event makes it")
        yield from _space(above)
        yield from _file_system(above)
    else:
        made = " ".join(
            shlex.quote(str(folder)) for folder in [*reversed(missing), path.absolute()]
        )
        why = f"{above} is no folder" if not above.is_dir() else f"this user can't write to {above}"
        yield wrong(
            ABOUT,
            f"{path} does not exist, and can't be made: {why}.",
            f"As a user who may: mkdir -m 700 {made}, and chown it to this user. Or name another."
            if above.is_dir()
            else "Name another folder.",
        )


def _access(path: Path, found: os.stat_result) -> Iterator[Finding]:
    if os.name != "posix":
        return
    if found.st_uid != os.geteuid():
        yield wrong(
            ABOUT,
            f"{path} belongs to the user {found.st_uid}, and this is {os.geteuid()}.",
            "Run the doctor as the user of your service, or give the folder to that user.",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_ISVTX:
        yield wrong(
            ABOUT,
            f"{path} is shared by everybody, and what cleans it deletes journals, too.",
            f"Name a folder of its own: {path / 'whisperr'}",
        )
    elif mode & 0o077:  # the folder below, which holds the files, is made with mode 0700
        yield advice(
            ABOUT,
            f"{path} has the mode {mode:04o}: others see when something is in it.",
            f"chmod 700 {path}",
        )
    if not os.access(str(path), os.R_OK | os.W_OK | os.X_OK):
        yield wrong(ABOUT, f"{path} can't be written to.", "Is it mounted read-only?")
    elif mode == 0o700 and found.st_uid == os.geteuid():
        yield ok(ABOUT, f"{path}: ours alone, mode 0700")


def _space(path: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(str(path)).free
    text = f"{free // (1024 * 1024)} MiB are free"
    if free < NEEDED:
        yield wrong(
            ABOUT,
            f"Only {text}; a journal may need max_journal_bytes, 64 MiB by default.",
            "Make room, or lower max_journal_bytes.",
        )
    else:
        yield ok(ABOUT, f"{text}; a journal may need max_journal_bytes, 64 MiB by default")


def _file_system(path: Path) -> Iterator[Finding]:
    kind = file_system(path)
    if kind in _VOLATILE:
        yield advice(
            ABOUT,
            f"{path} {_VOLATILE[kind]} (file system {kind}).",
            "For a journal that outlives that, name a folder on a disk or a volume.",
        )
    elif kind in _REMOTE:
        yield wrong(
            ABOUT,
            f"{path} is on another machine (file system {kind}), where locks can't be relied on.",
            "Name a folder on a disk of this machine.",
        )
    elif kind:
        yield ok(ABOUT, f"file system {kind}")


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of file system that holds a path; None where nobody says (not on Linux)."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    wanted = path.resolve()
    best, kind = -1, None
    for line in lines:
        found = _MOUNT.match(line)
        if found is None:
            continue
        point = Path(_ESCAPED.sub(lambda code: chr(int(code.group(1), 8)), found.group(1)))
        depth = len(point.parts)
        if depth >= best and (point == wanted or point in wanted.parents):
            best, kind = depth, found.group(2)
    return kind
