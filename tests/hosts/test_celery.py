"""Celery: whatever ends a pool's child, its events arrive first, or their loss is said.

Real workers on a real broker. The client delivers nothing before the end of its process (save
where a test says otherwise), so every event that arrives was delivered by an exit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from support.broker import Broker
from support.celery_worker import Host, Setup, assert_none_lost, run_celery
from support.clients import DEADLINE
from support.rows import named
from whisperr.sandbox import Sandbox

WARM = (signal.SIGTERM,)
COLD = (signal.SIGQUIT,)
ENDING = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)  # a soft time limit
TWICE = (signal.SIGINT, signal.SIGINT)  # the first is warm, the second is cold

HANG = {"do": "hang", "times": -1}
CHILD_TIMEOUT = 2.0  # seconds that a child may take to deliver: its shutdown_timeout
MAIN_TIMEOUT = 4.0  # seconds, likewise: the signal's 2, and shutdown_timeout

Check = Callable[..., None]
WHOLE_TABLE = sys.version_info >= (3, 13)  # the whole table on one Python, its first row on all


def on_one_python(test: Check) -> Check | None:
    """Collect a test only where the whole table is run."""
    return test if WHOLE_TABLE else None


def of_the_table(rows: dict[str, Any]) -> list[Any]:
    """All rows where the whole table is run, elsewhere the first one."""
    return named(rows)[: None if WHOLE_TABLE else 1]


def on_redis(broker: Broker, key: str, **fields: Any) -> Setup:
    """A setup whose keys at the broker begin with the session's prefix and the test's key."""
    setup = Setup(**fields)
    prefix = {"global_keyprefix": f"{broker.prefix}{key}-"}
    conf = {"broker_transport_options": prefix, **setup.conf}
    return replace(setup, broker=broker.url, conf=conf)


def pool(kind: str, *more: str) -> tuple[str, ...]:
    return ("-P", kind, "-c", "4", *more)


def assert_all_arrived(server: Sandbox, key: str, host: Host) -> None:
    """Each event that a process says it tracked has arrived once, and no loss was reported."""
    assert_none_lost(server, key, host.accounts())
    assert (host.errors(), host.warnings()) == ([], []), host.log()


# --- prefork

BUSY = {"work": 200, "stay": 4}
SPAWNED = {"worker_pool_start_method": "spawn"}

STOPS: dict[str, tuple[dict[str, Any], Sequence[signal.Signals]]] = {
    "warm": ({}, WARM),
    "cold-sigquit": ({"plan": BUSY}, COLD),
    "cold-sigint-twice": ({"plan": {**BUSY, "stay": 2}}, TWICE),
    "spawn": ({"conf": SPAWNED}, WARM),
    "lazy-client": ({"habits": "lazy"}, WARM),
    "main-tracks-too": ({"habits": "main", "plan": BUSY}, COLD),
}


@pytest.mark.parametrize("fields, signals", of_the_table(STOPS))
def test_a_stop_of_prefork_loses_nothing(
    server: Sandbox,
    key: str,
    tmp_path: Path,
    broker: Broker,
    fields: dict[str, Any],
    signals: Sequence[signal.Signals],
) -> None:
    """Four children, 200 tasks of one event each: a warm stop, a cold one in the middle of other
    tasks, and children that are replaced lose none and send none twice, with the client made at
    import or in a task, in forked and in spawned children, and with a main process that tracks too.
    """
    setup = on_redis(broker, key, **fields)
    with run_celery(server, key, tmp_path, setup) as host:
        for kind, count in setup.plan.items():
            host.wait_for(count, kind)
        host.stop(*signals)
        assert len(host.accounts("left")) == setup.plan.get("stay", 0), host.log()
        assert_all_arrived(server, key, host)


@on_one_python
def test_children_that_are_replaced_deliver_before_the_stop(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A child that has done its ``max_tasks_per_child`` delivers when it ends: 200 tasks by
    children of 5 each lose nothing, and nearly all has arrived before the worker is stopped.
    """
    setup = on_redis(broker, key, arguments=pool("prefork", "--max-tasks-per-child=5"))
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(200, "work")
        server.wait_for(key, 200 - 4 * 5, DEADLINE)  # the last of four children are yet to end
        host.stop(*WARM)
        assert len({entry.pid for entry in host.accounts()}) >= 200 / 5
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_shrinking_pool_delivers(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A child that the autoscaler ends delivers then, long before the worker stops."""
    setup = on_redis(
        broker,
        key,
        arguments=("-P", "prefork", "--autoscale", "4,1"),
        environment={"AUTOSCALE_KEEPALIVE": "1"},
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(200, "work")
        by_child = Counter(entry.pid for entry in host.accounts())
        assert len(by_child) > 1, "the pool never grew"
        server.wait_for(key, 200 - max(by_child.values()), DEADLINE)
        host.stop(*WARM)
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_revoked_task_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """``revoke(terminate=True)`` ends the children of three running tasks, each in the middle of
    it: what they tracked, in this task and in those before, arrives at once.
    """
    setup = on_redis(broker, key, plan={"work": 200, "stay": 3, "revoke": 1})
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(3, "left")
        revoked = {entry.pid for entry in host.accounts("left")}
        entries = [entry for entry in host.accounts() if entry.pid in revoked]
        server.wait_for(key, len(entries), DEADLINE)
        host.stop(*WARM)
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_hard_time_limit_loses_nothing_older_than_a_second(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """With a ``flush_interval`` of half a second, a task that is killed by ``time_limit`` while it
    tracks fifty events a second loses none that is older than a second. Half of the tasks don't
    end at the SIGTERM that comes first, so that their child delivers nothing at its end.
    """
    setup = on_redis(
        broker,
        key,
        plan={"tick": 2, "stubborn": 2},
        conf={"task_time_limit": 3},
        options={"flush_interval": 0.5},
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for_log(4, "Hard time limit")
        host.stop(*WARM)
        ticks = host.accounts("tick")
        last = {entry.pid: entry.time for entry in ticks}
        old = [entry for entry in ticks if entry.time < last[entry.pid] - 1]
        assert len(last) == 4 and len(old) > 100, len(old)
        assert_none_lost(server, key, old)


@on_one_python
def test_the_filesystem_transport_loses_nothing(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A broker without an event loop, whose pool works with threads of its own: 20 tasks and a
    warm stop lose nothing.
    """
    folder = tmp_path / "queue"
    folder.mkdir()
    folders = {name: str(folder) for name in ("data_folder_in", "data_folder_out")}
    options = {**folders, "control_folder": str(folder), "polling_interval": 0.01}
    setup = Setup(
        plan={"work": 20}, conf={"broker_transport_options": options}, broker="filesystem://"
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(20, "work")
        host.stop(*WARM)
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_second_signal_does_not_interrupt_a_delivery(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A child that was terminated and is about to deliver, at the second attempt, is not kept from
    it by being terminated again, by whatever signal, nor by a soft time limit.
    """
    setup = on_redis(broker, key, plan={"work": 40, "stay": 1})
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(41, "work", "stay")
        server.inject(key, {"do": "status", "status": 503, "headers": {"Retry-After": "2"}})
        (child,) = (entry.pid for entry in host.accounts("stay"))
        os.kill(child, signal.SIGTERM)
        server.wait_for(key, 1, DEADLINE, field="requests")
        for number in ENDING:
            os.kill(child, number)
        mine = [entry for entry in host.accounts() if entry.pid == child]
        server.wait_for(key, len(mine), DEADLINE)
        host.stop(*WARM)
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_signal_to_the_whole_group_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A service manager sends SIGTERM to the main process and to all children at once."""
    setup = on_redis(broker, key, plan=BUSY)
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(204, "work", "stay")
        host.stop_group(signal.SIGTERM)
        assert_all_arrived(server, key, host)


@on_one_python
def test_a_receiver_of_the_application_may_track(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A receiver of ``worker_process_shutdown`` that the application connected after whisperr's
    may track: delivering is what a child does last.
    """
    setup = on_redis(broker, key, plan={"work": 40}, habits="farewell")
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(40, "work")
        host.stop(*WARM)
        assert len(host.accounts("farewell")) == 4
        assert_all_arrived(server, key, host)


STARTS: dict[str, dict[str, Any]] = {
    "prefork": {},
    "prefork-main-tracks": {"habits": "main"},
    "spawn": {"conf": SPAWNED},
    "solo": {"arguments": pool("solo")},
}


@on_one_python
@pytest.mark.parametrize("fields", named(STARTS))
def test_the_sender_runs_before_the_first_event(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker, fields: dict[str, Any]
) -> None:
    """``worker_process_init`` starts the sender of a process: its first task finds it running."""
    setup = on_redis(broker, key, plan={"look": 8}, **fields)
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(8, "running", "absent")
        host.stop(*WARM)
        assert len(host.accounts("running")) == 8, host.accounts()


# --- the pools without children, and beat


@on_one_python
@pytest.mark.parametrize("signals", [WARM, COLD], ids=["warm", "cold"])
@pytest.mark.parametrize("kind", ["solo", "threads", "gevent"])
def test_a_stop_of_a_pool_without_children_loses_nothing(
    server: Sandbox,
    key: str,
    tmp_path: Path,
    broker: Broker,
    kind: str,
    signals: Sequence[signal.Signals],
) -> None:
    """Where the main process runs the tasks itself, a warm and a cold stop lose none of 200."""
    setup = on_redis(broker, key, arguments=pool(kind))
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(200, "work")
        host.stop(*signals)
        assert_all_arrived(server, key, host)


@on_one_python
def test_worker_shutdown_delivers(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker
) -> None:
    """A worker without children has delivered once ``worker_shutdown`` was sent, even if its process
    then ends without running exit handlers.
    """
    setup = on_redis(broker, key, plan={"work": 40}, arguments=pool("solo"), habits="abrupt")
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(40, "work")
        host.stop(*WARM)
        assert_none_lost(server, key, host.accounts())


@on_one_python
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_beat_loses_nothing(
    server: Sandbox, key: str, tmp_path: Path, broker: Broker, number: signal.Signals
) -> None:
    """What a ``celery beat`` of its own tracks arrives when it is stopped."""
    schedule = {"often": {"task": "work", "schedule": 0.1}}
    setup = on_redis(
        broker,
        key,
        command="beat",
        arguments=("--schedule", str(tmp_path / "schedule"), "--pidfile="),
        conf={"beat_schedule": schedule},
        habits="main",
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(5, "published")
        host.stop(number)
        assert_all_arrived(server, key, host)


# --- a silent ingestion server

HANGS: dict[str, tuple[str, Sequence[signal.Signals], float]] = {
    "prefork-warm": ("prefork", WARM, CHILD_TIMEOUT),
    "prefork-cold": ("prefork", COLD, CHILD_TIMEOUT),
    "solo": ("solo", WARM, MAIN_TIMEOUT),
    "threads": ("threads", WARM, MAIN_TIMEOUT),
    "gevent": ("gevent", WARM, MAIN_TIMEOUT),
}


@on_one_python
@pytest.mark.parametrize("kind, signals, seconds", named(HANGS))
def test_a_silent_server_delays_a_stop_by_one_deadline(
    server: Sandbox,
    key: str,
    tmp_path: Path,
    broker: Broker,
    kind: str,
    signals: Sequence[signal.Signals],
    seconds: float,
) -> None:
    """With a server that accepts and never answers, a worker stops when its deadline is over. Each
    process that had something queued says its loss once in the log and once to ``on_error``, with
    the count; the others say nothing.
    """
    server.inject(key, HANG)
    setup = on_redis(
        broker, key, plan={"work": 40}, arguments=pool(kind), options={"shutdown_timeout": 2}
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(40, "work")
        took = host.stop(*signals)
        counts = Counter(entry.pid for entry in host.accounts())
        told = [(pid, "dropped", count) for pid, count in counts.items()]
        assert sorted(host.errors()) == sorted(told), host.log()
        assert sorted(host.warnings()) == sorted(counts.values()), host.log()
        assert took > seconds - 1
        assert server.events(key) == []
