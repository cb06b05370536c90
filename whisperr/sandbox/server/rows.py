"""The rows of one API key: every copy of every entry that the server saw, with its state.

A row is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Sequence

from whisperr.sandbox.server.database import Database
from whisperr.sandbox.server.parsing import EVENT, IDENTITY, InvalidRequest, ParsedRequest

# The state of a row.
ARRIVED = 1  # the first copy, stored
RESENT = 2  # a later copy, allowed: an answer was lost
TWICE = 3  # a later copy, not allowed
FAILED = 4  # read, and by a fault not stored
REFUSED = 5  # against the rules, or chosen by a fault


class JudgedEntry(NamedTuple):
    """One entry of a request, as it was judged."""

    entry: dict[str, Any]
    text: str
    state: int
    reason: str | None


@dataclass(frozen=True)
class Origin:
    """Where rows come from.

    request: its number in the log. time: of its arrival, seconds since 1970. lane: from a
    message id, or None, to the number of its process's lane.
    """

    request: int
    time: float
    lane: Callable[[object], int]


class Rows:
    """What is kept of one account."""

    def __init__(self, database: Database, account: int) -> None:
        self._database = database
        self._account = account

    def add(self, parsed: ParsedRequest, copies: Sequence[JudgedEntry], origin: Origin) -> None:
        """Append the entries of a request, as they were judged."""
        is_identity = parsed.holds_identity
        kind = IDENTITY if is_identity else EVENT
        rows: list[Sequence[object]] = []
        for index, copy in enumerate(copies):
            # An identity has no id; the key of its request is made like one.
            own_id = parsed.idempotency_key if is_identity else parsed.ids[index]
            rows.append(
                (
                    self._account,
                    origin.lane(own_id),
                    origin.request,
                    kind,
                    copy.state,
                    origin.time,
                    storable(copy.entry["external_user_id"]),
                    copy.entry.get("event_type"),
                    None if is_identity else storable(parsed.ids[index]),
                    copy.text,
                    copy.reason,
                )
            )
        self._database.add_rows(rows)

    def add_invalid(self, invalid: InvalidRequest, origin: Origin) -> None:
        """Append what was wrong with a request, each entry at fault in a row of its own."""
        rows: list[Sequence[object]] = []
        for kind, user, name, message_id, body, reason in invalid.invalid_entries():
            lane = origin.lane(message_id)
            start = (self._account, lane, origin.request, kind, REFUSED, origin.time)
            rows.append((*start, user, name, message_id, body, reason))
        self._database.add_rows(rows)

    def arrived(self, message_ids: Sequence[str]) -> set[str]:
        """Those of some ids whose first copy is here, as they are stored."""
        wanted = list({storable(message_id) for message_id in message_ids})
        found = self._database.among(
            "SELECT message_id FROM rows"
            f" WHERE message_id IN ({{}}) AND account = ? AND state = {ARRIVED}",
            wanted,
            self._account,
        )
        return {row[0] for row in found}

    def first_copy(self, message_id: str) -> str:
        """The first copy of an event that has arrived, as JSON."""
        found = self._database.one(
            f"SELECT body FROM rows WHERE message_id = ? AND account = ? AND state = {ARRIVED}",
            storable(message_id),
            self._account,
        )
        return str(found[0])

    def bodies(self, kind: int, *states: int) -> list[str]:
        """The entries of one kind in these states, in the order of arrival, as JSON."""
        listed = ",".join(map(str, states))
        found = self._database.all(
            "SELECT body FROM rows"
            f" WHERE account = ? AND kind = ? AND state IN ({listed}) ORDER BY seq",
            self._account,
            kind,
        )
        return [row[0] for row in found]


def storable(value: str) -> str:
    """A text as SQLite can keep it: a lone surrogate is written as its escape."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
