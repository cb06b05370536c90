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
from functools import partial
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
    LARGE_SEGMENTS,
    accounts,
    adopter,
    deliver,
    files,
    flip,
    folder_of,
    layout,
    leave_dead,
)
from support.records import event_of, identity_of
from support.rows import named
from whisperr import Whisperr
from whisperr._encoding.calls import Encoder
from whisperr._encoding.records import Identity, Record
from whisperr._journal import folder as folders
from whisperr._journal import format as file_format
from whisperr._journal import reader
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import RecoveredSegment
from whisperr.sandbox import Sandbox

WHERE = b"d" * 16
PREFIX = b"0123456789abcdef0123"
ENVIRONMENT = b'"sdk_name":"whisperr-python","sdk_version":"9"'
HEADER = file_format.Header(WHERE, PREFIX, 7, 1_700_000_000_000_000_000, ENVIRONMENT)
CHAIN = Chain("", PREFIX.decode() + "-01234567", (0, 0, 0, ""), None)  # of nobody
PRODUCER = file_format.Producer(PREFIX, b"adopter")
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
    partial(event_of, ENCODER),
    NUMBERS,
    USERS,
    st.sampled_from(["order_paid", "a", "x_1"]),
    st.dictionaries(texts(), JSON, max_size=3),
    st.none() | st.dictionaries(texts(), JSON, max_size=3),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | USERS,
)
IDENTITIES = st.builds(
    partial(identity_of, ENCODER),
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
        return file_format.encode_identity(record)
    return file_format.encode_event(*record[:4])


def decoded(data: bytes, header_size: int) -> list[Record | set[int]]:
    """All frames, of which none may be damaged."""
    found: list[Record | set[int]] = []
    for frame in file_format.scan(data, header_size):
        assert isinstance(frame, file_format.Frame)
        if frame.kind == file_format.SETTLED:
            found.append(
                {number for numbers in file_format.decode_settled(frame) for number in numbers}
            )
        else:
            record = file_format.decode_record(frame, 1, None)
            assert record is not None
            found.append(
                record._replace(segment=None)
                if isinstance(record, Identity)
                else (*record[:4], None)
            )
    return found


@settings(max_examples=300, deadline=None)
@given(items=st.lists(RECORDS | SETTLED, max_size=8), room=st.integers(0, 100))
def test_what_is_written_is_what_is_read(items: list[Any], room: int) -> None:
    """Every kind of record, every time from year 1 to 9999, every text, and exactly the numbers
    that are settled; a record's frame is as large as is reckoned."""
    data = file_format.encode_header(HEADER)
    for item in items:
        frame = file_format.encode_settled(item) if isinstance(item, set) else encoded(item)
        assert isinstance(item, set) or len(frame) == file_format.size_of(item)
        data += frame
    header, fault, size = file_format.decode_header(data + bytes(room))
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
    event = event_of(ENCODER, 1, "u", "order_paid", {}, extra[0], moment, extra[1])
    frame = file_format.encode_event(*event[:4])
    assert decoded(frame, 0) == [event]
    assert len(frame) == file_format.size_of(event)


def test_the_format() -> None:
    """Byte for byte: a later version reads what this one wrote, so it may not change by accident."""
    data = file_format.encode_header(HEADER)
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
    call = file_format.CALL_OPENING + event[2]
    assert file_format.encode_event(*event[:4]) == sealed(
        struct.pack("<4sIQq", b"\xf5Wj\xfa", len(call), 5, -9) + call
    )
    rich = (5, 1_500_000_000, b"call", (b"context", None), None)
    payload = struct.pack("<qIII", 1, 500_000_000, 7, 0xFFFFFFFF) + b"context"
    payload += file_format.CALL_OPENING + b"call"
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", len(payload), 1 << 56 | 5, 0)
    assert file_format.encode_event(*rich[:4]) == sealed(head + payload)
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", 4, 2 << 56 | 6, 0)
    assert file_format.encode_identity(Identity(6, b"body")) == sealed(head + b"body")
    payload = struct.pack("<QQQQ", 1, 3, 7, 7)
    head = struct.pack("<4sIQq", b"\xf5Wj\xfa", len(payload), 3 << 56, 0)
    assert file_format.encode_settled([7, 3, 1, 2]) == sealed(head + payload)


@pytest.mark.parametrize("kind", [file_format.EVENT, file_format.RICH_EVENT])
def test_how_every_call_begins_is_on_disk_alone(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """A record in memory is without it; a payload that begins otherwise is no record: put behind
    that beginning it would be no JSON.
    """
    monkeypatch.setattr(file_format, "CALL_OPENING", b'{"external_user_id":')
    monkeypatch.setattr(file_format, "_OPENING_BYTES", 20)
    rich = struct.pack("<qIII", 0, 7, 0xFFFFFFFF, 0xFFFFFFFF) if kind else b""
    found = []
    for call in (b'{"external_user_id":"u","event_type":"a"', b'{"event_type":"a"', b""):
        frame = file_format.Frame(kind, 5, 7, rich + call, 0, 0)
        found.append(file_format.decode_record(frame, 1, None))
    assert found == [(5, 7, b'"u","event_type":"a"', None, 1), None, None]


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
            frames.append(file_format.encode_identity(Identity(number, str(body).encode())))
        else:
            properties = {"n": number, "text": "x" * (number * 7)}
            event = event_of(
                ENCODER, number, "u", "order_paid", properties, context, None, message_id
            )
            frames.append(file_format.encode_event(*event[:4]))
    return file_format.encode_header(HEADER) + b"".join(frames) + bytes(40)


class Look:
    """What is found in a file of these bytes, and what should be."""

    def __init__(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.contents = reader.read_segment(str(path), WHERE)
        numbers = [frame.number for frame in self.contents.records]
        segment = RecoveredSegment(self.contents, CHAIN, numbers, PRODUCER)
        segment._producer = None  # the records as they stand there
        self.records, self.unreadable = segment.load(1000)
        assert len(numbers) == len(self.records) + self.unreadable
        assert len(segment.backlog) == 0

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
        assert look.contents.is_damaged is not is_clean, length
        torn = length - max([0, *(at for at in clean if at <= length)])
        assert look.contents.damaged == (0 if is_clean else torn)


def test_ten_thousand_flipped_bits(tmp_path: Path, sample: bytes) -> None:
    """One in most files, up to five in some: every frame without one is found as it was, every
    other is damage, and a header with one is lost."""
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
        assert look.contents.is_damaged
        stretches = [(f.start, f.end) for f in plan.frames] + [(0, plan.header_end)]
        lost = sum(end - at for at, end in stretches if any(at <= bit < end for bit in hit))
        # What is behind the last intact frame can't be told from the room that is left.
        room = len(sample) - plan.end if plan.frames[-1] not in intact else 0
        assert look.contents.damaged == lost + room
        is_header_hit = any(at < plan.header_end for at in hit)
        assert look.contents.header == (None if is_header_hit else HEADER)


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
            assert look.records == [] and look.contents.is_damaged


# --- damage, from end to end: a process that was killed, and the next one

SECRET = "Ada Lovelace"  # stands for personal data
CALLS = 40
TRACKING = f"""
client = new_journal(app_version="7.1")
from datetime import datetime, timedelta, timezone
earlier = datetime.now(timezone.utc) - timedelta(days=2)
for n in range({CALLS}):
    before = time.time_ns()
    if n % 8 == 5:
        client.identify("user_%d" % n, traits={{"name": "{SECRET}"}})
    elif n % 8 == 3:
        client.track("user_%d" % n, "it_happened", {{"n": n, "name": "{SECRET}"}}, {{"a": n}},
            occurred_at=earlier, message_id="mine-%d" % n)
    else:
        client.track("user_%d" % n, "it_happened", {{"n": n, "name": "{SECRET}"}})
    account(n=n, before=before, after=time.time_ns(), earlier=earlier.timestamp())
die()
"""


class Dead:
    """A process that was killed: its journal, and what it had tracked."""

    def __init__(self, server: Sandbox, folder: Path) -> None:
        self.key = "wrk_of_the_dead"
        self.url = server.url
        self.server = server
        self._journal = leave_dead(server, self.key, folder, LARGE_SEGMENTS + TRACKING)
        self._account = {line["n"]: line for line in accounts(folder)}
        (self.path,) = files(self._journal)
        self.data = self.path.read_bytes()
        self.plan = layout(self.data)
        self.prefix = self.path.name[:20]

    def copy(self, to: Path) -> Path:
        """The path of its segment in a journal of its own."""
        shutil.copytree(self._journal, to)
        self.server.forget(self.key)
        (path,) = files(to)
        return path

    def intact(self, data: bytes) -> set[int]:
        """The numbers of the frames that are still the same in a changed file."""
        same = self.plan.frames
        return {f.number for f in same if data[f.start : f.end] == self.data[f.start : f.end]}

    def assert_arrived(self, numbers: set[int], version: str | None = "7.1") -> None:
        """Exactly these calls, each once, each with its own id, its own time and its environment."""
        events = {event["properties"]["n"]: event for event in self.server.events(self.key)}
        identities = {item["external_user_id"] for item in self.server.identities(self.key)}
        assert {*events, *(int(user[5:]) for user in identities)} == numbers
        for n, event in events.items():
            own = n % 8 == 3
            assert event["context"]["$message_id"] == (
                f"mine-{n}" if own else f"{self.prefix}{n:012x}"
            )
            assert event["properties"] == {"n": n, "name": SECRET}
            assert event["external_user_id"] == f"user_{n}"
            assert event["context"].get("app_version") == ("7.1" if own else version)
            assert event["context"].get("a") == (n if own else None)
            self._assert_time(event["occurred_at"], n, own)
        ledger = self.server.ledger(self.key)
        assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, 0, 0), ledger
        assert ledger["identities_twice"] == 0

    def _assert_time(self, text: str, n: int, own: bool) -> None:
        parsed = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        found = round(parsed.timestamp() * 1000)
        line = self._account[n]
        if own:
            assert found == int(line["earlier"] * 1000)
        else:
            assert line["before"] // 1_000_000 <= found <= line["after"] // 1_000_000


@pytest.fixture(scope="module")
def dead(server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Dead:
    return Dead(server, tmp_path_factory.mktemp("dead"))


@pytest.fixture(autouse=True)
def _discreet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing in any log is a key or personal, whatever a test does."""
    for name in ("whisperr", "requests", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    yield
    assert not re.search(rf"{SECRET}|wrk_|user_\d|mine-\d", caplog.text)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


Damage = Callable[[bytes, Dead], bytes]


def zeroed(start: int, stop: int) -> Damage:
    return lambda data, dead: data[:start] + bytes(stop - start) + data[stop:]


DAMAGES: dict[str, Damage] = {
    "cut off in a frame": lambda data, dead: data[: dead.plan.frames[20].end - 3],
    "cut off in the header": lambda data, dead: data[:30],
    "one bit of one frame": lambda data, dead: flip(data, [dead.plan.frames[7].start * 8 + 77]),
    "bits of three frames": lambda data, dead: flip(
        data, [dead.plan.frames[n].end * 8 - 50 for n in (0, 20, CALLS - 1)]
    ),
    "one bit of the header": lambda data, dead: flip(data, [12 * 8]),
    "the version of the header": lambda data, dead: flip(data, [8 * 8 + 3]),
    "a page of zeros at the begin": zeroed(0, 4096),
    "a page of zeros inside": zeroed(2048, 3072),
    "noise inside": lambda data, dead: data[:1500] + os.urandom(700) + data[2200:],
    "noise behind": lambda data, dead: (
        data[: dead.plan.end] + os.urandom(700) + data[dead.plan.end + 700 :]
    ),
    "text": lambda data, dead: b"Dear operator, this is no journal.\n" * 90,
}


@pytest.mark.parametrize("damage", named(DAMAGES))
def test_a_damaged_segment_of_a_killed_process(
    dead: Dead, damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every intact record arrives with its own id and time; the damage is reported once, and the
    file set aside as it was. A second client hears nothing of it."""
    path = dead.copy(tmp_path / "journal")
    changed = damage(dead.data, dead)
    path.write_bytes(changed)
    reports, stats = deliver(dead.url, dead.key, tmp_path / "journal")
    intact = dead.intact(changed)
    whole_header = changed[: dead.plan.header_end] == dead.data[: dead.plan.header_end]
    dead.assert_arrived(intact, "7.1" if whole_header else None)
    assert (stats["adopted"], stats["delivered"]) == (len(intact), len(intact))
    assert [(error.type, error.count) for error in reports.all] == [("journal", 0)]
    assert re.fullmatch(r"\d+ bytes of a journal are damaged", reports.all[0].message)
    assert reports.all[0].detail == str(path)
    (warning,) = warnings(caplog)
    assert warning.startswith(f"whisperr: journal: {reports.all[0].message}")
    aside = Path(f"{path}.damaged")
    assert aside.read_bytes() == changed
    assert list(folder_of(tmp_path / "journal").iterdir()) == [aside]
    again, stats = deliver(dead.url, dead.key, tmp_path / "journal")
    assert (again.all, stats["adopted"], aside.read_bytes()) == ([], 0, changed)


def test_an_undamaged_segment_of_a_killed_process(dead: Dead, tmp_path: Path) -> None:
    """All arrives, nothing is reported, and no file is left."""
    dead.copy(tmp_path / "journal")
    reports, stats = deliver(dead.url, dead.key, tmp_path / "journal")
    dead.assert_arrived(set(range(CALLS)))
    assert (stats["adopted"], reports.all) == (CALLS, [])
    assert list(folder_of(tmp_path / "journal").iterdir()) == []


def as_empty(path: Path) -> None:
    path.write_bytes(b"")


def as_zeros(path: Path) -> None:
    path.write_bytes(bytes(65536))


def as_text(path: Path) -> None:
    path.write_text("Dear operator")


def as_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("kept")


def as_pipe(path: Path) -> None:
    os.mkfifo(str(path))


def as_socket(path: Path) -> None:
    os.mknod(str(path), 0o600 | stat.S_IFSOCK)


def as_link(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.write_bytes(file_format.encode_header(HEADER))
    path.symlink_to(outside)


def as_dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def as_device(path: Path) -> None:
    os.mknod(str(path), 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: without an end


# What stands there, and whether it is worth a report.
INTRUDERS = {
    "an empty file": (as_empty, False),
    "a file of zeros": (as_zeros, False),
    "a text": (as_text, True),
    "a folder": (as_folder, True),
    "a pipe": (as_pipe, True),
    "a socket": (as_socket, True),
    "a link": (as_link, True),
    "a dangling link": (as_dangling_link, True),
    "a device": (as_device, True),
}


@pytest.mark.parametrize(("intrude", "is_told"), named(INTRUDERS))
@pytest.mark.parametrize("behind", [False, True], ids=["in a chain of its own", "behind another"])
def test_what_stands_under_the_name_of_a_segment(
    dead: Dead,
    intrude: Callable[[Path], None],
    is_told: bool,
    behind: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not followed, not waited for, reported once and set aside as it is; what a process
    was killed over as it made a segment is no damage, and goes without a word."""
    path = dead.copy(tmp_path / "journal")
    name = path.name[:-12] + "00000009.seg" if behind else f"{'f' * 20}-00000000-00000001.seg"
    place = path.with_name(name)
    intrude(place)
    reports, _ = deliver(dead.url, dead.key, tmp_path / "journal")
    dead.assert_arrived(set(range(CALLS)))
    assert [error.type for error in reports.all] == ["journal"] * is_told
    assert len(warnings(caplog)) == is_told
    left = list(folder_of(tmp_path / "journal").iterdir())
    assert left == [Path(f"{place}.damaged")] * is_told
    if intrude is as_folder:
        assert (left[0] / "inside").read_text() == "kept"
    if intrude is as_link:
        assert (tmp_path / "outside").read_bytes() == file_format.encode_header(HEADER)
    assert deliver(dead.url, dead.key, tmp_path / "journal")[0].all == []


@pytest.mark.parametrize(
    "intrude",
    named(
        {
            "a folder": as_folder,
            "a link": as_link,
            "a dangling link": as_dangling_link,
            "a pipe": as_pipe,
        }
    ),
)
def test_what_stands_under_the_name_of_a_lock(
    dead: Dead, intrude: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who can't be asked for the right to a chain keeps only that chain from being adopted."""
    path = dead.copy(tmp_path / "journal")
    intrude(path.with_name(f"{'0' * 20}-00000000.lock"))
    reports, _ = deliver(dead.url, dead.key, tmp_path / "journal")
    dead.assert_arrived(set(range(CALLS)))
    assert [error.type for error in reports.all] in (["journal"], [])  # a pipe is as good as a file
    assert len(warnings(caplog)) == len(reports.all)
    if intrude is as_link:
        assert (tmp_path / "outside").read_bytes() == file_format.encode_header(HEADER)


def newer(data: bytes) -> bytes:
    """The same under a header of version 2."""
    end = layout(data).header_end
    head = data[:8] + struct.pack("<H", 2) + data[10 : end - 4]
    return sealed(head) + data[end:]


def test_a_newer_version_is_left_alone(
    dead: Dead, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With all of its chain, byte for byte; reported once, and free for whoever can read it."""
    path = dead.copy(tmp_path / "journal")
    other = path.with_name(path.name[:-12] + "00000002.seg")
    other.write_bytes(newer(dead.data))
    reports = Reports()
    client = adopter(dead.url, dead.key, tmp_path / "journal", on_error=reports)
    for _ in range(3):
        journal_of(client).adopt_at = 0.0  # as after a minute
        assert client.flush()
    assert [error.type for error in reports.all] == ["journal"] and len(warnings(caplog)) == 1
    assert "newer version" in reports.all[0].message
    source = """
        import fcntl, os, sys
        fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    """
    run_app(dead.server, dead.key, tmp_path, source, arguments=[f"{str(path)[:-13]}.lock"])
    client.track("u", "order_paid", {"n": 99})
    assert client.shutdown()
    assert (path.read_bytes(), other.read_bytes()) == (dead.data, newer(dead.data))
    assert [event["properties"]["n"] for event in dead.server.events(dead.key)] == [99]


def journal_of(client: Whisperr) -> Any:
    """What it has on disk, made at its first use."""
    engine = client._own_engine()
    assert engine is not None
    return engine._journal()


def test_a_segment_of_another_destination_is_not_sent(dead: Dead, tmp_path: Path) -> None:
    """Moved into the wrong folder, it is set aside: its events are for another key."""
    path = dead.copy(tmp_path / "journal")
    stranger = tmp_path / "other" / folders.destination(dead.url, "wrk_other").hex() / path.name
    stranger.parent.mkdir(parents=True)
    shutil.copy(str(path), str(stranger))
    reports, stats = deliver(dead.url, "wrk_other", tmp_path / "other")
    assert (stats["adopted"], [error.type for error in reports.all]) == (0, ["journal"])
    assert Path(f"{stranger}.damaged").read_bytes() == dead.data


def test_a_file_of_another_user_is_reported_and_left(dead: Dead, tmp_path: Path) -> None:
    """What stands beside it is delivered all the same."""
    path = dead.copy(tmp_path / "journal")
    stranger = path.with_name(f"{'f' * 20}-00000000-00000001.seg")
    stranger.write_bytes(dead.data)
    os.chown(str(stranger), 12345, -1)
    reports, _ = deliver(dead.url, dead.key, tmp_path / "journal")
    dead.assert_arrived(set(range(CALLS)))
    assert [error.type for error in reports.all] == ["journal"]
    assert stranger.read_bytes() == dead.data


def test_the_names_of_others_are_not_touched(dead: Dead, tmp_path: Path) -> None:
    """A file of a name that isn't ours is neither read, nor moved, nor counted as full."""
    path = dead.copy(tmp_path / "journal")
    others = [path.with_name(name) for name in ("x.seg", "notes.txt", "0.lock", ".hidden", "é")]
    for other in others:
        other.write_bytes(b"x" * 700_000)
    assert folders.usage(str(path.parent))[0] == len(dead.data)
    reports, _ = deliver(dead.url, dead.key, tmp_path / "journal", max_journal_bytes=2**20)
    assert reports.all == []
    assert sorted(path.parent.iterdir()) == sorted(others)
    assert {other.read_bytes() for other in others} == {b"x" * 700_000}
