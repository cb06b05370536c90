"""The log of one owner, with threads that change after each instruction."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Callable

import pytest

from support.short_lives import unlimited
from support.stepping import Shuffle, codes_of, stepped
from whisperr._encoding.records import Event
from whisperr._journal import format as file_format
from whisperr._journal import log as log_module
from whisperr._journal import ownership, segment, store
from whisperr._journal.folder import lock_path
from whisperr._journal.log import Log
from whisperr._journal.ownership import Chain
from whisperr._process.fork_token import token_of_this_process

SMALL = 300  # bytes of a segment: three frames of 100, or two and a note
EACH = 8  # records of a thread
CODES = codes_of(log_module, ownership, segment, store)


def new_log(folder: Path) -> Log:
    return Log(
        lambda: Chain.create(str(folder), b"ab" * 10),
        bytes(16),
        b"",
        unlimited(SMALL, SMALL),
        lambda error: pytest.fail(str(error)),
        token_of_this_process(),
    )


def event(number: int) -> Event:
    return (number, 0, b"x" * 72, None, None)


@pytest.mark.parametrize("written", [False, True], ids=["mapped", "written"])
@pytest.mark.parametrize("seed", range(8))
def test_appends_rotations_and_deletions_interleaved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, written: bool
) -> None:
    """Three threads append, a fourth settles what it finds and deletes all that is done, again and
    again: what append() returned from is in a file whose chain is owned, until it is settled; each
    record once; and in the end nothing is left.
    """
    monkeypatch.setattr(ownership, "can_map", lambda device: not written)
    log = new_log(tmp_path)
    appended: list[tuple[segment.OwnSegment, Event]] = []
    faults: list[str] = []
    running = [3]

    def check(home: segment.OwnSegment, number: int) -> None:
        with open(home.path, "rb") as file:
            found = [frame.number for frame in scanned(file.read()) if frame.kind == 0]
        if found.count(number) != 1:
            faults.append(f"{number} is not in {home.path}")
        if not os.path.exists(lock_path(str(tmp_path), home.chain.name)):
            faults.append(f"nobody owns {home.path}")

    def append(first: int) -> None:
        for number in range(first, first + EACH):
            record = event(number)
            home = log.append(file_format.encode_event(*record[:4]))
            assert home is not None
            check(home, number)
            appended.append((home, record))
        running[0] -= 1

    def deliver() -> None:
        while running[0] or appended:
            while appended:
                home, record = appended.pop(0)
                log.settle(home, [record])
            log.retire()
            pause()

    def pause() -> None:
        """Others come in here."""

    works: list[Callable[[], object]] = [partial(append, first) for first in (0, 100, 200)]
    shuffle = Shuffle(seed, [*works, deliver], {*CODES, pause.__code__})
    shuffle.run()
    assert shuffle.steps > 5000, "nothing was interrupted"
    assert faults == []
    assert log.retire()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written", [False, True], ids=["mapped", "written"])
def test_everything_is_retired_at_any_instruction_of_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """The sender settles and deletes all there is, and gives the lock back, while another thread is
    before any instruction of a rotation: that thread's record is in a file of a chain that is owned.
    """
    monkeypatch.setattr(ownership, "can_map", lambda device: not written)
    retired = 0
    while True:
        folder = tmp_path / str(retired)
        folder.mkdir()
        if not append_meanwhile_retired(new_log(folder), retired):
            break
        retired += 1
    assert retired > 200, "nothing came between"


def append_meanwhile_retired(log: Log, stop: int) -> bool:
    """False: a rotation has not so many instructions."""
    fit = SMALL // file_format.size_of(event(0))
    first = [event(number) for number in range(fit)]  # so that the next one rotates
    homes = [log.append(file_format.encode_event(*each[:4])) for each in first]
    full = homes[0]
    assert full is not None and set(homes) == {full}
    left = [stop]

    def step() -> bool:
        left[0] -= 1
        if left[0] >= 0:
            return False
        log.settle(full, first)
        log.retire()
        return True

    with stepped(CODES, step):
        home = log.append(file_format.encode_event(*event(7)[:4]))
    assert home is not None
    with open(home.path, "rb") as file:
        assert [each.number for each in scanned(file.read()) if each.kind == 0][-1] == 7
    assert os.path.exists(lock_path(os.path.dirname(home.path), home.chain.name)), stop
    assert log.find(home.handle) is home
    log.settle(home, [event(7)])
    if left[0] >= 0:
        log.settle(full, first)
    assert log.retire()
    assert os.listdir(os.path.dirname(home.path)) == []
    return left[0] < 0


def scanned(data: bytes) -> list[file_format.Frame]:
    start = file_format.decode_header(data)[2]
    return [item for item in file_format.scan(data, start) if isinstance(item, file_format.Frame)]


@pytest.mark.parametrize("seed", range(4))
def test_rotations_at_once_leave_one_segment_each(tmp_path: Path, seed: int) -> None:
    """However four threads come between each other, one segment is made for each that is full: the
    others' are taken back, and each of these holds records.
    """
    log = new_log(tmp_path)

    def append(first: int) -> None:
        for number in range(first, first + EACH):
            assert log.append(file_format.encode_event(*event(number)[:4])) is not None

    works: list[Callable[[], object]] = [partial(append, first) for first in (0, 100, 200, 300)]
    shuffle = Shuffle(seed, works, CODES)
    shuffle.run()
    assert shuffle.steps > 5000, "nothing was interrupted"
    paths = sorted(tmp_path.glob("*.seg"))
    for each in log.segments():
        each.seal()
    held = [[frame.number for frame in scanned(path.read_bytes())] for path in paths]
    assert all(held), held
    assert sorted(number for numbers in held for number in numbers) == [
        n + first for first in (0, 100, 200, 300) for n in range(EACH)
    ]
    assert len({path.name[:29] for path in paths}) == 1, "one chain"
    log.release()
