"""gunicorn with the hooks: every worker class, preloaded or not, whatever ends the workers.

The whole table runs on the newest Python alone; elsewhere each worker class once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.workers import SUPPORTED_WORKERS

from support.apps import run_app
from support.deadlines import generous
from support.lazy_imports import mode
from support.servers import Served, Setting, assert_delivered
from support.tls import https_before
from whisperr.sandbox import Sandbox

WHOLE_TABLE = sys.version_info >= (3, 13)
UVICORN = "uvicorn_worker.UvicornWorker"
ASGI = [UVICORN, *(["asgi"] if "asgi" in SUPPORTED_WORKERS else [])]  # the latter since 24
KINDS = ["sync", "gthread", "gevent", *ASGI]
WORKERS = 2
REQUESTS = 400
GRACEFUL_TIMEOUT = int(generous(15))  # seconds
HOOKS = "post_fork, post_worker_init, worker_exit, worker_abort"
IMPORT = f"from whisperr.integrations.gunicorn import {HOOKS}\n"
if mode():  # gunicorn refuses what it finds in place of a lazy name; in a try none is lazy
    IMPORT = f"try:\n    {IMPORT}finally:\n    pass\n"

# What the test itself wants to know of the master.
ENDED = """
import json, os, time
def child_exit(server, worker):
    with open("ended", "a") as ended:
        ended.write(json.dumps({"pid": worker.pid, "time": time.time()}) + "\\n")
