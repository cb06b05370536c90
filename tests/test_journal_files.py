"""The files of the journal: their format, and what of them a later process delivers when they
are torn, damaged, or none of ours.
"""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import stat
import struct
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.apps import run_app
from support.clients import Reports
from support.inputs import texts
from support.journals import (
    DYING,
    KILLED,
    NOWHERE,
    assert_ledger,
    deliver,
    files,
    flip,
    folder_of,
    heir,
    layout,
    leave_dead,
    modes,
)
from support.rows import named
from whisperr import Whisperr, _chains, _frames
from whisperr._segments import Found, Segment
from whisperr._wire import Encoder, Identity, Record
from whisperr.sandbox import Sandbox

WHERE = b"d" * 16
PREFIX = b"0123456789abcdef0123"
ENVIRONMENT = b'"sdk_name":"whisperr-python","sdk_version":"9"'
HEADER = _frames.Header(WHERE, PREFIX, 7, 1_700_000_000_000_000_000, ENVIRONMENT)
ENCODER = Encoder("7.1", 2**20)
UTC = timezone.utc

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3),
    max_leaves=6,
)
USERS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
NUMBERS = st.integers(0, 2**48 - 1)
EVENTS = st.builds(
    ENCODER.event,
    NUMBERS,
    USERS,
    st.sampled_from(["order_paid", "a", "x_1"]),
    st.dictionaries(texts(), JSON, max_size=3),
    st.none() | st.dictionaries(texts(), JSON, max_size=3),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | USERS,
)
IDENTITIES = st.builds(
    ENCODER.identity,
    NUMBERS,
    st.fixed_dictionaries(
        {
            "external_user_id": USERS,
            "traits": st.none() | st.dictionaries(texts(), JSON, max_size=3),
            "email": st.none() | USERS,
            "phone": st.none(),
            "push_token": st.none(),
            "preferred_channel": st.none() | st.just("sms"),
            "channels": st.none(),
        }
    ),
)
RECORDS: st.SearchStrategy[Record] = EVENTS | IDENTITIES
SETTLED = st.sets(st.integers(0, 60) | NUMBERS, min_size=1)


# --- there and back


def encoded(record: Record) -> bytes:
    if isinstance(record, Identity):
        return _frames.encode_identity(record)
    return _frames.encode_event(record)


def decoded(data: bytes, header_size: int) -> list[Record | set[int]]:
    """All frames, of which none may be damaged."""
    found: list[Record | set[int]] = []
    for frame in _frames.scan(data, header_size):
        assert isinstance(frame, _frames.Frame)
        if frame.kind == _frames.SETTLED:
            found.append(
                {number for numbers in _frames.decode_settled(frame) for number in numbers}
            )
        else:
            record = _frames.decode_record(frame, Segment())
            assert record is not None
            found.append(
                record._replace(origin=None)
                if isinstance(record, Identity)
                else (*record[:4], None)
            )
    return found


@settings(max_examples=300, deadline=None)
@given(items=st.lists(RECORDS | SETTLED, max_size=8), room=st.integers(0, 100))
def test_what_is_written_is_what_is_read(items: list[Any], room: int) -> None:
    """Every kind of record, every time from year 1 to 9999, every text, and exactly the numbers
    that are settled; a record's frame is as large as is reckoned."""
    data = _frames.encode_header(HEADER)
    for item in items:
        frame = _frames.encode_settled(item) if isinstance(item, set) else encoded(item)
        assert isinstance(item, set) or len(frame) == _frames.size_of(item)
        data += frame
    header, fault, size = _frames.decode_header(data + bytes(room))
    assert (header, fault) == (HEADER, "")
    assert decoded(data + bytes(room), size) == items


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1677, 9, 21, tzinfo=UTC),  # the last day and the first one ...
        datetime(1677, 9, 22, tzinfo=UTC),  # ... that nanoseconds in 64 bits can tell
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2262, 4, 11, tzinfo=UTC),
        datetime(2262, 4, 12, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    ids=str,
)
@pytest.mark.parametrize("extra", [(None, None), ({"a": 1}, None), (None, "m-1"), ({}, "m")])
def test_every_time_of_the_calendar(moment: datetime, extra: tuple[Any, Any]) -> None:
    """With and without a context or an id, at the ends of the calendar and of 64 bits."""
    event = ENCODER.event(1, "u", "order_paid", {}, extra[0], moment, extra[1])
    frame = _frames.encode_event(event)
    assert decoded(frame, 0) == [event]
    assert len(frame) == _frames.size_of(event)


def test_the_format() -> None:
    """Byte for byte: a later version reads what this one wrote, so it may not change by accident."""
    data = _frames.encode_header(HEADER)
    head = struct.pack(
        "<8sHH16s20sIQ",
        b"\x89WHSPR\r\n",
        1,
        64 + len(ENVIRONMENT),
        WHERE,
        PREFIX,
        7,
        HEADER.created,
    )
    assert data == sealed(head + ENVIRONMENT)
    event = (5, -9, b'{"a":1', None, None)
    assert _frames.encode_event(event) == sealed(
        struct.pack("<4sIQq", b"\xf5Wj\xfa", 6, 5, -9) + event[2]
    )
    rich = (5, 1_500_000_000, b"call", (b"context", None), None)
    payload = struct.pack("<qIII", 1, 500_000_000, 7, 0xFFFFFFFF) + b"contextcall"
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", len(payload), 1 << 56 | 5, 0)
    assert _frames.encode_event(rich) == sealed(head + payload)
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", 4, 2 << 56 | 6, 0)
    assert _frames.encode_identity(Identity(6, b"body")) == sealed(head + b"body")
    payload = struct.pack("<QQQQ", 1, 3, 7, 7)
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", len(payload), 3 << 56, 0)
    assert _frames.encode_settled([7, 3, 1, 2]) == sealed(head + payload)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", crc32(body))


