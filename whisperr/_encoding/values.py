"""One value -> JSON bytes, by rules that are ours and not an encoder's.

docs/values.md has the rules, generated from the table that the tests run. Here is how they are kept.

A value is looked at by its real type, ``type(value)``. ``isinstance`` would believe a ``__class__``
that lies, as every transparent proxy's does, and the C code behind us would not. What other packages
make is known to foreign.py.

An encoder in C (encoders.py) does the common case in one step. Such code takes a value at its word, so
it is asked only for what the rules have passed: ``str``, ``int``, ``float``, ``bool``, ``None``,
``dict``, ``list`` and ``tuple`` themselves, no subclasses. No code of the application's runs while it
walks them, and it never calls back: what it doesn't know ends it with an error, and the whole value
goes by the rules, in Python. Those make new containers of nothing but these types, which no other
thread can reach, and the results are equal.

What makes sure of that:

- ``is_plain(value)`` looks at every part; for msgspec, which hands nothing back, also at keys and at
  the size of integers.
- With orjson up to CPython 3.13 that is not needed for what is flat, and costs next to nothing (of five
  members: 3 %): ``is_tracked(mapping)`` is False for a dict of ``str``, ``int``, ``float``, ``bool`` and
  ``None``. The garbage collector doesn't watch a dict that holds nothing it could ever free. Every Enum
  and every UUID is watched, and so is a dict that holds one, a list or a dict. What else such a dict
  may hold (a Decimal, a date, a subclass without attributes) orjson hands back by its options. Two
  things slip through. A Fragment in a flat dict goes out as it stands: its text is the application's
  own word. And CPython 3.13 forgets to watch ``vars(x)`` when ``x`` is given an attribute later: an
  Enum in there is orjson's to read. From 3.14 on every dict is watched.

Another thread may put a value into one of the application's containers between the look and the writing.
orjson hands back what it doesn't know even then; msgspec writes a date or a Decimal in its own form.
"""

from __future__ import annotations

import array
import base64
import datetime
import decimal
import enum
import math
import numbers
import os
import re
import uuid
from collections import UserString, deque
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Any, Callable

from whisperr._encoding import foreign
from whisperr._encoding.encoders import BEST, READY_MADE
from whisperr._encoding.unencodable import Unencodable as Unencodable
from whisperr._encoding.unencodable import type_name

MAX_ITEMS = 2**20  # of a lazy sequence: ``range(10**12)`` is short to write and long to list
MAX_DEPTH = 100  # levels of arrays and objects in what a caller passes, itself the first

_GROWTH = 1024  # items that another thread may add meanwhile
_MAX_STEPS = 16  # a proxy of an Enum of a Decimal takes three; a proxy of itself has no end
_INT_MIN = -(2**63)
_INT_MAX = 2**64 - 1
_SURROGATES = re.compile("[\ud800-\udfff]")


# --- the encoder, and what it is asked for


# The common case, for who can't afford a call: unless is_tracked() and not is_plain(), it is
# ``write(value)`` if TAKES_MORE, else ``dumps(value, convert, OPTIONS)``. A TypeError or ValueError is
# for encode_by_rules().
write, is_tracked, dumps, OPTIONS, TAKES_MORE = BEST
convert = None  # the encoder calls nothing

_PLAIN = frozenset({str, int, float, bool, type(None)})


