"""SIGKILL between every two instructions of the journal: nothing is lost, nothing is stuck.

A process counts the instructions that it executes in the modules of the journal and kills itself
before a given one: while it appends, rotates, settles, adopts the journal of a process that was
killed before it, drops, deletes, and while it ends. Then a process with the same folder flushes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import whisperr._journal
from support.clients import Reports, open_client
from support.killing import Kill, Killer, Point, kill_servers
from support.short_lives import unlimited
from support.storms import files_in
from whisperr._journal import folder as folders
from whisperr._journal.format import encode_event
from whisperr._journal.log import Log
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import OwnSegment
from whisperr._process.fork_token import token_of_this_process
from whisperr.sandbox import Sandbox

LIVES = ["plain", "spilling", "dropping"]
EACH = 12  # kills of each life in the ordinary run
LEAST = 1_000  # kills in the storm

# What must be among the functions in which a process was killed.
STEPS = {
    "append", "_rotate", "_make_next", "_make", "seal", "_fill", "create", "new_segment",
    "_lock_chain", "_lock", "settle", "_note_settled", "sweep", "is_done", "remove", "_delete",
    "_forget", "_release_emptied", "release", "retire", "claim", "look", "_adopt", "_take",
    "adopt", "read_segment", "scan", "load", "spill", "refill", "add", "take", "drop", "close",
    "drop_oldest", "made", "_trim",
}  # fmt: skip


@pytest.fixture
def killer(server: Sandbox, key: str, tmp_path: Path) -> Iterator[Killer]:
    with kill_servers(server, key, tmp_path) as killer:
        yield killer


def assert_harmless(kills: list[Kill], least: int) -> None:
    """After each: all numbers there, each under one id, no repeat but of what was in flight, and
    no file left; and so many were kills indeed.
    """
    faults = [f"{kill.point}: {fault}" for kill in kills for fault in kill.faults]
    assert not faults, f"{len(faults)} of {len(kills)}:\n" + "\n".join(faults[:20])
    assert sum(kill.was_killed for kill in kills) >= least


@pytest.mark.parametrize("written", [False, True], ids=["mapped", "written"])
@pytest.mark.parametrize("life", LIVES)
def test_a_kill_anywhere_loses_nothing(killer: Killer, life: str, written: bool) -> None:
    """Killed at instructions spread over all that a process does with the journal, through a map
    and by write(2): what track() had returned from arrives, once save for what was in flight, and
    the folder is empty afterwards. Of a full journal only the oldest is missing.
    """
    points = killer.points(life, written)
    assert_every_module(points)
    chosen = points[:: len(points) // EACH + 1]
    assert len(chosen) >= EACH - 2, f"{len(points)} points to be killed at"
    assert_harmless(killer.kill_all(chosen), least=len(chosen) - 3)


def assert_every_module(points: list[Point]) -> None:
    """No module of the journal is left out, as one would be that the kill server doesn't know."""
    modules = {path.name for path in Path(whisperr._journal.__file__).parent.glob("*.py")}
    missed = modules - {"__init__.py"} - {point.where[0] for point in points}
    assert not missed, sorted(missed)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_a_kill_between_every_two_instructions_loses_nothing(killer: Killer) -> None:
    """The same before each instruction of the journal that any of these lives comes to, some 3,000."""
    visits: dict[object, list[Point]] = {}
    for life in LIVES:
        for point in killer.points(life, written=False):
            visits.setdefault(point.where, []).append(point)
    lots = random.Random(1)
    assert_every_module([point for points in visits.values() for point in points])
    kills = killer.kill_all(lots.choice(points) for points in visits.values())
    assert_harmless(kills, LEAST)
    missed = STEPS - {kill.point.where[1] for kill in kills if kill.was_killed}
    assert not missed, sorted(missed)
    print(
        len(kills), Counter(kill.point.life for kill in kills), sum(kill.resent for kill in kills)
    )


@pytest.mark.parametrize("size", [0, 64 * 1024], ids=["made", "reserved"])
def test_a_segment_without_a_header_is_empty_not_damaged(
    server: Sandbox, key: str, tmp_path: Path, size: int
) -> None:
    """A process killed between making, or reserving, its segment and writing the header leaves
    nothing to report and nothing to set aside.
    """
    folder = Path(folders.open_folder(str(tmp_path), folders.destination(server.url, key)))
    (folder / f"{'ab' * 10}-{'cd' * 4}-00000001.seg").write_bytes(bytes(size))
    reports = Reports()
    with open_client(server.url, key, journal_dir=tmp_path, on_error=reports) as client:
        assert client.flush()
        assert reports.all == []
        assert files_in(tmp_path) == []


def test_a_segment_dropped_meanwhile_does_not_give_the_log_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender looks whether the newest segment is still there, and is preempted: when it comes
    back the segment is neither the newest nor there, since a full journal dropped it. That is no
    sign that somebody deleted the journal's files.
    """
    frame = encode_event(0, 0, bytes(1024), None)
    log = Log(
        lambda: Chain.create(str(tmp_path), b"ab" * 10),
        bytes(16),
        b"",
        unlimited(64 * 1024, 128 * 1024),
        lambda error: pytest.fail(str(error)),
        token_of_this_process(),
    )
    first = log.append(frame)
    is_there = OwnSegment.is_there

    def preempted(segment: OwnSegment) -> bool:
        while log.current is first:
            log.append(frame)
        assert log.drop_oldest() is not None
        return is_there(segment)

    monkeypatch.setattr(OwnSegment, "is_there", preempted)
    assert not log.is_lost()
    log.release()
