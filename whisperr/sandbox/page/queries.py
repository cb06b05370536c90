"""What the page asks of the rows: pages of a filtered list, one row in full, a user, an export.

Every list is read along an index, newest first, and goes no further than it must: a search in
the text of the events looks through ``WINDOW`` rows at a time and says where to go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from whisperr.sandbox.server import strict_json
from whisperr.sandbox.server.database import Database
from whisperr.sandbox.server.lanes import relays_of
from whisperr.sandbox.server.rows import ARRIVED, FAILED, REFUSED, RESENT, TWICE

PAGE = 50  # rows
WINDOW = 100_000  # rows that one search in the text looks through
PREVIEW = 160  # characters
EXPORTED = 1000  # rows that are read at once
HISTORY = 50  # copies of one event

KINDS = ("event", "identity", "request")
STATES = {
    "arrived": ARRIVED,
    "resent": RESENT,
    "twice": TWICE,
    "failed": FAILED,
    "refused": REFUSED,
}
_STATE_NAMES = {number: name for name, number in STATES.items()}
_COLUMNS = "seq, account, lane, request, kind, state, time, user, type, message_id, reason, body"


@dataclass(frozen=True)
class Filter:
    """What the rows of a list have in common; None: anything."""

    account: int | None = None
    lane: int | None = None
    state: str | None = None
    user: str | None = None
    type: str | None = None
    text: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """From the query of a URL. Raises ValueError for what is not one, naming the field."""
        state = query.get("state") or None
        if state is not None and state not in STATES:
            raise ValueError(f"state: must be one of {', '.join(STATES)}")
        return cls(
            account=number(query, "account"),
            lane=number(query, "lane"),
            state=state,
            user=query.get("user") or None,
            type=query.get("type") or None,
            text=query.get("text") or None,
        )

    def condition(self) -> tuple[str, list[object]]:
        """The SQL of it, and its values."""
        terms: list[str] = ["1"]
        values: list[object] = []
        for column, value in (("lane", self.lane), ("user", self.user), ("type", self.type)):
            if value is not None:
                terms.append(f"{column} = ?")
                values.append(value)
        if self.account is not None:
            terms.append("account = ?")
            values.append(self.account)
        if self.state is not None:
            terms.append(f"state = {STATES[self.state]}")
            if STATES[self.state] != ARRIVED:
                terms.append("state <> 1")  # literally, as in the partial index
        if self.text is not None:
            terms.append("body LIKE ? ESCAPE '!'")
            values.append(f"%{_searched(self.text)}%")
        return " AND ".join(terms), values


def number(query: Mapping[str, str], name: str) -> int | None:
    """A parameter that is a number from 0 on. Raises ValueError naming it."""
    given = query.get(name) or None
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise ValueError(f"{name}: must be a number")
    return int(given)


def page(
    database: Database, wanted: Filter, *, before: int | None = None, after: int = 0
) -> dict[str, Any]:
    """The newest rows that come ``before`` a row and ``after`` another: {"rows", "next"}.

    ``next`` is the ``before`` of the page that follows; None: there is no further row.
    """
    condition, values = wanted.condition()
    if before is None:
        newest: int = database.one("SELECT max(seq) FROM rows")[0] or 0
        before = newest + 1
    start = after
    if wanted.text is not None:
        start = max(after, before - WINDOW - 1)
    found = database.all(
        f"SELECT {_COLUMNS} FROM rows WHERE {condition} AND seq < ? AND seq > ?"
        f" ORDER BY seq DESC LIMIT {PAGE + 1}",
        *values,
        before,
        start,
    )
    following = None
    if len(found) > PAGE:
        found = found[:PAGE]
        following = found[-1][0]
    elif start > after:
        following = start + 1
    return {"rows": _all_listed(database, found), "next": following}


def row(database: Database, seq: int) -> dict[str, Any] | None:
    """One row in full, with its request and every other copy of the same id."""
    found = database.one(f"SELECT {_COLUMNS} FROM rows WHERE seq = ?", seq)
    if found is None:
        return None
    (shown,) = _all_listed(database, [found])
    shown["body"] = found[-1]
    entry = database.one("SELECT entry FROM requests WHERE seq = ?", found[3])
    shown["sent"] = json.loads(entry[0]) if entry else None
    shown["copies"] = []
    if shown["message_id"]:
        copies = database.all(
            f"SELECT {_COLUMNS} FROM rows WHERE message_id = ? AND account = ?"
            f" ORDER BY seq LIMIT {HISTORY}",
            shown["message_id"],
            shown["account"],
        )
        shown["copies"] = _all_listed(database, copies)
    return shown


def user(database: Database, name: str, account: int | None) -> dict[str, Any]:
    """What is known of a user: the latest identity. The rows are a page with that filter."""
    condition, values = Filter(account=account, user=name).condition()
    latest = database.one(
        f"SELECT seq, time, body FROM rows WHERE {condition} AND kind = 1 AND state IN (1, 2, 3)"
        " ORDER BY seq DESC LIMIT 1",
        *values,
    )
    counts = database.all(
        f"SELECT state, count(*) FROM rows WHERE {condition} AND kind = 0 GROUP BY state", *values
    )
    return {
        "user": name,
        "identity": json.loads(latest[2]) if latest else None,
        "identified": latest[1] if latest else None,
        "events": {_STATE_NAMES[state]: times for state, times in counts},
    }


def export(database: Database, wanted: Filter) -> Iterator[bytes]:
    """All rows of a filter, oldest first, as JSON lines, in pieces."""
    condition, values = wanted.condition()
    last = 0
    while True:
        found = database.all(
            f"SELECT {_COLUMNS} FROM rows WHERE {condition} AND seq > ? ORDER BY seq"
            f" LIMIT {EXPORTED}",
            *values,
            last,
        )
        if not found:
            return
        last = found[-1][0]
        listed = zip(found, _all_listed(database, found))
        yield b"".join(strict_json.dumps(_exported(*row)) + b"\n" for row in listed)


def _all_listed(database: Database, found: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows as the page shows them; ``relay``: the one that sent it, or None."""
    listed = [_listed(row) for row in found]
    relays = relays_of(database, [row["request"] for row in listed])
    return [{**row, "relay": relays.get(row["request"])} for row in listed]


