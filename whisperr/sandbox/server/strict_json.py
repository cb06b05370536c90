"""JSON as the sandbox reads, compares and writes it: nothing lenient, nothing ambiguous."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Iterable


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


# Compact, in ASCII: a lone surrogate that arrived as an escape leaves as one.
text = json.JSONEncoder(separators=(",", ":")).encode


def dumps(value: object) -> bytes:
    """The bytes of ``text``."""
    return text(value).encode("ascii")


def array(texts: Iterable[str]) -> bytes:
    """The JSON array of values that are JSON texts already."""
    return f"[{','.join(texts)}]".encode("ascii")


def value_key(value: object) -> str:
    """A key that is equal for equal JSON values: 17 and 17.0 are one, 1, true and "1" are three."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON text, but for the order of keys."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is out of range")
    return number
