"""One request that was read: what is kept of it, what is counted, what is answered."""

from __future__ import annotations

import time
from typing import Any, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whisperr.sandbox._control import reply
from whisperr.sandbox._desk import Desks
from whisperr.sandbox._intake import Parcel, Refusal
from whisperr.sandbox._rows import REFUSED, Origin
from whisperr.sandbox._wire import Wire
from whisperr.sandbox.faults import Fault
from whisperr.sandbox.store import NO_ANSWER, Account

MAX_PROBLEMS = 10  # in one answer
LOGGED_HEADERS = (
    "Idempotency-Key",
    "User-Agent",
    "Content-Type",
    "Content-Length",
    "Accept-Encoding",
    "Connection",
    "Host",
)


class NoAnswer(Response):
    """For a request whose connection is gone: nothing is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return None


class Visit:
    """One request that was read, from its parcel to its answer."""

    def __init__(self, request: Request, desks: Desks, key: str) -> None:
        self.desk = desks[key]
        self.path: str = request.scope["path"]
        self._total = desks.traffic
        self._headers = request.headers
        self._wire: Wire = request.state.wire
        self._time = time.time()
        self._lane = desks.lanes.of(self._wire, request.headers.get("user-agent", ""))
        # forget() gives the desk a new account; this request was read under the present one.
        self._account: Account = self.desk.account

    def turn_away(self, status: int, error: str, *, refused: int = 0) -> None:
        """Note a request whose body was not looked at. refused: how many events it counts for."""
        with self._account.change():
            self._account.refuse(refused)
            number = self._log(status, 0, problems=[error])
            refusal = Refusal(error, [f"{status}: {error}"], 0, self.path, b"")
            self._account.show_refused(refusal, self._from(number))
        self._count({REFUSED: 1})

    def refuse(self, refusal: Refusal) -> Response:
        problems = list(refusal.problems[:MAX_PROBLEMS])
        with self._account.change():
            self._account.refuse(refusal.count)
            number = self._log(400, refusal.count, problems=problems)
            self._account.show_refused(refusal, self._from(number))
        self._count({REFUSED: refusal.count})
        return reply({"error": refusal.error, "problems": problems}, 400)

    def accept(self, parcel: Parcel) -> Response:
        answer = self._store(parcel)
        if self._wire.peer_gone():
            self._account.excuse(parcel)
            self._hung_up()
        else:
            self._account.answered(parcel, self._wire.name)
        return answer

    async def suffer(self, fault: Fault, parcel: Parcel) -> Response:
        if fault.do == "delay":
            return await self._delay(fault, parcel)
        answers = fault.do in ("status", "refuse")
        with self._account.change():
            if fault.do == "refuse":
                self._account.refuse(len(parcel.entries))
            status = fault.status if answers else NO_ANSWER
            number = self._log(status, len(parcel.entries), fault=fault.do)
            if fault.store:
                states = self._account.accept(parcel, self._from(number))
            else:
                guilty = fault.means if fault.do == "refuse" else None
                origin = self._from(number)
                states = self._account.show_failed(parcel, origin, guilty, fault.summary)
        # To a client that was told 2xx there is nothing to excuse.
        if fault.store and (fault.do != "status" or fault.status >= 300):
            self._account.excuse(parcel)
        self._count(states)
        if answers:
            return _injected(fault)
        self._strike(fault)
        await self._wire.wait_lost(None)
        return NoAnswer()

    def _strike(self, fault: Fault) -> None:
        if fault.do == "reset":
            self._wire.reset()
        elif fault.do != "hang":
            self._wire.close(fault.data)

    async def _delay(self, fault: Fault, parcel: Parcel) -> Response:
        answer = self._store(parcel, fault=fault.do)
        # Excused first: a client that gives up may be back before its leaving is noticed.
        self._account.excuse(parcel)
        await self._wire.wait_lost(fault.seconds)
        if self._wire.peer_gone():
            self._hung_up()
        else:
            self._account.withdraw_excuse(parcel)
            self._account.answered(parcel, self._wire.name)
        return answer

    def _store(self, parcel: Parcel, **more: Any) -> Response:
        status = 200 if parcel.holds_identity else 202
        with self._account.change():
            number = self._log(status, len(parcel.entries), **more)
            states = self._account.accept(parcel, self._from(number))
        self._count(states)
        return reply({"accepted": len(parcel.entries)}, status)

    def _hung_up(self) -> None:
        self._account.hung_up()
        self.desk.ring()

    def _count(self, states: Mapping[int, int]) -> None:
        """One request more, and so many entries of which state."""
        for traffic in (self.desk.traffic, self._total):
            for state, entries in states.items():
                traffic.rows(state, entries)
            traffic.batch(sum(states.values()))
        self.desk.ring()

    def _from(self, request: int) -> Origin:
        return Origin(request, self._time, self._lane)

    def _log(self, status: int, count: int, **more: Any) -> int:
        shown = {name: self._headers[name] for name in LOGGED_HEADERS if name in self._headers}
        is_new = self._account.number not in self._wire.accounts
        self._wire.accounts.add(self._account.number)
        return self._account.log(
            {
                "path": self.path,
                "status": status,
                "count": count,
                "connection": self._wire.name,
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
