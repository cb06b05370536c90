"""From the bytes of one request to valid entries, or to an ``InvalidRequest`` that says why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Iterator, Sequence

from whisperr.sandbox.server import rules, strict_json

BATCH = "/v1/events/batch"
TRACK = "/v1/events/track"
IDENTIFY = "/v1/identify"
PATHS = (BATCH, TRACK, IDENTIFY)

EVENT, IDENTITY, REQUEST = 0, 1, 2  # kinds of rows; REQUEST: no single entry can be blamed

MAX_SHOWN = 50  # entries of one refused request
MAX_SHOWN_BODY = 16 * 1024  # characters of what was refused

_AT_EVENT = re.compile(r"events\[([0-9]+)\]")


@dataclass(frozen=True)
class ParsedRequest:
    """What one valid request brought: events, or one identity.

    ``texts`` are the entries as JSON; ``ids`` the ids of the events, empty for an identity.
    """

    path: str
    entries: Sequence[dict[str, Any]]
    texts: Sequence[str]
    ids: Sequence[str]
    idempotency_key: str | None

    @property
    def holds_identity(self) -> bool:
        return self.path == IDENTIFY


class InvalidRequest(Exception):
    """The request breaks the rules.

    The problems, how many events it held (1 if unreadable), and what it was, to be shown.
    """

    def __init__(
        self, error: str, problems: Sequence[str], count: int, path: str, body: object
    ) -> None:
        super().__init__(error)
        self.error = error
        self.problems = problems
        self.count = count
        self._path = path
        self._body = body

    def invalid_entries(self) -> Iterator[tuple[int, str | None, str | None, str | None, str, str]]:
        """Each entry at fault with its reason, or the request as a whole: see ``_describe``."""
        by_event: dict[int, list[str]] = {}
        for problem in self.problems:
            match = _AT_EVENT.match(problem) if self._path == BATCH else None
            if match is None:
                whole = "\n".join(self.problems[:MAX_SHOWN])
                yield _describe(self._path, self._body, whole)
                return
            by_event.setdefault(int(match.group(1)), []).append(problem)
        for index in list(by_event)[:MAX_SHOWN]:
            assert isinstance(self._body, dict)
            yield _describe(TRACK, self._body["events"][index], "\n".join(by_event[index]))


def _describe(
    path: str, body: object, reason: str
) -> tuple[int, str | None, str | None, str | None, str, str]:
    """A row of what breaks a rule: kind, user, event type, message id, body, reason.

    body: a JSON value, or the bytes of what is not JSON.
    """
    kind = {TRACK: EVENT, IDENTIFY: IDENTITY}.get(path, REQUEST)
    if isinstance(body, bytes):
        return REQUEST, None, None, None, body[:MAX_SHOWN_BODY].decode("utf-8", "replace"), reason
    fields = body if isinstance(body, dict) and kind != REQUEST else {}
    context = fields.get("context")
    message_id = context.get("$message_id") if isinstance(context, dict) else None
    user, name = _short(fields.get("external_user_id")), _short(fields.get("event_type"))
    return kind, user, name, _short(message_id), strict_json.text(body)[:MAX_SHOWN_BODY], reason


def parse_request(
    path: str, headers: Mapping[str, Sequence[str]], body: bytes, now: datetime
) -> ParsedRequest:
    """What a request brought. ``headers``: lower-case name to all values. Raises InvalidRequest."""
    try:
        value = strict_json.loads(body)
    except ValueError as exc:
        raise InvalidRequest("not JSON", [f"body: {exc}"], 1, path, body) from None
    problems = rules.check_headers(headers) + _check(path, value, now)
    try:
        if problems:
            strict_json.text(value)
            error = "the request breaks the rules"
            raise InvalidRequest(error, problems, _count(path, value), path, value)
        entries = value["events"] if path == BATCH else [value]
        texts = [strict_json.text(entry) for entry in entries]
    except RecursionError:  # read with some room left, written with none
        raise InvalidRequest("not JSON", ["body: nested too deeply"], 1, path, body) from None
    ids = [] if path == IDENTIFY else [event["context"]["$message_id"] for event in entries]
    keys = headers.get("idempotency-key")
    return ParsedRequest(path, entries, texts, ids, keys[0] if keys else None)


def _check(path: str, value: object, now: datetime) -> list[str]:
    if path == BATCH:
        return rules.check_batch(value, now)
    if path == TRACK:
        return rules.check_event(value, now)
    return rules.check_identity(value, now)


def _count(path: str, value: object) -> int:
    events = value.get("events") if path == BATCH and isinstance(value, dict) else None
    return len(events) if isinstance(events, list) else 1


def _short(value: object) -> str | None:
    """A text for a column, whatever was given in its place."""
    if value is None:
        return None
    text = value if isinstance(value, str) else strict_json.text(value)
    return text[:500].encode("utf-8", "backslashreplace").decode("utf-8")
