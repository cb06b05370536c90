"""A program and all that it starts: one process group, of which a test leaves nothing behind.

A program that does not do what a test waits for is asked for the stacks of all its threads (and
those of all its children, which are in the group too); the test fails with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Callable

from support.deadlines import DEADLINE, POLL, generous, wait_until

DUMP_TIME = 1.0  # seconds for writing the stacks
LINGER = generous(5.0)  # seconds for orphaned children to be gone, once their parent is


class Group:
    """A process that leads a group of its own.

    ``said``: what it wrote so far, for a failure. ``dump_by``: the signal at which each process of
    the group writes its stacks.
    """

    def __init__(
        self,
        leader: subprocess.Popen[Any],
        said: Callable[[], str],
        dump_by: int = signal.SIGUSR1,
    ) -> None:
        self._leader = leader
        self._said = said
        self._dump_by = dump_by

    @property
    def pid(self) -> int:
        return self._leader.pid

    def send(self, number: int, *, to_all: bool = False) -> None:
        """To the leader alone, as a service manager does, or to all, as a terminal does."""
        if to_all:
            os.killpg(self.pid, number)
        else:
            self._leader.send_signal(number)

    def lives(self) -> bool:
        """Whether any process of it is left."""
        return signal_group(self.pid, 0)

    def wait_for(
        self, is_so: Callable[[], bool], complaint: str, seconds: float = DEADLINE
    ) -> None:
        """Return when it is so. Fails when the leader ends before, or at the deadline."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self._leader.poll() is not None:
                self.fail(f"{complaint}: it has ended with {self._leader.returncode}")
            if time.monotonic() > deadline:
                self.fail(f"{complaint} after {seconds} s")
            time.sleep(POLL)  # nobody tells when another process has written something

    def wait_for_end(self, seconds: float = DEADLINE) -> int:
        """The leader's exit status. Fails when it does not end, or leaves a process behind."""
        try:
            status = self._leader.wait(seconds)
        except subprocess.TimeoutExpired:
            self.fail(f"not ended after {seconds} s")
        if not wait_until(lambda: not self.lives(), LINGER):
            self.fail("left a process behind")
        return status

    def fail(self, complaint: str) -> None:
        """Raise AssertionError, with the stacks of whatever lives."""
        self.dump_stacks()
        raise AssertionError(f"{complaint}\n{self._said()}")

    def dump_stacks(self) -> None:
        if signal_group(self.pid, self._dump_by):
            time.sleep(DUMP_TIME)  # it does not tell when it has written

    def kill(self) -> None:
        """Whatever of it is still there."""
        signal_group(self.pid, signal.SIGKILL)
        self._leader.wait()


@contextlib.contextmanager
def started(
    command: list[str],
    said: Callable[[], str],
    *,
    dump_by: int = signal.SIGUSR1,
    **options: Any,
) -> Iterator[Group]:
    """Run a command for as long as the block lasts. ``options``: of Popen."""
    leader = subprocess.Popen(
        command, **{"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
    )
    group = Group(leader, said, dump_by)
    try:
        yield group
    finally:
        group.kill()


def signal_group(leader: int, number: int) -> bool:
    """False when there is no such group any more."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True
