"""Whose turn it is: one call's at a time, and never that of a call which has ended."""

from __future__ import annotations

import threading

import pytest

from support.stepping import Shuffle, codes_of, stepped
from whisperr import _atomic
from whisperr._atomic import Turn


def hold(turn: Turn) -> bool:
    """Take it and forget to release it, as a call does that an exception ended in its ``finally``."""
    return turn.take()


def test_one_call_holds_it() -> None:
    """While a call has it, no other gets it, in any thread; afterwards the next does."""
    turn, told, over = Turn(), threading.Event(), threading.Event()
    got: list[bool] = []

    def first() -> None:
        got.append(turn.take())
        told.set()
        over.wait(20)
        turn.release()

    thread = threading.Thread(target=first)
    thread.start()
    assert told.wait(20)
    assert not hold(turn)
    over.set()
    thread.join()
    assert got == [True]
    assert turn.take()
    assert not hold(turn)
    turn.release()


def test_a_call_that_has_ended_holds_nothing() -> None:
    """However it ended: also by what a signal handler raised in its last line."""
    turn = Turn()
    assert hold(turn)
    assert hold(turn)

    def raising() -> None:
        assert turn.take()
        raise KeyboardInterrupt

    for _ in range(2):
        try:
            raising()
        except KeyboardInterrupt as error:
            kept = error  # and with it the frame
            assert hold(turn)
    assert kept.__traceback__ is not None


# --- between every two instructions

THREADS, CALLS = 8, 12


CODES = codes_of(_atomic)


@pytest.mark.parametrize("seed", range(12))
def test_eight_threads_that_change_after_each_instruction(seed: int) -> None:
    """Of eight calls that take it, hold it and end with or without a release, never two hold it at
    once, wherever a thread is interrupted.
    """
    turn, holders, most, taken = Turn(), [0], [0], [0]

    def pause() -> None:
        """A step between two looks: the others come in here, too."""

    def hold(released: bool) -> None:
        if not turn.take():
            return
        taken[0] += 1
        holders[0] += 1
        most[0] = max(most[0], holders[0])
        pause()
        holders[0] -= 1
        if released:
            turn.release()

    def work() -> None:
        for call in range(CALLS):
            hold(released=call % 2 == 0)

    shuffle = Shuffle(seed, [work] * THREADS, {*CODES, pause.__code__})
    shuffle.run()
    assert shuffle.steps > THREADS * CALLS, "nothing was interrupted"
    assert taken[0] > 1
    assert most[0] == 1


def test_one_that_comes_too_late_takes_it_from_nobody() -> None:
    """A call that looked at a holder, and goes on when that one has ended and another one has the
    turn: it does not get it, at whichever instruction it was held up.
    """
    stops = 0
    while True:
        reached = race(stops)
        if not reached:
            break
        stops += 1
    assert stops > 10, "nothing was interrupted"


def race(stop: int) -> bool:
    """Interrupt a take() before its instruction of this number, and there let the turn change hands.

    False: there is no such instruction.
    """
    turn, left, got = Turn(), [stop], []

    def first() -> bool:
        return turn.take()

    def late() -> None:
        if turn.take():
            got.append("late")

    assert first()  # and it has ended with that

    def step() -> bool:
        left[0] -= 1
        if left[0] >= 0:
            return False
        thread = threading.Thread(target=holding, args=(turn, got, held, over))
        thread.start()
        threads.append(thread)
        assert held.wait(20)
        return True

    held, over = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    with stepped(CODES, step):
        late()
    over.set()
    for thread in threads:
        thread.join()
    if threads and "second" in got:
        assert "late" not in got, f"two at once, interrupted before instruction {stop}"
    return bool(threads)


def holding(turn: Turn, got: list[str], held: threading.Event, over: threading.Event) -> None:
    """Take it, if that is possible, and hold it until the late one is through."""
    if turn.take():
        got.append("second")
    held.set()
    over.wait(20)


def test_an_exception_at_any_instruction_leaves_it_free() -> None:
    """Out of a signal handler, before any instruction of take() and release(): when the call has
    ended, the next one gets it.
    """
    raised = 0
    while True:
        turn, left = Turn(), [raised]

        def call(turn: Turn = turn) -> None:
            if turn.take():
                turn.release()

        def step(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        try:
            with stepped(CODES, step):
                call()
            break  # there is no such instruction any more
        except KeyboardInterrupt:
            raised += 1
            assert hold(turn), f"held after an exception at instruction {raised}"
    assert raised > 20, "nothing was raised"
