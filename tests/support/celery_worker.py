"""A real ``celery`` process: its start, what it wrote down, its end, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from support.clients import DEADLINE, NEVER
from whisperr.sandbox import Sandbox

APPLICATION = Path(__file__).with_name("celery_app.py")
LINGER = 10.0  # seconds for orphaned children to be gone, once their parent is
DUMP_TIME = 1.0  # seconds for writing the stacks
PATIENT = {"flush_at": NEVER, "flush_interval": NEVER}  # delivers at its end, and not before
QUIET = ("--without-mingle", "--without-gossip", "--without-heartbeat", "-l", "WARNING")


@dataclass(frozen=True)
class Entry:
    """One ``track()`` that returned: of which kind, in which process, when (monotonic)."""

    kind: str
    pid: int
    number: str
    time: float


@dataclass
class Setup:
    """What one run differs in: options of ``celery worker``, of Celery, of the client."""

    plan: dict[str, int] = field(default_factory=lambda: {"work": 200})
    arguments: tuple[str, ...] = ("-P", "prefork", "-c", "4")
    conf: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    habits: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    command: str = "worker"
    broker: str | None = None
    application: Path = APPLICATION


class Host:
    """A running worker or beat."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._process.pid

    def accounts(self, *kinds: str) -> list[Entry]:
        """All entries, or those of these kinds."""
        entries = []
        for line in self._lines("accounts"):
            number, _, moment = line.rpartition(" ")
            kind, pid, _ = number.split()
            entries.append(Entry(kind, int(pid), number, float(moment)))
        return [entry for entry in entries if entry.kind in kinds or not kinds]

    def errors(self) -> list[tuple[int, str, int]]:
        """What ``on_error`` heard: the process, the type, the count."""
        rows = (line.split() for line in self._lines("errors"))
        return [(int(pid), kind, int(count)) for pid, kind, count in rows]

    def warnings(self) -> list[int]:
        """The count of each loss in the log."""
        return [int(n) for n in re.findall(r"WARNING/.*\bdropped: lost (\d+) record", self.log())]

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def wait_for(self, count: int, *kinds: str) -> None:
        """Return when so many of these kinds are written down."""
        self._wait(lambda: len(self.accounts(*kinds)) >= count, f"fewer than {count} {kinds}")

    def wait_for_log(self, count: int, text: str) -> None:
        """Return when the log says this so often."""
        self._wait(lambda: self.log().count(text) >= count, f"fewer than {count} times {text!r}")

    def stop(self, *signals: signal.Signals, within: float = DEADLINE) -> float:
        """Send these, one after the other, and wait for the end. Returns the seconds it took."""
        begun = time.monotonic()
        for position, number in enumerate(signals):
            if position:  # two that come at once are one
                self.wait_for_log(position, "shutdown (MainProcess)")
            self._process.send_signal(number)
        self._wait_for_end(within)
        return time.monotonic() - begun

    def stop_group(self, number: signal.Signals) -> None:
        """Send this to the main process and to all its children, and wait for the end."""
        os.killpg(self._process.pid, number)
        self._wait_for_end(DEADLINE)

    def _wait_for_end(self, within: float) -> None:
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._fail(f"not stopped after {within} s")
        if not _is_gone(self._process.pid, LINGER):
            self._fail("left a process behind")

    def _wait(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not is_so():
            if self._process.poll() is not None:
                self._fail(f"ended with {self._process.returncode}: {otherwise}")
            if time.monotonic() > deadline:
                self._fail(otherwise)
            time.sleep(0.02)  # a file tells nobody

    def _fail(self, what: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGUSR2)
            time.sleep(DUMP_TIME)
        raise AssertionError(f"{what}\n{self.log()}")

    def _lines(self, name: str) -> list[str]:
        """Whole ones: the last may be on its way."""
        path = self._folder / name
        return path.read_text().split("\n")[:-1] if path.exists() else []


@contextlib.contextmanager
def run_celery(server: Sandbox, key: str, folder: Path, setup: Setup) -> Iterator[Host]:
    """The application under ``celery -A``, in a process group of its own."""
    shutil.copy(str(setup.application), str(folder / "app.py"))
    command = [sys.executable, "-m", "celery", "-A", "app", setup.command, *setup.arguments]
    command += QUIET if setup.command == "worker" else ("-l", "WARNING")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=str(folder),
            env=environment_of(server, key, folder, setup),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Host(process, folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment_of(server: Sandbox, key: str, folder: Path, setup: Setup) -> dict[str, str]:
    """What the application finds in its environment; see celery_app.py."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONWARNINGS"}
    conf = {
        "broker_connection_retry_on_startup": True,
        "task_ignore_result": True,
        "worker_send_task_events": False,
        **setup.conf,
    }
    return {
        **environment,
        "APP_URL": server.url,
        "APP_KEY": key,
        "APP_OPTIONS": json.dumps({**PATIENT, **setup.options}),
        "APP_BROKER": setup.broker or "memory://",
        "APP_CONF": json.dumps(conf),
        "APP_PLAN": json.dumps(setup.plan),
        "APP_HABITS": setup.habits,
        "APP_ACCOUNTS": str(folder / "accounts"),
        "APP_ERRORS": str(folder / "errors"),
        **setup.environment,
    }


def _is_gone(leader: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)  # an orphan has no parent of ours that could wait for it
    return False


def assert_none_lost(server: Sandbox, key: str, tracked: Iterable[Entry]) -> None:
    """Each of these arrived, and nothing whatsoever arrived twice.

    More may have arrived: a signal can end a process between ``track()`` and its note.
    """
    expected = {entry.number for entry in tracked}
    found = Counter(event["properties"]["n"] for event in server.events(key))
    lost = expected - set(found)
    assert expected, "nothing was tracked"
    assert not lost, f"{len(lost)} of {len(expected)} lost: {sorted(lost)[:20]}"
    assert max(found.values()) == 1, found.most_common(20)
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, 0, 0), ledger
