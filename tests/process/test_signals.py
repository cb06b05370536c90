"""Calls that interrupt calls: signal handlers, and ``__del__``, in the middle of the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from whisperr.sandbox import Sandbox

TIMES = 1_000

# A handler that acts only where it interrupts the main thread inside track(), then arms the
# timer anew: at a random moment, so that it falls anywhere into it.
INTERRUPTED = f"""
import itertools
import logging
import random
import signal

logging.getLogger("whisperr").setLevel(logging.CRITICAL)  # a stream can't be written inside itself
TIMES = {TIMES}
numbers = itertools.count()
moments = random.Random(1)
latest = 200e-6  # seconds
hits = refused = 0


def refuse():
    global refused
    client.track("user", "Not Snake")
    refused += 1


def arm():
    signal.setitimer(signal.ITIMER_REAL, moments.uniform(20e-6, latest))


def handler(number, frame):
    global hits
    if hits < TIMES and inside_track(frame):
        hits += 1
        interrupt()
    if hits < TIMES:
        arm()


def track_until_interrupted():
    signal.signal(signal.SIGALRM, handler)
    arm()
    while hits < TIMES:
        track(client, [next(numbers)])
        refuse()
"""

ACTIONS = {
    "track": "track(client, [next(numbers)])",
    "flush": "assert client.flush(), client.stats()",
    "track-and-flush": "track(client, [next(numbers)]); assert client.flush(), client.stats()",
    "track-a-refused-call": "track(client, [next(numbers)]); client.track('user', 'Not Snake')",
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_handler_inside_track(server: Sandbox, key: str, tmp_path: Path, action: str) -> None:
    """track() and flush() from a signal handler that interrupts track(), 1,000 times: no
    deadlock, nothing lost, nothing twice, and the ledger closes.
    """
    source = (
        INTERRUPTED
        + f"""
def interrupt():
    {ACTIONS[action]}

client = new_client(max_queue_size=1_000_000)
track_until_interrupted()
assert client.flush()
stats = client.stats()
refused += {TIMES if "Not Snake" in ACTIONS[action] else 0}
assert stats["dropped"] == {{"refused": refused}}, (stats, refused)
assert stats["accepted"] - refused == stats["delivered"] == next(numbers), stats
print(stats["delivered"])
"""
    )
    done = run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(int(done.stdout)))


def test_a_handler_inside_the_first_calls(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The same once in each of 60 children, in its first calls, where the sender is being made."""
    source = (
        INTERRUPTED
        + """
def interrupt():
    track(client, [next(numbers)])
    assert client.flush(20)

def child_main(child):
    global hits, latest, numbers
    hits, latest, numbers = TIMES - 1, 5e-3, itertools.count(10_000 * child)
    moments.seed(child)
    track_until_interrupted()
    with open("counts", "a") as counts:
        print(child, next(numbers) - 10_000 * child, file=counts)
    assert client.shutdown(20)
    os._exit(0)  # the end of an interpreter takes long

client = new_client(max_queue_size=1_000_000)
for child in range(60):
    reap([fork(child_main, child)])
"""
    )
    run_app(server, key, tmp_path, source)
    expected: list[int] = []
    for line in (tmp_path / "counts").read_text().splitlines():
        child, count = map(int, line.split())
        assert count < 10_000
        expected += range(10_000 * child, 10_000 * child + count)
    assert_arrived(server, key, expected)


def test_a_handler_inside_flush(server: Sandbox, key: str, tmp_path: Path) -> None:
    """track() and flush() from a handler that interrupts a waiting flush(): both flushes are
    answered, and what the handler tracked arrives.
    """
    server.inject(key, {"do": "delay", "seconds": 0.05, "times": -1})
    source = """
        import signal
        answers = []

        def handler(number, frame):
            names = []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            if "flush" in names:
                inside.append(1_000_000 + round)
                track(client, inside[-1:])
                answers.append(client.flush(200))

        signal.signal(signal.SIGALRM, handler)
        client = new_client()
        round, inside = 0, []
        while len(inside) < 40:  # on a busy machine a signal may come before the flush, or after
            track(client, [round])
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert client.flush(200)
            signal.setitimer(signal.ITIMER_REAL, 0)
            round += 1
        assert all(answers) and len(answers) == len(inside), answers
        print(round, *inside)
    """
    done = run_app(server, key, tmp_path, source)
    rounds, *inside = map(int, done.stdout.split())
    assert_arrived(server, key, [*range(rounds), *inside])


def test_a_del_inside_track(server: Sandbox, key: str, tmp_path: Path) -> None:
    """track() from the __del__ of garbage that is collected in the middle of a track(), 1,000
    times: no deadlock, nothing lost, nothing twice.
    """
    source = f"""
        import gc
        import itertools
        numbers = itertools.count()
        inside = 0

        class Ghost:
            def __init__(self):
                self.me = self

            def __del__(self):
                global inside
                inside += inside_track(sys._getframe())
                track(client, [next(numbers)])

        class Haunted(os.PathLike):
            # Its conversion, inside track(), leaves garbage and has it collected.
            def __fspath__(self):
                Ghost()
                gc.collect(0)
                return "converted"

        client = new_client(max_queue_size=1_000_000)
        while inside < {TIMES}:  # now and then it is the sender's thread that collects one
            client.track("user", "is_haunted", {{"n": next(numbers), "path": Haunted()}})
        gc.collect()
        assert client.flush()
        print(next(numbers))
    """
    done = run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(int(done.stdout)))


def test_what_a_handler_raises_goes_through(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The time limit of a job is an exception of a signal handler: track() neither swallows it nor
    counts the call as refused.
    """
    source = (
        INTERRUPTED
        + """
class TimeLimit(Exception):
    pass

class Limits:
    def handler(self, number, frame):
        arm()
        if inside_track(frame):
            raise TimeLimit

client = new_client(max_queue_size=1_000_000, flush_at=1_000_000, flush_interval=3600)
track(client, [next(numbers)])  # the sender is there
signal.signal(signal.SIGALRM, Limits().handler)
raised = 0
while raised < 50:
    arm()
    try:
        while True:
            track(client, [next(numbers)])
    except TimeLimit:
        raised += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert client.stats()["dropped"] == {}, client.stats()
os._exit(0)  # what was tracked is of no interest
"""
    )
    run_app(server, key, tmp_path, source)


def test_a_report_takes_no_lock_of_logging(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A handler that interrupts it, and flushes, waits for a sender that may want that lock."""
    source = """
        import logging

        class Watched:
            def __init__(self, lock):
                self.acquire, self.release = lock.acquire, lock.release

            def __enter__(self):
                frame = sys._getframe(1)
                while frame is not None:
                    where.append(frame.f_globals.get("__name__"))
                    frame = frame.f_back
                self.acquire()

            def __exit__(self, *raised):
                self.release()

        logging._lock = watched = Watched(logging._lock)
        logging._acquireLock = watched.__enter__  # before Python 3.13
        logging._releaseLock = watched.__exit__
        where, records = [], []
        handler = logging.Handler()
        handler.emit = records.append
        logging.getLogger("whisperr").addHandler(handler)
        assert "logging" in where
        client = new_client(on_error=lambda error: None)
        for level in (logging.WARNING, logging.DEBUG):
            logging.getLogger("whisperr").setLevel(level)  # no level is known any more
            del where[:]
            client.track("user", "Not Snake")
            assert "whisperr._reporting.reports" not in where, where
        track(client, [0])
        assert client.flush()
        assert "whisperr._reporting.reports" not in where, where
        assert len(records) >= 2, records
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [0])
