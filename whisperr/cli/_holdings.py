"""What stands in a journal folder, read without disturbing anybody."""

from __future__ import annotations

import os
from typing import Callable, Iterator, NamedTuple

from whisperr._journal import format as file_format
from whisperr._journal import ownership, segment
from whisperr._journal.format import Contents, Frame
from whisperr._journal.journal import SettledNumbers


class Part(NamedTuple):
    """One segment, read."""

    path: str
    created: float  # seconds since the epoch; 0.0 if that is unreadable
    frames: list[Frame]  # of records
    settled: list[range]
    damaged: int  # bytes
    reserved: int  # bytes
    environment: bytes
    note: str


class Holding(NamedTuple):
    """One chain: what one client of one process wrote, in order."""

    folder: str
    name: str
    owner: int | None  # pid, 0 where it has none here; None: dead
    parts: list[Part]

    def is_settled(self) -> Callable[[int], bool]:
        """Whether a number of this chain was delivered, or dropped for good."""
        return SettledNumbers([numbers for part in self.parts for numbers in part.settled]).contains


def holdings(journal_dir: str) -> Iterator[Holding]:
    """All chains of all destinations, without disturbing any owner."""
    for entry in sorted(os.scandir(journal_dir), key=lambda entry: entry.name):
        if not ownership.is_destination(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        names: dict[str, list[str]] = {}
        for name, sequence in sorted(ownership.files(entry.path)):
            paths = names.setdefault(name, [])
            if sequence:
                paths.append(ownership.segment_path(entry.path, name, sequence))
        for name, paths in names.items():
            owner = ownership.owner(entry.path, name)
            parts = [part for part in map(_part, paths) if part is not None]
            yield Holding(entry.path, name, owner, parts)


def _part(path: str) -> Part | None:
    try:
        data = segment.read_file(path)
    except FileNotFoundError:  # its owner was quicker
        return None
    except OSError as error:
        return Part(path, 0.0, [], [], 0, 0, b"", f"unreadable: {error.strerror}")
    header, fault, start = file_format.decode_header(data)
    readable = fault in ("", file_format.DAMAGED)
    contents = Contents(data, start) if readable else Contents(b"", 0)
    return Part(
        path,
        header.created / 1e9 if header else 0.0,
        contents.records,
        contents.settled,
        contents.damaged,
        len(data),
        header.environment if header else b"",
        fault,
    )


def set_aside(journal_dir: str) -> Iterator[str]:
    """The files that were damaged when they were adopted."""
    for folder, _, names in os.walk(journal_dir):
        yield from (os.path.join(folder, name) for name in names if name.endswith(".seg.damaged"))
