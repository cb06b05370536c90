"""One account for each API key: its ledger, its faults, and the signal that long polls wait for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import Any, Sequence

from whisperr.sandbox.server.connection import Connection
from whisperr.sandbox.server.database import Database
from whisperr.sandbox.server.faults import Fault, FaultQueue
from whisperr.sandbox.server.lanes import Lanes
from whisperr.sandbox.server.ledger import Ledger
from whisperr.sandbox.server.traffic import Traffic

_TABLES = ("rows", "requests", "identities", "numbers")


class ChangeSignal:
    """Wakes all who wait for a change. ``count``: how many changes there have been."""

    def __init__(self) -> None:
        self.count = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        self.count += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float, connection: Connection) -> None:
        """Return at the next change, when the connection is lost, or after that many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait(
                {waiter, connection.lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._waiters.discard(waiter)


class Account:
    """All that the server holds for one API key."""

    def __init__(self, registry: AccountRegistry, key: str) -> None:
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self.ledger: Ledger
        self.label = _masked(key)
        self._digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        self._registry = registry
        self._changed = ChangeSignal()
        self._open()

    def forget(self) -> None:
        """Start anew. A request that is still being answered counts in the old ledger."""
        database, number = self._registry.database, self.ledger.number
        with database.change():
            for table in _TABLES:
                database.run(f"DELETE FROM {table} WHERE account = ?", number)
            database.run("DELETE FROM accounts WHERE id = ?", number)
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self._open()
        self._registry.new_run()
        self.notify()

    def take_fault(self, path: str, entries: Sequence[dict[str, Any]]) -> Fault | None:
        """The fault that a request takes: one of this key's, else one for everybody."""
        return self.faults.take(path, entries) or self._registry.faults.take(path, entries)

    def notify(self) -> None:
        """Wake who waits: the account has changed."""
        self._changed.notify()
        self._registry.changed.notify()

    async def wait_until(
        self, targets: dict[str, int], timeout: float, connection: Connection
    ) -> bool:
        """Wait until every named count is at least its target; False after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self._meets(targets):
            left = deadline - time.monotonic()
            if left <= 0 or connection.lost.done():
                return False
            await self._changed.wait(left, connection)
        return True

    def _meets(self, targets: dict[str, int]) -> bool:
        counts = self.ledger.counts()
        return all(counts[name] >= count for name, count in targets.items())

    def _open(self) -> None:
        database = self._registry.database
        sql = "SELECT id, counts FROM accounts WHERE digest = ?"
        number, counts = database.one(sql, self._digest) or (0, "{}")
        if not number:
            number = database.run(
                "INSERT INTO accounts (digest, label) VALUES (?, ?)", self._digest, self.label
            )
        self.ledger = Ledger(database, number, counts, numbered=self._registry.numbered)


class AccountRegistry:
    """The accounts by API key; asking for one makes it. What belongs to no key is here, too."""

    def __init__(self, database: Database, *, numbered: bool = False) -> None:
        self.database = database
        self.numbered = numbered  # see Ledger
        self.faults = FaultQueue()
        self.traffic = Traffic()
        self.lanes = Lanes(database)
        self.changed = ChangeSignal()
        self._by_key: dict[str, Account] = {}
        self.new_run()

    def new_run(self) -> None:
        """Tell every open page to read all again: what it shows of an earlier ``run`` no longer holds."""
        self.run = os.urandom(8).hex()

    def __getitem__(self, key: str) -> Account:
        account = self._by_key.get(key)
        if account is None:
            account = self._by_key[key] = Account(self, key)
        return account

    def waiting_faults(self, account: int | None) -> list[dict[str, Any]]:
        """Those for every key, and those of each key, or of one account, with its label."""
        wanted = [a for a in self._by_key.values() if account in (None, a.ledger.number)]
        own = [{**fault, "key": a.label} for a in wanted for fault in a.faults.listed()]
        return [*self.faults.listed(), *own]

    def clear_faults(self) -> None:
        """All of them, of every key."""
        for queue in [self.faults, *(account.faults for account in self._by_key.values())]:
            queue.clear()

    def by_number(self, number: int) -> Account | None:
        """The account with this number, if it has been used since the start."""
        return next((a for a in self._by_key.values() if a.ledger.number == number), None)


def _masked(key: str) -> str:
    """Enough of a key to tell it from another, not enough to use it."""
    return key if len(key) <= 12 else f"{key[:8]}…{key[-3:]}"
