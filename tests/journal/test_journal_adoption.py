"""Whose journal it is: adopted from the dead once, never from the living, whoever forks or ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from support.apps import assert_arrived
from support.broker import Broker
from support.celery_worker import Setup, run_celery
from support.clients import DEADLINE, NEVER, flush_until_settled, open_client, track
from support.journal_programs import WITHOUT_HOOKS, run_journal_program, source_of
from support.parts import need
from support.rows import named
from support.servers import Setting
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

# --- after a crash


@pytest.mark.parametrize("ending", ["client.flush()", ""], ids=["flush", "exit"])
def test_a_script_delivers_what_a_crashed_one_left(
    server: Sandbox, key: str, tmp_path: Path, ending: str
) -> None:
    """A script that starts after a crash delivers the crashed one's events beside its own, at its
    flush, and at its exit where it makes none; with the ids and the times that they had.
    """
    run_journal_program(server, key, tmp_path, "undelivered(durable(), range(5)); die()", status=-9)
    assert server.requests(key) == []
    run_journal_program(server, key, tmp_path, f"client = durable()\ntrack(client, [5])\n{ending}")
    assert_arrived(server, key, range(6))
    events = sorted(server.events(key), key=lambda event: event["properties"]["n"])
    *adopted, own = (event["context"]["$message_id"][:20] for event in events)
    assert len(set(adopted)) == 1 and own not in adopted
    times = [event["occurred_at"] for event in events]
    assert times == sorted(times)
    assert files_of(tmp_path) == []


def test_a_script_that_only_flushes_adopts(server: Sandbox, key: str, tmp_path: Path) -> None:
    """flush() alone is a first use: it looks for the dead, and its ledger says whose they were."""
    (stats,) = run_journal_program(
        server,
        key,
        tmp_path,
        """
        dead(lambda: undelivered(durable(), range(7)))
        client = durable()
        assert client.flush()
        tell(**closed(client.stats()))
        """,
    )
    assert (stats["accepted"], stats["adopted"], stats["delivered"]) == (0, 7, 7)
    assert_arrived(server, key, range(7))
    assert files_of(tmp_path) == []


def files_of(folder: Path) -> list[str]:
    return [path.name for path in (folder / "journal").rglob("*") if path.is_file()]


# --- many at once

PROCESSES, CHAINS, EACH = 64, 1_000, 3


@pytest.mark.storm
def test_64_processes_adopt_the_journals_of_1000(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What 1,000 killed processes left is adopted by 64 processes that begin at one moment: each
    event arrives once, each is adopted once, and no file is left.
    """
    told = run_journal_program(
        server,
        key,
        tmp_path,
        f"""
        client = durable()
        for chain in range({CHAINS}):
            dead(undelivered, client, range({EACH} * chain, {EACH} * (chain + 1)))
        assert len(files()) == 2 * {CHAINS}, len(files())

        def adopt():
            os.close(go)
            os.read(ready, 1)  # until nobody holds the other end
            begun = time.monotonic()
            settled = client.flush(600)
            stats = closed(client.stats())
            tell(settled=settled, seconds=time.monotonic() - begun, **stats)

        ready, go = os.pipe()
        children = [fork(adopt) for _ in range({PROCESSES})]
        begun = time.monotonic()
        os.close(go)
        reap(children)
        tell(all=time.monotonic() - begun)
        """,
        timeout=200,
    )
    *adopters, total = told
    print(f"{total['all']:.1f} s, adopted by one at most {max(a['adopted'] for a in adopters)}")
    assert [a["settled"] for a in adopters] == [True] * PROCESSES
    assert sum(a["adopted"] for a in adopters) == CHAINS * EACH
    assert sum(a["delivered"] for a in adopters) == CHAINS * EACH
    assert_arrived(server, key, range(CHAINS * EACH))
    assert files_of(tmp_path) == []


# --- two containers on one volume

CONTAINER = """
pid = fork(lambda: None)  # so that the one below has the same number in every namespace
reap([pid])
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    sys.exit(0)
client = durable()
for line in sys.stdin:
    order, *numbers = json.loads(line)
    if order == "track":
        undelivered(client, numbers)
    elif order == "flush":
        assert client.flush()
    elif order == "die":
        die()
    tell(pid=os.getpid(), **closed(client.stats()))
"""


