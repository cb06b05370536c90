"""One request that was read: what is kept of it, what is counted, what is answered."""

from __future__ import annotations

import time
from typing import Any, Mapping

from starlette.requests import Request
from starlette.responses import Response

from whisperr.sandbox.server.accounts import AccountRegistry
from whisperr.sandbox.server.connection import Connection
from whisperr.sandbox.server.faults import Fault
from whisperr.sandbox.server.lanes import RELAY_HEADER
from whisperr.sandbox.server.ledger import NO_ANSWER, Ledger
from whisperr.sandbox.server.parsing import InvalidRequest, ParsedRequest
from whisperr.sandbox.server.responses import NoAnswer, reply
from whisperr.sandbox.server.rows import REFUSED, Origin

MAX_PROBLEMS = 10  # in one answer
LOGGED_HEADERS = (
    RELAY_HEADER,
    "Idempotency-Key",
    "User-Agent",
    "Content-Type",
    "Content-Length",
    "Accept-Encoding",
    "Connection",
    "Host",
)


class RequestHandler:
    """One request that was read, from its parsed body to its answer."""

    def __init__(self, request: Request, accounts: AccountRegistry, key: str) -> None:
        self.account = accounts[key]
        self.path: str = request.scope["path"]
        self._total = accounts.traffic
        self._headers = request.headers
        self._connection: Connection = request.state.connection
        self._time = time.time()
        self._lane = accounts.lanes.assigner(
            self._connection,
            request.headers.get("user-agent", ""),
            request.headers.get(RELAY_HEADER, ""),
            self.account.ledger.number,
        )
        # forget() gives the account a new ledger; this request was read under the present one.
        self._ledger: Ledger = self.account.ledger

    def reject_unread(self, status: int, error: str, *, refused: int = 0) -> None:
        """Log a request whose body was not looked at. refused: how many events it counts for."""
        with self._ledger.change():
            self._ledger.refuse(refused)
            number = self._log(status, 0, problems=[error])
            invalid = InvalidRequest(error, [f"{status}: {error}"], 0, self.path, b"")
            self._ledger.keep_invalid(invalid, self._from(number))
        self._count({REFUSED: 1})

    def reject_invalid(self, invalid: InvalidRequest) -> Response:
        """Keep what was wrong, and answer 400 with it."""
        problems = list(invalid.problems[:MAX_PROBLEMS])
        with self._ledger.change():
            self._ledger.refuse(invalid.count)
            number = self._log(400, invalid.count, problems=problems)
            self._ledger.keep_invalid(invalid, self._from(number))
        self._count({REFUSED: invalid.count})
        return reply({"error": invalid.error, "problems": problems}, 400)

    def accept(self, parsed: ParsedRequest) -> Response:
        """Store what came, and answer 2xx."""
        answer = self._store(parsed)
        if self._connection.peer_gone():
            self._ledger.allow_repeat(parsed)
            self._hung_up()
        else:
            self._ledger.note_answered(parsed, self._connection.name)
        return answer

    async def apply_fault(self, fault: Fault, parsed: ParsedRequest) -> Response:
        """Do what an injected fault says, instead of the normal answer."""
        if fault.do == "delay":
            return await self._delay(fault, parsed)
        answers = fault.do in ("status", "refuse")
        with self._ledger.change():
            if fault.do == "refuse":
                self._ledger.refuse(len(parsed.entries))
            status = fault.status if answers else NO_ANSWER
            number = self._log(status, len(parsed.entries), fault=fault.do)
            if fault.store:
                states = self._ledger.accept(parsed, self._from(number))
            else:
                is_refused = fault.targets if fault.do == "refuse" else None
                origin = self._from(number)
                states = self._ledger.keep_failed(parsed, origin, is_refused, fault.summary)
        # To a client that was told 2xx a repeat is never due.
        if fault.store and (fault.do != "status" or fault.status >= 300):
            self._ledger.allow_repeat(parsed)
        self._count(states)
        if answers:
            return _injected(fault)
        self._break_connection(fault)
        await self._connection.wait_lost(None)
        return NoAnswer()

    def _break_connection(self, fault: Fault) -> None:
        if fault.do == "reset":
            self._connection.reset()
        elif fault.do != "hang":
            self._connection.close(fault.data)

    async def _delay(self, fault: Fault, parsed: ParsedRequest) -> Response:
        answer = self._store(parsed, fault=fault.do)
        # Allowed first: a client that gives up may be back before its leaving is noticed.
        self._ledger.allow_repeat(parsed)
        await self._connection.wait_lost(fault.seconds)
        if self._connection.peer_gone():
            self._hung_up()
        else:
            self._ledger.withdraw_allowed_repeat(parsed)
            self._ledger.note_answered(parsed, self._connection.name)
        return answer

    def _store(self, parsed: ParsedRequest, **more: Any) -> Response:
        status = 200 if parsed.holds_identity else 202
        with self._ledger.change():
            number = self._log(status, len(parsed.entries), **more)
            states = self._ledger.accept(parsed, self._from(number))
        self._count(states)
        return reply({"accepted": len(parsed.entries)}, status)

    def _hung_up(self) -> None:
        self._ledger.note_hang_up()
        self.account.notify()

    def _count(self, states: Mapping[int, int]) -> None:
        """Add one request to the plots: how many entries there were of each state."""
        for traffic in (self.account.traffic, self._total):
            for state, entries in states.items():
                traffic.rows(state, entries)
            traffic.batch(sum(states.values()))
        self.account.notify()

    def _from(self, request: int) -> Origin:
        return Origin(request, self._time, self._lane)

    def _log(self, status: int, count: int, **more: Any) -> int:
        shown = {name: self._headers[name] for name in LOGGED_HEADERS if name in self._headers}
        is_new = self._ledger.number not in self._connection.accounts
        self._connection.accounts.add(self._ledger.number)
        return self._ledger.log(
            {
                "path": self.path,
                "status": status,
                "count": count,
                "connection": self._connection.name,
                "time": self._time,
                "headers": shown,
                **more,
            },
            new_connection=is_new,
        )


def _injected(fault: Fault) -> Response:
    response = Response(fault.body, fault.status, media_type="application/json")
    response.headers.update(fault.headers)
    return response
