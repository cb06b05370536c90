"""The arguments of a call as the built-in types that they stand for or hold.

Ids, flags and times come from the same libraries as values do: as a proxy, as a scalar of numpy's, as
an ObjectId. Here they are made what the checks of records.py look for. What is left as it is has the
wrong type, and those checks say so. Raises Unencodable for what fails when it is looked at.
"""

from __future__ import annotations

import datetime
from collections import UserString
from collections.abc import Mapping
from typing import Any, Callable

from whisperr._encoding import foreign
from whisperr._encoding.unencodable import Unencodable, type_name


def unwrap(given: Any) -> Any:
    """What a transparent proxy stands for; anything else as it is."""
    return _guarded(foreign.unwrapped, given)


def scalar(given: Any) -> Any:
    """A str, int or bool itself, where the argument is one in any disguise; anything else as it is."""
    plain = _guarded(foreign.scalar, unwrap(given))
    kind = type(plain)
    if issubclass(kind, str):
        return str.__str__(plain)
    if issubclass(kind, int) and kind is not bool:
        return int.__int__(plain)
    if issubclass(kind, UserString):
        return _guarded(lambda text: text.data, plain)
    return plain


def plain_text(given: Any) -> str | None:
    """The text of an argument that is one, else None."""
    plain = scalar(given)
    return plain if type(plain) is str else None


def mapping(given: Any) -> Mapping[Any, Any] | None:
    """The mapping that an argument is or stands for, else None."""
    plain = unwrap(given)
    return plain if _guarded(lambda kind: issubclass(kind, Mapping), type(plain)) else None


def moment(given: Any) -> datetime.datetime | None:
    """The datetime of an argument that is a moment, else None. It may be without a zone."""
    plain = _guarded(foreign.moment, unwrap(given))
    return plain if issubclass(type(plain), datetime.datetime) else None


def _guarded(look: Callable[[Any], Any], given: Any) -> Any:
    try:
        return look(given)
    except Unencodable:
        raise
    except Exception as error:
        name = type_name(given)
        raise Unencodable(f"a value of type {name} that raised {type_name(error)}") from None