"""


def rows(
    kinds: Iterable[str] = KINDS, preloaded: Iterable[bool] = (False, True)
) -> pytest.MarkDecorator:
    """Each worker class with and without preload_app; not on the newest Python: preloaded alone."""
    chosen = [
        pytest.param(kind, preload, id=f"{kind.split('.')[-1]}{'-preloaded' * preload}")
        for kind in kinds
        for preload in (preloaded if WHOLE_TABLE else [True])
    ]
    return pytest.mark.parametrize("kind, preload", chosen)


def rows_of_whole_table(kinds: Iterable[str] = KINDS) -> pytest.MarkDecorator:
    """The same, but on another Python only the one row that is most used."""
    return rows(kinds if WHOLE_TABLE else ["sync"])


def configuration(kind: str, preload: bool, hooks: str = IMPORT, **settings: Any) -> str:
    """The text of gunicorn.conf.py."""
    settings = {
        "worker_class": kind,
        "preload_app": preload,
        "workers": WORKERS,
        "graceful_timeout": GRACEFUL_TIMEOUT,
        **settings,
    }
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    return "\n".join([hooks, ENDED, *lines])


def application(kind: str) -> str:
    return "served:asgi" if kind in ASGI else "served:application"


def await_workers(served: Served, ended: int = 0, workers: int = WORKERS) -> None:
    """So many workers at least have ended, and so many are ready, no other one is being started.

    gunicorn forgets a signal to a worker that still boots, and kills it at graceful_timeout.
    """

    def are_settled() -> bool:
        ready = {line["pid"] for line in served.lines("senders")} - {served.pid}
        gone = {line["pid"] for line in served.lines("ended")}
        booted = served.said().count("Booting worker with pid")
        return len(gone) >= ended and len(ready) == booted and len(ready - gone) == workers

    served.wait_for(are_settled, f"no {workers} workers besides {ended} that ended")


# --- what ends workers


@rows()
def test_all_arrives_after_sigterm(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """400 requests, then SIGTERM to the master: nothing is lost and nothing arrives twice, what a
    preloaded master tracked at import included.
    """
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn(application(kind), configuration(kind, preload), at_import=3) as served:
        served.send(REQUESTS)
        await_workers(served)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) == REQUESTS + 3 * (1 if preload else WORKERS)
    assert_delivered(server, key, tracked)


@rows_of_whole_table()
def test_all_arrives_over_a_reload(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """SIGHUP in the middle of 400 requests: what the old workers had tracked arrives, once."""
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn(application(kind), configuration(kind, preload)) as served:
        served.send(REQUESTS // 4)
        await_workers(served)
        served.send_signal(signal.SIGHUP)
        served.send(REQUESTS // 2)
        await_workers(served, ended=WORKERS)
        served.send(REQUESTS // 4)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) >= REQUESTS
    assert_delivered(server, key, tracked)


@rows_of_whole_table([kind for kind in KINDS if kind != UVICORN])
def test_all_arrives_after_sigquit(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """SIGQUIT, gunicorn's quick stop, loses nothing. (uvicorn's worker ignores it, and is killed.)"""
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn(application(kind), configuration(kind, preload)) as served:
        served.send(REQUESTS)
        await_workers(served)
        served.stop(signal.SIGQUIT)
        tracked = served.numbers()
    assert len(tracked) == REQUESTS
    assert_delivered(server, key, tracked)


@rows_of_whole_table()
def test_all_arrives_from_recycled_workers(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """With max_requests=20 worker after worker serves 400 requests, and each delivers its own."""
    setting = Setting(tmp_path, server, key)
    configured = configuration(kind, preload, max_requests=20)
    with setting.gunicorn(application(kind), configured) as served:
        served.send(REQUESTS // 2)
        await_workers(served, ended=1)
        served.send(REQUESTS // 2)
        await_workers(served, ended=2)
        ended = {line["pid"] for line in served.lines("ended")}
        served.stop()
        tracked = served.numbers()
    assert len(tracked) >= REQUESTS
    assert len({int(number.split()[0]) for number in tracked} & ended) >= 2
    assert_delivered(server, key, tracked)


@rows_of_whole_table()
def test_all_arrives_from_more_and_fewer_workers(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """TTIN adds a worker and TTOU ends one amid 400 requests: nothing is lost, nothing comes twice."""
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn(application(kind), configuration(kind, preload)) as served:
        served.send(REQUESTS // 4)
        served.send_signal(signal.SIGTTIN)
        await_workers(served, workers=WORKERS + 1)
        served.send(REQUESTS // 4)
        served.send_signal(signal.SIGTTOU)
        served.send(REQUESTS // 4)
        await_workers(served, ended=1)
        served.send(REQUESTS // 4)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) >= REQUESTS
    assert_delivered(server, key, tracked)


# --- the abort of a worker that hangs


def await_abort(served: Served) -> None:
    """Hang the only worker, and wait until the master has found out and ended it."""
    served.leave_hanging("/hang")
    served.wait_for_lines("ended", 1)


@rows_of_whole_table(["sync", *ASGI])
def test_a_timeout_loses_nothing_older_than_a_second(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """With flush_interval=0.5, a worker that gunicorn aborts while a request sleeps in Python loses
    no event that was older than a second, and none arrives twice. (gthread and gevent workers have
    no such time-out.)
    """
    setting = Setting(tmp_path, server, key)
    configured = configuration(kind, preload, workers=1, timeout=2)
    options = {"flush_interval": 0.5, "flush_at": 1_000_000}
    with setting.gunicorn(application(kind), configured, options=options) as served:
        await_workers(served, workers=1)
        served.send(5)
        served.ask("/tick")
        await_abort(served)
        await_workers(served, ended=1, workers=1)
        served.stop()
        tracked = served.lines("accounts")
    ticks = [line["time"] for line in tracked if line["where"] == "tick"]
    assert ticks[-1] - ticks[0] > 1, "it was not aborted while it ticked"
    old = [line["n"] for line in tracked if line["time"] < ticks[-1] - 1]
    assert_delivered(server, key, old, or_more=True)


@rows_of_whole_table(["sync", UVICORN])
def test_an_aborted_worker_delivers_what_it_has(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """A worker aborted while a request sleeps in Python delivers in its half second what waits in
    its queue, with a flush_interval that would not come for an hour.
    """
    setting = Setting(tmp_path, server, key)
    configured = configuration(kind, preload, workers=1, timeout=2)
    options = {"flush_interval": 999, "shutdown_timeout": 0}
    with setting.gunicorn(application(kind), configured, options=options) as served:
        served.send(7)
        await_abort(served)
        await_workers(served, ended=1, workers=1)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) == 7
    assert_delivered(server, key, tracked)


# --- the start of a worker


@rows()
def test_the_sender_runs_before_the_first_event(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """When a worker answers its first request its sender runs already, one, though nothing was
    tracked; and no sender was started before gevent had patched, nor in a preloading master.
    """
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn(application(kind), configuration(kind, preload, workers=1)) as served:
        told = served.ask("/senders")
        served.stop()
        starts = served.lines("senders")
    pid = starts[0]["pid"]
    assert pid != served.pid
    assert told == f'{{"pid": {pid}, "senders": 1, "tracked": 0}}'
    assert starts == [{"pid": pid, "patched": kind == "gevent"}]


@pytest.mark.parametrize("preload", [False, True], ids=["not-preloaded", "preloaded"])
def test_a_gevent_worker_delivers_over_https(
    server: Sandbox, key: str, tmp_path: Path, preload: bool
) -> None:
    """gevent patches ssl after a preloading master has imported urllib3: HTTPS works all the same."""
    setting = Setting(tmp_path, server, key)
    configured = configuration("gevent", preload, workers=1)
    with https_before(server.url, tmp_path) as (url, certificate):
        trusting = {"REQUESTS_CA_BUNDLE": str(certificate), "PYTHONWARNINGS": "ignore"}
        with setting.gunicorn(
            "served:application", configured, url=url, environment=trusting
        ) as served:
            served.send(7)
            await_workers(served, workers=1)
            served.stop()
            tracked = served.numbers()
    assert_delivered(server, key, tracked)


# --- an ingestion server that hangs


@rows(preloaded=[True])
def test_a_hanging_server_delays_the_stop_within_bounds_and_is_reported(
    server: Sandbox, key: str, tmp_path: Path, kind: str, preload: bool
) -> None:
    """Where the ingestion server never answers, gunicorn still stops by itself within
    graceful_timeout, and each worker says once, to the logger and to on_error, how many events
    are lost.
    """
    setting = Setting(tmp_path, server, key)
    server.inject(key, {"do": "hang", "times": -1})
    options = {"flush_at": 1_000_000, "flush_interval": 999, "shutdown_timeout": 1.0}
    configured = configuration(kind, preload)
    with setting.gunicorn(application(kind), configured, options=options) as served:
        served.send(30)
        await_workers(served)
        assert served.stop() < GRACEFUL_TIMEOUT
        assert_told(served)
    assert server.events(key) == []


def assert_told(served: Served) -> None:
    """Each process that tracked reported what it lost, once, in both ways, with the right count."""
    tracked: dict[int, int] = {}
    for line in served.lines("accounts"):
        tracked[line["pid"]] = tracked.get(line["pid"], 0) + 1
    told = [(line["pid"], line["type"], line["count"]) for line in served.lines("reports")]
    assert sorted(told) == sorted((pid, "dropped", count) for pid, count in tracked.items())
    warned = [line["pid"] for line in served.lines("warnings")]
    assert sorted(warned) == sorted(tracked)


# --- hooks of one's own

OWN_HOOKS = """
from whisperr.integrations import gunicorn as ours