def _look(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a value is made of what the encoder may see, in up to ``depth`` levels."""
    try:
        kind = type(value)
        if kind is dict:
            parts = value.values()
        elif kind is list or kind is tuple:
            parts = value
        else:
            return kind in _PLAIN
        if depth < 1:
            return False
        for part in parts:
            if type(part) not in _PLAIN and not _look(part, depth - 1):
                return False
    except Exception:  # another thread is changing the dict, or a type can't be looked up
        return False
    return True


def _look_closely(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Likewise, for an encoder that takes integers of any size, and keys of any type.

    A function of its own: one for both takes a fifth longer where nothing of this is asked.
    """
    try:
        kind = type(value)
        if kind is dict:
            for key in value:
                if type(key) is not str:
                    return False
            parts = value.values()
        elif kind is list or kind is tuple:
            parts = value
        else:
            return kind in _PLAIN and (kind is not int or _INT_MIN <= value <= _INT_MAX)
        if depth < 1:
            return False
        for part in parts:
            kind = type(part)
            if kind is int:
                if not _INT_MIN <= part <= _INT_MAX:
                    return False
            elif kind not in _PLAIN and not _look_closely(part, depth - 1):
                return False
    except Exception:  # likewise
        return False
    return True


is_plain = _look_closely if TAKES_MORE else _look


def dump(value: Any) -> bytes:
    """The common case, where a call can be afforded. is_plain() has passed the value."""
    return write(value) if TAKES_MORE else dumps(value, convert, OPTIONS)


def encode(value: Any, depth: int = MAX_DEPTH) -> bytes:
    """Encode one value, a snapshot that later changes of it cannot reach.

    Raises Unencodable for a type without a rule, an unusable key, nesting over ``depth``
    levels, or an integer of more digits than the interpreter converts.
    """
    if is_plain(value, depth):
        try:
            return dump(value)
        except (TypeError, ValueError):  # a lone surrogate, a large integer, a key that is no text
            pass
    return encode_by_rules(value, depth)


def snapshot(value: Any) -> Any:
    """The value as it would be sent, in plain dicts, lists, strings, numbers, booleans and None.

    Later changes of the original do not reach it, and a client sends the same for both. For
    values that are tracked later than they are known.

    Raises:
        ValueError: It has no JSON form; the text says which type, and where.
    """
    try:
        return _normalise(value, MAX_DEPTH)
    except Unencodable as error:
        at = f" at {'.'.join(error.path)}" if error.path else ""
        raise ValueError(f"{error}{at}") from None


def plain(value: Any, name: str) -> Any:
    """The value by the rules, in containers of its own, for who changes it before it is encoded.

    An error says that it stands under ``name``.
    """
    try:
        return _normalise(value, MAX_DEPTH)
    except Unencodable as error:
        error.path.insert(0, name)
        raise


def encode_by_rules(value: Any, depth: int) -> bytes:
    """encode(), for what the encoder must not see, or refused."""
    return write(_normalise(value, depth))


def _normalise(value: Any, depth: int) -> Any:
    """The same value in nothing but str, int, float, bool, None, dict and list."""
    kind = type(value)
    if id(kind) not in _FINAL:
        value = _simplified(value, _step)
        kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return _integer(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is dict:
        # In one step: another thread may be changing it.
        return _object(list(value.items()), depth)
    if kind is list or kind is tuple:
        return _array(list(value), depth)
    return value


def _object(items: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
    if depth < 1:
        raise Unencodable("nested over the limit of levels")
    made = {}
    for key, item in items:
        name = key if type(key) is str and key.isascii() else key_text(key)
        made[name] = _part(name, item, depth - 1)
    return made


def _array(parts: list[Any], depth: int) -> list[Any]:
    if depth < 1:
        raise Unencodable("nested over the limit of levels")
    return [_part(index, part, depth - 1) for index, part in enumerate(parts)]


def _part(name: Any, value: Any, depth: int) -> Any:
    """What stands under a key or an index. An error says under which."""
    kind = type(value)
    if kind is str and value.isascii():  # most are; the rest of this says the same, slower
        return value
    if value is None or kind is bool or (kind is int and _INT_MIN <= value <= _INT_MAX):
        return value
    try:
        return _normalise(value, depth)
    except Unencodable as error:
        error.path.insert(0, str(name))
        raise


def _text(value: str) -> str:
    return value if value.isascii() else _SURROGATES.sub("\ufffd", value)


def _integer(value: int) -> Any:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    try:
        return str(value)
    except ValueError:
        raise Unencodable("an integer of too many digits") from None


def key_text(key: Any) -> str:
    """The text of a key, by the rules. Raises Unencodable."""
    plain = _simplified(key, _key_step, "a key")
    kind = type(plain)
    if kind is str:
        return _text(plain)
    if kind is bool or plain is None:
        return {None: "null", True: "true", False: "false"}[plain]
    if kind is float:
        return float.__repr__(plain) if math.isfinite(plain) else "null"
    if kind is int:
        return str(_integer(plain))
    raise Unencodable(f"a key of type {type_name(plain)}")


# --- one value, one type at a time

# By identity: a metaclass may have made its classes unhashable.
_FINAL = frozenset(map(id, (*_PLAIN, dict, list, tuple)))


def _simplified(value: Any, step: Callable[[Any], Any], what: str = "a value") -> Any:
    """The value as one of str, int, float, bool, None, dict, list and tuple themselves.

    The parts of a container are as they were. Whatever a step runs into is a refusal with the type.
    """
    plain = value
    try:
        for _ in range(_MAX_STEPS):
            if id(type(plain)) in _FINAL:
                return plain
            plain = step(plain)
    except Unencodable:
        raise
    except Exception as error:
        name = type_name(plain)
        raise Unencodable(f"{what} of type {name} that raised {type_name(error)}") from None
    raise Unencodable(f"{what} of type {type_name(value)} that never becomes another")


def members(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The items of a mapping. Raises Unencodable for one that has too many."""
    if issubclass(type(value), dict):
        return list(dict.items(value))  # type: ignore[arg-type]
    items = list(islice(value.items(), MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise Unencodable(f"a mapping of over {MAX_ITEMS} members")
    return items


def _step(value: Any) -> Any:
    """One step towards a plain value."""
    kind = type(value)
    exact = _EXACT.get(id(kind))
    if exact is not None:
        return exact(value)
    for base, rule in _HELD.items():
        if issubclass(kind, base):
            return rule(value)
    known = foreign.rule(kind)
    if known is not None:
        return known.convert(value)
    for base, rule in _RULES.items():
        if _is_a(kind, base):
            return rule(value)
    known = foreign.rule_by_fields(kind)
    if known is not None:
        return known.convert(value)
    raise Unencodable(f"a value of type {type_name(value)}")


def _is_a(kind: type, base: type) -> bool:
    try:
        return issubclass(kind, base)
    except (
        Exception
    ):  # an abstract class remembers whom it was asked for: an unhashable class fails
        return False


def _key_step(key: Any) -> Any:
    """One step towards the text of a key."""
    kind = type(key)
    known = foreign.rule(kind)
    takes = known.takes_keys if known is not None else issubclass(kind, _KEYS)
    if not takes:
        raise Unencodable(f"a key of type {type_name(key)}")
    if issubclass(kind, decimal.Decimal):
        return decimal.Decimal.__str__(key)  # all of its digits
    return _step(key)


def _finite(value: Any, as_float: Callable[[Any], float] = float) -> float | None:
    try:
        number = as_float(value)
    except (OverflowError, ValueError):  # beyond a double, or a signalling NaN
        return None
    return number if math.isfinite(number) else None


def _items(value: Any) -> list[Any]:
    """The items of what says itself what it holds, and may say so without end."""
    count = len(value)
    limit = min(MAX_ITEMS, 2 * count + _GROWTH)  # far over its length: it has no end
    items = [] if count > MAX_ITEMS else list(islice(value, limit + 1))
    if count > MAX_ITEMS or len(items) > limit:
        raise Unencodable(f"a collection of over {limit} items")
    return items


def _bytes(value: Any) -> str:
    raw = memoryview(value).tobytes()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _path(value: Any) -> Any:
    path = os.fspath(value)
    return path if isinstance(path, str) else _bytes(path)


# What a subclass of a built-in type holds, not what an ``__iter__`` or ``__str__`` of its own says.
# Asked before all others: a type of numpy's that is a str is a str.
_HELD: dict[Any, Callable[[Any], Any]] = {
    enum.Enum: lambda value: value.value,
    str: lambda value: str.__str__(value),
    int: lambda value: int.__int__(value),
    float: lambda value: float.__float__(value),
    dict: lambda value: dict(list(dict.items(value))),  # a copy() asks an ``__iter__`` of its own
    list: lambda value: list.copy(value),
    tuple: lambda value: list(tuple.__iter__(value)),
}
# In order: the first rule whose type fits is taken. Abstract classes stand last, they match the most.
_RULES: dict[Any, Callable[[Any], Any]] = {
    datetime.datetime: lambda value: datetime.datetime.isoformat(value),
    datetime.date: lambda value: datetime.date.isoformat(value),
    datetime.time: lambda value: datetime.time.isoformat(value),
    datetime.timedelta: lambda value: datetime.timedelta.total_seconds(value),
    decimal.Decimal: lambda value: _finite(value, decimal.Decimal.__float__),
    uuid.UUID: lambda value: uuid.UUID.__str__(value),
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    set: lambda value: list(set.__iter__(value)),
    frozenset: lambda value: list(frozenset.__iter__(value)),
    deque: lambda value: list(deque.__iter__(value)),
    array.array: lambda value: array.array.tolist(value),
    UserString: lambda value: value.data,
    os.PathLike: _path,
    numbers.Integral: lambda value: int(value),
    numbers.Real: _finite,
    Mapping: lambda value: dict(members(value)),
    Set: _items,
    Sequence: _items,
}
_RULES = {**READY_MADE, **_RULES}
_EXACT = {id(kind): rule for kind, rule in _RULES.items()}
_KEYS = (enum.Enum, str, int, float, decimal.Decimal, datetime.date, datetime.timedelta, uuid.UUID)
