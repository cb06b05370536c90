"""Many forks in a row while other threads are busy in the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from support.deadlines import generous
from whisperr.sandbox import Sandbox

pytestmark = pytest.mark.storm

THREADS, EACH = 4, 5_000  # in the parent, and events by each
BY_CHILD = 3  # events
TIMEOUT = 120.0  # seconds
LAST_EXIT = generous(20)  # seconds after the last fork at which no child may be alive

# At each fork of storm(), every thread is either held in the middle of a track() (`held`), or
# runs and is wherever it just is.
STORM = """
import json
import logging
import random
import signal
import threading

from whisperr import Whisperr

logging.getLogger("whisperr").setLevel(logging.CRITICAL)


class Gate(os.PathLike):
    # A value whose conversion, inside track(), waits until a fork was made.
    def __init__(self, inside, forked):
        self.inside, self.forked = inside, forked

    def __fspath__(self):
        self.inside.release()
        self.forked.acquire()
        return "through"


def storm(client, forks, held, after_last=lambda: None):
    stages = [EACH * stage // forks for stage in range(forks + 1)]
    pids, inside = [], threading.Semaphore(0)
    forked = [threading.Semaphore(0) for _ in range(THREADS)]

    def tracker(index):
        for stage, (begin, end) in enumerate(zip(stages, stages[1:])):
            if held:
                n, gate = EACH * index + begin, Gate(inside, forked[index])
                client.track("user", "in_the_storm", {"n": n, "gate": gate})
                begin += 1
            track(client, range(EACH * index + begin, EACH * index + end))
            while not held and len(pids) < stage:  # until the forks catch up, calls without a number
                client.track("user", "Not Snake")

    threads = [threading.Thread(target=tracker, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    moments = random.Random(1)
    caught = 0
    for child in range(forks):
        if held:
            for _ in threads:
                inside.acquire()
        else:
            spin(moments.uniform(0, 200e-6))
        caught += sum(map(inside_track, sys._current_frames().values()))
        pids.append(fork(child_main, client, child))
        for semaphore in forked:
            semaphore.release()
    after_last()
    reap_before(time.monotonic() + LAST_EXIT, pids)
    for thread in threads:
        thread.join()
    assert caught > THREADS * forks // 2, "%d threads caught inside track()" % caught


def spin(seconds):
    # To lose the interpreter to the other threads a random number of times.
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def child_main(client, child):
    base = THREADS * EACH + BY_CHILD * child
    track(client, range(base, base + BY_CHILD))
    if child % 2:
        assert client.shutdown()
        os._exit(0)


def reap_before(deadline, pids):
    alive = set(pids)
    while alive and time.monotonic() < deadline:
        for pid in sorted(alive):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                assert status == 0, "child %d ended with %#x" % (pid, status)
                alive.discard(pid)
        time.sleep(0.01)
    for pid in alive:  # to see where it hangs
        os.kill(pid, signal.SIGUSR1)
    assert not alive, "%d children are alive" % len(alive)


client = new_client(max_queue_size=1_000_000, shutdown_timeout=150)
"""
STORM = f"THREADS, EACH, BY_CHILD, LAST_EXIT = {THREADS}, {EACH}, {BY_CHILD}, {LAST_EXIT}\n{STORM}"


def assert_all_arrived(server: Sandbox, key: str, forks: int) -> None:
    assert_arrived(server, key, range(THREADS * EACH + BY_CHILD * forks))


def test_fifty_forks_with_four_threads_inside_track(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Forks while four threads are held in the middle of track() lose and repeat none of 20,150
    events, and every child ends.
    """
    source = STORM + "storm(client, 50, held=True)\n"
    run_app(server, key, tmp_path, source, timeout=TIMEOUT)
    assert_all_arrived(server, key, 50)


def test_three_hundred_forks_at_any_instruction(server: Sandbox, key: str, tmp_path: Path) -> None:
    """With threads switched every few instructions, 300 forks fall anywhere into track() and into
    delivery, and 20,900 events arrive.
    """
    source = STORM + "sys.setswitchinterval(1e-5)\nstorm(client, 300, held=False)\n"
    run_app(server, key, tmp_path, source, timeout=TIMEOUT)
    assert_all_arrived(server, key, 300)


def test_forks_during_a_flush_in_back_off(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A flush() that waits for its retry from the first fork to the last loses nothing of the
    parent's and disturbs no child; the children have to retry as well. Only then is it let go on,
    by a shutdown.
    """
    retry_later = {"do": "status", "status": 503, "headers": {"Retry-After": "60"}}
    server.inject(key, retry_later, {"do": "status", "status": 503, "times": 25})
    source = (
        STORM
        + """
import urllib.request

def statuses():
    with urllib.request.urlopen(f"{URL}/sandbox/{KEY}/ledger") as answer:
        return json.load(answer)["statuses"]

track(client, range(-10, 0))
answers = []
flush = threading.Thread(target=lambda: answers.append(client.flush(600)))
flush.start()
while "503" not in statuses():  # the answer to the parent, before any child can ask
    time.sleep(0.005)

def still_in_back_off():
    assert not answers, "the flush was over before the last fork"
    assert client.stats()["requests"] == 1, client.stats()

storm(client, 50, held=True, after_last=still_in_back_off)
assert client.shutdown(150)
flush.join()
assert len(answers) == 1  # False when its retry failed as well
"""
    )
    run_app(server, key, tmp_path, source, timeout=TIMEOUT)
    assert_arrived(server, key, range(-10, THREADS * EACH + BY_CHILD * 50))
    assert server.ledger(key)["statuses"]["503"] == 26


def test_a_storm_in_a_grandchild(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A grandchild, whose parent and grandparent have events of their own queued, survives the
    same storm as a first process.
    """
    source = (
        STORM
        + """
def child_of_first():
    track(client, range(-10, 0))
    reap([fork(storm, client, 50, True)])

track(client, range(-20, -10))
reap([fork(child_of_first)])
"""
    )
    run_app(server, key, tmp_path, source, timeout=TIMEOUT)
    assert_arrived(server, key, range(-20, THREADS * EACH + BY_CHILD * 50))
