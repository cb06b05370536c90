"""When a client delivers by itself, what flush() and shutdown() say, and all clients at once."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Iterator, Mapping

import pytest

from support import run_program
from support.clients import (
    DEADLINE,
    Reports,
    assert_arrived,
    flush_until_settled,
    open_client,
    track,
)
from support.deadlines import generous
from whisperr import Whisperr
from whisperr._encoding.records import Event
from whisperr.sandbox import Sandbox

SILENCE = {"do": "hang", "times": -1}

# --- by itself


def test_flush_at_wakes_the_sender(server: Sandbox, key: str) -> None:
    """Fewer than ``flush_at`` events wait; that many are delivered at once, in one request, long
    before the interval is over."""
    with open_client(server.url, key, flush_at=20) as client:
        track(client, range(19))
        _let_another_client_deliver(server)
        assert server.ledger(key)["requests"] == 0
        track(client, [19])
        server.wait_for(key, 20)
    assert assert_arrived(server, key, 20)["requests"] == 1


def _let_another_client_deliver(server: Sandbox) -> None:
    """As much time as a delivery takes, on this machine and today."""
    other = f"wrk_{uuid.uuid4().hex}"
    with open_client(server.url, other, flush_at=1) as client:
        track(client, [0])
        server.wait_for(other, 1)


def test_flush_at_wakes_the_sender_again_and_again(server: Sandbox, key: str) -> None:
    """Every further ``flush_at`` events are delivered as well, identities among them."""
    with open_client(server.url, key, flush_at=10) as client:
        for start in range(0, 200, 10):
            track(client, range(start, start + 5))
            for number in range(start + 5, start + 10):
                client.identify(f"user_{number}")
            server.wait_for(key, start // 2 + 5)
            server.wait_for(key, start // 2 + 5, field="identities")
    assert_arrived(server, key, 100)


@pytest.mark.parametrize("what", ["event", "identity"])
def test_flush_interval_delivers_a_single_record(server: Sandbox, key: str, what: str) -> None:
    """One record, far from ``flush_at``, is delivered within about ``flush_interval``; so is the
    next one."""
    with open_client(server.url, key, flush_interval=0.2) as client:
        for number in range(3):
            if what == "event":
                track(client, [number])
                server.wait_for(key, number + 1)
            else:
                client.identify(f"user_{number}")
                server.wait_for(key, number + 1, field="identities")


def test_the_interval_counts_from_the_record(server: Sandbox, key: str) -> None:
    """A record waits for ``flush_interval`` and not less, though the client was idle before."""
    with open_client(server.url, key, flush_interval=0.5) as client:
        for number in range(2):
            begun = time.time()
            track(client, [number])
            server.wait_for(key, number + 1)
            assert server.requests(key)[-1]["time"] - begun >= 0.49


def test_a_failed_pass_is_repeated_at_the_interval(server: Sandbox, key: str) -> None:
    """What a pass gave back is tried again after ``flush_interval``, without anybody asking."""
    server.inject(key, {"do": "status", "status": 503, "times": 2})
    with open_client(server.url, key, flush_interval=0.2, flush_at=5, max_retries=0) as client:
        track(client, range(5))
        server.wait_for(key, 5)
    assert_arrived(server, key, 5)


IDLE = """
import sys, threading, time
from whisperr import Whisperr

def switches():
    with open(f"/proc/self/task/{sender.native_id}/status") as status:
        return [line.split()[1] for line in status if line.startswith("voluntary")]

client = Whisperr(sys.argv[2], base_url=sys.argv[1], flush_interval=0.1)
client.track("user", "number_seen", {"n": 0})
assert client.flush()
(sender,) = [thread for thread in threading.enumerate() if thread.name == "whisperr"]
before = None
while before != (before := switches()):  # the pass is over; let its thread come to rest
    time.sleep(0.3)
time.sleep(2)
assert switches() == before, (before, switches())
client.track("user", "number_seen", {"n": 1})
assert client.flush()
while switches() == before:  # it is the thread that works, and comes to rest again
    time.sleep(0.01)
"""


def test_an_idle_client_causes_no_wake_ups(server: Sandbox, key: str, tmp_path: Path) -> None:
    """With an empty queue the sender's thread does not run at all: in 2 s, 20 intervals, the kernel
    counts no switch of it."""
    run_program(IDLE, tmp_path, arguments=(server.url, key))
    assert_arrived(server, key, 2)


THREADS = """
import os, sys, threading

def kernel_threads():
    return len(os.listdir("/proc/self/task"))

