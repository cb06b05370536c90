"""What writes JSON in C, where there is such a thing, and what may be asked of it.

An encoder gets two things alone: what the rules have made, and what ``is_tracked`` or ``is_plain`` of
values.py has passed. What it makes of any other value is its own idea.

    orjson    required up to Python 3.13, an extra from 3.14 on. Refuses what it doesn't know, by its
              options: a flat dict needs no look before
    msgspec   required from 3.14 on: it has a wheel for every CPython, the free-threaded ones too.
              Writes dates, Decimals, bytes, large integers and keys of any type by rules of its own:
              each value and key is looked at before
    json      the standard library's, where both can't be had (PyPy, an interpreter beside the first
              one). Gets only what the rules have made
"""

from __future__ import annotations

import contextlib
import gc
import json
from typing import Any, Callable, NamedTuple


def refuse(value: Any, default: Any, options: int) -> bytes:
    """For an encoder that must see only what the rules have made."""
    raise TypeError


#: A truth about everything, and no call costs less.
always: Callable[[Any], object] = type


class JsonEncoder(NamedTuple):
    """One way to write JSON.

    write: The text of what the rules have made: exact built-in types, of legal content.
    is_tracked: False: a dict is flat, and goes to ``dumps`` without another look.
    dumps, options: ``dumps(value, None, options)`` of what the rules have passed. A TypeError is
        for the rules.
    takes_more: integers of any size and keys of any type: these are looked at before, too. What
        is asked then is ``write``, whose ValueError is for the rules as well.
    """

    write: Callable[[Any], bytes]
    is_tracked: Callable[[Any], object] = always
    dumps: Callable[[Any, Any, int], bytes] = refuse
    options: int = 0
    takes_more: bool = False


def _write_by_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


#: Types of theirs that hold JSON which is ready made -> what it says.
READY_MADE: dict[Any, Callable[[Any], Any]] = {}


def _orjson() -> JsonEncoder:
    import orjson
    from orjson import Fragment  # an orjson before 3.9 has none, and counts as not installed

    READY_MADE[Fragment] = lambda value: orjson.loads(orjson.dumps(value))
    options = (
        orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )
    is_tracked = getattr(gc, "is_tracked", always)
    return JsonEncoder(orjson.dumps, is_tracked, orjson.dumps, options)


def _msgspec() -> JsonEncoder:
    import msgspec.json

    return JsonEncoder(msgspec.json.Encoder().encode, takes_more=True)


#: How to load each of them, which is an ImportError where it is not installed; the quickest first. Only
#: the first that is here is loaded: the import of msgspec takes some 10 ms.
ENCODERS: dict[str, Callable[[], JsonEncoder]] = {
    "orjson": _orjson,
    "msgspec": _msgspec,
    "json": lambda: JsonEncoder(_write_by_json),
}


def _best() -> tuple[str, JsonEncoder]:
    for name, load in ENCODERS.items():
        with contextlib.suppress(ImportError):
            return name, load()
    raise AssertionError("the standard library's is always here")


#: The one that is used, and its name.
NAME, BEST = _best()
