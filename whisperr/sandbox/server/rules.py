"""The connection rules as pure functions: a value goes in, a list of problems comes out.

A problem is one line, ``<JSON path>: <what is wrong>``; no problem is an empty list.
``now`` is the server's clock, a naive datetime in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, Iterable, Sequence

MAX_EVENTS = 500  # in one batch
MAX_AHEAD = timedelta(minutes=5)
MAX_BACK = timedelta(days=30)
PREFERRED_CHANNELS = ("email", "sms", "push")

_SNAKE_CASE = re.compile(r"^[a-z0-9]+(?:_[a-z0-9]+)*\Z")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
)
_USER_AGENT = re.compile(r"whisperr-python/[0-9][0-9A-Za-z.+!-]*")
_RELAY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
_CONTENT_TYPE = re.compile(r"application/json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)

Check = Callable[[Any, str, datetime], Iterable[str]]
Fields = Dict[str, Check]


def check_headers(headers: Mapping[str, Sequence[str]]) -> list[str]:
    """Problems of the request's headers, given as lower-case name to all its values."""
    problems: list[str] = []
    agent, kind = headers.get("user-agent", ()), headers.get("content-type", ())
    if len(agent) != 1 or not _USER_AGENT.fullmatch(agent[0]):
        problems.append("header User-Agent: must be whisperr-python/<version>")
    if len(kind) != 1 or not _CONTENT_TYPE.fullmatch(kind[0]):
        problems.append("header Content-Type: must be application/json")
    if any(coding != "identity" for coding in headers.get("content-encoding", ())):
        problems.append("header Content-Encoding: no encoding is understood")
    if len(headers.get("idempotency-key", ())) > 1:
        problems.append("header Idempotency-Key: must occur once")
    relay = headers.get("x-whisperr-relay", ())
    if len(relay) > 1 or not all(map(_RELAY.fullmatch, relay)):
        problems.append("header X-Whisperr-Relay: must be one name")
    return problems


def check_batch(body: object, now: datetime) -> list[str]:
    """Problems of the body of POST /v1/events/batch."""
    return list(_object(body, "", now, {"events": _events}, {}))


def check_event(event: object, now: datetime, at: str = "") -> list[str]:
    """Problems of one event; ``at`` is its own JSON path."""
    return list(_object(event, at, now, _EVENT, {}))


def check_identity(body: object, now: datetime) -> list[str]:
    """Problems of the body of POST /v1/identify."""
    return list(_object(body, "", now, {"external_user_id": _filled}, _IDENTITY_OPTIONAL))


# --- one check per kind of field: (value, its path, now) -> problems


def _object(
    value: object, at: str, now: datetime, required: Fields, optional: Fields
) -> Iterable[str]:
    if not isinstance(value, dict):
        return [f"{at or 'body'}: must be an object"]
    prefix = at + "." if at else ""
    problems = [f"{prefix}{name}: missing" for name in required if name not in value]
    for name, item in value.items():
        check = required.get(name) or optional.get(name)
        if check is None:
            problems.append(f"{prefix}{name}: unknown field")
        else:
            problems.extend(check(item, prefix + name, now))
    return problems


def _events(value: object, at: str, now: datetime) -> Iterable[str]:
    if not isinstance(value, list):
        return [f"{at}: must be an array"]
    if not 1 <= len(value) <= MAX_EVENTS:
        return [f"{at}: holds {len(value)} events, must be 1 to {MAX_EVENTS}"]
    problems: list[str] = []
    for index, event in enumerate(value):
        problems.extend(_object(event, f"{at}[{index}]", now, _EVENT, {}))
    return problems


def _text(value: object, at: str, now: datetime) -> Iterable[str]:
    return () if isinstance(value, str) else [f"{at}: must be a string"]


def _filled(value: object, at: str, now: datetime) -> Iterable[str]:
    return () if isinstance(value, str) and value else [f"{at}: must be a non-empty string"]


def _bool(value: object, at: str, now: datetime) -> Iterable[str]:
    return () if isinstance(value, bool) else [f"{at}: must be true or false"]


def _snake_case(value: object, at: str, now: datetime) -> Iterable[str]:
    if isinstance(value, str) and _SNAKE_CASE.match(value):
        return ()
    return [f"{at}: must be lowercase snake_case"]


def _time(value: object, at: str, now: datetime) -> Iterable[str]:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return [f"{at}: must read YYYY-MM-DDTHH:MM:SS.mmmZ"]
    try:
        moment = datetime.fromisoformat(value[:-1])
    except ValueError as exc:
        return [f"{at}: not a date: {exc}"]
    if moment - now > MAX_AHEAD:
        return [f"{at}: more than 5 minutes ahead"]
    if now - moment > MAX_BACK:
        return [f"{at}: more than 30 days back"]
    return ()


def _any_object(value: object, at: str, now: datetime) -> Iterable[str]:
    return () if isinstance(value, dict) else [f"{at}: must be an object"]


def _filled_object(value: object, at: str, now: datetime) -> Iterable[str]:
    if isinstance(value, dict) and value:
        return ()
    return [f"{at}: must be a non-empty object, or left out"]


def _context(value: object, at: str, now: datetime) -> Iterable[str]:
    if not isinstance(value, dict):
        return [f"{at}: must be an object"]
    problems = [f"{at}.{name}: missing" for name in _CONTEXT if name not in value]
    for name, check in _CONTEXT.items():  # other keys are the caller's own
        if name in value:
            problems.extend(check(value[name], f"{at}.{name}", now))
    return problems


def _preferred(value: object, at: str, now: datetime) -> Iterable[str]:
    return () if value in PREFERRED_CHANNELS else [f"{at}: must be email, sms or push"]


def _channels(value: object, at: str, now: datetime) -> Iterable[str]:
    if not isinstance(value, list):
        return [f"{at}: must be an array"]
    problems: list[str] = []
    for index, item in enumerate(value):
        problems.extend(_object(item, f"{at}[{index}]", now, _CHANNEL, {"verified": _bool}))
    return problems


_EVENT: Fields = {
    "external_user_id": _filled,
    "event_type": _snake_case,
    "occurred_at": _time,
    "properties": _any_object,
    "context": _context,
}
_CONTEXT: Fields = {"$message_id": _filled, "sdk_name": _text, "sdk_version": _text}
_IDENTITY_OPTIONAL: Fields = {
    "traits": _filled_object,
    "preferred_channel": _preferred,
    "channels": _channels,
}
_CHANNEL: Fields = {"channel": _filled, "address": _filled, "opted_in": _bool}
