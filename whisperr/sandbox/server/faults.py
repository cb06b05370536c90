"""Injected faults: what to do to a request that has been read and found within the rules.

A fault is a JSON object. ``do`` names it; ``times`` (1; for refuse -1; -1 is for ever) says for
how many requests; ``path`` limits it to one path; ``share`` (0.2: every fifth) applies it to that
share of the requests that match, evenly, for ever unless ``times`` is given. ``store`` (false): the
server keeps what it read before it applies the fault, so that a repeat is expected.

    {"do": "status", "status": 503, "headers": {}, "body": "", "store": false}
    {"do": "reset" | "close" | "hang", "store": false}   RST, FIN, or silence, and no answer
    {"do": "raw", "bytes": "<latin-1>", "store": false}  these bytes, then FIN
    {"do": "delay", "seconds": 1.5}                      stored at once, answered later
    {"do": "refuse", "where": {"properties.n": 17}, "status": 400, "headers": {}, "body": ""}
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Sequence

from whisperr.sandbox.server import strict_json
from whisperr.sandbox.server.parsing import PATHS

FOREVER = -1

_COMMON = {"do", "times", "path", "share"}
_REQUIRED = {
    "status": {"status"},
    "reset": set(),
    "close": set(),
    "hang": set(),
    "raw": {"bytes"},
    "delay": {"seconds"},
    "refuse": {"where"},
}
_OPTIONAL = {
    "status": {"headers", "body", "store"},
    "reset": {"store"},
    "close": {"store"},
    "hang": {"store"},
    "raw": {"store"},
    "delay": set(),
    "refuse": {"status", "headers", "body"},
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = ("content-length", "transfer-encoding")
_MISSING = object()


class FaultError(ValueError):
    """What was posted is not a fault."""


@dataclass(frozen=True)
class Fault:
    """One parsed fault; fields that its kind does not have keep their defaults."""

    do: str
    path: str | None = None
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error":"injected"}'
    store: bool = False
    data: bytes = b""
    seconds: float = 0.0
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What the page says of a request that it was applied to."""
        told = f" {self.status}" if self.do in ("status", "refuse") else ""
        return f"injected fault: {self.do}{told}"

    def targets(self, entry: dict[str, Any]) -> bool:
        """Whether it is meant for this entry; a fault without ``where`` is meant for all."""
        wanted = self.where.items()
        return all(_equal(_value_at(entry, dotted), value) for dotted, value in wanted)

    def matches(self, path: str, entries: Sequence[dict[str, Any]]) -> bool:
        if self.path not in (None, path):
            return False
        return self.do != "refuse" or any(self.targets(entry) for entry in entries)


@dataclass
class _Queued:
    fault: Fault
    left: int
    source: dict[str, Any]
    seen: int = 0  # requests that matched

    def is_due(self) -> bool:
        """Whether this one, of the requests that match, is in the share."""
        share = Fraction(str(self.source.get("share", 1)))
        self.seen += 1
        return int(self.seen * share) > int((self.seen - 1) * share)


class FaultQueue:
    """First in, first out; a request takes the first fault that matches it, and one only."""

    def __init__(self) -> None:
        self._queue: list[_Queued] = []

    def add(self, sources: object) -> int:
        """Queue one fault or a list of them, all or none. Raises FaultError; returns how many."""
        listed = sources if isinstance(sources, list) else [sources]
        parsed = [_parse(source, f"faults[{index}]") for index, source in enumerate(listed)]
        self._queue.extend(parsed)
        return len(parsed)

    def take(self, path: str, entries: Sequence[dict[str, Any]]) -> Fault | None:
        for queued in self._queue:
            if queued.fault.matches(path, entries) and queued.is_due():
                self._use(queued)
                return queued.fault
        return None

    def clear(self) -> None:
        self._queue.clear()

    def listed(self) -> list[dict[str, Any]]:
        """The faults that wait, as they were given, with ``times`` as it stands now."""
        return [{**queued.source, "times": queued.left} for queued in self._queue]

    def _use(self, queued: _Queued) -> None:
        if queued.left == FOREVER:
            return
        queued.left -= 1
        if queued.left == 0:
            self._queue.remove(queued)


def _parse(source: object, at: str) -> _Queued:
    if not isinstance(source, dict):
        raise FaultError(f"{at}: must be an object")
    do = source.get("do")
    if not isinstance(do, str) or do not in _REQUIRED:
        raise FaultError(f"{at}.do: must be one of {', '.join(_REQUIRED)}")
    for name in sorted(_REQUIRED[do] - source.keys()):
        raise FaultError(f"{at}.{name}: missing")
    for name in sorted(source.keys() - _COMMON - _REQUIRED[do] - _OPTIONAL[do]):
        raise FaultError(f"{at}.{name}: unknown field of {do}")
    lasting = do == "refuse" or "share" in source
    times = source.get("times", FOREVER if lasting else 1)
    if type(times) is not int or (times < 1 and times != FOREVER):
        raise FaultError(f"{at}.times: must be 1 or more, or -1 for ever")
    values = {name: _FIELDS[name](value, f"{at}.{name}") for name, value in source.items()}
    for name in ("times", "share"):
        values.pop(name, None)
    values["data"] = values.pop("bytes", b"")
    if values.get("status") in (204, 304):
        values["body"] = b""  # neither may have one
    return _Queued(Fault(**values), times, source)


def _as_is(value: Any, at: str) -> Any:
    return value


def _path(value: Any, at: str) -> str:
    if value not in PATHS:
        raise FaultError(f"{at}: must be one of {', '.join(PATHS)}")
    return str(value)


def _status(value: Any, at: str) -> int:
    if type(value) is not int or not 200 <= value <= 599:
        raise FaultError(f"{at}: must be 200 to 599 (use raw for others)")
    return value


def _headers(value: Any, at: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FaultError(f"{at}: must be an object")
    for name, text in value.items():
        good = isinstance(text, str) and _HEADER_VALUE.fullmatch(text)
        if not good or not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
            raise FaultError(f"{at}.{name}: not a header that can be set (use raw)")
    return value


def _body(value: Any, at: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return strict_json.dumps(value)


def _bool(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise FaultError(f"{at}: must be true or false")
    return value


def _bytes(value: Any, at: str) -> bytes:
    try:
        return bytes(value.encode("latin-1"))
    except (AttributeError, UnicodeEncodeError):
        raise FaultError(f"{at}: must be a string of latin-1") from None


def _seconds(value: Any, at: str) -> float:
    if type(value) not in (int, float) or value < 0:
        raise FaultError(f"{at}: must be seconds, 0 or more")
    return float(value)


def _share(value: Any, at: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise FaultError(f"{at}: must be more than 0 and at most 1")
    return float(value)


def _where(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise FaultError(f"{at}: must be a non-empty object of dotted path to value")
    if not all(value):
        raise FaultError(f"{at}: a path must not be empty")
    return value


_FIELDS = {
    "do": _as_is,
    "times": _as_is,
    "path": _path,
    "status": _status,
    "headers": _headers,
    "body": _body,
    "store": _bool,
    "bytes": _bytes,
    "seconds": _seconds,
    "share": _share,
    "where": _where,
}


def _value_at(value: Any, dotted: str) -> object:
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _equal(found: object, wanted: object) -> bool:
    return found is not _MISSING and strict_json.value_key(found) == strict_json.value_key(wanted)