def _listed(found: tuple[Any, ...]) -> dict[str, Any]:
    seq, account, lane, request, kind, state, time, who, name, message_id, reason, body = found
    return {
        "seq": seq,
        "account": account,
        "lane": lane,
        "request": request,
        "kind": KINDS[kind],
        "state": _STATE_NAMES[state],
        "time": time,
        "user": who,
        "type": name,
        "message_id": message_id,
        "reason": reason,
        "preview": _preview(body),
    }


def _preview(body: str) -> str:
    """The beginning of what is particular about an entry."""
    value = _parsed(body)
    if value is None:
        return body[:PREVIEW]
    if isinstance(value, dict):
        value = value.get("properties") or value.get("traits") or value.get("channels") or {}
    return "" if value == {} else json.dumps(value, ensure_ascii=False)[:PREVIEW]


def _exported(found: tuple[Any, ...], listed: dict[str, Any]) -> dict[str, Any]:
    shown = {**listed}
    for name in ("preview", "account", "request"):
        del shown[name]
    value = _parsed(found[-1])
    shown["body"] = found[-1] if value is None else value
    return shown


def _parsed(body: str) -> Any:
    """The value of a body; None when it is no JSON, since anything may have been refused."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _searched(text: str) -> str:
    """A text as it stands in a body: JSON in ASCII, with LIKE's own signs escaped."""
    inside = json.dumps(text)[1:-1]
    return inside.replace("!", "!!").replace("%", "!%").replace("_", "!_")