from whisperr import Whisperr, lifecycle
client = Whisperr(sys.argv[2], base_url=sys.argv[1])
client.stats(), repr(client), client.ready
assert client.flush() and client.flush(0)
lifecycle.flush_all(1)
assert threading.active_count() == kernel_threads() == 1
for n in range(100):
    client.track("user", "number_seen", {"n": n})
    client.identify(f"user_{n}")
senders = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
assert [(thread.name, thread.daemon) for thread in senders] == [("whisperr", True)], senders
assert kernel_threads() == 2
assert client.shutdown()
senders[0].join(60)
assert threading.active_count() == 1
"""


def test_one_thread_from_the_first_event_on(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Before the first event a client has no thread, a flush makes none; then it has one, a daemon
    named ``whisperr``, which ends with the client."""
    run_program(THREADS, tmp_path, arguments=(server.url, key))
    assert_arrived(server, key, 100)


def test_a_client_that_is_dropped_still_delivers(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A client whose last reference goes away delivers what it holds, and then its thread ends."""
    source = """
    import sys, threading
    from whisperr import Whisperr
    client = Whisperr(sys.argv[2], base_url=sys.argv[1], flush_interval=999.0)
    for n in range(10):
        client.track("user", "number_seen", {"n": n})
    (sender,) = [thread for thread in threading.enumerate() if thread.name == "whisperr"]
    del client
    sender.join(20)
    assert not sender.is_alive()
    """
    run_program(source, tmp_path, arguments=(server.url, key))
    assert_arrived(server, key, 10)


# --- what flush() says


def test_flush_is_true_when_all_is_settled(server: Sandbox, key: str) -> None:
    """flush() says True once everything accepted before it is at the server; more so, at once, when
    there is nothing to do."""
    with open_client(server.url, key) as client:
        assert client.flush(0)
        track(client, range(1000))
        assert client.flush()
        assert_arrived(server, key, 1000)
        assert client.flush(0)


def test_flush_waits_for_a_pass_of_its_own(server: Sandbox, key: str) -> None:
    """An event tracked while a pass is on is not in that pass; a flush that comes after it waits for
    the next one."""
    server.inject(key, {"do": "delay", "seconds": 0.5})
    with open_client(server.url, key, flush_at=2) as client:
        track(client, range(2))
        server.wait_for(key, 2)
        track(client, [2])
        assert client.flush()
        assert_arrived(server, key, 3)


def test_flush_of_many_threads(server: Sandbox, key: str) -> None:
    """Eight threads that track and flush at once each find their own events delivered when their
    flush says True."""
    missing: list[set[int]] = []

    def work(first: int) -> None:
        for start in range(first, first + 50, 10):
            track(client, range(start, start + 10))
            settled = client.flush()
            arrived = {event["properties"]["n"] for event in server.events(key)}
            missing.append(set(range(start, start + 10)) - arrived if settled else {-1})

    with open_client(server.url, key) as client:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert missing == [set()] * 40
    assert_arrived(server, key, 400)


@pytest.mark.parametrize("timeout", [0, 1])
def test_flush_is_false_at_its_time_out(server: Sandbox, key: str, timeout: float) -> None:
    """With a server that accepts and never answers, flush(timeout=1) says False then, and
    flush(0) at once; everything is kept."""
    server.inject(key, SILENCE)
    with open_client(server.url, key, shutdown_timeout=0.0, request_timeout=60.0) as client:
        track(client, range(10))
        begun = time.monotonic()
        assert not client.flush(timeout=timeout)
        assert timeout <= time.monotonic() - begun < timeout + generous(0.5)
        assert client.stats()["pending"] == 10
        assert not client.shutdown(0)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("inf"), "1", True, [], 1e12])
@pytest.mark.parametrize("name", ["flush", "shutdown"])
def test_a_time_out_must_be_seconds(server: Sandbox, key: str, name: str, timeout: Any) -> None:
    """A time-out that is no number of seconds, 0 or more, is a ValueError, and changes nothing."""
    with open_client(server.url, key) as client:
        track(client, [0])
        with pytest.raises(ValueError, match="timeout"):
            getattr(client, name)(timeout=timeout)
        assert client.flush(20)
    assert_arrived(server, key, 1)


# --- what shutdown() says


def test_shutdown_is_true_when_all_is_settled(server: Sandbox, key: str) -> None:
    """shutdown() delivers what is queued and says True; it may be repeated, and so may flush()."""
    with open_client(server.url, key) as client:
        track(client, range(1000))
        assert client.shutdown()
        assert_arrived(server, key, 1000)
        assert client.shutdown() and client.shutdown(0) and client.flush()


def test_shutdown_of_an_unused_client(server: Sandbox, key: str) -> None:
    """A client that was never used is shut down at once, and refuses from then on."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        assert client.shutdown(0)
        track(client, range(3))
        assert client.stats()["dropped"] == {"closed": 3}
        assert repr(client) == f"<Whisperr {server.url} closed>"
    assert reports.brief() == [("dropped", None, 1)]
    assert server.ledger(key)["requests"] == 0


@pytest.mark.parametrize("timeout", [None, 1])
def test_shutdown_is_bounded(server: Sandbox, key: str, timeout: float | None) -> None:
    """With a server that never answers, shutdown() takes its time-out, or ``shutdown_timeout``,
    says False and reports the loss by count."""
    server.inject(key, SILENCE)
    reports = Reports()
    with open_client(
        server.url, key, on_error=reports, shutdown_timeout=1.0, request_timeout=60.0
    ) as client:
        track(client, range(10))
        begun = time.monotonic()
        assert not client.shutdown(timeout)
        assert time.monotonic() - begun < generous(2)
        assert client.stats()["dropped"] == {"undelivered": 10}
    assert reports.brief() == [("dropped", None, 10)]


def test_shutdown_during_the_last_pass_returns_with_it(server: Sandbox, key: str) -> None:
    """A shutdown() that finds everything under way waits for that answer, and for nothing else."""
    server.inject(key, {"do": "delay", "seconds": 0.5})
    with open_client(server.url, key, flush_at=10) as client:
        track(client, range(10))
        server.wait_for(key, 10)
        begun = time.monotonic()
        assert client.shutdown(DEADLINE)
        assert time.monotonic() - begun < generous(3)
        assert client.stats()["delivered"] == 10


def test_flushes_that_meet_a_shutdown_are_answered(server: Sandbox, key: str) -> None:
    """A flush() of another thread that waits while the client is shut down returns with it."""
    server.inject(key, {"do": "delay", "seconds": 0.5})
    said: list[bool] = []
    with open_client(server.url, key, flush_at=10) as client:
        track(client, range(10))
        server.wait_for(key, 10)
        threads = [
            threading.Thread(target=lambda: said.append(client.flush(DEADLINE))) for _ in range(4)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        assert client.shutdown(DEADLINE)
        for thread in threads:
            thread.join()
        assert time.monotonic() - begun < generous(3)
    assert said == [True] * 4


def test_after_giving_up_there_is_nothing_to_wait_for(server: Sandbox, key: str) -> None:
    """Once a shutdown has reported everything as lost, all is settled: flush() and shutdown() say
    True at once, though the server still keeps the sender waiting."""
    server.inject(key, SILENCE)
    with open_client(server.url, key, request_timeout=600.0, flush_at=10) as client:
        track(client, range(10))
        server.wait_for(key, 1, field="requests")
        assert not client.shutdown(0)
        begun = time.monotonic()
        assert client.flush(DEADLINE)
        assert client.shutdown(DEADLINE)
        assert time.monotonic() - begun < generous(3)


def test_a_late_answer_is_not_counted_twice(server: Sandbox, key: str) -> None:
    """An answer that comes after a shutdown gave its events up finds them counted as lost already:
    the ledger stays closed."""
    server.inject(key, {"do": "delay", "seconds": 1})
    with open_client(server.url, key, flush_at=10) as client:
        track(client, range(10))
        server.wait_for(key, 10)
        assert not client.shutdown(0)
        (sender,) = [thread for thread in threading.enumerate() if _belongs(thread, client)]
        sender.join(100)
        assert client.stats()["dropped"] == {"undelivered": 10}
        assert client.stats()["delivered"] == 0


def _belongs(thread: threading.Thread, client: Whisperr) -> bool:
    engine = client._own_engine()
    assert engine is not None
    return engine._senders["sender"]._thread is thread


def test_tracking_races_with_shutdown(server: Sandbox, key: str) -> None:
    """Calls that race with a shutdown are either delivered or reported, and never left over."""
    reports = Reports()
    begun = threading.Barrier(5)

    def work(first: int) -> None:
        begun.wait()
        track(client, range(first, first + 2000))

    with open_client(
        server.url, key, on_error=reports, flush_at=20, shutdown_timeout=DEADLINE
    ) as client:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 8000, 2000)]
        for thread in threads:
            thread.start()
        begun.wait()
        server.wait_for(key, 1)
        client.shutdown()
        for thread in threads:
            thread.join()
        client.shutdown()
        stats = client.stats()
    assert stats["accepted"] == 8000
    assert stats["pending"] == 0
    assert_arrived(server, key, stats["delivered"])


