"""The file format of the journal: records <-> bytes. No I/O in it; docs/journal.md has the tables.

A segment is a header, frames one behind the other, and zeros up to the size it was reserved
with. Each frame carries a magic number that can't occur in its JSON text and a checksum, so
that a reader finds the next intact frame behind any damage.
"""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, NamedTuple, Sequence
from zlib import crc32

from whisperr._encoding.records import Event, Identity, Record, generated_id

VERSION = 1  # of the format

EVENT, RICH_EVENT, IDENTITY, SETTLED = range(4)  # kinds of frames

FILE_MAGIC = b"\x89WHSPR\r\n"
FRAME_MAGIC = b"\xf5Wj\xfa"  # 0xf5 and 0xfa occur in no UTF-8
# What may be wrong with a header; "" for nothing.
EMPTY, DAMAGED, FOREIGN, NEWER = "empty", "damaged", "foreign", "newer"

_HEADER = struct.Struct("<8sHH16s20sIQ")  # and the environment, and a checksum
_FRAME = struct.Struct("<4sIQq")  # magic, size of the payload, kind and number, nanoseconds
_RICH = struct.Struct("<qIII")  # seconds, nanoseconds, size of the context, size of the id
_RANGE = struct.Struct("<QQ")  # first and last number
_CRC_BYTES = 4
_KIND_SHIFT = 56  # bits; a number has 48
_NUMBER = (1 << _KIND_SHIFT) - 1
_ABSENT = 0xFFFFFFFF
_SECOND = 1_000_000_000  # nanoseconds
_LATEST = 2**63  # nanoseconds; a plain frame holds less, until the year 2262

FRAME_BYTES = _FRAME.size + _CRC_BYTES  # a frame without its payload

_pack = _FRAME.pack


class Header(NamedTuple):
    """What a segment says of its process."""

    destination: bytes  # 16 bytes, see _journal
    prefix: bytes  # of the ids: 20 hex digits
    sequence: int  # among the segments of one chain
    created: int  # nanoseconds since the epoch
    environment: bytes  # what it puts into a context, see Encoder


class Frame(NamedTuple):
    kind: int
    number: int
    when: int
    payload: bytes
    at: int  # offset in the segment
    size: int


class Dead(NamedTuple):
    """Who made a record that another process delivers: it keeps its id and its environment."""

    prefix: bytes
    environment: bytes


class Damage(NamedTuple):
    """A stretch of a segment that holds no intact frame."""

    at: int
    size: int


# --- writing


def encode_header(header: Header) -> bytes:
    size = _HEADER.size + len(header.environment) + _CRC_BYTES
    fixed = _HEADER.pack(FILE_MAGIC, VERSION, size, *header[:4])
    return _sealed(fixed + header.environment)


def encode_event(event: Event) -> bytes:
    number, when, call, extra, _ = event
    if extra is None and when < _LATEST and when >= -_LATEST:
        # Every track() comes here: one checksum over all, at the end, spares a second call.
        body = _pack(FRAME_MAGIC, len(call), number, when) + call
        return body + crc32(body).to_bytes(4, "little")
    context, message_id = extra or (None, None)
    seconds, nanoseconds = divmod(when, _SECOND)
    rich = _RICH.pack(seconds, nanoseconds, _size_of(context), _size_of(message_id))
    return _frame(RICH_EVENT, number, 0, b"".join((rich, context or b"", message_id or b"", call)))


def encode_identity(identity: Identity) -> bytes:
    return _frame(IDENTITY, identity.number, 0, identity.body)


def encode_settled(numbers: Iterable[int]) -> bytes:
    """The frame that says: these are done."""
    payload = b"".join(_RANGE.pack(first, last) for first, last in _ranges(numbers))
    return _frame(SETTLED, 0, 0, payload)


def size_of_all(records: Sequence[Record]) -> int:
    """Bytes of the frames of records."""
    return sum(map(size_of, records))


def size_of(record: Record) -> int:
    """Bytes of the frame of a record."""
    if isinstance(record, Identity):
        return FRAME_BYTES + len(record.body)
    _, when, call, extra, _ = record
    if extra is None and -_LATEST <= when < _LATEST:
        return FRAME_BYTES + len(call)
    return FRAME_BYTES + _RICH.size + len(call) + sum(len(part) for part in extra or () if part)


def _frame(kind: int, number: int, when: int, payload: bytes) -> bytes:
    return _sealed(_pack(FRAME_MAGIC, len(payload), kind << _KIND_SHIFT | number, when) + payload)


