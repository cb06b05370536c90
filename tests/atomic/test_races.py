"""Every step that the code takes for indivisible, hammered: by threads, exceptions and forks.

With an interpreter lock or without one: on a free-threaded build the threads run at the same time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import types
import warnings
from collections import deque
from pathlib import Path
from typing import Callable, Iterable

import pytest

from support.clients import DEADLINE, open_client
from support.programs import run_program
from whisperr import _atomic, _client
from whisperr._atomic import Counter, Furthest, Tally, Turn
from whisperr._delivery import caretaker, sender_thread
from whisperr._delivery.queue import RecordQueue
from whisperr._encoding.records import Event
from whisperr._journal.store import MappedStore
from whisperr.sandbox import Sandbox

THREADS = 8
TIMES = 200_000  # in each thread
FRAMES = 20_000
FORKS = 25


def in_threads(
    work: Callable[[int], object], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """The work in many threads that begin at once. What one raises fails the test."""
    ready, raised = threading.Barrier(THREADS + 1), []

    def run(index: int) -> None:
        ready.wait(DEADLINE)
        try:
            work(index)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait(DEADLINE)
    meanwhile()
    for thread in threads:
        thread.join()
    assert not raised, raised[0]


def test_a_counter_loses_no_add() -> None:
    """The sum of what eight threads add and take away is exact."""
    total = Counter()

    def work(index: int) -> None:
        move, seek_cur = total.move, 1
        for _ in range(TIMES // 2):
            total.add(3)
            move(-2, seek_cur)

    in_threads(work)
    assert total.read() == THREADS * (TIMES // 2)


def test_a_tally_gives_no_number_twice() -> None:
    """Each of the numbers that eight threads take is given once, and none is left out."""
    tally, taken = Tally(), [[0]] * THREADS

    def work(index: int) -> None:
        numbers = tally.numbers
        taken[index] = [next(numbers) for _ in range(TIMES)]

    in_threads(work)
    assert sorted(number for each in taken for number in each) == list(range(THREADS * TIMES))
    assert tally.read() == THREADS * TIMES


def test_what_advances_keeps_the_furthest() -> None:
    """Whoever comes last."""
    furthest = Furthest(0, max)
    in_threads(lambda index: [furthest.advance(n) for n in range(index, TIMES // 100, THREADS)])
    assert furthest.read() == TIMES // 100 - 1


def test_a_turn_has_one_holder() -> None:
    """Of eight threads that take it, never two hold it at once, whether they give it back or end."""
    turn, holders, taken = Turn(), Counter(), Counter()
    most: list[int] = []

    def hold(gives_back: bool) -> None:
        if not turn.take():
            return
        taken.add(1)
        most.append(holders.add(1))
        holders.add(-1)
        if gives_back:
            turn.release()

    in_threads(lambda index: [hold(n % 2 == 0) for n in range(TIMES // 40)])
    assert set(most) == {1}
    assert len(most) == taken.read() > 1


class Interruption(Exception):
    """What a signal handler raises."""


def test_exceptions_of_a_signal_handler_break_no_cell() -> None:
    """What it raises, at any instruction, leaves each add made or not made, and no number given twice, while
    other threads go on.
    """
    total, tally = Counter(), Tally()
    begun: deque[int] = deque()
    done: deque[int] = deque()
    is_inside, raised = [False], [0]

    def interrupt(*_: object) -> None:
        if is_inside[0]:
            is_inside[0] = False
            raised[0] += 1
            raise Interruption

    def rounds(index: int = 0) -> None:
        for _ in range(1_000):
            begun.append(1)
            total.add(1)
            done.append(tally.next())

    def interrupted() -> None:
        until = time.monotonic() + DEADLINE
        while raised[0] < 200:
            assert time.monotonic() < until, raised
            with contextlib.suppress(Interruption):
                is_inside[0] = True
                rounds()
                is_inside[0] = False

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    try:
        in_threads(rounds, interrupted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(set(done)) == len(done)
    assert len(begun) - raised[0] <= total.read() <= len(begun)
    assert len(done) <= tally.read() <= len(begun)


class _Lengths:
    """An event counts as what is encoded of it."""

    def size(self, event: Event) -> int:
        return len(event[2])

    def sizes(self, events: Iterable[Event]) -> list[int]:
        return list(map(self.size, events))


def test_the_bytes_of_a_queue_come_to_nothing() -> None:
    """Eight threads put, evict and take away while one leases, restores and settles: at the end each record was
    counted once, and the sum of the waiting bytes is 0.
    """
    numbers, taken = Tally(), Counter()
    queue = RecordQueue(_Lengths(), 500, 50_000, lambda record: False)

    def work(index: int) -> None:
        for n in range(TIMES // 20):
            event: Event = (numbers.next(), 0, b"-" * (n % 200), None, None)
            queue.put(event)
            if n % 1_000 == 0:
                taken.add(len(queue.take_all()))

    def deliver() -> None:
        while numbers.read() < THREADS * (TIMES // 20):
            leased = queue.lease_events(50, 5_000)
            if leased and leased[0][0] % 2:
                queue.restore()
            else:
                taken.add(queue.settle(len(leased)))

    in_threads(work, deliver)
    left = len(queue.take_all())
    assert queue.bytes.read() == 0
    assert queue.pending() == 0
    assert taken.read() + left + queue.evicted() == THREADS * (TIMES // 20)


def test_an_append_to_a_map_is_whole(tmp_path: Path) -> None:
    """What eight threads write through one map is there, each frame once and in one piece."""
    size = 16
    path = tmp_path / "segment"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    store = MappedStore(fd, THREADS * FRAMES * size)

    def work(index: int) -> None:
        write = store.write
        for n in range(FRAMES):
            write(b"%2d:%012d;" % (index, n))

    in_threads(work)
    with pytest.raises(ValueError):
        store.write(b"-")
    store.seal()
    assert store.end() == THREADS * FRAMES * size
    store.close_sealed()
    found = path.read_bytes()
    frames = sorted(found[at : at + size] for at in range(0, len(found), size))
    assert frames == sorted(b"%2d:%012d;" % (i, n) for i in range(THREADS) for n in range(FRAMES))


class _WatchedLock:
    """A lock that notes who would wait for it if another held it."""

    def __init__(self, noted: Callable[[], object]) -> None:
        self._lock = threading.Lock()
        self._noted = noted
        self.release = self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and timeout != 0:
            self._noted()
        return self._lock.acquire(blocking, timeout)

    __enter__ = acquire

    def __exit__(self, *raised: object) -> None:
        self.release()


@pytest.mark.parametrize("times", [2_000, pytest.param(TIMES, marks=pytest.mark.endurance)])
def test_a_call_waits_for_no_lock(
    server: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Eight threads track into a small queue while it is delivered: none of the eight ever asks for a lock of the
    client's in a way that could wait, each call is counted, and the bytes of what is gone are none.
    """
    callers: set[int] = set()
    by_callers, by_others = Counter(), Counter()

    def note() -> None:
        (by_callers if threading.get_ident() in callers else by_others).add(1)

    watched = types.SimpleNamespace(**vars(threading))
    watched.Lock = lambda: _WatchedLock(note)
    for module in (sender_thread, caretaker):
        monkeypatch.setattr(module, "threading", watched)
    with open_client(server.url, key, max_queue_size=1_000, flush_at=1) as client:
        client.track("user", "it_happened")
        assert client.flush()  # the thread has begun

        def work(index: int) -> None:
            callers.add(threading.get_ident())
            for n in range(times):
                client.track(f"user_{index}", "it_happened", {"n": n, "text": "-" * (n % 50)})

        in_threads(work)
        assert client.flush()
        stats = client.stats()
        engine = client._own_engine()
        assert engine is not None
        assert engine.intake.queue.bytes.read() == 0
    assert by_callers.read() == 0
    assert by_others.read() > 0
    assert stats["accepted"] == THREADS * times + 1
    assert stats["delivered"] + sum(stats["dropped"].values()) == stats["accepted"]


