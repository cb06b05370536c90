"""The file format of the journal: records <-> bytes. No I/O in it.

docs/reference/journal-format.md has the tables.

A segment is a header, frames one behind the other, and zeros up to the size it was reserved
with. Each frame carries a magic number that can't occur in its JSON text and a checksum, so
that a reader finds the next intact frame behind any damage.
"""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, NamedTuple, Sequence
from zlib import crc32

from whisperr._encoding.records import CALL_OPENING, Extra, Identity, Record, generated_id

VERSION = 1  # of the format

EVENT, RICH_EVENT, IDENTITY, SETTLED = range(4)  # kinds of frames

FILE_MAGIC = b"\x89WHSPR\r\n"
FRAME_MAGIC = b"\xf5Wj\xfa"  # 0xf5 and 0xfa occur in no UTF-8
# What may be wrong with a header; "" for nothing.
EMPTY, DAMAGED, FOREIGN, NEWER = "empty", "damaged", "foreign", "newer"

_HEADER = struct.Struct("<8sHH16s20sIQ")  # and the environment, and a checksum
_FRAME = struct.Struct("<4sIQq")  # magic, size of the payload, kind and number, nanoseconds
_EVENT = struct.Struct(f"<IIQq{len(CALL_OPENING)}s")  # likewise, and how each call begins
_RICH = struct.Struct("<qIII")  # seconds, nanoseconds, size of the context, size of the id
_RANGE = struct.Struct("<QQ")  # first and last number
_CRC_BYTES = 4
_KIND_SHIFT = 56  # bits; a number has 48
_NUMBER = (1 << _KIND_SHIFT) - 1
_ABSENT = 0xFFFFFFFF
_SECOND = 1_000_000_000  # nanoseconds
_LATEST = 2**63  # nanoseconds; a plain frame holds less, until the year 2262

FRAME_BYTES = _FRAME.size + _CRC_BYTES  # a frame without its payload

_OPENING_BYTES = len(CALL_OPENING)
_pack = _FRAME.pack
_pack_event = _EVENT.pack
_MAGIC = int.from_bytes(FRAME_MAGIC, "little")


class Header(NamedTuple):
    """What a segment says of its process."""

    destination: bytes  # 16 bytes, see folder.destination
    prefix: bytes  # of the ids: 20 hex digits
    sequence: int  # among the segments of one chain
    created: int  # nanoseconds since the epoch
    environment: bytes  # what its SDK put into a context, see Encoder


class Frame(NamedTuple):
    """One frame whose checksum is right."""

    kind: int
    number: int
    when: int
    payload: bytes
    at: int  # offset in the segment
    size: int


class Producer(NamedTuple):
    """The process that made a record which another one delivers, under the same id."""

    prefix: bytes  # of its ids
    environment: bytes  # see Header


class Damage(NamedTuple):
    """A stretch of a segment that holds no intact frame."""

    at: int
    size: int


# --- writing


def encode_header(header: Header) -> bytes:
    size = _HEADER.size + len(header.environment) + _CRC_BYTES
    fixed = _HEADER.pack(FILE_MAGIC, VERSION, size, *header[:4])
    return _sealed(fixed + header.environment)


def encode_event(number: int, when: int, call: bytes, extra: Extra | None) -> bytes:
    """The frame of an event, of which ``call`` is encoded without the opening that all have."""
    if extra is None:
        # Every track() comes here. One checksum over all, at the end, spares a second call, and
        # whether the time fits is left to pack(): a comparison with numbers so large costs more.
        try:
            size = _OPENING_BYTES + len(call)
            body = _pack_event(_MAGIC, size, number, when, CALL_OPENING) + call
            return body + crc32(body).to_bytes(4, "little")
        except struct.error:
            pass
    context, message_id = extra or (None, None)
    seconds, nanoseconds = divmod(when, _SECOND)
    rich = _RICH.pack(seconds, nanoseconds, _size_of(context), _size_of(message_id))
    parts = (rich, context or b"", message_id or b"", CALL_OPENING, call)
    return _frame(RICH_EVENT, number, 0, b"".join(parts))


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
        return FRAME_BYTES + _OPENING_BYTES + len(call)
    whole = FRAME_BYTES + _RICH.size + _OPENING_BYTES + len(call)
    return whole + sum(len(part) for part in extra or () if part)


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
    if data[: len(FILE_MAGIC)] != FILE_MAGIC or len(data) < _HEADER.size:
        if _is_zero(data, 0):  # killed before it was written: nothing was promised yet
            return None, EMPTY, 0
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
        if _is_zero(data, at):  # what was reserved and never used
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


def _is_zero(data: bytes, at: int) -> bool:
    """From there on. A comparison of memory: counting takes ten times as long."""
    return data[at:] == bytes(len(data) - at)


def decode_record(frame: Frame, segment: int, producer: Producer | None) -> Record | None:
    """The record in an intact frame, or None if it holds none that this version knows.

    ``segment``: the handle that the record shall name. ``producer``: of a record that another
    process made, whose id and environment it keeps.
    """
    if frame.kind == IDENTITY:
        key = generated_id(producer.prefix, frame.number) if producer else None
        return Identity(frame.number, frame.payload, segment, key)
    if frame.kind == EVENT:
        decoded: tuple[int, bytes, Extra | None] = frame.when, frame.payload, None
    elif frame.kind == RICH_EVENT and len(frame.payload) >= _RICH.size:
        decoded = _decode_rich(frame.payload)
    else:
        return None
    when, payload, extra = decoded
    if not payload.startswith(CALL_OPENING):  # written by something else: nobody can send it
        return None
    if producer is not None:
        context, message_id = extra or (None, None)
        message_id = message_id or b'"%b"' % generated_id(producer.prefix, frame.number)
        extra = (context or producer.environment, message_id)
    return (frame.number, when, payload[_OPENING_BYTES:], extra, segment)


def decode_settled(frame: Frame) -> Iterator[range]:
    """The numbers that are done."""
    usable = len(frame.payload) // _RANGE.size * _RANGE.size
    for first, last in _RANGE.iter_unpack(frame.payload[:usable]):
        yield range(first, last + 1)


def _decode_rich(payload: bytes) -> tuple[int, bytes, Extra | None]:
    """Time, call and extra of an event that has more than most."""
    seconds, nanoseconds, context_size, id_size = _RICH.unpack_from(payload)
    parts: list[bytes | None] = []
    at = _RICH.size
    for size in (context_size, id_size):
        parts.append(None if size == _ABSENT else payload[at : at + size])
        at += 0 if size == _ABSENT else size
    extra = (parts[0], parts[1]) if any(part is not None for part in parts) else None
    return seconds * _SECOND + nanoseconds, payload[at:], extra


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
