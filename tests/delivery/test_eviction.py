"""Eviction, and what interrupts it."""

from __future__ import annotations

from pathlib import Path

from support.programs import run_program

PROGRAM = """
import os, random, signal
from whisperr import Whisperr

class SoftTimeLimit(Exception):
    pass

def handler(number, frame):
    if frame.f_code.co_name in ("evict", "_is_over", "_events_are_older", "_size_of", "size", "waiting", "after_put"):
        raised.append(frame.f_code.co_name)
        raise SoftTimeLimit

raised = []
client = Whisperr("wrk_k", base_url="http://127.0.0.1:9", flush_at=10**6, flush_interval=10**6,
                  max_queue_size=10)
text = "x" * 10
for n in range(100):
    client.track("u", "number_seen", {"text": text})
signal.signal(signal.SIGALRM, handler)
lots = random.Random(1)
while len(raised) < 200:
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
print(len(raised), client.stats()["pending"], flush=True)
os._exit(0)
"""


def test_what_a_signal_handler_raises_leaves_the_limits(tmp_path: Path) -> None:
    """An exception in the middle of an eviction, wherever, and the next call evicts as before."""
    said = run_program(PROGRAM, tmp_path).stdout.split()
    assert int(said[0]) >= 200, said
    assert int(said[1]) <= 10, said
