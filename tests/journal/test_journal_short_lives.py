"""Many processes that track once and die: delivered as one, whoever delivers, and within the limit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from support.apps import assert_arrived
from support.clients import flush_until_settled
from support.deadlines import generous, wait_until
from support.journal_programs import run_journal_program
from support.journals import adopter, deliver, files, folder_of, watching_deliverer
from support.short_lives import leave_short_lives
from whisperr._journal import folder as folders
from whisperr._journal import journal as journal_module
from whisperr._journal.ownership import Chain
from whisperr._journal.space_limit import SpaceLimit
from whisperr.sandbox import Sandbox

Run = Callable[..., List[Dict[str, Any]]]

MIB = 1024 * 1024
BATCH = 500  # events of a full one
FEW_DESCRIPTORS = 30


@pytest.fixture
def run(server: Sandbox, key: str, tmp_path: Path) -> Run:
    """A program on the journal of the test's folder."""
    return partial(run_journal_program, server, key, tmp_path)


def counts(server: Sandbox, key: str) -> list[int]:
    """Events of each request."""
    return [request["count"] for request in server.requests(key)]


def left(journal: Path) -> list[str]:
    return [path.name for path in journal.rglob("*") if path.is_file()]


# --- full batches


def test_records_of_many_processes_travel_in_full_batches(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """As few requests as for as many records of one, each record with the id, the time and the
    environment that its own process would have sent; and no file is left.
    """
    count = BATCH + 100
    folder = leave_short_lives(tmp_path / "journal", server.url, key, count)
    prefixes = {path.name[:20] for path in files(tmp_path / "journal")}
    begun = time.time()
    reports, stats = deliver(server.url, key, tmp_path / "journal")
    assert (reports.all, stats["adopted"], stats["delivered"]) == ([], count, count)
    assert counts(server, key) == [BATCH, 100]
    events = server.events(key)
    assert {event["context"]["$message_id"][:20] for event in events} == prefixes
    assert len(prefixes) == count
    for event in events:
        n = event["properties"]["n"]
        moment = datetime.strptime(event["occurred_at"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
        assert event["context"]["app_version"] == str(n)
        assert abs(begun - n - moment) < generous(30)
    moments = sorted((event["properties"]["n"], event["occurred_at"]) for event in events)
    assert [moment for _, moment in moments] == sorted((m for _, m in moments), reverse=True)
    assert list(folder.iterdir()) == []


def test_an_adopter_of_many_has_few_descriptors(
    server: Sandbox, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many chains it holds: the application needs them."""
    leave_short_lives(tmp_path / "journal", server.url, key, 200)
    client = adopter(server.url, key, tmp_path / "journal")
    refill = journal_module.Journal.refill
    found: list[int] = []

    def counting(*arguments: Any) -> Any:
        before = len(os.listdir("/proc/self/fd"))
        records = refill(*arguments)
        found.append(len(os.listdir("/proc/self/fd")) - before)
        return records

    monkeypatch.setattr(journal_module.Journal, "refill", counting)
    assert client.flush()
    assert client.stats()["adopted"] == 200
    assert 0 < max(found) < FEW_DESCRIPTORS
    assert client.shutdown()


def test_without_links_it_takes_some_at_a_time(
    server: Sandbox, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that knows no links, or has no more of them: nothing is lost, nothing twice."""

    def no_links(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    leave_short_lives(tmp_path / "journal", server.url, key, 100)
    reports, stats = deliver(server.url, key, tmp_path / "journal")
    assert (reports.all, stats["delivered"]) == ([], 100)
    assert_arrived(server, key, range(100))
    assert left(tmp_path / "journal") == []


# --- who adopts


def test_an_adopter_that_dies_leaves_all_to_the_next(
    server: Sandbox, key: str, tmp_path: Path, run: Run
) -> None:
    """Killed with all of it in its hands, whose locks are one by then: two that come after it, at
    once, deliver each record once, and leave no file.
    """
    leave_short_lives(tmp_path / "journal", server.url, key, 300)
    told = run(
        """
        from whisperr._delivery.delivery_pass import DeliveryPass

        def dying():
            DeliveryPass._post = lambda *_: die()
            durable().flush()

        def adopt():
            client = durable()
            assert client.flush(100)
            tell(**closed(client.stats()))

        dead(dying)
        links = max(os.stat(os.path.join(path, name)).st_nlink
                    for path, _, names in os.walk(FOLDER) for name in names)
        tell(links=links)
        reap([fork(adopt) for _ in range(2)])
        """,
    )
    assert told[0]["links"] > 200
    assert sum(stats["adopted"] for stats in told[1:]) == 300
    assert_arrived(server, key, range(300))
    assert left(tmp_path / "journal") == []


def test_who_is_young_adopts_few(
    server: Sandbox, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a flush a process takes no longer for others than it has lived already: some in the
    first moment, all once it is old.
    """
    leave_short_lives(tmp_path / "journal", server.url, key, 200)
    now = [1000.0]
    monkeypatch.setattr(journal_module, "monotonic", lambda: now[0])
    client = adopter(server.url, key, tmp_path / "journal")
    engine = client._own_engine()
    assert engine is not None
    sender = engine._sender()
    assert sender is not None and sender.journal is not None
    sender.journal.maintain()
    young = sender.journal.refill(1000, False)
    assert young is not None and 0 < len(young) <= journal_module._FIRST_CLAIM
    assert sender.journal.more_dead
    asked = sender.journal.refill(1000, True)
    assert asked is not None and len(asked) == 200 - len(young)
    client.shutdown(0)


def test_the_first_request_has_the_own_event_and_those_of_the_dead(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """So that a process that lives for one request leaves less behind than it found."""
    leave_short_lives(tmp_path / "journal", server.url, key, 10)
    client = adopter(server.url, key, tmp_path / "journal")
    client.track("user", "it_happened", {"n": 10})
    server.wait_for(key, 11)
    assert counts(server, key) == [11]
    assert client.shutdown()


JOBS = """
import threading
client = durable(flush_interval=1.0)

def job(n):
    client.track("user_%d" % n, "it_happened", {"n": n})
    time.sleep(0.05)
    while not client.stats()["delivered"] and sys.argv[2:]:
        time.sleep(0.001)
    if n % 5 == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)

for n in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        job(n)
    os.waitpid(pid, 0)
"""


@pytest.fixture
def watching(server: Sandbox, key: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with watching_deliverer(server.url, key, tmp_path / "journal") as process:
        yield process


def test_a_watching_deliverer_delivers_what_jobs_leave(
    server: Sandbox, key: str, tmp_path: Path, run: Run, watching: subprocess.Popen[str]
) -> None:
    """A process for each job, of which every fifth is killed: all arrives while it watches, none
    under two ids, and at SIGTERM it says how many, ends well and leaves no file.
    """
    run(JOBS, arguments=[20])
    server.wait_for(key, 20)
    assert wait_until(lambda: not left(tmp_path / "journal"))
    watching.send_signal(signal.SIGTERM)
    said, _ = watching.communicate(timeout=generous(20))
    assert watching.returncode == 0
    delivered, *rest = said.splitlines()[-1].split(", ")
    assert delivered.endswith("delivered") and rest == ["0 dropped", "0 left"], said
    numbers = sorted(event["properties"]["n"] for event in server.events(key))
    assert numbers == list(range(20))  # one that came twice came under one id, and is there once


def test_jobs_that_live_for_one_request_do_not_starve(
    server: Sandbox, key: str, tmp_path: Path, run: Run
) -> None:
    """With nobody but the jobs themselves, each of which dies once its own event has arrived: none of
    those that died before is left after a few.
    """
    leave_short_lives(tmp_path / "journal", server.url, key, 60, first=1000)
    run(JOBS, arguments=[20, "answered"])
    numbers = [event["properties"]["n"] for event in server.events(key)]
    assert sorted(numbers) == [*range(20), *range(1000, 1060)]


# --- the limit


def test_any_number_of_short_lives_stays_under_the_limit(
    server: Sandbox, key: str, tmp_path: Path, run: Run
) -> None:
    """The oldest of the dead make room, counted by whoever needs it; what is there arrives."""
    told = run(
        f"""
        from whisperr._journal import folder as folders
        folder = os.path.join(FOLDER, folders.destination(URL, KEY).hex())
        client = durable(max_journal_bytes={MIB})
        most = 0

        def live(n):
            undelivered(client, [n])
            tell(dropped=client.stats()["dropped"])
            os._exit(0)

        for n in range(300):
            reap([fork(live, n)])
            most = max(most, folders.usage(folder)[0])
        tell(most=most)
        """,
        timeout=60,
    )
    *lives, total = told
    assert len(lives) == 300
    dropped = sum(each["dropped"].get("journal", 0) for each in lives)
    assert total["most"] <= MIB
    assert {*{}.fromkeys(name for each in lives for name in each["dropped"])} <= {"journal"}
    assert dropped > 40
    _, stats = deliver(server.url, key, tmp_path / "journal")
    assert stats["adopted"] == 300 - dropped
    found = {event["properties"]["n"] for event in server.events(key)}
    assert found == set(range(dropped, 300))


def test_a_journal_full_of_the_living_leaves_memory(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Where nothing may be dropped a record stays in memory, which is reported, and arrives; once
    there is room the journal works again.
    """
    folder = folders.open_folder(str(tmp_path / "journal"), folders.destination(server.url, key))
    chain = Chain.create(folder, b"ab" * 10)  # another client of this process, as it were
    path = Path(folders.segment_path(folder, chain.name, 1))
    path.write_bytes(bytes(MIB))
    reports: list[Any] = []
    client = adopter(
        server.url, key, tmp_path / "journal", max_journal_bytes=MIB, on_error=reports.append
    )
    client.track("user", "it_happened", {"n": 0})
    assert client.flush()
    assert [report.type for report in reports] == ["journal"]
    assert "full" in reports[0].message and "memory" in reports[0].message
    assert folders.usage(folder)[0] == MIB
    path.unlink()
    chain.release(remove=True)
    assert client.flush()
    client.track("user", "it_happened", {"n": 1})
    flush_until_settled(client)
    assert len(list(folder_of(tmp_path / "journal").glob("*.seg"))) == 1
    assert_arrived(server, key, range(2))
    assert client.shutdown()


@pytest.mark.parametrize(
    ("used", "wanted", "allowed"),
    [(0, 100_000, 100_000), (512 * 1024, 100_000, 64 * 1024), (MIB - 40_000, 100_000, 5_000)],
)
def test_a_segment_leaves_room_for_others(
    tmp_path: Path, used: int, wanted: int, allowed: int
) -> None:
    """An eighth of what is free, so that several processes may look at one moment."""
    (tmp_path / f"{'ab' * 10}-01234567-00000001.seg").write_bytes(bytes(used))
    limit = SpaceLimit(MIB, lambda: str(tmp_path), lambda: False, lambda error: None)
    assert limit.allowed(wanted, 4000, True) == allowed
    assert limit.allowed(MIB // 2, MIB // 2, True) == (0 if used >= MIB // 2 else MIB // 2)


@pytest.mark.parametrize(
    ("writers", "used", "allowed"),
    [(1, 0, MIB // 8), (16, 0, MIB // 128), (8, MIB - 60_000, 4_000), (16, MIB - 60_000, 0)],
)
def test_many_writers_leave_room_for_each_other(
    tmp_path: Path, writers: int, used: int, allowed: int
) -> None:
    """Each takes of its part, and more stays free for the moment at which all of them look. Chains
    under the lock of an adopter are no writers.
    """
    for n in range(writers):
        Path(folders.lock_path(str(tmp_path), f"{n:020x}-01234567")).touch()
    holder = tmp_path / f"{'cd' * 10}-01234567.lock"
    holder.touch()
    for n in range(100):
        os.link(holder, folders.lock_path(str(tmp_path), f"{n:020x}-89abcdef"))
    (tmp_path / f"{'ab' * 10}-01234567-00000001.seg").write_bytes(bytes(used))
    limit = SpaceLimit(MIB, lambda: str(tmp_path), lambda: False, lambda error: None)
    assert limit.allowed(MIB, 4_000, True) == allowed


# --- whose lock it is


def test_a_chain_under_the_lock_of_its_holder(tmp_path: Path) -> None:
    """It is nobody else's, not even another client's of the process; given up, it is free, and the
    holder's own lock stays."""
    folder = str(tmp_path)
    holder, first, second = (Chain.create(folder, b"%d" % n * 20) for n in range(3))
    name = first.name
    assert first.share_lock(holder)
    assert not first.has_descriptor and not holder.is_ended
    assert Chain.claim(folder, name) is None
    assert claimed_elsewhere(folder, name) is False
    first.release(remove=False)
    assert claimed_elsewhere(folder, holder.name) is False
    assert claimed_elsewhere(folder, name) is True
    os.unlink(folders.lock_path(folder, second.name))
    Path(folders.lock_path(folder, second.name)).touch()  # whoever came between
    assert second.has_descriptor
    holder.release(remove=True)


def test_a_chain_that_another_takes_meanwhile_is_his(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the unlinking of its lock file and the link: the file that is there then stays."""
    folder = str(tmp_path)
    holder, chain = Chain.create(folder, b"0" * 20), Chain.create(folder, b"1" * 20)
    unlink = os.unlink

    def another(path: str) -> None:
        unlink(path)
        Path(path).write_text("his")

    monkeypatch.setattr(os, "unlink", another)
    assert chain.share_lock(holder) is False
    monkeypatch.undo()
    assert not chain.has_descriptor
    chain.release(remove=True)
    assert Path(folders.lock_path(folder, chain.name)).read_text() == "his"


def claimed_elsewhere(folder: str, name: str) -> bool:
    """Whether another process gets the chain, and gives it back."""
    source = """
import sys
from whisperr._journal.ownership import Chain
chain = Chain.claim(*sys.argv[1:])
if chain is not None:
    chain.release(remove=False)
sys.exit(0 if chain is None else 7)
"""
    done = subprocess.run([sys.executable, "-c", source, folder, name], check=False)
    assert done.returncode in (0, 7)
    return done.returncode == 7


# --- the figures

CHILDREN = 1_500


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_1500_children_that_track_once_then_one_adopter(
    server: Sandbox, key: str, tmp_path: Path, run: Run
) -> None:
    """All arrive, each once, in ten requests at most; the folder has never more than 12 MB."""
    told = run(
        f"""
        client = durable()

        def size():
            return sum(os.stat(os.path.join(path, name)).st_size
                       for path, _, names in os.walk(FOLDER) for name in names)

        def live(n):
            track(client, [n])
            os._exit(0)

        most = 0
        for n in range({CHILDREN}):
            reap([fork(live, n)])
            most = max(most, size()) if n % 50 == 49 else most
        assert client.flush(600)
        tell(most=most, **closed(client.stats()))
        """,
        timeout=150,
    )
    (stats,) = told
    print(stats)
    assert stats["most"] <= 12_000_000
    assert stats["requests"] <= 10
    numbers = [event["properties"]["n"] for event in server.events(key)]
    assert sorted(numbers) == list(range(CHILDREN))
    assert left(tmp_path / "journal") == []


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_64_adopters_of_5000_dead_send_full_batches(
    server: Sandbox, key: str, tmp_path: Path, run: Run
) -> None:
    """Each record once, and no batch under 400 but the last of each adopter."""
    leave_short_lives(tmp_path / "journal", server.url, key, 5_000)
    told = run(
        """
        client = durable()

        def adopt():
            os.close(go)
            os.read(ready, 1)  # until nobody holds the other end
            settled = client.flush(600)
            tell(settled=settled, **closed(client.stats()))

        ready, go = os.pipe()
        children = [fork(adopt) for _ in range(64)]
        os.close(go)
        reap(children)
        """,
        timeout=150,
    )
    assert [stats["settled"] for stats in told] == [True] * 64
    assert sum(stats["adopted"] for stats in told) == 5_000
    by_connection: dict[Any, list[int]] = {}
    for request in server.requests(key):
        by_connection.setdefault(request["connection"], []).append(request["count"])
    print(sorted(map(tuple, by_connection.values())))
    assert all(count >= 400 for each in by_connection.values() for count in each[:-1])
    assert_arrived(server, key, range(5_000))
    assert left(tmp_path / "journal") == []
