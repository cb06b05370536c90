"""A real ``celery`` process: its start, what it wrote down, its end, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.clients import NEVER
from support.groups import Group, started
from whisperr.sandbox import Sandbox

APPLICATION = Path(__file__).with_name("celery_app.py")
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

    def __init__(self, group: Group, folder: Path) -> None:
        self._group = group
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._group.pid

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
        self._group.wait_for(
            lambda: len(self.accounts(*kinds)) >= count, f"fewer than {count} {kinds}"
        )

    def wait_for_log(self, count: int, text: str) -> None:
        """Return when the log says this so often."""
        self._group.wait_for(
            lambda: self.log().count(text) >= count, f"fewer than {count} times {text!r}"
        )

    def stop(self, *signals: signal.Signals) -> float:
        """Send these, one after the other, and wait for the end. Returns the seconds it took."""
        begun = time.monotonic()
        for position, number in enumerate(signals):
            if position:  # two that come at once are one
                self.wait_for_log(position, "shutdown (MainProcess)")
            self._group.send(number)
        self._group.wait_for_end()
        return time.monotonic() - begun

    def stop_group(self, number: signal.Signals) -> None:
        """Send this to the main process and to all its children, and wait for the end."""
        self._group.send(number, to_all=True)
        self._group.wait_for_end()

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
    words = folder / "log"
    with open(words, "wb") as log, started(
        command,
        lambda: words.read_text(errors="replace"),
        dump_by=signal.SIGUSR2,  # celery_app.py registers it; SIGUSR1 is Celery's own
        cwd=str(folder),
        env=environment_of(server, key, folder, setup),
        stdout=log,
        stderr=log,
    ) as group:
        yield Host(group, folder)


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
