"""What arrived under one API key, and how often: the ledger.

The meaning of the counts:
    An entry is *accepted* when the server stores it, whatever it then answers. The first copy of
    an id counts as arrived. A later copy is *resent* when it is allowed: something went
    wrong after the server had stored a copy and before the client could know. Each such failure
    allows one repeat. Every other repeat is *twice*, and so is a repeat whose content has changed.
    Only when asked to: each ``properties.n`` is a number that the application gives once (as our demo
    does), and the same number under two ids is *twice*, too.
    What a fault read and did not store was never accepted: sending it again is no repeat. Such an
    id counts as *retried* each time it is seen again.
    Identities are counted by user in the same way; they carry no id, so a repeat is allowed only
    under the Idempotency-Key of the first copy.
Assumes:
    One thread, the event loop's; no method waits.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, OrderedDict
from typing import Any, Callable, Iterator, Sequence

from whisperr.sandbox.server import strict_json
from whisperr.sandbox.server.database import Database
from whisperr.sandbox.server.parsing import EVENT, IDENTITY, InvalidRequest, ParsedRequest
from whisperr.sandbox.server.rows import (
    ARRIVED,
    FAILED,
    REFUSED,
    RESENT,
    TWICE,
    JudgedEntry,
    Origin,
    Rows,
    storable,
)

NO_ANSWER = 0  # in place of a status, for a request that got no HTTP answer of ours

COUNTS = (
    "requests",
    "connections",
    "arrived",
    "numbers",
    "twice",
    "resent",
    "retried",
    "refused",
    "identities",
    "identities_twice",
    "identities_resent",
    "hung_up",
)

MAX_UNCONFIRMED = 200_000  # entries whose repeat killed() can allow
MAX_FAILED = 200_000  # ids that are known to have failed

# An event that another process adopts is rendered again, with that process's SDK and application.
_RENDERED_LATE = ("sdk_name", "sdk_version", "app_version")


class Ledger:
    """Everything kept for one API key. Counted as requests come in: reading the counts is cheap."""

    def __init__(
        self, database: Database, number: int, counts: str = "{}", *, numbered: bool = False
    ) -> None:
        self.number = number
        self._is_numbered = numbered
        self._database = database
        self._rows = Rows(database, number)
        self._counts: Counter[str] = Counter(json.loads(counts))
        self._allowed_repeats: Counter[tuple[int, str]] = Counter()  # (kind, id or user) -> repeats
        self._failed: OrderedDict[str, None] = OrderedDict()  # ids
        # connection -> answered, perhaps never read
        self._unconfirmed: OrderedDict[str, ParsedRequest] = OrderedDict()
        self._unconfirmed_entries = 0

    @property
    def events(self) -> list[str]:
        """The first copy of every event, in the order of arrival, as JSON."""
        return self._rows.bodies(EVENT, ARRIVED)

    @property
    def identities(self) -> list[str]:
        """Every accepted identity but the resent ones, in the order of arrival, as JSON."""
        return self._rows.bodies(IDENTITY, ARRIVED, TWICE)

    @property
    def requests(self) -> list[str]:
        """The log of the requests, as JSON."""
        sql = "SELECT entry FROM requests WHERE account = ? ORDER BY seq"
        return [row[0] for row in self._database.all(sql, self.number)]

    def counts(self) -> dict[str, Any]:
        """The counts, as JSON.

        ``statuses`` maps a status to its number of requests, "0" standing for no answer.
        ``hung_up``: accepted requests whose client had gone before the answer.
        """
        counts = self._counts
        statuses = sorted(name for name in counts if name.startswith("status "))
        return {
            **{name: counts[name] for name in COUNTS},
            "statuses": {name.partition(" ")[2]: counts[name] for name in statuses},
        }

    def log(self, entry: dict[str, Any], *, new_connection: bool) -> int:
        """Log a request that was read; its ``status`` is what is about to be answered.

        Returns its number, for the rows of what it brought.
        """
        number = self._database.run(
            "INSERT INTO requests VALUES (NULL, ?, ?, ?)",
            self.number,
            entry["status"],
            strict_json.text(entry),
        )
        self._counts["requests"] += 1
        self._counts["connections"] += new_connection
        self._counts[f"status {entry['status']}"] += 1
        # One client waits for its answer before it writes again: the earlier one was read.
        self._confirm(entry["connection"])
        return number

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """What is done inside is kept and counted as a whole, or not at all."""
        before = self._counts.copy()
        try:
            with self._database.change():
                yield
                self._database.run(
                    "UPDATE accounts SET counts = ? WHERE id = ?",
                    strict_json.text(self._counts),
                    self.number,
                )
        except BaseException:
            self._counts = before
            raise

    def refuse(self, count: int) -> None:
        """Count events that the client was told break a rule."""
        self._counts["refused"] += count

    def keep_invalid(self, invalid: InvalidRequest, origin: Origin) -> None:
        """Keep what was wrong with a request."""
        self._rows.add_invalid(invalid, origin)

    def keep_failed(
        self,
        parsed: ParsedRequest,
        origin: Origin,
        is_refused: Callable[[dict[str, Any]], bool] | None,
        reason: str,
    ) -> Counter[int]:
        """Keep what a fault has read without storing it; how many rows of which state.

        is_refused: tells what is refused for good.
        """
        for message_id in parsed.ids:
            self._count_retry(message_id)
            self._failed[message_id] = None
        while len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)
        copies = []
        for entry, text in zip(parsed.entries, parsed.texts):
            refused = is_refused is not None and is_refused(entry)
            copies.append(JudgedEntry(entry, text, REFUSED if refused else FAILED, reason))
        return self._keep(parsed, copies, origin)

    def accept(self, parsed: ParsedRequest, origin: Origin) -> Counter[int]:
        """Store what came, and count it; how many rows of which state."""
        judge = self._judge_identity if parsed.holds_identity else self._judge_events
        return self._keep(parsed, judge(parsed), origin)

    def note_answered(self, parsed: ParsedRequest, connection: str) -> None:
        """An accepted request was answered; the client may yet be killed before it reads that."""
        self._confirm(connection)
        self._unconfirmed[connection] = parsed
        self._unconfirmed_entries += len(parsed.entries)
        while self._unconfirmed_entries > MAX_UNCONFIRMED:
            self._confirm(next(iter(self._unconfirmed)))

    def note_hang_up(self) -> None:
        """Note that a client had gone before the answer to an accepted request."""
        self._counts["hung_up"] += 1

    def killed(self) -> int:
        """A client was killed: allow a repeat of the latest request of each connection.

        Returns how many entries that are.
        """
        requests = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._unconfirmed_entries = 0
        for parsed in requests:
            self.allow_repeat(parsed)
        return sum(len(parsed.entries) for parsed in requests)

    def allow_repeat(self, parsed: ParsedRequest) -> None:
        """From now on, one more repeat of each entry of an accepted request is allowed."""
        for name in _names(parsed):
            self._allowed_repeats[name] += 1

    def withdraw_allowed_repeat(self, parsed: ParsedRequest) -> None:
        """Undo ``allow_repeat``, as far as it has not been used."""
        for name in _names(parsed):
            self._use_allowed_repeat(name)

    # --- inside

    def _keep(
        self, parsed: ParsedRequest, copies: Sequence[JudgedEntry], origin: Origin
    ) -> Counter[int]:
        self._rows.add(parsed, copies, origin)
        return Counter(copy.state for copy in copies)

    def _judge_events(self, parsed: ParsedRequest) -> list[JudgedEntry]:
        """The events of a request, counted and judged."""
        known = self._rows.arrived(parsed.ids)
        copies: list[JudgedEntry] = []
        numbered: list[tuple[str, str]] = []
        for message_id, event, text in zip(parsed.ids, parsed.entries, parsed.texts):
            self._count_retry(message_id)
            stored_id = storable(message_id)
            if stored_id in known:
                copies.append(JudgedEntry(event, text, *self._judge_repeat(message_id, event)))
                continue
            known.add(stored_id)
            self._failed.pop(message_id, None)
            self._counts["arrived"] += 1
            copies.append(JudgedEntry(event, text, ARRIVED, None))
            if self._is_numbered and "n" in event["properties"]:
                numbered.append((strict_json.value_key(event["properties"]["n"]), stored_id))
        if numbered:
            self._count_numbers(numbered)
        return copies

    def _judge_repeat(self, message_id: str, event: dict[str, Any]) -> tuple[int, str]:
        name = (EVENT, message_id)
        if self._allowed_repeats[name] <= 0:
            return self._repeat("", None)
        first = json.loads(self._rows.first_copy(message_id))
        if not strict_json.same(_identical(first), _identical(event)):
            return self._repeat("", None, "its content has changed")
        return self._repeat("", name)

    def _count_numbers(self, numbered: Sequence[tuple[str, str]]) -> None:
        """Note each ``properties.n`` under the id it first came with."""
        sql = "SELECT number, message_id FROM numbers WHERE number IN ({}) AND account = ?"
        wanted = list({number for number, _ in numbered})
        known: dict[str, str] = dict(self._database.among(sql, wanted, self.number))
        fresh: dict[str, str] = {}
        for number, message_id in numbered:
            first = known.get(number) or fresh.setdefault(number, message_id)
            self._counts["twice"] += first != message_id
        self._counts["numbers"] += len(fresh)
        values = [(self.number, number, first) for number, first in fresh.items()]
        self._database.many("INSERT INTO numbers VALUES (?, ?, ?)", values)

    def _judge_identity(self, parsed: ParsedRequest) -> list[JudgedEntry]:
        """The identity of a request, counted and judged."""
        identity, text = parsed.entries[0], parsed.texts[0]
        user = identity["external_user_id"]
        found = self._database.one(
            "SELECT idempotency_key, body FROM identities WHERE account = ? AND user = ?",
            self.number,
            storable(user),
        )
        if found is None:
            self._counts["identities"] += 1
            self._database.run(
                "INSERT INTO identities VALUES (?, ?, ?, ?)",
                self.number,
                storable(user),
                parsed.idempotency_key,
                text,
            )
            return [JudgedEntry(identity, text, ARRIVED, None)]
        key, body = found
        name = (IDENTITY, user)
        allowed = self._allowed_repeats[name] > 0 and None is not key == parsed.idempotency_key
        allowed = allowed and strict_json.same(json.loads(body), identity)
        return [
            JudgedEntry(identity, text, *self._repeat("identities_", name if allowed else None))
        ]

    def _repeat(
        self,
        prefix: str,
        allowed: tuple[int, str] | None,
        why: str = "an earlier copy had arrived, and nothing went wrong",
    ) -> tuple[int, str]:
        if allowed is not None:
            self._use_allowed_repeat(allowed)
            self._counts[prefix + "resent"] += 1
            return RESENT, "resent: the answer to an earlier copy was lost"
        self._counts[prefix + "twice"] += 1
        return TWICE, f"seen twice: {why}"

    def _use_allowed_repeat(self, name: tuple[int, str]) -> None:
        self._allowed_repeats[name] -= 1
        if self._allowed_repeats[name] <= 0:
            del self._allowed_repeats[name]

    def _count_retry(self, message_id: str) -> None:
        self._counts["retried"] += message_id in self._failed

    def _confirm(self, connection: str) -> None:
        parsed = self._unconfirmed.pop(connection, None)
        if parsed is not None:
            self._unconfirmed_entries -= len(parsed.entries)


def _names(parsed: ParsedRequest) -> set[tuple[int, str]]:
    if parsed.holds_identity:
        return {(IDENTITY, parsed.entries[0]["external_user_id"])}
    return {(EVENT, message_id) for message_id in parsed.ids}


def _identical(event: dict[str, Any]) -> dict[str, Any]:
    """The part of an event that must be the same in every copy."""
    kept = {k: v for k, v in event["context"].items() if k not in _RENDERED_LATE}
    return {**event, "context": kept}
