"""What stands in a segment and in a chain of segments: the only reader of them.

Adoption and ``whisperr journal`` both ask here, so they say the same: how many records wait, how
many bytes are damaged, and what a file is that holds no records of ours. Files are read by
read(2), never through a map, and nothing is changed.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from typing import Iterable, NamedTuple

from whisperr._journal import format as file_format
from whisperr._journal.file_system import read_file
from whisperr._journal.format import Damage, Frame, Header

NO_FILE = "no file"  # what may be wrong with a segment, beside the faults of its header
_UNREAD = frozenset({NO_FILE, file_format.EMPTY, file_format.NEWER})


class SegmentContents(NamedTuple):
    """One segment, read."""

    path: str
    fault: str  # see above and format; "": none
    header: Header | None  # None: it is unreadable, or of another destination
    records: list[Frame]  # the intact ones, settled or not
    settled: list[range]  # numbers, in this segment and in those before it
    damaged: int  # bytes
    reserved: int  # bytes

    @property
    def is_damaged(self) -> bool:
        """To be set aside when it is done with, not deleted."""
        return self.damaged > 0 or self.fault in (NO_FILE, file_format.DAMAGED)


def read_segment(path: str, destination: bytes | None = None) -> SegmentContents:
    """Read one. OSError: it can't be read.

    ``destination``: the one it has to have. In a segment of another one all is damage: its
    records are for somebody else.
    """
    try:
        data = read_file(path)
    except OSError:
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
        return SegmentContents(path, NO_FILE, None, [], [], 0, 0)
    header, fault, start = file_format.decode_header(data)
    if header is not None and destination not in (None, header.destination):
        header, fault = None, file_format.FOREIGN
    contents = SegmentContents(path, fault, header, [], [], 0, len(data))
    if fault == file_format.FOREIGN:
        return contents._replace(damaged=len(data))
    return contents if fault in _UNREAD else _scanned(contents, data, start)


def _scanned(contents: SegmentContents, data: bytes, start: int) -> SegmentContents:
    damaged = 0
    for item in file_format.scan(data, start):
        if isinstance(item, Damage):
            damaged += item.size
        elif item.kind == file_format.SETTLED:
            contents.settled.extend(file_format.decode_settled(item))
        else:
            contents.records.append(item)
    return contents._replace(damaged=damaged)


class ChainContents:
    """The segments of one chain, read: only together they say what is settled."""

    def __init__(self, segments: Iterable[SegmentContents]) -> None:
        self.segments = list(segments)
        self._settled = _SettledNumbers(
            [numbers for segment in self.segments for numbers in segment.settled]
        )

    def is_settled(self, number: int) -> bool:
        """Whether a record of this chain was delivered, or dropped for good."""
        return self._settled.contains(number)

    def waiting(self, segment: SegmentContents) -> list[Frame]:
        """The records of one of its segments that are not settled."""
        if not self._settled:
            return segment.records
        return [frame for frame in segment.records if not self.is_settled(frame.number)]

    @property
    def is_newer(self) -> bool:
        """A later version wrote some of it, and is to deliver all of it."""
        return any(segment.fault == file_format.NEWER for segment in self.segments)


class _SettledNumbers:
    """A set of numbers, kept as ranges."""

    def __init__(self, ranges: list[range]) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for numbers in sorted(ranges, key=lambda numbers: numbers.start):
            if self._stops and numbers.start <= self._stops[-1]:
                self._stops[-1] = max(self._stops[-1], numbers.stop)
            else:
                self._starts.append(numbers.start)
                self._stops.append(numbers.stop)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def contains(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]
