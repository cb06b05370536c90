"""Values of every kind that the conversion rules know, and of some that they don't, for hypothesis."""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
import types
from collections import OrderedDict, UserDict, UserList, UserString, deque, namedtuple
from pathlib import PurePosixPath
from typing import Any, Callable

from hypothesis import strategies as st

from whisperr._encoding.values import MAX_DEPTH

Values = st.SearchStrategy[Any]

PLUS_0530 = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
PLUS_ONE = datetime.timezone(datetime.timedelta(hours=1))


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    TABLE = {"a": 1}  # noqa: RUF012  # the value of a member, not a default
    BIG = 2**80
    LONE = "\ud800"
    NAN = float("nan")


class Level(enum.IntEnum):
    LOW = 1


class Kind(str, enum.Enum):
    SMS = "sms"


class _OwnMeta(enum.EnumMeta):
    """As that of Django's choices."""


class Choice(enum.Enum, metaclass=_OwnMeta):
    OPEN = "open"


class TextChoice(str, enum.Enum, metaclass=_OwnMeta):
    DONE = "done"


class Bits(enum.Flag):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: Any = 1
    y: Any = 2


Pair = namedtuple("Pair", ["left", "right"])


class OwnText(str):
    def __str__(self) -> str:
        return "its own"


class OwnInt(int):
    def __int__(self) -> int:
        return 99

    def __str__(self) -> str:
        return "its own"


class OwnFloat(float):
    def __float__(self) -> float:
        return 99.0


class OwnList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(["its own"])


class OwnTuple(tuple):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(["its own"])


class OwnDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return [("its own", 1)]


class OwnSet(set):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(["its own"])


class Standing:
    """A transparent proxy: it claims the class of what it stands for."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def _get_current_object(self) -> Any:
        return self._target

    @property
    def __class__(self) -> Any:
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def __hash__(self) -> int:
        return hash(self._target)

    def __eq__(self, other: object) -> bool:
        return bool(self._target == other)


class _Unhashable(type):
    """Its classes can be no keys: what an abstract class or a table of types asks for fails."""

    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Odd(metaclass=_Unhashable):
    x: Any = 1


# Around one value, each adds one level of arrays or objects.
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "named tuple": lambda value: Pair(value, None),
    "dict": lambda value: {"in": value},
    "dict with a whole number as key": lambda value: {1: value},
    "ordered dict": lambda value: OrderedDict(a=value),
    "mapping": lambda value: UserDict({"in": value}),
    "read-only mapping": lambda value: types.MappingProxyType({"in": value}),
    "sequence": lambda value: UserList([value]),
    "deque": lambda value: deque([value]),
    "dataclass": lambda value: Point(value),
    "own list": lambda value: OwnList([value]),
    "own tuple": lambda value: OwnTuple((value,)),
    "own dict": lambda value: OwnDict({"in": value}),
    "proxied list": lambda value: Standing([value]),
    "unhashable class": lambda value: Odd(value),
}


def nested(levels: int, wrap: Callable[[Any], Any], core: Any = None) -> Any:
    """A value of so many levels."""
    value = core
    for _ in range(levels):
        value = wrap(value)
    return value


def texts() -> Values:
    """Lone surrogates included."""
    return st.text(st.characters(), max_size=8)


def _moments() -> Values:
    zones = st.sampled_from([None, datetime.timezone.utc, PLUS_0530])
    return st.one_of(
        st.datetimes(timezones=zones),
        st.dates(),
        st.times(timezones=zones),
        st.timedeltas(),
    )


def _edges() -> Values:
    edges = st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    # As exponents: hypothesis shows what it samples from, and nobody can show the larger one.
    return st.one_of(edges, st.sampled_from([4299, 5000]).map(lambda digits: 10**digits))


def hashables() -> Values:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        _edges(),
        st.floats(),
        texts(),
        texts().map(OwnText),
        texts().map(Standing),
        st.integers(-9, 9).map(Standing),
        st.integers(-9, 9).map(OwnInt),
        st.floats().map(OwnFloat),
        st.decimals(allow_nan=False),
        st.fractions(),
        _moments(),
        st.uuids(),
        st.binary(max_size=6),
        st.sampled_from(
            [
                *Level,
                *Kind,
                *Bits,
                *Choice,
                *TextChoice,
                Colour.RED,
                Colour.BIG,
                Colour.LONE,
                Colour.NAN,
            ]
        ),
        st.sampled_from([PurePosixPath("a/b"), PurePosixPath("/"), fractions.Fraction(10**400)]),
    )


def scalars() -> Values:
    strange = [
        1j,
        ...,
        object(),
        Point,
        Colour,
        len,
        decimal.Decimal("sNaN"),
        range(3),
        range(2**62),
        UserString("pro"),
        array.array("d", [0.5]),
    ]
    return st.one_of(
        hashables(),
        st.binary(max_size=6).map(bytearray),
        st.binary(max_size=6).map(lambda data: memoryview(data)),
        st.sampled_from([Colour.PAIR, Colour.TABLE, *strange]),
    )


def keys() -> Values:
    """Of an object: mostly such as have a rule."""
    return st.one_of(texts(), texts(), hashables(), st.just(("a", "tuple")))


def _deep() -> Values:
    around = st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3)
    return st.builds(
        nested, around, st.sampled_from(list(WRAPPERS.values())), st.sampled_from([None, 1, "[{"])
    )


def _containers(inner: Values) -> Values:
    lists = st.lists(inner, max_size=4)
    dicts = st.dictionaries(keys(), inner, max_size=4)
    sets = st.frozensets(hashables(), max_size=4)
    return st.one_of(
        lists,
        dicts,
        lists.map(tuple),
        lists.map(deque),
        lists.map(OwnList),
        lists.map(OwnTuple),
        lists.map(UserList),
        dicts.map(OwnDict),
        dicts.map(UserDict),
        dicts.map(types.MappingProxyType),
        sets,
        sets.map(set),
        sets.map(OwnSet),
        st.builds(Point, inner, inner),
        st.builds(Odd, inner),
        lists.map(Standing),
        st.builds(Pair, inner, inner),
    )


def values() -> Values:
    """Whole structures, near the limit of levels and over it too."""
    return st.one_of(st.recursive(scalars(), _containers, max_leaves=12), _deep())


def objects() -> Values:
    """What is an object in JSON, at its top."""
    members = st.dictionaries(keys(), values(), max_size=4)
    return st.one_of(members, members, members.map(UserDict), members.map(OwnDict))
