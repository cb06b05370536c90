"""One value -> JSON bytes, by rules that are ours and not an encoder's.

The rules (docs/values.md says the same to users):
    str, bool, None, dict, list, tuple      as they are
    int                                     a number; outside -2**63 .. 2**64-1 its decimal digits as a string
    float                                   a number; NaN and the infinities become null
    Decimal                                 the nearest double; NaN and the infinities become null
    datetime, date, time                    ISO 8601 text; timedelta: seconds
    UUID, os.PathLike                       text
    Enum                                    its value
    dataclass instance                      an object of its fields
    Mapping                                 an object
    set, frozenset, deque, other Sequences  an array (a lazy Sequence of at most MAX_ITEMS)
    bytes, bytearray, memoryview            text when it is UTF-8, else base64
    numbers.Integral, numbers.Real          int, float (numpy's scalars among them)
    a lone surrogate in text                U+FFFD
    a key                                   text; int, float, bool, None as JSON writes them;
                                            Enum by value; UUID, Decimal, date and datetime as text
    anything else, or nesting over the limit   Unencodable

orjson does the common case in one step where it is installed. Whatever it can't do is first
normalised here, in Python, and so is everything without it: the results are equal.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import numbers
import os
import re
import uuid
from collections import deque
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Any, Callable

try:
    import orjson
except ImportError:  # a platform without a wheel: the standard library serves
    orjson = None  # type: ignore[assignment]

MAX_ITEMS = 2**20  # of a lazy sequence: ``range(10**12)`` is short to write and long to list
MAX_DEPTH = 100  # levels of arrays and objects in what a caller passes, itself the first

_INT_MIN = -(2**63)
_INT_MAX = 2**64 - 1
_SURROGATES = re.compile("[\ud800-\udfff]")
# Everything in a JSON text that is no bracket: strings (which may hold brackets), numbers, commas.
# Escaped quotes are taken out before: a pattern that repeats a group needs memory for each repeat.
_NOT_BRACKETS = re.compile(rb'"[^"]*"|[^\[\]{}"]+')
_TO_BRACES = bytes.maketrans(b"[]", b"{}")


class Unencodable(ValueError):
    """The value has no JSON form. Its text names types, never values."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []  # keys and indices down to the value, where that is known


def encode(value: Any, depth: int = MAX_DEPTH) -> bytes:
    """Encode one value, a snapshot that later changes of it cannot reach.

    Raises Unencodable for a type without a rule, an unusable key, nesting over ``depth``
    levels, or an integer of more digits than the interpreter converts.
    """
    try:
        out = dumps(value, convert, OPTIONS)
    except TypeError:
        return encode_by_rules(value, depth)
    check_depth(out, depth)
    return out


def encode_by_rules(value: Any, depth: int) -> bytes:
    """encode(), for what ``dumps`` refused."""
    plain = _normalise(value, depth)
    if orjson is not None:
        return orjson.dumps(plain)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _refuse(value: Any, default: Any, option: int) -> bytes:
    raise TypeError


# The common case, for who can't afford a call of encode(): ``dumps(value, convert, OPTIONS)``, then
# check_depth(). A TypeError is for encode_by_rules(), and so is everything without orjson.
dumps: Callable[[Any, Any, int], bytes] = _refuse if orjson is None else orjson.dumps
OPTIONS = 0
if orjson is not None:
    OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def check_depth(text: bytes, depth: int) -> None:
    """Raises Unencodable for a JSON text that is nested over ``depth`` levels."""
    # Nesting costs a bracket a level at each end: short or flat texts need no look.
    if len(text) <= 2 * depth or text.count(b"[") + text.count(b"{") <= depth:
        return
    unescaped = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    braces = _NOT_BRACKETS.sub(b"", unescaped).translate(_TO_BRACES)
    for _ in range(depth):  # each round takes away the innermost level of every branch
        braces = braces.replace(b"{}", b"")
    if braces:
        raise Unencodable(f"nested over {depth} levels")