def test_same_pids_in_two_containers(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Processes with one pid in two pid namespaces, on one folder: the living one's segment is left
    alone, however often the other looks; once it is killed, it is adopted by a third, once.
    """
    with contextlib.ExitStack() as stack:
        first, second, third = (
            stack.enter_context(container(server, key, tmp_path, name)) for name in "abc"
        )
        lived = first("track", *range(5))
        other = second("flush")
        assert lived["pid"] == other["pid"]
        assert (lived["pending"], other["adopted"]) == (5, 0)
        second("track", *range(10, 14))
        assert len(files_of(tmp_path)) == 4, files_of(tmp_path)  # two locks and two segments
        assert first("die") == {}
        adopter = third("flush")
        assert (adopter["pid"], adopter["adopted"], adopter["delivered"]) == (lived["pid"], 5, 5)
        assert second("flush")["delivered"] == 4
    assert_arrived(server, key, [*range(5), *range(10, 14)])
    assert files_of(tmp_path) == []


Order = Callable[..., Dict[str, Any]]


@contextlib.contextmanager
def container(server: Sandbox, key: str, folder: Path, name: str) -> Iterator[Order]:
    """A process in a pid namespace of its own: gives it an order and returns what it tells."""
    need("pid namespaces")
    program = folder / f"{name}.py"
    program.write_text(source_of(CONTAINER))
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, program],
        cwd=str(folder),
        env={**os.environ, "APP_URL": server.url, "APP_KEY": key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.stdin is not None and process.stdout is not None
    orders, answers = process.stdin, process.stdout

    def order(*words: object) -> dict[str, Any]:
        orders.write(json.dumps(words) + "\n")
        orders.flush()
        return dict(json.loads(answers.readline() or "{}"))

    with process:
        try:
            yield order
            orders.close()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


# --- forks

ENDINGS = {
    "exit": "pass",
    "os-exit": "os._exit(0)",
    "sigkill": "die()",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "close-all": "os.closerange(3, 10_000)",
    "close-all-and-kill": "os.closerange(3, 10_000); die()",
}


@pytest.mark.parametrize("tracks", [False, True], ids=["idle", "tracks"])
@pytest.mark.parametrize("ending", named(ENDINGS))
def test_a_living_parents_segment_is_never_adopted(
    server: Sandbox, key: str, tmp_path: Path, ending: str, tracks: bool
) -> None:
    """However the child of a living process ends, and whether it had a journal of its own or not:
    another process then adopts nothing of the parent's, and the parent delivers its own, once.
    """
    told = run_journal_program(
        server,
        key,
        tmp_path,
        f"""
        client = durable()
        undelivered(client, range(5))
        mine = files()

        def child():
            if {tracks}:
                undelivered(client, [5])
                assert client.flush()
            {ending}

        os.waitpid(fork(child), 0)
        assert set(mine) <= set(files()), (mine, files())

        def other():
            assert client.flush()
            tell(**closed(client.stats()))

        reap([fork(other)])
        assert client.flush()
        tell(**closed(client.stats()))
        """,
    )
    assert [stats["adopted"] for stats in told] == [0, 0]
    assert told[1]["delivered"] == 5
    assert_arrived(server, key, range(5 + tracks))
    assert files_of(tmp_path) == []


WAYS = {
    "os-fork": "reap([fork(work)])",
    "without-hooks": "reap([fork_without_hooks(work)])",
    "in-a-signal-handler": """
class Interrupts(os.PathLike):
    def __fspath__(self):
        os.kill(os.getpid(), signal.SIGUSR1)
        return "through"

def handler(number, frame):
    global before
    assert inside_track(frame)
    before = contents()
    pid = os.fork()
    if pid:
        reap([pid])  # the child goes on in the parent's call, to its end
    else:
        track(client, range(10, 15))

signal.signal(signal.SIGUSR1, handler)
client.track("user_50", "it_happened", {"n": 50, "path": Interrupts()})
if os.getpid() != parent:
    leave(before)
""",
}


@pytest.mark.parametrize("way", named(WAYS))
def test_a_child_has_a_segment_of_its_own(
    server: Sandbox, key: str, tmp_path: Path, way: str
) -> None:
    """A child never writes to its parent's segment, whatever forked it and where: not a byte of that
    changes. At its first event it has a chain of its own, and what it leaves when it is killed is
    adopted from there.
    """
    told = run_journal_program(
        server,
        key,
        tmp_path,
        WITHOUT_HOOKS
        + """
def contents():
    found = {}
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            if name.endswith(".seg"):
                with open(os.path.join(folder, name), "rb") as segment:
                    found[name] = segment.read()
    return found

def work():
    before = contents()
    track(client, range(10, 15))
    leave(before)

def leave(before):
    after = contents()
    assert {name: after[name] for name in before} == before
    assert len({name.rpartition("-")[0] for name in after}) == 1 + len(before)
    print("{}", flush=True)
    os._exit(0)  # without an exit handler, as when it is killed

def no_thread(thread):
    raise RuntimeError("can't start new thread")

parent = os.getpid()
threading.Thread.start, start = no_thread, threading.Thread.start
client = durable()
track(client, range(5))
"""
        + way
        + """
threading.Thread.start = start
assert client.flush()
tell(**closed(client.stats()))
""",
    )
    assert len(told) == 2, told
    assert told[1]["adopted"] == 5
    assert_arrived(server, key, [*range(5), *range(10, 15), *([50] if "50" in way else [])])
    assert files_of(tmp_path) == []


def test_a_child_leaves_a_settled_segment_of_its_parent(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A segment in which all is delivered stays with its owner: a child that delivers its own and
    exits does not delete it, and what the owner appends afterwards survives its kill.
    """
    told = run_journal_program(
        server,
        key,
        tmp_path,
        """
        client = durable()
        track(client, range(5))
        assert client.flush()
        mine = files()
        reap([fork(track, client, range(5, 10))])
        assert files() == mine != [], (files(), mine)
        undelivered(client, range(10, 15))
        assert files() == mine, (files(), mine)
        dead_parent = os.getpid()
        if os.fork():
            die()
        while os.getppid() == dead_parent:
            time.sleep(0.01)  # an orphan is not told
        assert client.flush()
        tell(**closed(client.stats()))
        """,
        status=-9,
    )
    assert told[0]["adopted"] == 5
    assert_arrived(server, key, range(15))
    assert files_of(tmp_path) == []


def test_a_fork_in_the_senders_thread(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A fork by on_error, in the middle of the sender's pass: the child has a journal of its own,
    its parent's goes on unharmed, and each delivers its own once.
    """
    server.inject(key, {"do": "status", "status": 503, "path": "/v1/events/batch"})
    told = run_journal_program(
        server,
        key,
        tmp_path,
        """
        pids = []

        def forks(error):
            mine = files()
            pid = os.fork()
            if pid:
                pids.append(pid)
                return
            track(client, range(10, 15))
            assert [name for name in files() if name in mine] == mine
            assert len(files()) == len(mine) + 2

        client = durable(on_error=forks)
        track(client, range(5))
        client.flush()
        reap(pids)
        assert files(), "the child deleted its parent's segment"
        assert client.flush()
        tell(children=len(pids), **closed(client.stats()))
        """,
    )
    assert (told[0]["children"], told[0]["adopted"], told[0]["delivered"]) == (1, 0, 5)
    assert_arrived(server, key, [*range(5), *range(10, 15)])
    assert files_of(tmp_path) == []


# --- two clients, one folder


def test_two_clients_of_one_process(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Two clients with one destination and one folder: neither adopts the living other's, and once
    one has shut down with events undelivered, the first use of a third one delivers them.
    """
    told = run_journal_program(
        server,
        key,
        tmp_path,
        """
        first, second = durable(), durable()
        undelivered(first, range(5))
        undelivered(second, range(5, 10))
        assert second.flush()
        tell(**closed(second.stats()))
        assert second.shutdown()
        first.shutdown(0)
        for thread in threading.enumerate():  # it lets go of its journal as it ends
            if thread.name == "whisperr":
                thread.join(100)
        tell(**closed(first.stats()))
        third = durable()
        assert third.flush()
        tell(**closed(third.stats()))
        """,
    )
    assert [(each["adopted"], each["delivered"]) for each in told] == [(0, 5), (0, 0), (5, 5)]
    assert told[1]["spilled"] == 5
    assert_arrived(server, key, range(10))
    assert files_of(tmp_path) == []


def test_different_keys_never_see_each_others(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What a killed client of one key left in a folder is adopted under that key alone."""
    told = run_journal_program(
        server,
        key,
        tmp_path,
        """
        dead(lambda: undelivered(durable(KEY), range(5)))
        for which in (KEY + "_other", KEY):
            client = durable(which)
            assert client.flush()
            tell(**closed(client.stats()))
        """,
    )
    assert [stats["adopted"] for stats in told] == [0, 5]
    assert server.events(f"{key}_other") == []
    assert_arrived(server, key, range(5))


# --- what ends a worker without mercy


def assert_all_arrived(server: Sandbox, key: str, tracked: Iterable[str]) -> None:
    """Each of these, under one id. (What was in flight at a kill may have been sent again.)"""
    expected = set(tracked)
    found = Counter(event["properties"]["n"] for event in server.events(key))
    lost = expected - set(found)
    assert expected and not lost, f"{len(lost)} of {len(expected)} lost: {sorted(lost)[:20]}"
    assert max(found.values()) == 1, found.most_common(3)


def test_a_worker_that_gunicorn_aborts_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A worker that tracks until gunicorn kills it for its time-out, and has delivered nothing by
    then: all of it arrives, by the worker that follows.
    """
    configured = """
from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_exit
workers, preload_app, timeout, graceful_timeout = 1, True, 2, 15
"""
    options = {
        "flush_at": NEVER,
        "flush_interval": NEVER,
        "shutdown_timeout": 0,
        "journal_dir": str(tmp_path / "journal"),
    }
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn("served:application", configured, options=options) as served:
        served.send(5)
        served.ask("/tick")
        served.leave_hanging("/hang")
        served.wait_until_said("Booting worker", times=2)
        tracked = served.numbers()
        server.wait_for(key, len(tracked), DEADLINE)
        served.stop()
    assert len(tracked) > 20
    assert_all_arrived(server, key, tracked)
    assert files_of(tmp_path) == []


def test_celerys_hard_time_limit_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """Children that are killed by ``time_limit`` while they track, and never delivered: all of it
    arrives, by the children that follow.
    """
    setup = Setup(
        plan={"stubborn": 4},
        broker=broker.url,
        conf={
            "task_time_limit": 2,
            "broker_transport_options": {"global_keyprefix": f"{broker.prefix}{key}-"},
        },
        options={"journal_dir": str(tmp_path / "journal")},
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for_log(4, "Hard time limit")
        tracked = [entry.number for entry in host.accounts()]
        assert len(tracked) > 100
        server.wait_for(key, len(tracked), DEADLINE)
        host.stop(signal.SIGTERM)
    assert_all_arrived(server, key, tracked)
    assert files_of(tmp_path) == []


# --- an outage

OUTAGE = {"do": "status", "status": 503, "times": -1}


def test_an_outage_longer_than_memory_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """While the server is away and the queue full, the oldest are on disk alone; when it is back they
    arrive, each once. The equation of the ledger holds at each step.
    """
    server.inject(key, OUTAGE)
    options = {"journal_dir": tmp_path / "journal", "max_queue_size": 10, "max_retries": 0}
    with open_client(server.url, key, **options) as client:
        track(client, range(100))
        assert not client.flush()
        assert_equation(client, spilled=90, pending=10)
        track(client, range(100, 130))
        assert_equation(client, spilled=120, pending=10)
        server.clear_faults(key)
        flush_until_settled(client)
        assert_equation(client, delivered=130)
        track(client, range(130, 135))
        assert client.flush()
        assert_equation(client, delivered=135)
    assert_arrived(server, key, range(135))
    assert files_of(tmp_path) == []


def assert_equation(client: Whisperr, **figures: int) -> None:
    """accepted + adopted = delivered + dropped + pending + spilled, and these figures are so."""
    stats = client.stats()
    left = stats["delivered"] + sum(stats["dropped"].values()) + stats["pending"]
    assert stats["accepted"] + stats["adopted"] == left + stats["spilled"], stats
    known = {name: figures.get(name, 0) for name in ("delivered", "pending", "spilled")}
    assert (known, stats["dropped"]) == ({name: stats[name] for name in known}, {}), stats


@pytest.mark.parametrize("ending", ["", "die()"], ids=["exit", "sigkill"])
def test_an_outage_may_outlast_the_process(
    server: Sandbox, key: str, tmp_path: Path, ending: str
) -> None:
    """What an outage left of a process on disk, in memory and in flight, however it ended, is
    delivered by the next one.
    """
    server.inject(key, OUTAGE)
    run_journal_program(
        server,
        key,
        tmp_path,
        f"""
        client = durable(max_queue_size=10)
        track(client, range(100))
        assert not client.flush()
        assert closed(client.stats())["spilled"] == 90
        {ending}
        """,
        status=-9 if ending else 0,
    )
    server.clear_faults(key)
    (stats,) = run_journal_program(
        server,
        key,
        tmp_path,
        """
        client = durable(max_queue_size=10)
        assert client.flush()
        tell(**closed(client.stats()))
        """,
    )
    assert (stats["adopted"], stats["delivered"], stats["dropped"]) == (100, 100, {})
    assert_arrived(server, key, range(100))
    assert files_of(tmp_path) == []
