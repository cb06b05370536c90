"""One run of one host: start it, have it track, stop it, and count what arrived."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

from table_rows import JOURNAL, KILLED, LINE, PLAIN, Row

from whisperr import Whisperr
from whisperr.sandbox import Sandbox

HERE = Path(__file__).resolve().parent
PATIENCE = float(os.environ.get("HOSTS_PATIENCE", "90"))  # seconds for whatever must happen
REQUESTS = 8
POLL = 0.05  # seconds
SETTLE = 0.5  # seconds for orphans to be seen


class Count(NamedTuple):
    """Of one run. ``problem``: why there is no count."""

    arrived: int
    tracked: int
    problem: str = ""

    def __str__(self) -> str:
        return self.problem or f"{self.arrived} of {self.tracked}"


def run(row: Row, kind: str, server: Sandbox, redis_url: str) -> Count:
    """Start, track, stop, count."""
    key = f"wrk_{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="hosts-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)
        host = _Host(row, kind, folder, server, key, redis_url)
        try:
            with host.started():
                host.work()
                host.stop()
            if kind in (JOURNAL, KILLED):
                _deliver_later(folder, server, key)
        except _Problem as problem:
            return Count(0, 0, f"not run: {problem}"[:200] + host.last_words())
        tracked = set(host.tracked())
    arrived = [event["properties"]["n"] for event in server.events(key)]
    if len(arrived) != len(set(arrived)):
        return Count(0, 0, "an event twice")
    if not tracked:
        return Count(0, 0, "not run: nothing was tracked" + host.last_words())
    return Count(len(tracked & set(arrived)), len(tracked))


class _Problem(Exception):
    pass


class _Host:
    def __init__(
        self, row: Row, kind: str, folder: Path, server: Sandbox, key: str, redis_url: str
    ) -> None:
        self._row, self._kind, self._folder = row, kind, folder
        self._words = ""
        with_line = kind == LINE
        options: dict[str, Any] = {"flush_at": 1_000_000, "flush_interval": 3600}
        if kind in (JOURNAL, KILLED):
            options["journal_dir"] = str(folder / "journal")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        names = {
            "python": sys.executable,
            "bin": os.path.dirname(sys.executable),
            "port": self._port,
            "folder": folder,
            "redis": redis_url,
            "queue": key,
        }
        self._command = [part.format(**names) for part in row.command]
        if with_line:
            self._command = [part.format(**names) for part in row.line_command or row.command]
        files = {**row.files, **(row.line_files if with_line else {})}
        for file, text in files.items():
            (folder / file).write_text(text)
        shutil.copy(HERE / "application.py", folder)
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "HOSTS_URL": server.url,
            "HOSTS_KEY": key,
            "HOSTS_FOLDER": str(folder),
            "HOSTS_OPTIONS": json.dumps(options),
            "HOSTS_LINE": row.line if with_line else "",
            "HOSTS_REDIS": redis_url,
            "HOSTS_PORT": str(self._port),
            "PATH": os.pathsep.join([names["bin"], os.environ.get("PATH", os.defpath)]),
        }

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """The host, in a process group of its own, of which nothing is left behind."""
        with open(self._folder / "said", "wb") as said:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield
        finally:
            for pid in self._family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._words = (self._folder / "said").read_text(errors="replace")[-600:]

    def work(self) -> None:
        """Return when it has tracked what it shall track."""
        if self._row.web:
            self._wait_for(lambda: self._get(), "it never answered")
            for _ in range(REQUESTS - 1):
                self._wait_for(self._get, "a request got no answer")
        elif self._row.events:
            self._wait_for(lambda: len(self.tracked()) >= self._row.events, "it never tracked all")

    def stop(self) -> None:
        """As one stops it, or by SIGKILL to all of it."""
        if self._kind == KILLED:
            family = self._family()
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif isinstance(self._row.stop, tuple):
            *reloads, last = self._row.stop
            for number in reloads:
                self._process.send_signal(number)
                self._wait_for(self._workers_are_gone, "its workers stayed")
            self._process.send_signal(last)
        elif self._row.stop is not None:
            for pid in self._family() if self._row.stop_all else [self._process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self._row.stop)
        self._wait_for(lambda: self._process.poll() is not None, "it never ended", ends=True)
        deadline = time.monotonic() + SETTLE + (0 if self._row.orphans else PATIENCE)
        while self._family() and time.monotonic() < deadline:
            time.sleep(POLL)

    def tracked(self) -> list[str]:
        path = self._folder / "accounts"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def _workers_are_gone(self) -> bool:
        """Those that have tracked."""
        return not any(_lives(int(line.split()[0])) for line in self.tracked())

    def last_words(self) -> str:
        return f"\n{self._words}" if self._words else ""

    def _get(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(
            connection
        ):
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        return False

    def _wait_for(self, is_so: Callable[[], bool], complaint: str, *, ends: bool = False) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if not ends and self._process.poll() is not None and not self._daemonized():
                if is_so():
                    return
                raise _Problem(f"{complaint}: it ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise _Problem(complaint)
            time.sleep(POLL)

    def _daemonized(self) -> bool:
        """Its first process has ended well, and others go on."""
        return self._process.returncode == 0 and bool(self._family())

    def _family(self) -> list[int]:
        """Every process of this run, by its environment or its group, that has not ended."""
        mark = f"HOSTS_FOLDER={self._folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    pid = int(entry.name)
                    in_group = os.getpgid(pid) == self._process.pid
                    if in_group or mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(pid)
        return [pid for pid in found if _lives(pid)]


def _lives(pid: int) -> bool:
    """It is there, and no zombie that nobody has waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _deliver_later(folder: Path, server: Sandbox, key: str) -> None:
    """A later process with the same journal: this one."""
    if not (folder / "journal").exists():
        return
    client = Whisperr(key, base_url=server.url, journal_dir=str(folder / "journal"))
    deadline = time.monotonic() + PATIENCE
    while not client.flush(5) and time.monotonic() < deadline:
        pass
    client.shutdown(5)


KINDS = (PLAIN, LINE, JOURNAL, KILLED)
