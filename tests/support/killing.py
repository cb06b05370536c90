"""Kills at single instructions of the journal: which there are, and what became of everything."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.storms import is_torn
from whisperr.sandbox import Sandbox

PROGRAM = Path(__file__).with_name("kill_server.py")
SERVERS = 3
FEW = 100  # instructions: every life comes to many more
FAULTS: dict[str, list[dict[str, Any]]] = {  # of the ingestion server, while a life lasts
    "plain": [],
    "spilling": [{"do": "status", "status": 503, "times": 3}],
    "dropping": [{"do": "status", "status": 503, "times": -1}],
}
SAFE = 20  # of the newest events, which a full journal of LIMIT bytes holds

Where = tuple  # file, function, its first line, offset of the instruction


@dataclass(frozen=True)
class Point:
    """One kill: in which life, with which store, before which instruction, at which visit."""

    life: str
    written: bool
    where: tuple[str, str, int, int]
    times: int

    def __str__(self) -> str:
        file, function, line, offset = self.where
        kind = "written" if self.written else "mapped"
        return f"{self.life}/{kind} {file}:{line} {function}+{offset} #{self.times}"


@dataclass
class Kill:
    """What one kill led to."""

    point: Point
    was_killed: bool
    tracked: int = 0
    resent: int = 0
    faults: list[str] = field(default_factory=list)


class Killer:
    """Kill servers under way, for one ingestion server."""

    def __init__(self, server: Sandbox, key: str, folder: Path) -> None:
        self._server = server
        self._key = key
        self._folder = folder
        self._serial = itertools.count()
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()

    def points(self, life: str, written: bool) -> list[Point]:
        """Every instruction of the journal that this life comes to, at a visit by lot."""
        lots = random.Random(f"{life} {written}")
        order = self._order(life, written)
        told = self._ask({**order, "do": "live", "at": None})["told"]
        assert len(told) > FEW, f"{life}: the journal is hardly used, or its modules were not found"
        return [
            Point(life, written, tuple(where), lots.randint(1, times)) for *where, times in told
        ]

    def kill_all(self, points: Iterable[Point]) -> list[Kill]:
        with ThreadPoolExecutor(SERVERS) as threads:
            return list(threads.map(self.kill, points))

    def kill(self, point: Point) -> Kill:
        """Let a process live until this point, then a clean one deliver what it left."""
        order = self._order(point.life, point.written)
        lived = self._ask({**order, "do": "live", "at": [*point.where, point.times]})
        if lived["signal"] != signal.SIGKILL and point.times > 1:  # threads went another way
            return self.kill(Point(point.life, point.written, point.where, 1))
        kill = Kill(point, lived["signal"] == signal.SIGKILL)
        key = order["key"]
        self._server.killed(key)  # returns when its last request has been read
        self._server.clear_faults(key)
        cleaned = self._ask({**order, "do": "clean"})
        if cleaned["signal"] or not cleaned["told"]["settled"]:
            kill.faults.append(f"the clean process: {cleaned}")
        else:
            self._check_stats(kill, cleaned["told"]["stats"])
        self._check_arrivals(kill, order)
        self._check_folder(kill, Path(order["folder"]))
        self._server.forget(key)
        return kill

    def _check_stats(self, kill: Kill, stats: dict[str, Any]) -> None:
        dropped = stats["dropped"].pop("journal", 0) if kill.point.life == "dropping" else 0
        left = stats["pending"] + stats["spilled"]
        if left or stats["dropped"] or stats["adopted"] != stats["delivered"] + dropped:
            kill.faults.append(f"the ledger of the clean process: {stats}")

    def _check_arrivals(self, kill: Kill, order: dict[str, Any]) -> None:
        key = order["key"]
        noted = Counter(Path(order["notes"]).read_text().splitlines())
        found = Counter(f"event {event['properties']['n']}" for event in self._server.events(key))
        found.update(f"identity {each['traits']['n']}" for each in self._server.identities(key))
        lost = noted - found
        if kill.point.life == "dropping":
            lost = Counter(newest(list(noted)) & set(lost))
        if lost:
            kill.faults.append(f"lost: {sorted(lost)}")
        if max(found.values(), default=1) > 1:
            kill.faults.append(f"twice: {found.most_common(3)}")
        ledger = self._server.ledger(key)
        if ledger["twice"] or ledger["identities_twice"] or ledger["refused"]:
            kill.faults.append(f"the ingestion server: {ledger}")
        kill.tracked = sum(noted.values())
        kill.resent = ledger["resent"] + ledger["identities_resent"]

    def _check_folder(self, kill: Kill, folder: Path) -> None:
        left = [path for path in folder.rglob("*") if path.is_file()]
        if any(not (kill.point.written and is_torn(path)) for path in left):
            kill.faults.append(f"left on disk: {left}")

    def _order(self, life: str, written: bool) -> dict[str, Any]:
        number = next(self._serial)
        key = f"{self._key}{number}"
        if FAULTS[life]:
            self._server.inject(key, *FAULTS[life])
        return {
            "life": life,
            "written": written,
            "url": self._server.url,
            "key": key,
            "folder": str(self._folder / f"journal-{number}"),
            "notes": str(self._folder / f"notes-{number}"),
        }

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._idle.get()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, f"a kill server ended: {order}"
            return dict(json.loads(answer))
        finally:
            self._idle.put(process)

    @contextlib.contextmanager
    def _served(self, program: Path, said: Path) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for _ in range(SERVERS):
                self._idle.put(stack.enter_context(_start(program, self._folder, said)))
            yield


@contextlib.contextmanager
def kill_servers(server: Sandbox, key: str, folder: Path) -> Iterator[Killer]:
    killer = Killer(server, key, folder)
    program = folder / PROGRAM.name
    program.write_bytes(PROGRAM.read_bytes())
    with killer._served(program, folder / "said"):
        yield killer


@contextlib.contextmanager
def _start(program: Path, folder: Path, said: Path) -> Iterator[subprocess.Popen[str]]:
    with open(said, "a", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(program)],
            cwd=str(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            universal_newlines=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def newest(noted: list[str]) -> set[str]:
    """What even a full journal holds: the newest events of the process that was killed last."""
    return set([name for name in noted if name.startswith("event ")][-SAFE:])