def note(name):
    with open("hooks", "a") as hooks:
        hooks.write(json.dumps({"pid": os.getpid(), "hook": name}) + "\\n")

def post_fork(server, worker):
    note("post_fork")
    ours.post_fork(server, worker)

def post_worker_init(worker):
    note("post_worker_init")
    ours.post_worker_init(worker)

def worker_exit(server, worker):
    note("worker_exit")
    ours.worker_exit(server, worker)

def worker_abort(worker):
    note("worker_abort")
    ours.worker_abort(worker)
"""


def test_the_hooks_can_be_called_by_hooks_of_ones_own(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A hook of the user's with the same name calls ours, and both do their work."""
    setting = Setting(tmp_path, server, key)
    configured = configuration("sync", True, OWN_HOOKS, workers=1, timeout=2)
    options = {"flush_interval": 999, "shutdown_timeout": 0}
    with setting.gunicorn("served:application", configured, options=options) as served:
        served.send(7)
        await_abort(served)
        served.send(7)
        await_workers(served, ended=1, workers=1)
        served.stop()
        hooks, tracked = served.lines("hooks"), served.numbers()
        workers = [line["pid"] for line in served.lines("ended")]
    called = [[line["hook"] for line in hooks if line["pid"] == pid] for pid in workers]
    start, end = ["post_fork", "post_worker_init"], ["worker_exit"]
    assert called == [[*start, "worker_abort", *end], [*start, *end]]
    assert_delivered(server, key, tracked)


def test_worker_exit_in_the_master_does_nothing(server: Sandbox, key: str, tmp_path: Path) -> None:
    """gunicorn calls worker_exit in the master for a worker that it finds dead: what the master
    itself has queued is not flushed then.
    """
    run_app(
        server,
        key,
        tmp_path,
        """
        from types import SimpleNamespace
        from whisperr.integrations.gunicorn import worker_exit

        client = new_client(flush_interval=999)
        track(client, range(3))
        dead, own = SimpleNamespace(pid=os.getpid() + 1), SimpleNamespace(pid=os.getpid())
        worker_exit(None, dead)
        assert client.stats()["pending"] == 3
        worker_exit(None, own)
        assert client.stats()["delivered"] == 3
        """,
    )
