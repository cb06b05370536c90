"""Run a program in a process group of its own, and leave nothing of it behind.

A program that is not done at its deadline is asked for its stacks, then killed; the test fails
with them. So does a program that ends and leaves a child behind.
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

from support.deadlines import generous, wait_until
from support.groups import DUMP_TIME, LINGER, Group, signal_group
from support.lazy_imports import mode

# Every process of the group, forks included, dumps its stacks on SIGUSR1.
PRELUDE = """\
import faulthandler as _f, signal as _s, sys as _sys
_f.register(_s.SIGUSR1, file=_sys.__stderr__, all_threads=True)
del _f, _s, _sys
"""

# A client waits as long as everything else here, unless its test says how long.
PATIENT = {f"WHISPERR_{option}_TIMEOUT": str(generous(6.0)) for option in ("REQUEST", "SHUTDOWN")}


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

    ``sys.argv[1:]`` are the arguments, ``flags`` go to the interpreter, ``timeout`` is that of a
    quiet machine. Asserts the exit status (None: any), the deadline, and that no process of it is
    alive afterwards.
    """
    program = folder / "program.py"
    program.write_text(PRELUDE + textwrap.dedent(source))
    begun = time.monotonic()
    leader = subprocess.Popen(
        [sys.executable, *flags, str(program), *map(str, arguments)],
        cwd=str(folder),
        env={**os.environ, **PATIENT, **mode(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    group = Group(leader, said=str)
    try:
        try:
            stdout, stderr = leader.communicate(timeout=generous(timeout))
        except subprocess.TimeoutExpired:
            stdout, stderr = _last_words(leader)
            raise AssertionError(f"not done by its deadline\n{stdout}\n{stderr}") from None
        seconds = time.monotonic() - begun
        gone = wait_until(lambda: not group.lives(), LINGER)
        assert gone, f"left a process behind\n{stdout}\n{stderr}"
    finally:
        group.kill()
    if status is not None:
        assert leader.returncode == status, f"ended with {leader.returncode}\n{stdout}\n{stderr}"
    return Outcome(leader.returncode, stdout, stderr, seconds)


def _last_words(leader: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said, the stacks of its group included. It is dead then."""
    signal_group(leader.pid, signal.SIGUSR1)
    try:
        return leader.communicate(timeout=DUMP_TIME)
    except subprocess.TimeoutExpired:
        signal_group(leader.pid, signal.SIGKILL)
        return leader.communicate()
