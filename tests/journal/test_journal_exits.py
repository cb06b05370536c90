"""The end of a client that has a journal: what is in flight then, what comes late, who owns what."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from support.apps import assert_arrived
from support.clients import Reports
from support.journal_programs import run_journal_program
from support.journals import NOWHERE, adopter, assert_ledger, deliver, files
from whisperr import Whisperr
from whisperr._journal import ownership
from whisperr._journal import segment as segment_module
from whisperr._journal import store as store_module
from whisperr._journal.ownership import Chain
from whisperr._journal.segment import OwnSegment
from whisperr.sandbox import Sandbox


def quiet(url: str, key: str, journal: Path, **options: Any) -> Whisperr:
    """A client that has looked for the dead, and now delivers nothing by itself."""
    client = adopter(url, key, journal, **options)
    assert client.flush()
    return client


# --- answers that come when an exit has given the records up


def test_an_answer_after_the_deadline(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What a shutdown left to the next process, and the server took after all, is not sent again."""
    client = quiet(server.url, key, tmp_path / "journal", max_retries=0)
    server.inject(key, {"do": "delay", "seconds": 1.5, "times": 1})
    for n in range(3):
        client.track("u", "number_seen", {"n": n})
    client.flush(0)
    server.wait_for(key, 3)
    assert not client.shutdown(0.2)
    assert client.stats()["spilled"] == 3
    for thread in threading.enumerate():
        if thread.name == "whisperr":
            thread.join(20)
    assert_ledger(client.stats())
    deliver(server.url, key, tmp_path / "journal")
    assert_arrived_once(server, key, 3)


def assert_arrived_once(server: Sandbox, key: str, count: int) -> None:
    """Perhaps sent again under the same ids, as the answer was lost; never twice."""
    ledger = server.ledger(key)
    assert (ledger["arrived"], ledger["numbers"]) == (count, count), ledger


GIVEN_UP = """
import atexit
import whisperr._process.exits

def err(error):
    if error.type == "retry_exhausted" and not asked:
        asked.append(threading.Thread(target=client.flush, args=(20,)))
        asked[0].start()  # another pass follows at once, beside the exit that gives up

asked = []
client = durable(on_error=err, max_queue_bytes=1 << 20)
client._own_engine().start()

def look():
    for thread in asked:
        thread.join()
    closed(client.stats())

atexit.unregister(whisperr._process.exits.run)
atexit.register(look)
atexit.register(whisperr._process.exits.run)
for n in range(9):
    client.track("u", "number_seen", {"n": n, "text": "x" * 8000})
"""


def test_an_exit_that_gives_up_while_another_pass_is_under_way(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Its records arrive in that pass or in the next process, once, and none is deleted unsent."""
    server.inject(
        key,
        {"do": "status", "status": 503, "times": 1},
        {"do": "delay", "seconds": 0.5, "times": 2},
    )
    run_journal_program(server, key, tmp_path, GIVEN_UP)
    deliver(server.url, key, tmp_path / "journal")
    assert_arrived(server, key, range(9))
    assert files(tmp_path / "journal") == []


@pytest.mark.parametrize("order", ["settled first", "spilled first"])
def test_a_record_that_is_given_up_and_settled_at_once(
    server: Sandbox, key: str, tmp_path: Path, order: str
) -> None:
    """Whichever comes first, it is counted as delivered, and not read again."""
    client = quiet(server.url, key, tmp_path / "journal")
    client.track("u", "number_seen", {"n": 0})
    engine = client._own_engine()
    assert engine is not None
    journal: Any = engine._journal()
    (event,) = engine._queue.lease_events(1, 1 << 20)
    engine._queue._in_flight.clear()  # popped by who gives it up
    if order == "spilled first":
        assert journal.spill(event)
    assert journal.arrived_after_all([event]) == (order == "spilled first")
    if order == "settled first":
        assert journal.spill(event)
    journal.settle([event])
    assert journal.backlog() == 0
    stats = client.stats()
    assert stats["spilled"] == 0 and stats["delivered"] == (order == "settled first")
    client.shutdown()
    assert server.ledger(key)["arrived"] == 0


# --- what comes late


def test_a_late_record_that_is_on_disk_is_not_called_lost(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A call that a shutdown overtook behind its append: the next process delivers it."""
    reports = Reports()
    client = quiet(server.url, key, tmp_path / "journal", on_error=reports)
    client.track("u", "number_seen", {"n": 0})
    engine = client._own_engine()
    assert engine is not None
    journal: Any = engine._journal()
    (event,) = engine._queue.take_all()
    journal.release()
    assert journal.spill(event)
    assert client.stats()["spilled"] == 1
    deliver(server.url, key, tmp_path / "journal")
    assert_arrived(server, key, range(1))
    assert reports.all == []
    client.shutdown()


def test_a_write_under_way_keeps_its_descriptor(
    server: Sandbox, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where frames are written by write(2): an end beside such a call leaves the number to it, or
    the frame would go into whatever file has it next."""
    monkeypatch.setattr(ownership, "can_map", lambda device: False)
    client = quiet(server.url, key, tmp_path / "journal")
    client.track("u", "number_seen", {"n": 0})
    engine = client._own_engine()
    assert engine is not None
    journal: Any = engine._journal()
    write, others = os.write, [-1]

    def ended_meanwhile(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(store_module.os, "write", write)
        journal.release()
        while others[-1] < descriptor:  # until one has that number, or nobody can have it
            others.append(os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT))
        return write(descriptor, data)

    monkeypatch.setattr(store_module.os, "write", ended_meanwhile)
    client.track("u", "number_seen", {"n": 1})
    assert (tmp_path / "other").stat().st_size == 0
    for other in others[1:]:
        os.close(other)
    client.shutdown()
    deliver(server.url, key, tmp_path / "journal")
    assert_arrived_once(server, key, 2)


# --- owners


def test_a_chain_is_given_back_by_its_owner_alone(tmp_path: Path) -> None:
    """Given back twice, it is not taken from whoever claimed it in between."""
    folder = str(tmp_path)
    first = Chain.create(folder, b"0" * 20)
    first.release(remove=False)
    second = Chain.claim(folder, first.name)
    assert second is not None
    first.release(remove=False)
    assert Chain.claim(folder, first.name) is None
    second.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_that_cannot_be_locked_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel has no more locks: a try at every pass would leave as many files."""

    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(ownership.fcntl, "lockf", no_locks)
    with pytest.raises(OSError, match="no locks"):
        Chain.create(str(tmp_path), b"0" * 20)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_looked_at_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a setuid: only what is missing is called deleted."""
    client = quiet(NOWHERE, "wrk_k", tmp_path / "journal", shutdown_timeout=0)
    client.track("u", "number_seen", {})
    (path,) = files(tmp_path / "journal")
    engine = client._own_engine()
    assert engine is not None
    journal: Any = engine._journal()
    segment: OwnSegment = journal._log.current

    def forbidden(path: str) -> os.stat_result:
        raise PermissionError(13, "forbidden")

    with monkeypatch.context() as patched:
        patched.setattr(segment_module.os, "stat", forbidden)
        assert segment.is_there()
    path.unlink()
    assert not segment.is_there()
    client.shutdown()
