"""What the application wants changed or left out, before a call is encoded: ``before_send``, ``redact``.

A client without either has none of this: its calls take the common path (``_delivery.intake``).

``before_send`` gets a dict of its own: what it changes in there reaches neither the caller's objects
nor a record that exists already. Redaction comes last, and looks at what would be sent: at the keys
of every object, at any depth, once dataclasses, models and the like have become objects.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Any, Callable, Dict, Optional, Pattern, Tuple, Union

from whisperr._encoding import calls
from whisperr._encoding.unencodable import type_name
from whisperr._encoding.values import is_plain, is_tracked, key_text, plain
from whisperr._process.signals import came_from_handler

BeforeSend = Callable[[Dict[str, Any]], Optional[Dict[str, Any]]]
Names = Tuple[Union[str, Pattern[str]], ...]

REDACTED = "[redacted]"

_CONTAINERS = frozenset((dict, list, tuple))
_MAX_KNOWN = 1000  # keys: an application has few; a mistake may have millions
EVENT = frozenset(
    ("external_user_id", "event_type", "properties", "context", "occurred_at", "message_id")
)
IDENTITY = frozenset(
    (
        "external_user_id",
        "traits",
        "email",
        "phone",
        "push_token",
        "preferred_channel",
        "channels",
    )
)


class CallFilter:
    """The two of one client."""

    def __init__(self, before_send: BeforeSend | None, names: Names) -> None:
        self._before_send = before_send
        self._hides = _matcher(names) if names else None

    def event(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        """The call as it shall be sent; None: not at all. Refused, if that can't be told."""
        if self._before_send is not None:
            fields["properties"] = copied(fields["properties"])
            if fields["context"]:
                fields["context"] = copied(fields["context"])
            changed = self._asked(fields, EVENT)
            if changed is None:
                return None
            fields = changed if len(changed) == len(EVENT) else {**dict.fromkeys(EVENT), **changed}
        if self._hides is not None:
            self._redact(fields, "properties")
            self._redact(fields, "context")
        return fields

    def identity(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        """Likewise, of an identify() call."""
        if self._before_send is not None:
            fields = {name: copied(value) for name, value in fields.items()}
            changed = self._asked(fields, IDENTITY)
            if changed is None:
                return None
            fields = {**dict.fromkeys(IDENTITY), **changed}
        if self._hides is not None:
            fields = dict(fields)
            self._redact(fields, "traits")
        return fields

    def _asked(self, fields: dict[str, Any], known: frozenset[str]) -> dict[str, Any] | None:
        assert self._before_send is not None
        try:
            changed = self._before_send(fields)
        except Exception as error:  # the application's own: its text may hold anything
            if came_from_handler(error):  # a time limit of a job, say, and not the hook's
                raise
            raise calls.Refused(f"before_send raised {type_name(error)}") from None
        if changed is None:
            return None
        if type(changed) is not dict:
            raise calls.Refused(
                f"before_send must return the dict, or None, not {type_name(changed)}"
            )
        if (changed is not fields or len(changed) > len(known)) and not changed.keys() <= known:
            names = ", ".join(sorted(map(str, changed.keys() - known)))
            raise calls.Refused("before_send gave a field that there is not", names)
        return changed

    def _redact(self, fields: dict[str, Any], name: str) -> None:
        given = fields.get(name)
        if self._hides is None or given is None or (type(given) is dict and not given):
            return
        if type(given) is not dict or not is_plain(given):
            given = plain(calls.mapping(given, name), name)
        fields[name] = _redacted(given, self._hides)


def copied(value: Any) -> Any:
    """Dicts, lists and tuples anew, what they hold as it is."""
    kind = type(value)
    if kind is dict:
        made: dict[Any, Any] = value.copy()  # in one step: another thread may be changing it
        if is_tracked(value):  # else it holds nothing that could be changed
            for key, item in made.items():
                if type(item) in _CONTAINERS:
                    made[key] = copied(item)
        return made
    if kind is list or kind is tuple:
        return kind(copied(item) for item in list(value))
    return value


def _redacted(value: Any, hides: Callable[[str], bool]) -> Any:
    """A copy without them, of a value that is plain."""
    if type(value) is dict:
        made = {}
        for key, item in list(value.items()):
            if hides(key if type(key) is str else key_text(key)):
                item = REDACTED
            made[key] = _redacted(item, hides) if type(item) in _CONTAINERS else item
        return made
    if type(value) in _CONTAINERS:
        return [_redacted(item, hides) for item in list(value)]
    return value


def _matcher(names: Names) -> Callable[[str], bool]:
    """Remembers what it has said: an application has few keys."""
    patterns = [
        re.compile(rf"\A{fnmatch.translate(name)}", re.IGNORECASE)
        if isinstance(name, str)
        else name
        for name in names
    ]
    known: dict[str, bool] = {}

    def hides(key: str) -> bool:
        found = known.get(key)
        if found is None:
            found = any(pattern.search(key) for pattern in patterns)
            if len(known) < _MAX_KNOWN:
                known[key] = found
        return found

    return hides
