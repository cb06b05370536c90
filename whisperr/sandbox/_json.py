"""JSON as the sandbox reads, compares and writes it: nothing lenient, nothing ambiguous."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any


def loads(body: bytes) -> Any:
    """The value of a UTF-8 JSON text.

    Raises ValueError, with a text fit for an answer, for anything that another reader could
    take differently: a second key of one name, NaN, an infinite number, another encoding.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as exc:
        raise ValueError(f"not UTF-8 at byte {exc.start}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object) -> bytes:
    """Compact JSON in ASCII, so that a lone surrogate that arrived as an escape leaves as one."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def value_key(value: object) -> Hashable:
    """A key that is equal for equal JSON values: 17 and 17.0 are one, 1, true and "1" are three."""
    if type(value) in (int, float):
        return value
    return json.dumps(value, sort_keys=True)


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON text, but for the order of keys."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is out of range")
    return number