class ShutsDown(Mapping[str, int]):
    """A mapping that shuts the client down while it is being read."""

    def __init__(self, client: Whisperr) -> None:
        self._client = client

    def __getitem__(self, name: str) -> int:
        return {"n": 1}[name]

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        self._client.shutdown()
        return iter(["n"])


@pytest.mark.parametrize("used", [True, False])
def test_a_shutdown_that_overtakes_a_call(server: Sandbox, key: str, used: bool) -> None:
    """A call that a shutdown overtakes between its check and the queue is not left there for ever:
    when it returns, its event has been settled, or is with a sender that is about to."""
    with open_client(server.url, key) as client:
        if used:
            track(client, [0])
        engine = client._own_engine()
        assert engine is not None
        append = engine.intake.append

        def append_late(event: Event) -> None:
            client.shutdown()
            append(event)

        engine.intake.append = append_late
        track(client, [1])
        assert repr(client).endswith(" closed>")
        deadline = time.monotonic() + DEADLINE
        while client.stats()["pending"]:
            assert time.monotonic() < deadline, client.stats()
            time.sleep(0.01)
        stats = client.stats()
        assert stats["accepted"] == 1 + used
        assert stats["accepted"] == stats["delivered"] + stats["dropped"].get("undelivered", 0)
    assert_arrived(server, key, stats["delivered"])


