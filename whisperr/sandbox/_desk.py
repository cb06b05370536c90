"""One desk per API key: its account, its faults, and the bell that long polls wait for."""

from __future__ import annotations

import asyncio
import time

from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import FaultQueue
from whisperr.sandbox.store import Account


class Desk:
    """All that the server holds for one API key."""

    def __init__(self) -> None:
        self.account = Account()
        self.faults = FaultQueue()
        self._sleepers: set[asyncio.Future[None]] = set()

    def forget(self) -> None:
        """Start anew. A request that is still being answered settles with the old account."""
        self.account = Account()
        self.faults = FaultQueue()
        self.ring()

    def ring(self) -> None:
        """The account has changed."""
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def reached(self, targets: dict[str, int], timeout: float, wire: Wire) -> bool:
        """Wait until every named count is at least its target; False after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self._meets(targets):
            left = deadline - time.monotonic()
            if left <= 0 or wire.lost.done():
                return False
            await self._sleep(left, wire)
        return True

    def _meets(self, targets: dict[str, int]) -> bool:
        ledger = self.account.ledger()
        return all(ledger[name] >= count for name, count in targets.items())

    async def _sleep(self, seconds: float, wire: Wire) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait(
                {sleeper, wire.lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._sleepers.discard(sleeper)


class Desks:
    """The desks by API key; asking for one makes it."""

    def __init__(self) -> None:
        self._by_key: dict[str, Desk] = {}

    def __getitem__(self, key: str) -> Desk:
        return self._by_key.setdefault(key, Desk())
