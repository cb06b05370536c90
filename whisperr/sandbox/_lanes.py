"""A lane for each sending process.

The SDK begins the ids of one process with the same 20 hexadecimal digits, anew after each fork:
that is the process, whichever connection carries its events. Where there is no such id (the
caller's own ids, identities without a key, refused requests) the connection's last lane is taken,
or one of its own.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from whisperr.sandbox import _process_names
from whisperr.sandbox._database import Database
from whisperr.sandbox._wire import Wire

MAX_LANES = 1000  # known by name; those that were silent for longest are forgotten
SHOWN = 40
SECONDS = 60  # of activity that are shown

_GENERATED = re.compile(r"([0-9a-f]{20})[0-9a-f]{12}")


@dataclass
class Lane:
    """One sending process."""

    number: int
    name: str
    agent: str
    process: str = ""  # "1234 gunicorn", once it is known
    rows: int = 0
    last: float = 0.0
    seconds: dict[int, int] = field(default_factory=dict)

    def count(self, now: float) -> None:
        self.rows += 1
        self.last = now
        second = int(now)
        if second not in self.seconds:
            for old in [at for at in self.seconds if at <= second - SECONDS]:
                del self.seconds[old]
            self.seconds[second] = 0
        self.seconds[second] += 1

    def shown(self) -> dict[str, Any]:
        return {
            "lane": self.number,
            "name": self.name,
            "agent": self.agent,
            "process": self.process,
            "rows": self.rows,
            "last": self.last,
            "seconds": sorted(self.seconds.items()),
        }


class Lanes:
    """All lanes; asking for one makes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_name: OrderedDict[str, Lane] = OrderedDict()  # the latest at the end
        self._nameless: OrderedDict[int, Lane] = OrderedDict()  # by the port of the sender
        sql = "SELECT lane, count(*), max(time) FROM rows GROUP BY lane"
        seen = {lane: (rows, last) for lane, rows, last in database.all(sql)}
        for number, name, agent, process in database.all("SELECT * FROM lanes"):
            rows, last = seen.get(number, (0, 0.0))
            self._by_name[name] = Lane(number, name, agent, process, rows, last)

    def of(self, wire: Wire, agent: str) -> Sender:
        return Sender(self, wire, agent)

    def shown(self) -> list[dict[str, Any]]:
        """The lanes that were last heard of, the oldest lane first: they keep their places."""
        latest = sorted(self._by_name.values(), key=lambda lane: -lane.last)[:SHOWN]
        return [lane.shown() for lane in sorted(latest, key=lambda lane: lane.number)]

    def label(self, number: int) -> str:
        for lane in self._by_name.values():
            if lane.number == number:
                return lane.process or lane.name
        return str(number)

    def named(self, name: str, agent: str, wire: Wire) -> Lane:
        lane = self._by_name.get(name)
        if lane is None:
            number = self._database.run("INSERT INTO lanes VALUES (NULL, ?, ?, '')", name, agent)
            lane = self._by_name[name] = Lane(number, name, agent)
            self._nameless[wire.port] = lane
            if len(self._by_name) > MAX_LANES:
                self._by_name.popitem(last=False)
            if len(self._nameless) > SHOWN:
                self._nameless.popitem(last=False)
        return lane

    async def ask_names(self) -> None:
        """Find out which process each of the latest new lanes is, where the system tells."""
        if not self._nameless:
            return
        asked, self._nameless = self._nameless, OrderedDict()
        loop = asyncio.get_running_loop()
        names = await loop.run_in_executor(None, _process_names.of_ports, list(asked))
        for port, name in names.items():
            lane = asked[port]
            lane.process = name
            self._database.run("UPDATE lanes SET process = ? WHERE id = ?", name, lane.number)


class Sender:
    """The sender of one request: maps its ids to lanes."""

    def __init__(self, lanes: Lanes, wire: Wire, agent: str) -> None:
        self._lanes = lanes
        self._wire = wire
        self._agent = agent
        self._now = time.time()
        self._last: tuple[str, Lane] | None = None

    def __call__(self, message_id: object) -> int:
        match = _GENERATED.fullmatch(message_id) if isinstance(message_id, str) else None
        if match is not None:
            self._wire.lane = match.group(1)
        elif not self._wire.lane:
            self._wire.lane = f"connection {self._wire.name}"
        name = self._wire.lane
        if self._last is None or self._last[0] != name:
            self._last = name, self._lanes.named(name, self._agent, self._wire)
        lane = self._last[1]
        lane.count(self._now)
        return lane.number
