"""Totals and numbers without a lock: exact, whoever interrupts whom."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from support.clients import DEADLINE
from whisperr._atomic import Counter, Furthest, Tally

THREADS = 8
TIMES = 20_000  # in each thread
INTERRUPTIONS = 1_000


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[], object]) -> None:
    """The work in many threads at once."""
    ready = threading.Barrier(THREADS)

    def run() -> None:
        ready.wait(DEADLINE)
        work()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def interrupted(work: Callable[[], object], handler: Callable[[], object]) -> None:
    """Do the work again and again, until a signal has interrupted it often enough."""
    seen = [0]

    def interrupt(number: int, frame: Any) -> None:
        seen[0] += 1
        handler()

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    deadline = time.monotonic() + DEADLINE
    try:
        while seen[0] < INTERRUPTIONS:
            assert time.monotonic() < deadline, seen
            work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_total_is_exact_under_threads() -> None:
    """Every amount is counted once, and a reader disturbs nothing."""
    total = Counter()

    def work() -> None:
        for amount in range(TIMES):
            total.add(amount)
            total.add(-1)
            if amount % 100 == 0:
                total.read()

    in_threads(work)
    assert total.read() == THREADS * (sum(range(TIMES)) - TIMES)
    assert total.read() == total.add(0)


def test_a_total_is_exact_under_a_signal_handler() -> None:
    """Also when the handler adds inside an add of the same thread."""
    total = Counter()
    added: list[int] = []  # append is one step, and a handler may interrupt a handler

    def add(which: int) -> None:
        for _ in range(10):
            total.add(which + 1)
            added.append(which + 1)

    interrupted(lambda: add(0), lambda: add(1))
    assert total.read() == sum(added)


def test_a_total_alone_says_its_own_sum() -> None:
    """Without others add() returns the sum so far, read() leaves it."""
    total = Counter()
    assert total.read() == 0
    assert [total.add(amount) for amount in (5, -7, 0, 2**60)] == [5, -2, -2, 2**60 - 2]
    assert [total.read(), total.read()] == [2**60 - 2] * 2


def test_numbers_are_unique_under_threads() -> None:
    """Each is given out once, none is left out, and looking takes none."""
    tally = Tally()
    given: list[list[int]] = []

    def work() -> None:
        mine = []
        for n in range(TIMES):
            mine.append(tally.next())
            if n % 100 == 0:
                assert tally.read() > mine[-1]
        given.append(mine)

    in_threads(work)
    taken = [number for mine in given for number in mine]
    assert sorted(taken) == list(range(THREADS * TIMES))
    assert all(mine == sorted(mine) for mine in given)
    assert tally.read() == THREADS * TIMES


def test_numbers_are_unique_under_a_signal_handler() -> None:
    """Also when the handler takes one inside a take of the same thread."""
    tally = Tally()
    taken: list[int] = []

    def take() -> None:
        for _ in range(10):
            taken.append(tally.next())

    interrupted(take, take)
    assert sorted(taken) == list(range(len(taken)))
    assert tally.read() == len(taken)


def test_numbers_begin_at_zero() -> None:
    """And follow each other, whoever looks meanwhile."""
    tally = Tally()
    assert tally.read() == 0
    assert [tally.next(), tally.next()] == [0, 1]
    assert [tally.read(), tally.read()] == [2, 2]
    assert tally.next() == 2


def test_what_advances_never_goes_back() -> None:
    """Whoever reports last: the furthest value counts, of many threads at once."""
    earliest = Furthest(float(TIMES * THREADS), min)
    reports = iter(range(TIMES * THREADS))

    def work() -> None:
        for _ in range(TIMES // 100):
            mine = float(next(reports)) + 1
            earliest.advance(mine)
            assert earliest.read() <= mine

    in_threads(work)
    assert earliest.read() == 1.0
    earliest.advance(5.0)
    assert earliest.read() == 1.0
