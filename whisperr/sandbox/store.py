"""What arrived under one API key, and how often: the ledger.

The meaning of the counts:
    An entry is *accepted* when the server stores it, whatever it then answers. The first copy of
    an id counts as arrived. A later copy is *resent* when it is excused: something went wrong
    after the server had stored a copy and before the client could know. Each such mishap excuses
    one repeat. Every other repeat is *twice*, and so is one application number
    (``properties.n``) under two ids, and a repeat whose content has changed.
    What a fault read and did not store was never accepted: sending it again is no repeat.
    Identities are counted by user in the same way; they carry no id, so a repeat is excused only
    under the Idempotency-Key of the first copy.
Assumes:
    One thread, the event loop's; no method waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, Sequence

from whisperr.sandbox import _json
from whisperr.sandbox._intake import Parcel

NO_ANSWER = 0  # in place of a status, for a request that got no HTTP answer of ours

# An event that another process adopts is rendered again, with that process's SDK and application.
_RENDERED_LATE = ("sdk_name", "sdk_version", "app_version")


class _Known:
    """The first copy of one entry, and how many repeats of it are excused."""

    __slots__ = ("content", "excuses", "idempotency_key")

    def __init__(self, content: dict[str, Any], idempotency_key: str | None = None) -> None:
        self.content = content
        self.idempotency_key = idempotency_key
        self.excuses = 0


class Account:
    """Everything kept for one API key. Counting is done as parcels come in: a ledger is cheap."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.identities: list[dict[str, Any]] = []
        self._events: dict[str, _Known] = {}
        self._users: dict[str, _Known] = {}
        self._numbers: dict[Hashable, str] = {}  # properties.n -> the id it first came under
        self._statuses: Counter[int] = Counter()
        self._unconfirmed: dict[str, Parcel] = {}  # connection -> answered, perhaps never read
        self._connections: set[str] = set()
        self._counts: Counter[str] = Counter()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The first copy of every event, in the order of arrival."""
        return [known.content for known in self._events.values()]

    def ledger(self) -> dict[str, Any]:
        """The counts, as JSON.

        ``statuses`` maps a status to its number of requests, "0" standing for no answer.
        ``hung_up``: accepted requests whose client had gone before the answer.
        """
        counts = self._counts
        return {
            "requests": len(self.requests),
            "connections": len(self._connections),
            "arrived": len(self._events),
            "numbers": len(self._numbers),
            "twice": counts["twice"],
            "resent": counts["resent"],
            "refused": counts["refused"],
            "identities": len(self._users),
            "identities_twice": counts["identities_twice"],
            "identities_resent": counts["identities_resent"],
            "hung_up": counts["hung_up"],
            "statuses": {str(status): times for status, times in sorted(self._statuses.items())},
        }

    def log(self, entry: dict[str, Any]) -> None:
        """Note a request that was read; its ``status`` is what is about to be answered."""
        self.requests.append(entry)
        self._statuses[entry["status"]] += 1
        self._connections.add(entry["connection"])
        # One client waits for its answer before it writes again: the earlier one was read.
        self._unconfirmed.pop(entry["connection"], None)

    def refuse(self, count: int) -> None:
        """Note events that the client was told to be at fault."""
        self._counts["refused"] += count

    def accept(self, parcel: Parcel) -> None:
        """Store what came, and count it."""
        if parcel.holds_identity:
            self._accept_identity(parcel.entries[0], parcel.idempotency_key)
        else:
            for event in parcel.entries:
                self._accept_event(event)

    def answered(self, parcel: Parcel, connection: str) -> None:
        """An accepted parcel was confirmed to the client, which may yet be killed unaware."""
        self._unconfirmed[connection] = parcel

    def hung_up(self) -> None:
        """Note that a client had gone before the answer to an accepted parcel."""
        self._counts["hung_up"] += 1

    def killed(self) -> int:
        """A client was killed: excuse the latest parcel of each connection. Returns how many."""
        parcels = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        for parcel in parcels:
            self.excuse(parcel)
        return sum(len(parcel.entries) for parcel in parcels)

    def excuse(self, parcel: Parcel) -> None:
        """From now on, one more repeat of each entry of an accepted parcel is excused."""
        for known in self._known(parcel):
            known.excuses += 1

    def withdraw_excuse(self, parcel: Parcel) -> None:
        """Undo ``excuse``, as far as it has not been used."""
        for known in self._known(parcel):
            known.excuses = max(0, known.excuses - 1)

    def _accept_event(self, event: dict[str, Any]) -> None:
        message_id: str = event["context"]["$message_id"]
        known = self._events.get(message_id)
        if known is not None:
            excused = known.excuses > 0 and _json.same(_identical(known.content), _identical(event))
            self._repeat(known, excused, "")
            return
        self._events[message_id] = _Known(event)
        if "n" in event["properties"]:
            number = _json.value_key(event["properties"]["n"])
            if self._numbers.setdefault(number, message_id) != message_id:
                self._counts["twice"] += 1

    def _accept_identity(self, identity: dict[str, Any], idempotency_key: str | None) -> None:
        user: str = identity["external_user_id"]
        known = self._users.get(user)
        if known is None:
            self._users[user] = _Known(identity, idempotency_key)
            self.identities.append(identity)
            return
        same_key = idempotency_key is not None and idempotency_key == known.idempotency_key
        excused = known.excuses > 0 and same_key and _json.same(known.content, identity)
        if not excused:
            self.identities.append(identity)
        self._repeat(known, excused, "identities_")

    def _repeat(self, known: _Known, excused: bool, prefix: str) -> None:
        if excused:
            known.excuses -= 1
        self._counts[prefix + ("resent" if excused else "twice")] += 1

    def _known(self, parcel: Parcel) -> Sequence[_Known]:
        if parcel.holds_identity:
            return [self._users[parcel.entries[0]["external_user_id"]]]
        ids = {event["context"]["$message_id"] for event in parcel.entries}
        return [self._events[message_id] for message_id in ids]


def _identical(event: dict[str, Any]) -> dict[str, Any]:
    """The part of an event that must be the same in every copy."""
    kept = {k: v for k, v in event["context"].items() if k not in _RENDERED_LATE}
    return {**event, "context": kept}
