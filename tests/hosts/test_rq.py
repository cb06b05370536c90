"""rq: what a job tracked arrives before its horse ends.

Real workers on a real Redis. The client delivers nothing before the end of its process, so every
event that arrives was delivered by the end of a horse, or was left by a killed one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rq
import rq.worker
from redis_server import own_redis

from support.clients import NEVER, numbers_at
from support.deadlines import generous
from support.groups import Group, started
from support.journals import deliver, watching_deliverer
from support.parts import need
from whisperr.sandbox import Sandbox

TASKS = Path(__file__).resolve().parents[1] / "support" / "rq_tasks.py"
PATIENT = {"flush_at": NEVER, "flush_interval": NEVER}
OURS = "whisperr.integrations.rq."
SPAWNS = hasattr(rq.worker.SpawnWorker, "_dump_worker_config")  # rq 3
FEW, MANY = 4, 200  # jobs
AT_ONCE = {"flush_at": 20, "flush_interval": 10.0}  # the defaults, of a client with a journal


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of our own: rq's keys have no prefix that would keep them apart on another."""
    need("redis")
    with own_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


class Jobs:
    """One queue, and the workers that serve it."""

    def __init__(self, folder: Path, server: Sandbox, key: str, redis_url: str) -> None:
        import redis

        shutil.copy(str(TASKS), str(folder))
        self._folder = folder
        self._redis: Any = redis.Redis.from_url(redis_url)
        self._url = redis_url
        self.queue = rq.Queue(key, connection=self._redis)
        self._name = key
        self._environment = {
            "APP_URL": server.url,
            "APP_KEY": key,
            "APP_OPTIONS": json.dumps(PATIENT),
            "APP_ACCOUNTS": str(folder / "accounts"),
        }

    def enqueue(self, name: str, numbers: Iterable[int] = (), **options: Any) -> None:
        for n in numbers:
            self.queue.enqueue(f"rq_tasks.{name}", n, **options)

    def tracked(self) -> list[int]:
        path = self._folder / "accounts"
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    def said(self) -> str:
        return (self._folder / "said").read_text(errors="replace")

    @contextlib.contextmanager
    def worker(self, *arguments: str, command: str = "worker", **client: Any) -> Iterator[Group]:
        """``client``: options of the client in the horses."""
        environment = {**os.environ, **self._environment}
        environment["APP_OPTIONS"] = json.dumps({**PATIENT, **client})
        environment["PYTHONPATH"] = str(self._folder)
        with open(self._folder / "said", "wb") as said, started(
            [sys.executable, "-m", "rq.cli", command, "-u", self._url, *arguments, self._name],
            self.said,
            cwd=str(self._folder),
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as group:
            yield group


@pytest.fixture
def jobs(tmp_path: Path, server: Sandbox, key: str, redis_url: str) -> Jobs:
    return Jobs(tmp_path, server, key, redis_url)


def assert_all_arrived(server: Sandbox, key: str, jobs: Jobs, count: int) -> None:
    assert jobs.tracked() == list(range(count)), jobs.said()
    assert sorted(numbers_at(server, key)) == list(range(count)), jobs.said()
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"]) == (0, 0), ledger


KINDS = {
    "worker": ("worker", ("-w", f"{OURS}Worker")),
    "pool": ("worker-pool", ("-n", "2", "-w", f"{OURS}Worker")),
    **({"spawn": ("worker", ("-w", f"{OURS}SpawnWorker"))} if SPAWNS else {}),
}


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.endurance)])
@pytest.mark.parametrize("kind", KINDS)
def test_all_arrives_from_short_jobs(
    jobs: Jobs, server: Sandbox, key: str, kind: str, count: int
) -> None:
    """Each job's event arrives, once, before its horse ends: forked, spawned, in a pool."""
    command, arguments = KINDS[kind]
    jobs.enqueue("work", range(count))
    with jobs.worker("--burst", *arguments, command=command) as worker:
        worker.wait_for_end(generous(20 + count))
    assert_all_arrived(server, key, jobs, count)


def test_all_arrives_while_the_worker_lives(jobs: Jobs, server: Sandbox, key: str) -> None:
    """A worker that waits for jobs, and is stopped by SIGTERM."""
    with jobs.worker("-w", f"{OURS}Worker") as worker:
        jobs.enqueue("work", range(FEW))
        worker.wait_for(lambda: len(numbers_at(server, key)) == FEW, "not all arrived")
        worker.send(signal.SIGTERM)
        worker.wait_for_end()
    assert_all_arrived(server, key, jobs, FEW)


def test_a_job_that_fails_or_times_out(jobs: Jobs, server: Sandbox, key: str) -> None:
    """An exception in the job, and rq's time-out of it, lose nothing."""
    jobs.enqueue("fail", [0])
    jobs.enqueue("timed_out", [1])
    with jobs.worker("--burst", "-w", f"{OURS}Worker") as worker:
        worker.wait_for_end()
    assert "JobTimeoutException" in jobs.said()
    assert_all_arrived(server, key, jobs, 2)


def test_a_signal_to_the_group(jobs: Jobs, server: Sandbox, key: str) -> None:
    """systemd sends SIGTERM to the horse as well: the job is cut, what it tracked arrives."""
    jobs.enqueue("hang", [0])
    with jobs.worker("-w", f"{OURS}Worker") as worker:
        worker.wait_for(lambda: jobs.tracked() == [0], "the job never began")
        for pid in family(worker.pid):  # a horse has a process group of its own
            os.kill(pid, signal.SIGTERM)
        worker.wait_for_end()
    assert_all_arrived(server, key, jobs, 1)