# --- damage, by the classes alone


@pytest.fixture(scope="module")
def sample() -> bytes:
    """A segment with every kind of frame, numbered from 0, and some room left."""
    frames = []
    for number in range(12):
        context, message_id = ({"a": number}, f"id-{number}") if number % 3 == 2 else (None, None)
        if number % 5 == 4:
            body = {"external_user_id": f"u{number}", "traits": {"é": "ü"}}
            frames.append(_frames.encode_identity(Identity(number, str(body).encode())))
        else:
            properties = {"n": number, "text": "x" * (number * 7)}
            event = ENCODER.event(number, "u", "order_paid", properties, context, None, message_id)
            frames.append(_frames.encode_event(event))
    return _frames.encode_header(HEADER) + b"".join(frames) + bytes(40)


class Look:
    """What is found in a file of these bytes, and what should be."""

    def __init__(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.found = Found(str(path), PREFIX, b"adopter", WHERE)
        count = self.found.open(lambda number: False)
        self.records, self.unreadable = self.found.segment.load(1000)
        assert count == len(self.records) + self.unreadable
        assert self.found.segment.backlog() == 0

    def assert_holds(self, original: bytes, start: int, stop: int) -> None:
        """Every frame outside of the damaged stretch, just as it was."""
        intact = [
            frame for frame in layout(original).frames if frame.end <= start or frame.start >= stop
        ]
        assert self.unreadable == 0
        assert [record[0] for record in self.records] == [frame.number for frame in intact]
        again = [encoded(record) for record in self.records]
        assert again == [original[frame.start : frame.end] for frame in intact]


def test_a_segment_cut_off_at_every_byte(tmp_path: Path, sample: bytes) -> None:
    """Each frame before the cut is found as it was; the torn one is damage, and a clean cut is none."""
    plan = layout(sample)
    clean = {plan.header_end, *(frame.end for frame in plan.frames)}
    for length in range(len(sample)):
        look = Look(tmp_path / "segment", sample[:length])
        look.assert_holds(sample, length, len(sample))
        is_clean = length in clean or length >= plan.end or length == 0
        assert look.found.segment.is_damaged is not is_clean, length
        torn = length - max([0, *(at for at in clean if at <= length)])
        assert look.found.damaged == (0 if is_clean else torn)


def test_ten_thousand_flipped_bits(tmp_path: Path, sample: bytes) -> None:
    """One in most files, up to five in some: every frame without one is found as it was, every
    other is damage, and of a lost header what stands in its place is the adopter's."""
    random_ = random.Random(20)
    plan = layout(sample)
    flips = 0
    while flips < 10_000:
        bits = random_.sample(range(plan.end * 8), random_.choice([1, 1, 1, 1, 2, 5]))
        flips += len(bits)
        look = Look(tmp_path / "segment", flip(sample, bits))
        hit = [bit // 8 for bit in bits]
        intact = [f for f in plan.frames if not any(f.start <= at < f.end for at in hit)]
        assert [record[0] for record in look.records] == [frame.number for frame in intact]
        assert [encoded(record) for record in look.records] == [
            sample[frame.start : frame.end] for frame in intact
        ]
        assert look.found.segment.is_damaged
        stretches = [(f.start, f.end) for f in plan.frames] + [(0, plan.header_end)]
        lost = sum(end - at for at, end in stretches if any(at <= bit < end for bit in hit))
        # What is behind the last intact frame can't be told from the room that is left.
        room = len(sample) - plan.end if plan.frames[-1] not in intact else 0
        assert look.found.damaged == lost + room
        expected = b"adopter" if any(at < plan.header_end for at in hit) else ENVIRONMENT
        assert look.found.segment.environment == expected
        assert look.found.segment.prefix == PREFIX


def test_zeroed_stretches(tmp_path: Path, sample: bytes) -> None:
    """As a power loss leaves them, of any place and size: what is outside is found as it was."""
    random_ = random.Random(21)
    for _ in range(500):
        start = random_.randrange(len(sample))
        stop = min(len(sample), start + random_.choice([1, 30, 512, 4096]))
        data = sample[:start] + bytes(stop - start) + sample[stop:]
        changed = [at for at in range(start, stop) if sample[at]] or [len(sample)]
        look = Look(tmp_path / "segment", data)
        look.assert_holds(sample, changed[0], changed[-1] + 1)


def test_shuffled_and_repeated_stretches(tmp_path: Path, sample: bytes) -> None:
    """Parts of the file in a wrong order, or foreign bytes between them, harm no other frame."""
    random_ = random.Random(22)
    plan = layout(sample)
    for _ in range(500):
        parts = [sample[frame.start : frame.end] for frame in plan.frames]
        random_.shuffle(parts)
        noise = bytes(random_.randrange(256) for _ in range(random_.randrange(60)))
        data = sample[: plan.header_end] + noise.join(parts)
        look = Look(tmp_path / "segment", data)
        assert sorted(map(encoded, look.records)) == sorted(parts)


@pytest.mark.parametrize("seed", range(4))
def test_noise(tmp_path: Path, seed: int) -> None:
    """Random bytes with and without our magic numbers: nothing is found, and nothing raises."""
    random_ = random.Random(seed)
    for _ in range(200):
        noise = bytes(random_.randrange(256) for _ in range(random_.randrange(1, 300)))
        for magic in (b"", b"\x89WHSPR\r\n", b"\x89WHSPR\r\n\x01\x00", b"\xf5Wj\xfa"):
            look = Look(tmp_path / "segment", magic + noise)
            assert look.records == [] and look.found.segment.is_damaged
