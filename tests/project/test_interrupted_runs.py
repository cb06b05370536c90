"""A run that is interrupted leaves no process behind: its programs end with it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from support.deadlines import wait_until
from support.inner_runs import inner_run
from support.rows import named

# A program of a test, deaf to what is polite, and two of its own: a child, and one that has left
# its group and its parent. Besides them the ingestion server and the Redis of the session.
TEST = """\
import os
import support

PROGRAM = '''
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0 and os.fork() == 0:
    os.setsid()
with open(os.path.join(sys.argv[1], "pid-%d" % os.getpid()), "w"):
    pass
while True:
    signal.pause()
'''

def test_a_program_that_never_ends(server, broker, tmp_path):
    with open(os.path.join({folder!r}, "pid-%d" % server.pid), "w"):
        pass
    support.run_program(PROGRAM, tmp_path, arguments=[{folder!r}], timeout=1000)
"""
PIDS = 4  # the server, and the program's three

ENDINGS = {
    "killed": (signal.SIGKILL, "0"),
    "killed-with-workers": (signal.SIGKILL, "2"),
    "told-to-end": (signal.SIGTERM, "0"),
}


def processes(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("pid-*")]


def is_gone(pid: int) -> bool:
    """Ended: perhaps nobody has waited for it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def descendants(pid: int) -> list[int]:
    """All processes below this one that have not lost their parents."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the watchdog reads /proc")
@pytest.mark.parametrize("number, workers", named(ENDINGS))
def test_no_program_outlives_the_run(tmp_path: Path, number: signal.Signals, workers: str) -> None:
    """Killed in the middle of a test, pytest takes along what the test started, in whatever group
    and session, the servers of the session, and the workers of pytest-xdist with theirs.
    """
    source = TEST.format(folder=str(tmp_path))
    with inner_run(tmp_path, source, "-n", workers) as run:
        run.group.wait_for(lambda: len(processes(tmp_path)) == PIDS, "the program is not there")
        ours = {*processes(tmp_path), *descendants(run.group.pid)}
        assert len(ours) > PIDS  # the Redis, and the workers
        run.group.send(number)
        assert wait_until(lambda: all(map(is_gone, ours))), [p for p in ours if not is_gone(p)]
