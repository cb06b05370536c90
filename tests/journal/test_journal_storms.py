"""A gunicorn and a Celery worker on one journal, while somebody kills their processes all the time.

``WHISPERR_STORM_SECONDS`` says for how long, on a quiet machine; 45 if it doesn't.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from pathlib import Path

import pytest

from support.broker import Broker
from support.celery_worker import Setup, environment_of, run_celery
from support.deadlines import generous, wait_until
from support.servers import Served, Setting
from support.storms import (
    BETWEEN_FAULTS,
    BETWEEN_KILLS,
    STOP,
    STORM_APP,
    Reaper,
    files_in,
    is_torn,
    repeated,
    seconds_of_storm,
    toll,
    trouble,
)
from whisperr.sandbox import Sandbox

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(3600)]

WEB_WORKERS, TASK_WORKERS = 8, 4
CALLERS = 2  # threads that send requests
BETWEEN_REQUESTS = 0.03  # seconds, for each of them
TO_START = generous(30.0)  # seconds
TO_RECOVER = generous(90.0)  # seconds for the servers after the restart to deliver everything

ENOUGH = 2 * seconds_of_storm()  # kills among the processes of each server

OPTIONS = {
    "flush_at": 20,
    "flush_interval": 0.5,
    "max_batch_size": 50,
    "max_retries": 2,
    "request_timeout": 1.0,
}
GUNICORN = f"""
from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_abort, worker_exit
workers = {WEB_WORKERS}
preload_app = True
graceful_timeout = 15
"""


@pytest.mark.parametrize("habits", ["", "own-ids"], ids=["ids-of-the-sdk", "ids-of-the-caller"])
def test_a_storm_of_kills_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker, habits: str
) -> None:
    """A preloaded gunicorn of eight workers and a Celery worker of four under load; every 0.2 s a
    random one of these processes is killed, and the ingestion server fails at random. After a
    restart every number has arrived whose track() had returned, each under one id; no more was
    repeated than what was in flight at some time when nobody could know that it had arrived.
    """
    setup = Setup(
        plan={"churn": 2 * TASK_WORKERS},
        arguments=("-P", "prefork", "-c", str(TASK_WORKERS)),
        conf={
            "broker_transport_options": {"global_keyprefix": f"{broker.prefix}{key}-"},
            "worker_prefetch_multiplier": 1,
        },
        options={**OPTIONS, "journal_dir": str(tmp_path / "journal")},
        habits=habits,
        broker=broker.url,
        application=STORM_APP,
    )
    with run_celery(server, key, tmp_path, setup) as host, web(server, key, tmp_path, setup) as app:
        app.ask("/")
        assert wait_until(lambda: "task" in counts(tmp_path), TO_START), host.log()
        reaper = Reaper({"gunicorn": app.pid, "celery": host.pid})
        with contextlib.ExitStack() as storm:
            for _ in range(CALLERS):
                storm.enter_context(repeated(lambda: request(app), BETWEEN_REQUESTS))
            storm.enter_context(repeated(trouble(server, key), BETWEEN_FAULTS))
            storm.enter_context(repeated(reaper.step, BETWEEN_KILLS))
            raged = wait_until(lambda: least_killed(reaper) > ENOUGH, generous(3 * ENOUGH))
        server.clear_faults(key)
        (tmp_path / STOP).touch()
        host.stop_group(signal.SIGTERM)
        app.stop()
    with web(server, key, tmp_path, setup) as app:
        app.ask("/")
        wait_until(lambda: not toll(server, key, numbers(tmp_path)).lost, TO_RECOVER, every=1.0)
        app.stop()
    found = toll(server, key, numbers(tmp_path))
    print({**found.__dict__, "lost": len(found.lost)}, dict(reaper.kills), dict(counts(tmp_path)))
    assert (found.lost, found.renamed) == ([], 0), found
    assert found.repeats <= found.in_flight, found
    assert raged, reaper.kills
    assert [path for path in files_in(tmp_path / "journal") if not is_torn(path)] == []


def least_killed(reaper: Reaper) -> int:
    """By how many kills each of the two servers was hit at least."""
    return min(reaper.kills["gunicorn"], reaper.kills["celery"])


def lines(folder: Path) -> list[str]:
    """Whole ones: the last may be on its way."""
    return (folder / "accounts").read_text().split("\n")[:-1]


def numbers(folder: Path) -> list[str]:
    return [line.split()[1] for line in lines(folder)]


def counts(folder: Path) -> Counter[str]:
    """By where they were tracked."""
    return Counter(line.split()[0] for line in lines(folder))


def web(
    server: Sandbox, key: str, folder: Path, setup: Setup
) -> contextlib.AbstractContextManager[Served]:
    """The same application under gunicorn."""
    environment = environment_of(server, key, folder, setup)
    return Setting(folder, server, key).gunicorn(
        "app:application", GUNICORN, environment=environment
    )


def request(app: Served) -> None:
    """One, whose worker may be killed meanwhile."""
    with contextlib.suppress(OSError):
        app.get("/")
