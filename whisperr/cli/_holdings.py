"""What stands in a journal folder, read without disturbing anybody."""

from __future__ import annotations

import os
from typing import Iterator, NamedTuple

from whisperr._journal import folder as folders
from whisperr._journal import ownership, reader
from whisperr._journal.format import Frame, Producer
from whisperr._journal.reader import ChainContents, SegmentContents


class Holding(NamedTuple):
    """One chain: what one client of one process wrote, in order."""

    folder: str
    name: str
    owner: int | None  # pid, 0 where it has none here; None: dead
    contents: ChainContents

    @property
    def destination(self) -> str:
        return os.path.basename(self.folder)

    def waiting(self) -> list[Frame]:
        """The records that are not settled."""
        contents = self.contents
        return [frame for segment in contents.segments for frame in contents.waiting(segment)]

    def producer(self, segment: SegmentContents) -> Producer:
        """Who made the records of one of its segments."""
        environment = segment.header.environment if segment.header else b""
        return Producer(self.name[:20].encode(), environment)


def holdings(journal_dir: str) -> Iterator[Holding]:
    """All chains of all destinations, without disturbing any owner."""
    for entry in sorted(os.scandir(journal_dir), key=lambda entry: entry.name):
        if not folders.is_destination(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        names: dict[str, list[str]] = {}
        for name, sequence in sorted(folders.files(entry.path)):
            paths = names.setdefault(name, [])
            if sequence:
                paths.append(folders.segment_path(entry.path, name, sequence))
        for name, paths in names.items():
            owner = ownership.owner_of(entry.path, name)
            read = (_read(path, bytes.fromhex(entry.name)) for path in paths)
            contents = ChainContents(segment for segment in read if segment is not None)
            yield Holding(entry.path, name, owner, contents)


def _read(path: str, destination: bytes) -> SegmentContents | None:
    try:
        return reader.read_segment(path, destination)
    except FileNotFoundError:  # its owner was quicker
        return None
    except OSError as error:
        return SegmentContents(path, f"unreadable: {error.strerror}", None, [], [], 0, 0)


def set_aside(journal_dir: str) -> Iterator[str]:
    """The files that were damaged when they were adopted."""
    for folder, _, names in os.walk(journal_dir):
        yield from (os.path.join(folder, name) for name in names if name.endswith(".seg.damaged"))
