"""One desk per API key: its account, its faults, and the bell that long polls wait for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import Any, Sequence

from whisperr.sandbox._database import Database
from whisperr.sandbox._lanes import Lanes
from whisperr.sandbox._traffic import Traffic
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import Fault, FaultQueue
from whisperr.sandbox.store import Account

_TABLES = ("rows", "requests", "identities", "numbers")


class Bell:
    """Wakes all who wait for a change. ``rung`` tells how often it has been."""

    def __init__(self) -> None:
        self.rung = 0
        self._sleepers: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        self.rung += 1
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def wait(self, seconds: float, wire: Wire) -> None:
        """Return at the next change, when the connection is lost, or after that many seconds."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait(
                {sleeper, wire.lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._sleepers.discard(sleeper)


class Desk:
    """All that the server holds for one API key."""

    def __init__(self, desks: Desks, key: str) -> None:
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self.account: Account
        self.label = _masked(key)
        self._digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        self._desks = desks
        self._bell = Bell()
        self._open()

    def forget(self) -> None:
        """Start anew. A request that is still being answered settles with the old account."""
        database, number = self._desks.database, self.account.number
        with database.change():
            for table in _TABLES:
                database.run(f"DELETE FROM {table} WHERE account = ?", number)
            database.run("DELETE FROM accounts WHERE id = ?", number)
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self._open()
        self._desks.begin_anew()
        self.ring()

    def fault(self, path: str, entries: Sequence[dict[str, Any]]) -> Fault | None:
        """The fault that a request takes: one of this key's, else one for everybody."""
        return self.faults.take(path, entries) or self._desks.faults.take(path, entries)

    def ring(self) -> None:
        """The account has changed."""
        self._bell.ring()
        self._desks.bell.ring()

    async def reached(self, targets: dict[str, int], timeout: float, wire: Wire) -> bool:
        """Wait until every named count is at least its target; False after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self._meets(targets):
            left = deadline - time.monotonic()
            if left <= 0 or wire.lost.done():
                return False
            await self._bell.wait(left, wire)
        return True

    def _meets(self, targets: dict[str, int]) -> bool:
        ledger = self.account.ledger()
        return all(ledger[name] >= count for name, count in targets.items())

    def _open(self) -> None:
        database = self._desks.database
        sql = "SELECT id, counts FROM accounts WHERE digest = ?"
        number, counts = database.one(sql, self._digest) or (0, "{}")
        if not number:
            number = database.run(
                "INSERT INTO accounts (digest, label) VALUES (?, ?)", self._digest, self.label
            )
        self.account = Account(database, number, counts)


class Desks:
    """The desks by API key; asking for one makes it. What belongs to no key is here, too."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self.lanes = Lanes(database)
        self.bell = Bell()
        self._by_key: dict[str, Desk] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """What a page shows of an earlier ``run`` is no longer so, and is to be read again."""
        self.run = os.urandom(8).hex()

    def __getitem__(self, key: str) -> Desk:
        desk = self._by_key.get(key)
        if desk is None:
            desk = self._by_key[key] = Desk(self, key)
        return desk

    def waiting_faults(self, account: int | None) -> list[dict[str, Any]]:
        """Those for every key, and those of each key, or of one account, with its label."""
        desks = [d for d in self._by_key.values() if account in (None, d.account.number)]
        own = [{**fault, "key": desk.label} for desk in desks for fault in desk.faults.listed()]
        return [*self.faults.listed(), *own]

    def clear_faults(self) -> None:
        """All of them, of every key."""
        for queue in [self.faults, *(desk.faults for desk in self._by_key.values())]:
            queue.clear()

    def numbered(self, number: int) -> Desk | None:
        """The desk of an account that has been used since the start."""
        return next((d for d in self._by_key.values() if d.account.number == number), None)


def _masked(key: str) -> str:
    """Enough of a key to tell it from another, not enough to use it."""
    return key if len(key) <= 12 else f"{key[:8]}…{key[-3:]}"
