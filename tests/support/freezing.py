"""Freeze a process as a serverless host does, and let it go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from support.clients import DEADLINE


def freeze(pid: int) -> None:
    """Return once no thread of the process runs any more."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + DEADLINE
    while not all(state in "Tt" for state in _states(pid)):
        assert time.monotonic() < deadline, _states(pid)
        time.sleep(0.01)  # not a child of ours: nobody tells us


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> list[str]:
    """The state of every thread: the first letter after the name, which may hold anything."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
