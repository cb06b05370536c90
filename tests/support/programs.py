"""Run a program in a process group of its own, and leave nothing of it behind.

A program that is not done at its deadline is asked for the stacks of all its threads (and
those of all its children, which are in the group too), then killed; the test fails with them.
So does a program that ends and leaves a child behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Every process of the group, forks included, dumps its stacks on SIGUSR1.
PRELUDE = """\
import faulthandler as _f, signal as _s, sys as _sys
_f.register(_s.SIGUSR1, file=_sys.__stderr__, all_threads=True)
del _f, _s, _sys
"""
DUMP_TIME = 1.0  # seconds for writing the stacks
LINGER = 5.0  # seconds for orphaned children to be gone, once their parent is


@dataclass(frozen=True)
class Outcome:
    """How a program ended, after how many seconds, and what it said."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def run_program(
    source: str,
    folder: Path,
    *,
    arguments: Iterable[object] = (),
    timeout: float = 30.0,
    flags: Iterable[str] = (),
    environment: dict[str, str] | None = None,
    status: int | None = 0,
) -> Outcome:
    """Run ``source`` as a file in ``folder`` (which is also its current one).

    ``sys.argv[1:]`` are the arguments, ``flags`` go to the interpreter. Asserts the exit status
    (None: any), the deadline, and that no process of it is alive afterwards.
    """
    program = folder / "program.py"
    program.write_text(PRELUDE + textwrap.dedent(source))
    command = [sys.executable, *flags, str(program), *map(str, arguments)]
    begun = time.monotonic()
    child = subprocess.Popen(
        command,
        cwd=str(folder),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        stdout, stderr = _dump_and_kill(child)
        raise AssertionError(f"not done after {timeout} s\n{stdout}\n{stderr}") from None
    seconds = time.monotonic() - begun
    assert _group_is_gone(child.pid), f"left a process behind\n{stdout}\n{stderr}"
    if status is not None:
        assert child.returncode == status, f"ended with {child.returncode}\n{stdout}\n{stderr}"
    return Outcome(child.returncode, stdout, stderr, seconds)


def _dump_and_kill(child: subprocess.Popen[str]) -> tuple[str, str]:
    _signal_group(child.pid, signal.SIGUSR1)
    try:
        return child.communicate(timeout=DUMP_TIME)
    except subprocess.TimeoutExpired:
        _signal_group(child.pid, signal.SIGKILL)
        return child.communicate()
    finally:
        _signal_group(child.pid, signal.SIGKILL)


def _group_is_gone(leader: int) -> bool:
    deadline = time.monotonic() + LINGER
    while time.monotonic() < deadline:
        if not _signal_group(leader, 0):
            return True
        time.sleep(0.01)  # an orphan has no parent of ours that could wait for it
    _signal_group(leader, signal.SIGKILL)
    return False


def _signal_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True