def test_a_job_that_tracks_nothing(jobs: Jobs, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Its horse makes neither a sender nor a journal: it ends as it would have without us."""
    jobs.queue.enqueue("rq_tasks.nothing")
    journal = tmp_path / "journal"
    with jobs.worker("--burst", "-w", f"{OURS}Worker", journal_dir=str(journal)) as worker:
        worker.wait_for_end()
    assert "Job OK" in jobs.said() or "Successfully completed" in jobs.said(), jobs.said()
    assert not journal.exists()
    assert server.ledger(key)["requests"] == 0


def test_the_worker_delivers_what_a_killed_horse_left(
    jobs: Jobs, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """With a journal, and the module of the client imported by the worker, no next job is needed."""
    (tmp_path / "mine.py").write_text(f"import rq_tasks\nfrom {OURS[:-1]} import Worker\n")
    jobs.enqueue("killed", [0])
    with jobs.worker("-w", "mine.Worker", journal_dir=str(tmp_path / "journal")) as worker:
        worker.wait_for(lambda: numbers_at(server, key) == [0], "it never arrived")
        worker.send(signal.SIGTERM)
        worker.wait_for_end()
    # Its horse's sender, which looks for the dead at once, may have had it in a request at the kill:
    # then it came twice, under one id.
    assert jobs.tracked() == [0] and numbers_at(server, key) == [0], jobs.said()
    assert server.ledger(key)["arrived"] == 1


def test_a_class_of_ones_own(jobs: Jobs, server: Sandbox, key: str, tmp_path: Path) -> None:
    """DeliveringHorse goes before any class of rq's."""
    (tmp_path / "mine.py").write_text(
        "from rq.worker import RoundRobinWorker\n"
        f"from {OURS[:-1]} import DeliveringHorse\n"
        "class Mine(DeliveringHorse, RoundRobinWorker):\n    pass\n"
    )
    jobs.enqueue("work", range(2))
    with jobs.worker("--burst", "-w", "mine.Mine") as worker:
        worker.wait_for_end()
    assert_all_arrived(server, key, jobs, 2)


REMINDER = "an rq work horse runs no exit handler"


@pytest.mark.parametrize("kind", ["rq.Worker", f"{OURS}Worker"])
def test_a_debug_line_where_the_class_is_missing(jobs: Jobs, kind: str) -> None:
    """At debug level, once in a horse of another class, never in ours."""
    jobs.enqueue("work", [0])
    with jobs.worker("--burst", "-w", kind, debug=True) as worker:
        worker.wait_for_end()
    assert jobs.said().count(REMINDER) == (kind == "rq.Worker"), jobs.said()


# --- without the class: a journal, and whoever delivers it


def assert_each_once(server: Sandbox, key: str, jobs: Jobs, count: int) -> None:
    """All are there under one id; a horse that was killed in a request may have sent its own before."""
    assert jobs.tracked() == list(range(count)), jobs.said()
    assert sorted(numbers_at(server, key)) == list(range(count)), jobs.said()


@pytest.mark.parametrize(
    ("killed", "count"),
    [
        (True, FEW + 1),
        pytest.param(False, MANY, marks=pytest.mark.endurance),
        pytest.param(True, MANY, marks=pytest.mark.endurance),
    ],
)
def test_a_watching_deliverer_instead(
    jobs: Jobs, server: Sandbox, key: str, tmp_path: Path, killed: bool, count: int
) -> None:
    """rq's own worker, a journal, and ``journal deliver --watch`` beside it: all arrives soon, also of
    horses that are killed (every fifth).
    """
    journal = tmp_path / "journal"
    for n in range(count):
        jobs.enqueue("killed" if killed and n % 5 == 4 else "work", [n])
    with watching_deliverer(server.url, key, journal):
        with jobs.worker("--burst", "-w", "rq.Worker", journal_dir=str(journal)) as worker:
            worker.wait_for_end(generous(20 + count))
        server.wait_for(key, count, timeout=generous(15))
    assert_each_once(server, key, jobs, count)


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_jobs_of_rq_deliver_what_those_before_them_left(
    jobs: Jobs, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A journal alone, and a job a second: no event waits for more than the next thirty jobs, and what
    the last ones leave is on disk.
    """
    count, most = 100, 30
    journal = tmp_path / "journal"
    waited = []
    with jobs.worker("-w", "rq.Worker", journal_dir=str(journal), **AT_ONCE) as worker:
        for n in range(count):
            jobs.enqueue("work", [n])
            worker.wait_for(lambda: n in jobs.tracked(), "a job never began")  # noqa: B023
            time.sleep(1.0)  # the pace of the jobs
            waited.append(n + 1 - len(numbers_at(server, key)))
        worker.send(signal.SIGTERM)
        worker.wait_for_end()
    print(f"undelivered after each job: {waited}")
    assert max(waited) <= most and set(range(count - most)) <= set(numbers_at(server, key))
    deliver(server.url, key, journal)
    assert_each_once(server, key, jobs, count)


def family(leader: int) -> list[int]:
    """The process, and its children by now."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(leader)], stdout=subprocess.PIPE, check=True
    )
    return [*map(int, found.stdout.split()), leader]