@pytest.mark.parametrize("argument", ["properties", "context"])
@pytest.mark.parametrize("used", [True, False])
def test_a_shutdown_inside_a_call(server: Sandbox, key: str, used: bool, argument: str) -> None:
    """A call whose own properties or context shut the client down comes too late, which is said."""
    with open_client(server.url, key) as client:
        if used:
            track(client, [0])
        client.track("user", "number_seen", **{argument: ShutsDown(client)})
        stats = client.stats()
        assert stats["accepted"] == 1 + used
        assert (stats["delivered"], stats["dropped"]) == (int(used), {"closed": 1})
    assert_arrived(server, key, stats["delivered"])


# --- from an event loop


@pytest.mark.parametrize("name", ["aflush", "ashutdown"])
def test_waiting_does_not_block_the_event_loop(server: Sandbox, key: str, name: str) -> None:
    """While aflush() or ashutdown() waits for a slow server, other tasks run; then it says True."""
    server.inject(key, {"do": "delay", "seconds": 1})

    async def run() -> bool:
        waiting = asyncio.ensure_future(getattr(client, name)())
        for _ in range(100):
            await asyncio.sleep(0)
            assert not waiting.done()
        return bool(await waiting)

    with open_client(server.url, key) as client:
        track(client, range(10))
        assert asyncio.run(run())
        assert_arrived(server, key, 10)


@pytest.mark.parametrize("name", ["aflush", "ashutdown"])
def test_waiting_in_an_event_loop_is_bounded(server: Sandbox, key: str, name: str) -> None:
    """aflush() and ashutdown() take the same time-outs, say False at them, and check them."""
    server.inject(key, SILENCE)

    async def run() -> bool:
        with pytest.raises(ValueError, match="timeout"):
            await getattr(client, name)(-1)
        return bool(await getattr(client, name)(0.5))

    with open_client(server.url, key, shutdown_timeout=0.0, request_timeout=60.0) as client:
        track(client, range(10))
        assert not asyncio.run(run())
        client.shutdown(0)


# --- all clients of a process

ALL = """
import sys, threading, time
from whisperr import Whisperr, lifecycle

url, hanging_key, *keys = sys.argv[1:]
options = {"flush_at": 1000000, "flush_interval": 1000000.0, "request_timeout": 600.0}
hanging = Whisperr(hanging_key, base_url=url, **options)  # made first, so asked first
clients = [Whisperr(key, base_url=url, **options) for key in keys]
disabled, unused = Whisperr(disabled=True), Whisperr(keys[0], base_url=url)

def track_everywhere(n):
    for client in [hanging, *clients, disabled]:
        client.track("user", "number_seen", {"n": n})

"""


