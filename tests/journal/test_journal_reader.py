"""One reader: what ``whisperr journal list`` says of a folder is what adoption finds in it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Callable

import pytest

from support.journals import deliver, flip
from support.records import event_of
from support.rows import named
from whisperr._encoding.calls import Encoder
from whisperr._journal import folder as folders
from whisperr._journal import format as file_format
from whisperr.cli import main
from whisperr.sandbox import Sandbox

PREFIX = "0123456789abcdef0123"
CHAIN = f"{PREFIX}-01234567"
ENCODER = Encoder("7.1", 2**20)


def segment(where: bytes, sequence: int, numbers: range, settled: list[int]) -> bytes:
    """Of these events, and a note that these are settled."""
    header = file_format.Header(where, PREFIX.encode(), sequence, 1_700_000_000 * 10**9, b'"a":1')
    parts = [file_format.encode_header(header)]
    for n in numbers:
        event = event_of(ENCODER, n, "u", "number_seen", {"n": n}, None, None, None)
        parts.append(file_format.encode_event(*event[:4]))
    parts += [file_format.encode_settled(settled)] if settled else []
    return b"".join(parts) + bytes(200)


def as_it_was(path: Path) -> None:
    """No damage."""


def of_another_destination(path: Path) -> None:
    path.write_bytes(segment(b"x" * 16, 2, range(3, 6), []))


def foreign(path: Path) -> None:
    path.write_bytes(b"Dear operator, no journal.\n")


def with_a_flipped_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(flip(data, [(data.index(b"\xf5Wj\xfa") + 30) * 8]))


def with_a_lost_header(path: Path) -> None:
    path.write_bytes(flip(path.read_bytes(), [12 * 8]))


def empty(path: Path) -> None:
    path.write_bytes(bytes(4096))


def no_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_an_unknown_kind(path: Path) -> None:
    """An intact frame that a later version may have written: a record, which can't be sent."""
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + file_format._frame(9, 77, 0, b"payload") + bytes(100))


CHANGES = (
    as_it_was, of_another_destination, foreign, with_a_flipped_bit, with_a_lost_header, empty,
    no_file, of_an_unknown_kind,
)  # fmt: skip
WAITING: dict[Callable[[Path], None], int] = {  # of records 0 to 5, of which 1 and 4 are settled: by the segment that is changed
    as_it_was: 4, of_another_destination: 3, foreign: 3, with_a_flipped_bit: 3,
    with_a_lost_header: 4, empty: 3, no_file: 3, of_an_unknown_kind: 5,
}  # fmt: skip


@pytest.mark.parametrize("change", named({change.__name__: change for change in CHANGES}))
def test_the_command_and_adoption_say_the_same(
    server: Sandbox,
    key: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
) -> None:
    """As many records wait as are adopted, and as many bytes are damaged as are reported: also of a
    segment of another destination (nothing in it is ours to send) and of a foreign file.
    """
    where = folders.destination(server.url, key)
    folder = Path(folders.open_folder(str(tmp_path), where))
    (folder / f"{CHAIN}-00000001.seg").write_bytes(segment(where, 1, range(3), []))
    changed = folder / f"{CHAIN}-00000002.seg"
    changed.write_bytes(segment(where, 2, range(3, 6), [1, 4]))
    change(changed)
    assert main(["journal", "list", "--json", "--dir", str(tmp_path)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    reports, stats = deliver(server.url, key, tmp_path)
    told = [re.match(r"(\d+) bytes of a journal are damaged", e.message) for e in reports.all]
    damaged = sum(int(match[1]) for match in told if match)
    assert (row["waiting"], row["damaged"]) == (stats["adopted"], damaged)
    assert row["waiting"] == WAITING[change]
    if change in (of_another_destination, foreign):
        assert damaged == os.path.getsize(f"{changed}.damaged") > 0
