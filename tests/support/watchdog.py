"""No process outlives the run that started it, however the run ends.

    start()     before the first program; nothing more to do

The run marks its environment, which every program inherits, at any depth and in any session. A
watchdog, a process in a session of its own, waits at a pipe whose other end the run alone holds.
When the run is gone, killed or not, the kernel closes that end, and the watchdog sends SIGKILL to
all processes with the mark until there are none. A run inside a run carries both marks.

It reads /proc: Linux only, elsewhere nothing happens. Stdlib only: dev.py uses it as well, and it
runs itself as a program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid

MARKS = "TEST_RUNS"  # the variable; one mark for each run that a process belongs to
GIVE_UP = 30.0  # seconds after which a process that does not die is left alone
SETTLE = 0.01  # seconds between two looks


def start() -> None:
    """Mark this process's environment, and have all that inherits it end with this process."""
    if not sys.platform.startswith("linux"):
        return
    mark = uuid.uuid4().hex
    read, write = os.pipe()
    subprocess.Popen(
        [sys.executable, "-I", "-S", os.path.abspath(__file__), mark],
        stdin=read,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to the run's group does not reach it
    ).returncode = 0  # nobody waits for it: it ends after us
    os.close(read)
    os.register_at_fork(after_in_child=lambda: _close(write))
    os.environ[MARKS] = " ".join([*os.environ.get(MARKS, "").split(), mark])


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # a fork of a fork: closed before
        os.close(fd)


def marked(mark: str) -> list[int]:
    """The processes with this mark in the environment they were started with."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                if mark.encode() in environ.read():
                    found.append(int(name))
    return found


def main(mark: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):  # nobody writes: it returns when the run is gone
        pass
    deadline = time.monotonic() + GIVE_UP
    while time.monotonic() < deadline:
        left = marked(mark)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(SETTLE)


if __name__ == "__main__":
    main(sys.argv[1])
