"""``whisperr.snapshot``: the value as it would be sent, beyond the reach of later changes."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import uuid
from collections import deque
from typing import Any

import pytest

from support.clients import open_client
from whisperr import Whisperr, snapshot
from whisperr.sandbox import Sandbox
from whisperr.testing import recording


class Plan(enum.Enum):
    PRO = "pro"


@dataclasses.dataclass
class Item:
    name: str
    tags: list[str]


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, "x", None, True, {}]},
    "decimal": {"price": decimal.Decimal("12.50"), "nothing": decimal.Decimal("nan")},
    "times": {"at": datetime.datetime(2026, 1, 2, 3), "for": datetime.timedelta(seconds=1.5)},
    "ids": {uuid.UUID(int=1): uuid.UUID(int=2)},
    "enum": {Plan.PRO: Plan.PRO},
    "dataclass": {"item": Item("a", ["b"])},
    "collections": {"d": deque([1]), "s": {1}, "t": (1, 2), "m": types.MappingProxyType({"k": 1})},
    "bytes": {"text": b"abc", "other": b"\xff", "array": bytearray(b"x")},
    "large integers": {"n": 2**70, 2**70: 1},
    "infinity": {"n": float("inf")},
    "surrogate": {"text": "\ud800"},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_snapshot_is_sent_as_its_original(name: str) -> None:
    """The client sends the same for a value and for its snapshot, and that is plain JSON."""
    with recording() as events:
        client = Whisperr(disabled=True)
        client.track("u1", "seen", VALUES[name])
        client.track("u1", "seen", snapshot(VALUES[name]))
    original, copy = events
    assert original.properties == copy.properties == snapshot(VALUES[name])


def test_later_changes_do_not_reach_it(server: Sandbox, key: str) -> None:
    """Whatever happens to the original, what is sent is what it was."""
    item = Item("a", ["b"])
    properties = {"item": item, "list": [[1]]}
    kept = snapshot(properties)
    item.tags.append("c")
    properties["list"][0].append(2)  # type: ignore[index]
    with open_client(server.url, key) as client:
        client.track("u1", "seen", kept)
        assert client.flush(100)
    (event,) = server.events(key)
    assert event["properties"] == {"item": {"name": "a", "tags": ["b"]}, "list": [[1]]}


def test_what_has_no_json_form_is_named() -> None:
    """A ValueError says which type it is, and where."""
    with pytest.raises(ValueError, match=r"object at a\.1$"):
        snapshot({"a": [1, object()]})
