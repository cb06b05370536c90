"""What a test expects, compared with what was recorded, and said in words when it differs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from whisperr import snapshot
from whisperr.testing._records import Identified, Record, Refused, Tracked

MAX_LISTED = 20  # records of a message
MAX_WIDTH = 300  # characters of one value in a message

R = TypeVar("R", contravariant=True)
S = TypeVar("S")


class Pattern(Protocol[R]):
    """An expected record."""

    def differences(self, record: R) -> list[str]:
        """In what the record is not the expected one: empty if it is."""
        ...

    def is_near(self, record: R) -> bool:
        """Whether the differences are worth a word."""
        ...

    def hint(self, records: Sequence[Any]) -> str:
        """One more sentence, or nothing."""
        ...


@dataclass(frozen=True)
class TrackPattern:
    """An expected event. None: anything."""

    event_type: str
    user: object
    properties: Mapping[Any, Any] | None
    context: Mapping[Any, Any] | None

    def differences(self, record: Tracked) -> list[str]:
        found = _differ("event_type", self.event_type, record.event_type)
        if self.user is not None:
            found += _differ("user", str(self.user), record.user)
        found += _members("properties", self.properties, record.properties)
        return found + _members("context", self.context, record.context)

    def is_near(self, record: Tracked) -> bool:
        return record.event_type == self.event_type

    def hint(self, records: Sequence[Tracked]) -> str:
        types = {record.event_type for record in records}
        if self.event_type in types:
            return ""
        close = difflib.get_close_matches(self.event_type, sorted(types), 1)
        return f"Is {close[0]} meant?" if close else ""

    def __str__(self) -> str:
        text = f"event {self.event_type}"
        if self.user is not None:
            text += f" of user {str(self.user)!r}"
        for name, members in (("properties", self.properties), ("context", self.context)):
            if members:
                text += f" with {name} {_shown(_on_the_wire(members))}"
        return text


@dataclass(frozen=True)
class IdentityPattern:
    """An expected identity. None: anything."""

    user: object
    traits: Mapping[Any, Any] | None
    addresses: Mapping[str, str | None]
    preferred_channel: str | None

    def differences(self, record: Identified) -> list[str]:
        found = _differ("user", str(self.user), record.user)
        found += _members("traits", self.traits, record.traits)
        if self.preferred_channel is not None:
            found += _differ("preferred_channel", self.preferred_channel, record.preferred_channel)
        for kind, address in self.addresses.items():
            there = [item["address"] for item in record.channels if item["channel"] == kind]
            if address is not None and address not in there:
                found.append(f"channel {kind} is {_shown(there) if there else 'missing'}")
        return found

    def is_near(self, record: Identified) -> bool:
        return record.user == str(self.user)

    def hint(self, records: Sequence[Identified]) -> str:
        return ""

    def __str__(self) -> str:
        text = f"identity of user {str(self.user)!r}"
        if self.traits:
            text += f" with traits {_shown(_on_the_wire(self.traits))}"
        for kind, address in self.addresses.items():
            text += f", {kind} {address!r}" if address is not None else ""
        if self.preferred_channel is not None:
            text += f", preferred_channel {self.preferred_channel!r}"
        return text


def explain(
    pattern: Pattern[S], records: Sequence[S], times: int | None, refused: Sequence[Refused]
) -> str:
    """Why an assertion failed: what was expected, what is there, and what differs."""
    matching = sum(not pattern.differences(record) for record in records)
    if times is None:
        lines = [f"expected an {pattern}"]
    else:
        lines = [f"expected {times} times an {pattern}; found {matching}"]
    if records:
        lines.append("recorded:")
        for number, record in enumerate(records[:MAX_LISTED], 1):
            lines.append(f"  {number}. {_line(record)}")
            if pattern.is_near(record):
                lines += [f"       {difference}" for difference in pattern.differences(record)]
        lines += _more(records)
    else:
        lines.append("nothing of the kind was recorded")
    if refused:
        lines += ["refused, so never sent:", listed(refused)]
    return "\n".join(filter(None, [*lines, pattern.hint(records)]))


def listed(records: Sequence[Record]) -> str:
    """One line for each record, as far as that helps."""
    lines = [f"  {number}. {_line(record)}" for number, record in enumerate(records, 1)]
    return "\n".join([*lines[:MAX_LISTED], *_more(records)]) or "  nothing"


def _more(records: Sequence[object]) -> list[str]:
    over = len(records) - MAX_LISTED
    return [f"  and {over} more"] if over > 0 else []


def _line(record: object) -> str:
    if isinstance(record, Tracked):
        return f"{record.event_type}  user {record.user!r}  {_shown(record.properties)}"
    if isinstance(record, Identified):
        parts = [f"identity  user {record.user!r}"]
        for name in ("traits", "channels", "preferred_channel"):
            if getattr(record, name):
                parts.append(f"{name} {_shown(getattr(record, name))}")
        return "  ".join(parts)
    if isinstance(record, Refused):
        detail = f" ({record.detail})" if record.detail else ""
        return f"{record.message}{detail}\n       at {record.where}"
    return repr(record)


def _differ(name: str, expected: object, found: object) -> list[str]:
    if _same(expected, found):
        return []
    return [f"{name} is {_shown(found)}, not {_shown(expected)}"]


def _members(name: str, expected: Mapping[Any, Any] | None, found: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in _on_the_wire(expected or {}).items():
        if key in found:
            lines += _differ(f"{name}.{key}", value, found[key])
        else:
            lines.append(f"{name}.{key} is missing")
    return lines


def _on_the_wire(members: Mapping[Any, Any]) -> dict[str, Any]:
    """By the rules of the client: only that can be equal to what is sent. Raises ValueError."""
    if not isinstance(members, Mapping):
        raise ValueError(f"expected members must be a mapping, not {type(members).__name__}")
    return dict(snapshot(members))


def _same(expected: object, found: object) -> bool:
    """Equal as JSON: True is not 1, but 1 is 1.0."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            _same(value, found[key]) for key, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_same, expected, found))
    return expected == found


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_WIDTH else f"{text[:MAX_WIDTH]}…"
