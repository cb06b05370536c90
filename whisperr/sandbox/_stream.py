"""Server-sent events: what is new, a few times a second at the most, however much arrives."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any, AsyncIterator

from whisperr.sandbox import _json, _queries
from whisperr.sandbox._desk import Desks
from whisperr.sandbox._wire import Wire

TICK = 0.25  # seconds between two messages, at least
KEYS = 100  # that can be chosen from
IDLE = 1.0  # seconds between two messages when nothing happens: the plots move on


class Stream:
    """One browser that watches a filtered list."""

    def __init__(
        self, desks: Desks, wanted: _queries.Filter, after: int | None, wire: Wire
    ) -> None:
        self._desks = desks
        self._wanted = wanted
        self._wire = wire
        self._last = self._newest() if after is None else after

    async def messages(self) -> AsyncIterator[bytes]:
        """Messages for as long as the browser listens."""
        while not self._wire.lost.done():
            started, rung = time.monotonic(), self._desks.bell.rung
            tick = _json.dumps(self._tick())
            # A browser that comes back after a break names the id of the last message it had.
            yield b"id: %d\ndata: %b\n\n" % (self._last, tick)
            await self._desks.lanes.ask_names()
            if self._desks.bell.rung == rung:
                await self._desks.bell.wait(IDLE, self._wire)
            await asyncio.sleep(max(0.0, TICK - (time.monotonic() - started)))

    def _newest(self) -> int:
        return int(self._desks.database.one("SELECT max(seq) FROM rows")[0] or 0)

    def _tick(self) -> dict[str, Any]:
        newest = self._newest()
        found = _queries.page(self._desks.database, self._wanted, after=self._last)
        self._last = newest
        return {
            "run": self._desks.run,
            "rows": found["rows"],
            "skipped": found["next"] is not None,
            "counts": self._counts(),
            "accounts": self._accounts(),
            "traffic": self._traffic(),
            "lanes": self._desks.lanes.shown(),
            "faults": self._desks.waiting_faults(self._wanted.account),
        }

    def _accounts(self) -> list[dict[str, Any]]:
        found = self._desks.database.all(f"SELECT id, label FROM accounts ORDER BY id LIMIT {KEYS}")
        return [{"account": account, "label": label} for account, label in found]

    def _traffic(self) -> dict[str, Any]:
        account = self._wanted.account
        desk = self._desks.numbered(account) if account is not None else None
        return (self._desks if desk is None else desk).traffic.shown()

    def _counts(self) -> dict[str, int]:
        account, database = self._wanted.account, self._desks.database
        if account is None:
            found = database.all("SELECT counts FROM accounts")
        else:
            found = database.all("SELECT counts FROM accounts WHERE id = ?", account)
        total: Counter[str] = Counter()
        for (counts,) in found:
            total.update(json.loads(counts))
        return total
