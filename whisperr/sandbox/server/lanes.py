"""The lanes of the page: one for each sending process.

The SDK begins the ids of one process with the same 20 hexadecimal digits, anew after each fork:
that is the process, whichever connection carries its events. Where there is no such id (the
caller's own ids, identities without a key, refused requests) the connection's last lane is taken,
or one of its own.

What a relay sends is of processes that published it to a broker: its connection tells nothing of them,
and what has no such id gets the lane of the relay. A relay says its name in a header.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Sequence

from whisperr.sandbox.server import process_names
from whisperr.sandbox.server.connection import Connection
from whisperr.sandbox.server.database import Database

MAX_LANES = 1000  # known by name; those that were silent for longest are forgotten
SHOWN = 40
SECONDS = 60  # of activity that are shown
RELAY_HEADER = "X-Whisperr-Relay"  # the name of the relay that makes a request
RELAYS = 8  # of one lane that are shown: the latest

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
    accounts: set[int] = field(default_factory=set)  # of the keys that it sent with
    relays: dict[str, None] = field(default_factory=dict)  # that carried it, the latest at the end

    def count(self, now: float, account: int, relay: str) -> None:
        self.accounts.add(account)
        if relay:
            self.relays.pop(relay, None)
            self.relays[relay] = None
            if len(self.relays) > RELAYS:
                del self.relays[next(iter(self.relays))]
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
            "relays": sorted(self.relays),
            "rows": self.rows,
            "last": self.last,
            "seconds": sorted(self.seconds.items()),
        }


class Lanes:
    """All lanes; asking for one makes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_name: OrderedDict[str, Lane] = OrderedDict()  # the latest at the end
        self._unnamed: OrderedDict[int, Lane] = (
            OrderedDict()
        )  # process not looked up yet, by its port
        lanes: dict[int, Lane] = {}
        for number, name, agent, process in database.all("SELECT * FROM lanes"):
            lanes[number] = self._by_name[name] = Lane(number, name, agent, process)
        sql = "SELECT lane, account, count(*), max(time) FROM rows GROUP BY lane, account"
        for number, account, rows, last in database.all(sql):
            if number in lanes:
                lane = lanes[number]
                lane.accounts.add(account)
                lane.rows += rows
                lane.last = max(lane.last, last)
        for lane in lanes.values():
            lane.relays.update(dict.fromkeys(self._latest_relay(lane.number)))

    def _latest_relay(self, number: int) -> list[str]:
        """Of what a lane has sent; none, or one: it is for what an earlier sandbox has stored."""
        sql = "SELECT request FROM rows WHERE lane = ? ORDER BY seq DESC LIMIT 1"
        newest = self._database.one(sql, number)
        return list(relays_of(self._database, [newest[0]]).values()) if newest else []

    def assigner(
        self, connection: Connection, agent: str, relay: str, account: int
    ) -> LaneAssigner:
        return LaneAssigner(self, connection, agent, relay, account)

    def shown(self, account: int | None = None) -> list[dict[str, Any]]:
        """The lanes that were last heard of, the oldest lane first: they keep their places.

        Of one key alone, where it is given by its account.
        """
        wanted = [it for it in self._by_name.values() if account in (None, *it.accounts)]
        latest = sorted(wanted, key=lambda lane: -lane.last)[:SHOWN]
        return [lane.shown() for lane in sorted(latest, key=lambda lane: lane.number)]

    def label(self, number: int) -> str:
        """What to call a lane: its process where that is known."""
        for lane in self._by_name.values():
            if lane.number == number:
                return lane.process or lane.name
        return str(number)

    def lane(self, name: str, agent: str, connection: Connection | None) -> Lane:
        """``connection``: that of the process, if it is its own."""
        lane = self._by_name.get(name)
        if lane is None:
            number = self._database.run("INSERT INTO lanes VALUES (NULL, ?, ?, '')", name, agent)
            lane = self._by_name[name] = Lane(number, name, agent)
            if connection is not None:
                self._unnamed[connection.port] = lane
            if len(self._by_name) > MAX_LANES:
                self._by_name.popitem(last=False)
            if len(self._unnamed) > SHOWN:
                self._unnamed.popitem(last=False)
        return lane

    async def look_up_process_names(self) -> None:
        """Find out which process each of the latest new lanes is, where the system tells."""
        if not self._unnamed:
            return
        asked, self._unnamed = self._unnamed, OrderedDict()
        loop = asyncio.get_running_loop()
        names = await loop.run_in_executor(None, process_names.of_ports, list(asked))
        for port, name in names.items():
            lane = asked[port]
            lane.process = name
            self._database.run("UPDATE lanes SET process = ? WHERE id = ?", name, lane.number)


class LaneAssigner:
    """Assigns what one request brought to lanes, by the ids of the entries."""

    def __init__(
        self, lanes: Lanes, connection: Connection, agent: str, relay: str, account: int
    ) -> None:
        """``relay``: its name, if the request is a relay's."""
        self._relay = relay
        self._account = account
        self._lanes = lanes
        self._connection = connection
        self._agent = agent
        self._now = time.time()
        self._last: tuple[str, Lane] | None = None

    def __call__(self, message_id: object) -> int:
        match = _GENERATED.fullmatch(message_id) if isinstance(message_id, str) else None
        own = match.group(1) if match is not None else ""
        name = (own or f"relay {self._relay}") if self._relay else self._by_connection(own)
        if self._last is None or self._last[0] != name:
            is_other = bool(own and self._relay)
            connection = None if is_other else self._connection
            self._last = name, self._lanes.lane(name, self._agent, connection)
        lane = self._last[1]
        lane.count(self._now, self._account, self._relay)
        return lane.number

    def _by_connection(self, own: str) -> str:
        """The process that an id names, else the last one of the connection, else the connection."""
        if own:
            self._connection.lane = own
        elif not self._connection.lane:
            self._connection.lane = f"connection {self._connection.name}"
        return self._connection.lane


def relays_of(database: Database, requests: Sequence[int]) -> dict[int, str]:
    """Of some requests, by their numbers, those that a relay has made: its name."""
    sql = f"SELECT seq, entry FROM requests WHERE seq IN ({{}}) AND instr(entry, '\"{RELAY_HEADER}\"')"
    found = database.among(sql, sorted(set(requests)))
    named = {number: json.loads(entry)["headers"].get(RELAY_HEADER) for number, entry in found}
    return {number: name for number, name in named.items() if name}
