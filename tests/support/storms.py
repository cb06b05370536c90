"""A storm: somebody kills a random process of some servers, while their ingestion server fails."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from whisperr._journal.format import Damage, decode_header, scan
from whisperr.sandbox import Sandbox

STORM_APP = Path(__file__).with_name("storm_app.py")
STOP = "stop"  # a file: tasks of it don't follow each other any more
BETWEEN_KILLS = 0.2  # seconds
BETWEEN_FAULTS = 0.3  # seconds
MOST_FAULTS = 4  # that wait at once

FAULTS: list[dict[str, Any]] = [
    {"do": "status", "status": 500, "times": 3},
    {"do": "status", "status": 503, "headers": {"Retry-After": "1"}},
    {"do": "status", "status": 429, "headers": {"Retry-After": "0"}, "times": 2},
    {"do": "status", "status": 429},
    {"do": "reset"},
    {"do": "reset", "store": True},
    {"do": "close", "times": 2},
    {"do": "hang"},
    {"do": "hang", "store": True},
]


@dataclass(frozen=True)
class Toll:
    """What became of all events of a storm."""

    tracked: int
    arrived: int
    lost: list[str]
    renamed: int  # numbers that came under two ids
    repeats: int  # of one id
    in_flight: int  # entries of the last request of each connection, of those that ever failed too


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:  # it has ended
        return []


@contextlib.contextmanager
def repeated(step: Callable[[], object], seconds: float) -> Iterator[None]:
    """Have a thread do this again and again, that far apart. What it raises ends the test."""
    over = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            while not over.wait(seconds):
                step()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if raised:
        raise raised[0]


class Reaper:
    """Kills one random child of a random one of some processes at each step, and counts by parent."""

    def __init__(self, parents: dict[str, int]) -> None:
        self._parents = parents
        self._lots = random.Random()
        self.kills: Counter[str] = Counter()

    def step(self) -> None:
        name = self._lots.choice(list(self._parents))
        found = children_of(self._parents[name])
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._lots.choice(found), signal.SIGKILL)
                self.kills[name] += 1


def trouble(server: Sandbox, key: str) -> Callable[[], None]:
    """A step that has the ingestion server fail at random, once in a while."""
    lots = random.Random()

    def step() -> None:
        if len(server.faults(key)) < MOST_FAULTS:
            server.inject(key, lots.choice(FAULTS))

    return step


def toll(server: Sandbox, key: str, tracked: list[str]) -> Toll:
    found = Counter(event["properties"]["n"] for event in server.events(key))
    ledger = server.ledger(key)
    return Toll(
        tracked=len(tracked),
        arrived=len(found),
        lost=sorted(set(tracked) - set(found)),
        renamed=sum(count > 1 for count in found.values()),
        repeats=ledger["twice"] + ledger["resent"],
        in_flight=_in_flight(server.requests(key)),
    )


def _in_flight(requests: list[dict[str, Any]]) -> int:
    """Events that somebody may not know to have arrived: the last ones stored over a connection.

    One client waits for its answer before it writes again, so those before the last it knows.
    """
    last = {entry["connection"]: entry for entry in requests}
    stored = (entry for entry in last.values() if entry["status"] in (0, 202))
    return sum(entry["count"] for entry in stored)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def is_torn(path: Path) -> bool:
    """Set aside because a kill came in the middle of writing a frame.

    It is whole up to there, and the call for which it was written had not returned.
    """
    data = path.read_bytes()
    _, fault, start = decode_header(data)
    damages = [item for item in scan(data, start) if isinstance(item, Damage)]
    whole = not fault and len(damages) == 1 and damages[0].at + damages[0].size == len(data)
    return path.name.endswith(".damaged") and whole


def seconds_of_storm() -> float:
    return float(os.environ.get("WHISPERR_STORM_SECONDS", "45"))
