"""Server-sent events: what is new, a few times a second at the most, however much arrives."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any, AsyncIterator

from whisperr.sandbox.page import queries
from whisperr.sandbox.server import strict_json
from whisperr.sandbox.server.accounts import AccountRegistry
from whisperr.sandbox.server.connection import Connection

MIN_INTERVAL = 0.25  # seconds between two messages
KEYS = 100  # that can be chosen from
MAX_INTERVAL = 1.0  # seconds between two messages when nothing happens: the plots move on


class UpdateStream:
    """One browser that watches a filtered list."""

    def __init__(
        self,
        accounts: AccountRegistry,
        wanted: queries.Filter,
        after: int | None,
        connection: Connection,
    ) -> None:
        self._accounts = accounts
        self._wanted = wanted
        self._connection = connection
        self._last = self._newest() if after is None else after

    async def messages(self) -> AsyncIterator[bytes]:
        """Messages for as long as the browser listens."""
        while not self._connection.lost.done():
            started, changes = time.monotonic(), self._accounts.changed.count
            update = strict_json.dumps(self._update())
            # A browser that comes back after a break names the id of the last message it had.
            yield b"id: %d\ndata: %b\n\n" % (self._last, update)
            await self._accounts.lanes.look_up_process_names()
            if self._accounts.changed.count == changes:
                await self._accounts.changed.wait(MAX_INTERVAL, self._connection)
            await asyncio.sleep(max(0.0, MIN_INTERVAL - (time.monotonic() - started)))

    def _newest(self) -> int:
        return int(self._accounts.database.one("SELECT max(seq) FROM rows")[0] or 0)

    def _update(self) -> dict[str, Any]:
        newest = self._newest()
        found = queries.page(self._accounts.database, self._wanted, after=self._last)
        self._last = newest
        return {
            "run": self._accounts.run,
            "rows": found["rows"],
            "skipped": found["next"] is not None,
            "counts": self._counts(),
            "accounts": self._listed_accounts(),
            "traffic": self._traffic(),
            "lanes": self._accounts.lanes.shown(self._wanted.account),
            "faults": self._accounts.waiting_faults(self._wanted.account),
        }

    def _listed_accounts(self) -> list[dict[str, Any]]:
        found = self._accounts.database.all(
            f"SELECT id, label FROM accounts ORDER BY id LIMIT {KEYS}"
        )
        return [{"account": account, "label": label} for account, label in found]

    def _traffic(self) -> dict[str, Any]:
        number = self._wanted.account
        account = self._accounts.by_number(number) if number is not None else None
        return (self._accounts if account is None else account).traffic.shown()

    def _counts(self) -> dict[str, int]:
        account, database = self._wanted.account, self._accounts.database
        if account is None:
            found = database.all("SELECT counts FROM accounts")
        else:
            found = database.all("SELECT counts FROM accounts WHERE id = ?", account)
        total: Counter[str] = Counter()
        for (counts,) in found:
            total.update(json.loads(counts))
        return total