def _run_all(server: Sandbox, key: str, folder: Path, body: str, keys: int = 3) -> list[str]:
    """Run ALL and then ``body``, with one client whose server hangs. Returns the other keys."""
    others = [f"{key}_{number}" for number in range(keys)]
    server.inject(key, SILENCE)
    run_program(
        f"SECOND = {generous(1.0)}\n{ALL}{body}", folder, arguments=(server.url, key, *others)
    )
    return others


def test_flush_all_has_one_deadline(server: Sandbox, key: str, tmp_path: Path) -> None:
    """flush_all() says False at its one deadline when one of several servers hangs; the clients of
    the others have delivered."""
    body = """
track_everywhere(0)
begun = time.monotonic()
assert not lifecycle.flush_all(2)
assert 2 <= time.monotonic() - begun < 2 + SECOND
assert [client.stats()["delivered"] for client in clients] == [1, 1, 1]
assert hanging.stats()["pending"] == 1
assert not hanging.shutdown(0)
"""
    for other in _run_all(server, key, tmp_path, body):
        assert_arrived(server, other, 1)


def test_shutdown_all_has_one_deadline(server: Sandbox, key: str, tmp_path: Path) -> None:
    """shutdown_all() does the same for good: one deadline, the others deliver, the loss is the
    hanging one's, and all of them refuse from then on."""
    body = """
track_everywhere(0)
begun = time.monotonic()
assert not lifecycle.shutdown_all(2)
assert time.monotonic() - begun < 2 + SECOND
track_everywhere(1)
assert [client.stats()["delivered"] for client in clients] == [1, 1, 1]
assert [client.stats()["dropped"] for client in clients] == [{"closed": 1}] * 3
assert hanging.stats()["dropped"] == {"undelivered": 1, "closed": 1}
"""
    for other in _run_all(server, key, tmp_path, body):
        assert_arrived(server, other, 1)


def test_two_hanging_clients_share_the_deadline(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Several clients that hang take the time of one."""
    body = """
hanging_too = [Whisperr(hanging_key, base_url=url, **options) for _ in range(4)]
for client in hanging_too:
    client.track("user", "number_seen", {"n": 0})
track_everywhere(0)
for stop in (lifecycle.flush_all, lifecycle.shutdown_all):
    begun = time.monotonic()
    assert not stop(4)
    assert time.monotonic() - begun < 4 + SECOND
assert sum(client.stats()["dropped"]["undelivered"] for client in hanging_too) == 4
"""
    for other in _run_all(server, key, tmp_path, body):
        assert_arrived(server, other, 1)


def test_start_all_starts_the_senders(server: Sandbox, key: str, tmp_path: Path) -> None:
    """start_all() gives every enabled client its thread before its first event, and once only."""
    body = """
def senders():
    return [thread for thread in threading.enumerate() if thread.name == "whisperr"]

assert not senders()
lifecycle.start_all()
lifecycle.start_all()
assert len(senders()) == 5  # hanging, unused, and three
before = senders()
for client in clients:
    client.track("user", "number_seen", {"n": 0})
assert lifecycle.flush_all(100)
assert senders() == before
assert lifecycle.shutdown_all(100)
for thread in before:
    thread.join(100)
never_used = Whisperr(keys[0], base_url=url)
never_used.shutdown()
lifecycle.start_all()
assert not senders()
"""
    for other in _run_all(server, key, tmp_path, body):
        assert_arrived(server, other, 1)


def test_without_a_client_all_of_it_does_nothing(tmp_path: Path) -> None:
    """start_all(), flush_all() and shutdown_all() may be called in any process."""
    source = """
    import sys, threading
    from whisperr import Whisperr, lifecycle
    client = Whisperr(disabled=True)
    for _ in range(2):
        lifecycle.start_all()
        assert lifecycle.flush_all(0) and lifecycle.flush_all(1)
        assert lifecycle.shutdown_all(0)
    assert threading.active_count() == 1
    assert "requests" not in sys.modules
    for call in (lifecycle.flush_all, lifecycle.shutdown_all):
        try:
            call(-1)
        except ValueError as error:
            assert "timeout" in str(error)
        else:
            raise AssertionError
    """
    run_program(source, tmp_path)


def test_a_server_that_comes_back_gets_everything(server: Sandbox, key: str) -> None:
    """After a time-out of flush() the pass goes on: once the server answers, everything arrives
    without another call."""
    server.inject(key, {"do": "hang"})
    with open_client(server.url, key, request_timeout=1.0) as client:
        track(client, range(10))
        assert not client.flush(timeout=0.1)
        server.wait_for(key, 10)
        flush_until_settled(client)
        assert client.stats()["delivered"] == 10
    assert_arrived(server, key, 10)
