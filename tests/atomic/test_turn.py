"""Whose turn it is: one call's at a time, and never that of a call which has ended."""

from __future__ import annotations

import threading
from pathlib import Path

from support import run_program
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


PROGRAM = """
import os, random, signal, sys, time
from whisperr import Whisperr

class SoftTimeLimit(Exception):
    pass

def handler(number, frame):
    if frame.f_code.co_name in ("_evict", "_drop_oldest", "put_event", "take", "release", "_trim"):
        raised.append(frame.f_code.co_name)
        raise SoftTimeLimit

raised = []
options = {"journal_dir": "journal", "max_journal_bytes": 1 << 20} if sys.argv[1] == "journal" else {}
client = Whisperr("wrk_k", base_url="http://127.0.0.1:9", flush_at=10**6, flush_interval=10**6,
                  max_queue_size=10, **options)
text = "x" * (20_000 if options else 10)
for n in range(100):
    client.track("u", "number_seen", {"text": text})
signal.signal(signal.SIGALRM, handler)
lots = random.Random(1)
end = time.monotonic() + 5
while time.monotonic() < end and len(raised) < 2_000:
    signal.setitimer(signal.ITIMER_REAL, lots.uniform(2e-5, 2e-4))
    for _ in range(20):
        try:
            client.track("u", "number_seen", {"text": text})
        except SoftTimeLimit:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
for n in range(300):
    client.track("u", "number_seen", {"text": text})
sizes = [os.path.getsize(os.path.join(folder, name))
         for folder, _, names in os.walk("journal") for name in names]
print(len(raised), client.stats()["pending"], sum(sizes), flush=True)
os._exit(0)
"""


def test_what_a_signal_handler_raises_leaves_the_limits(tmp_path: Path) -> None:
    """An exception in the middle of an eviction, wherever, and the next call evicts as before."""
    said = run_program(PROGRAM, tmp_path, arguments=["memory"]).stdout.split()
    assert int(said[0]) > 20, said
    assert int(said[1]) <= 10, said
    said = run_program(PROGRAM, tmp_path, arguments=["journal"]).stdout.split()
    assert int(said[1]) < 100, said  # some are in flight: of a pass to nowhere
    assert int(said[2]) <= (1 << 20) + 64 * 1024, said