def _normalise(value: Any, depth: int) -> Any:
    """The same value in nothing but str, int, float, bool, None, dict and list."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, enum.Enum):
        return _normalise(value.value, depth)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return _integer(int.__int__(value))
    if isinstance(value, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else None
    if isinstance(value, dict):
        if depth < 1:
            raise Unencodable("nested over the limit of levels")
        # dict.items in one step: another thread may be changing it.
        items = list(dict.items(value))
        return {key_text(key): _part(key, item, depth - 1) for key, item in items}
    if isinstance(value, (list, tuple)):
        if depth < 1:
            raise Unencodable("nested over the limit of levels")
        # What it holds, not what an ``__iter__`` of its own says: orjson does the same.
        parts = list.copy(value) if isinstance(value, list) else list(tuple.__iter__(value))
        return [_part(index, part, depth - 1) for index, part in enumerate(parts)]
    return _normalise(convert(value), depth)


def _part(name: Any, value: Any, depth: int) -> Any:
    """What stands under a key or an index. An error says under which."""
    try:
        return _normalise(value, depth)
    except Unencodable as error:
        error.path.insert(0, key_text(name))
        raise


def _text(value: str) -> str:
    plain = str.__str__(value)
    return plain if plain.isascii() else _SURROGATES.sub("\ufffd", plain)


def _integer(value: int) -> Any:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    try:
        return str(value)
    except ValueError:
        raise Unencodable("an integer of too many digits") from None


def key_text(key: Any) -> str:
    """The text of a key by the rules above. Raises Unencodable."""
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return _text(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, float):
        return float.__repr__(key) if math.isfinite(key) else "null"
    if isinstance(key, int):
        return str(_integer(int.__int__(key)))
    if isinstance(key, (uuid.UUID, decimal.Decimal)):
        return str(key)
    if isinstance(key, datetime.date):  # a datetime is one too
        return key.isoformat()
    raise Unencodable(f"a key of type {type(key).__name__}")


def convert(value: Any) -> Any:
    """One step towards JSON for a value that is not JSON already; its parts may need more."""
    for kind, rule in _RULES.items():
        if isinstance(value, kind):
            return rule(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise Unencodable(f"a value of type {type(value).__name__}")


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):  # beyond a double, or a signalling NaN
        return None
    return number if math.isfinite(number) else None


def _array(value: Any) -> list[Any]:
    """The items of what says itself what it holds, and may say so without end."""
    items = [] if len(value) > MAX_ITEMS else list(islice(value, MAX_ITEMS + 1))
    if len(value) > MAX_ITEMS or len(items) > MAX_ITEMS:
        raise Unencodable(f"a collection of over {MAX_ITEMS} items")
    return items


def members(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The items of a mapping. Raises Unencodable for one that has too many."""
    if isinstance(value, dict):
        return list(dict.items(value))
    items = list(islice(value.items(), MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise Unencodable(f"a mapping of over {MAX_ITEMS} members")
    return items


def _bytes(value: Any) -> str:
    raw = bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _path(value: Any) -> Any:
    path = os.fspath(value)
    return path if isinstance(path, str) else _bytes(path)


# In order: the first rule whose type fits is taken. Abstract classes stand last, they match the most.
_RULES: dict[Any, Callable[[Any], Any]] = {
    enum.Enum: lambda value: value.value,
    (datetime.date, datetime.time): lambda value: value.isoformat(),
    datetime.timedelta: lambda value: value.total_seconds(),
    decimal.Decimal: _finite,
    uuid.UUID: str,
    (bytes, bytearray, memoryview): _bytes,
    float: lambda value: _finite(float.__float__(value)),  # a subclass; orjson takes no others
    tuple: lambda value: list(tuple.__iter__(value)),
    deque: lambda value: list(deque.__iter__(value)),
    set: lambda value: list(set.__iter__(value)),
    frozenset: lambda value: list(frozenset.__iter__(value)),
    os.PathLike: _path,
    numbers.Integral: int,
    numbers.Real: _finite,
    Mapping: lambda value: dict(members(value)),
    (Set, Sequence): _array,
}