FORKED = """
import os
import sys
import threading

from whisperr import Whisperr

client = Whisperr("wrk_test", base_url="http://127.0.0.1:9", max_retries=0, shutdown_timeout=0)
over = threading.Event()


def work():
    n = 0
    while not over.is_set():
        client.track("user", "it_happened", {"n": n})
        n += 1


def child():
    for n in range(100):
        client.track("user", "it_happened", {"n": n})
    stats = client.stats()
    whole = stats["pending"] + sum(stats["dropped"].values()) == stats["accepted"] == 100
    os._exit(0 if whole else 1)


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
try:
    for _ in range(FORKS):
        pid = os.fork()
        if pid == 0:
            child()
        assert os.waitpid(pid, 0)[1] == 0
finally:
    over.set()
for thread in threads:
    thread.join()
stats = client.stats()
assert stats["pending"] + sum(stats["dropped"].values()) == stats["accepted"], stats
os._exit(0)
"""


def test_a_child_finds_no_cell_in_the_middle_of_a_step(tmp_path: Path) -> None:
    """Forked while eight threads track, it tracks and counts by itself, and ends; and the parent has counted
    each call once.
    """
    run_program(FORKED.replace("FORKS", str(FORKS)), tmp_path)


# --- where they do not hold


@pytest.mark.parametrize(
    ("version", "has_lock", "expected"),
    [
        ((3, 8, 0), True, True),
        ((3, 14, 6), True, True),
        ((3, 13, 15), False, False),
        ((3, 14, 6), False, False),
        ((3, 14, 7), False, True),
        ((3, 15, 0), False, True),
    ],
)
def test_where_the_steps_are_indivisible(
    version: tuple[int, ...], has_lock: bool, expected: bool
) -> None:
    """With an interpreter lock everywhere, without one from CPython 3.14.7 on."""
    assert _atomic.holds(version, has_lock) is expected


def test_the_first_client_warns_where_they_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a process, with the line that makes the client."""
    monkeypatch.setattr(_atomic, "HOLDS", False)
    monkeypatch.setattr(_client, "_has_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with open_client("http://127.0.0.1:9", "wrk_test"):
                pass
    (warning,) = caught
    assert issubclass(warning.category, RuntimeWarning)
    assert "3.14.7" in str(warning.message)