def _sealed(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(_CRC_BYTES, "little")


def _size_of(part: bytes | None) -> int:
    return _ABSENT if part is None else len(part)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending ranges, both ends included."""
    ascending = sorted(numbers)
    if ascending[-1] - ascending[0] == len(ascending) - 1:  # nearly always
        yield ascending[0], ascending[-1]
        return
    first = last = ascending[0]
    for number in ascending[1:]:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


# --- reading: nothing here raises, whatever the bytes are


def decode_header(data: bytes) -> tuple[Header | None, str, int]:
    """The header, what is wrong with it, and its size in bytes.

    The magic number, the version and the size stay where they are in every version.
    """
    if data.count(0) == len(data):  # killed before it was written: nothing was promised yet
        return None, EMPTY, 0
    if data[: len(FILE_MAGIC)] != FILE_MAGIC or len(data) < _HEADER.size:
        return None, DAMAGED if data.find(FRAME_MAGIC) >= 0 else FOREIGN, 0
    _, version, size, destination, prefix, sequence, created = _HEADER.unpack_from(data)
    body, checksum = data[: size - _CRC_BYTES], data[size - _CRC_BYTES : size]
    if size < _HEADER.size + _CRC_BYTES or crc32(body).to_bytes(_CRC_BYTES, "little") != checksum:
        return None, DAMAGED, 0
    if version != VERSION:
        return None, NEWER, size
    return Header(destination, prefix, sequence, created, body[_HEADER.size :]), "", size


def scan(data: bytes, at: int) -> Iterator[Frame | Damage]:
    """All intact frames from an offset on, and what lies between them."""
    while True:
        frame = _frame_at(data, at)
        if frame is not None:
            yield frame
            at += frame.size
            continue
        if data.count(0, at) == len(data) - at:  # what was reserved and never used
            return
        frame, behind = None, at
        while frame is None:
            behind = data.find(FRAME_MAGIC, behind + 1)
            if behind < 0:
                yield Damage(at, len(data) - at)
                return
            frame = _frame_at(data, behind)
        yield Damage(at, behind - at)
        at = behind


class Contents:
    """What stands behind the header of a segment."""

    def __init__(self, data: bytes, at: int) -> None:
        self.records: list[Frame] = []
        self.settled: list[range] = []  # numbers, in this segment and in those before it
        self.damaged = 0  # bytes
        for item in scan(data, at):
            if isinstance(item, Damage):
                self.damaged += item.size
            elif item.kind == SETTLED:
                self.settled += decode_settled(item)
            else:
                self.records.append(item)


def decode_record(frame: Frame, segment: int, dead: Dead | None) -> Record | None:
    """The record in an intact frame, or None if it holds none that this version knows."""
    if frame.kind == IDENTITY:
        key = generated_id(dead.prefix, frame.number) if dead else None
        return Identity(frame.number, frame.payload, segment, key)
    if frame.kind == EVENT:
        event: Event = (frame.number, frame.when, frame.payload, None, segment)
    elif frame.kind == RICH_EVENT and len(frame.payload) >= _RICH.size:
        event = _rich_event(frame, segment)
    else:
        return None
    return _as_it_was(event, dead) if dead else event


def _as_it_was(event: Event, dead: Dead) -> Event:
    number, when, call, extra, segment = event
    context, message_id = extra or (None, None)
    message_id = message_id or b'"%b"' % generated_id(dead.prefix, number)
    return (number, when, call, (context or dead.environment, message_id), segment)


def decode_settled(frame: Frame) -> Iterator[range]:
    """The numbers that are done."""
    usable = len(frame.payload) // _RANGE.size * _RANGE.size
    for first, last in _RANGE.iter_unpack(frame.payload[:usable]):
        yield range(first, last + 1)


def _rich_event(frame: Frame, segment: int) -> Event:
    seconds, nanoseconds, context_size, id_size = _RICH.unpack_from(frame.payload)
    parts: list[bytes | None] = []
    at = _RICH.size
    for size in (context_size, id_size):
        parts.append(None if size == _ABSENT else frame.payload[at : at + size])
        at += 0 if size == _ABSENT else size
    extra = (parts[0], parts[1]) if any(part is not None for part in parts) else None
    return (frame.number, seconds * _SECOND + nanoseconds, frame.payload[at:], extra, segment)


def _frame_at(data: bytes, at: int) -> Frame | None:
    if data[at : at + len(FRAME_MAGIC)] != FRAME_MAGIC or len(data) - at < FRAME_BYTES:
        return None
    _, size, kind_and_number, when = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + size
    if end + _CRC_BYTES > len(data):
        return None
    body = data[at:end]
    if crc32(body).to_bytes(_CRC_BYTES, "little") != data[end : end + _CRC_BYTES]:
        return None
    kind, number = kind_and_number >> _KIND_SHIFT, kind_and_number & _NUMBER
    return Frame(kind, number, when, body[_FRAME.size :], at, end + _CRC_BYTES - at)
