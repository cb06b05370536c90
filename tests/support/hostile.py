"""What no caller should pass, and some caller will: objects that raise, lie, or have no end."""

from __future__ import annotations

import datetime
import decimal
import io
import itertools
import threading
import uuid
import weakref
from collections import UserDict, UserList, deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Callable, NoReturn
from unittest import mock

from support.inputs import Odd, Point, Standing

ENOUGH = 2**22  # items that are drawn from something endless before it gives up: a defect

overdrawn: list[str] = []  # what gave up


class Hostile(Exception):
    """What hostile objects raise. It doesn't like to be looked at either."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise Hostile

    def __str__(self) -> NoReturn:
        raise Hostile

    __repr__ = __str__


def _raise(*_: Any, **__: Any) -> NoReturn:
    raise Hostile


# --- objects that raise

SPECIAL = (
    *("__bool__", "__len__", "__iter__", "__next__", "__contains__", "__getitem__", "__call__"),
    *("__eq__", "__ne__", "__lt__", "__hash__", "__str__", "__repr__", "__format__", "__bytes__"),
    *("__int__", "__float__", "__index__", "__trunc__", "__fspath__", "__length_hint__"),
    *("__sub__", "__rsub__", "__floordiv__", "__mod__", "__getattr__", "__getattribute__"),
    *("__class__", "keys", "items", "values", "get", "strip", "encode", "isascii"),
    *("utcoffset", "isoformat", "total_seconds", "tzinfo", "value", "_value_"),
)
_NOW = datetime.datetime.now(datetime.timezone.utc)
BASES: dict[str, Any] = {
    "object": (object,),
    "str": (str, "order_paid"),
    "int": (int, 7),
    "float": (float, 0.5),
    "bytes": (bytes, b"\xff"),
    "list": (list, [1]),
    "tuple": (tuple, [1]),
    "dict": (dict, [("a", 1)]),
    "set": (set, [1]),
    "deque": (deque, [1]),
    "mapping": (UserDict, {"a": 1}),
    "sequence": (UserList, [1]),
    "uuid": (uuid.UUID, "12345678-1234-5678-1234-567812345678"),
    "decimal": (decimal.Decimal, "0.5"),
    "datetime": (datetime.datetime, *_NOW.timetuple()[:6], 0, datetime.timezone.utc),
    "dataclass": (Point,),
}


def raising(base: str, names: Any) -> Any:
    """An object of this kind, of which these methods and attributes raise."""
    kind, *arguments = BASES[base]
    masked = {"__class__": property(_raise)} if "__class__" in names else {}
    made_of = type("Raising", (kind,), masked)
    made = made_of(*arguments)  # before anything raises
    for name in set(names) - {"__class__"}:
        is_method = name.startswith("__") or name in ("keys", "items", "values", "get", "strip")
        setattr(made_of, name, _raise if is_method else property(_raise))
    return made


# --- objects without an end


def endless(who: str) -> Iterator[int]:
    yield from range(ENOUGH)
    overdrawn.append(who)
    raise Hostile


class EndlessMapping(Mapping):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        return endless("mapping")

    def __getitem__(self, key: object) -> int:
        return 1


class EndlessItems(UserDict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return ((str(n), n) for n in endless("items"))


class EndlessDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return ((str(n), n) for n in endless("dict"))

    def __iter__(self) -> Iterator[int]:
        return endless("dict")

    keys = __iter__  # type: ignore[assignment]


class EndlessSet(Set):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        return endless("set")

    def __contains__(self, item: object) -> bool:
        return True


class EndlessSequence(Sequence):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return 1

    def __iter__(self) -> Iterator[int]:
        return endless("sequence")


def _endless_subclass(kind: type) -> Any:
    return type("Endless", (kind,), {"__iter__": lambda self: endless(kind.__name__)})([1])


class Growing(Mapping):  # type: ignore[type-arg]
    """Made anew at each level: no object occurs twice in it."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["in"])

    def __getitem__(self, key: object) -> Growing:
        return Growing()


class GrowingSequence(Sequence):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> GrowingSequence:
        return GrowingSequence()


def _ring(kind: str) -> Any:
    if kind == "dict":
        ring: dict[str, Any] = {}
        ring["in"] = ring
        return ring
    if kind == "dataclass":
        point = Point()
        point.x = point
        return point
    loop: list[Any] = []
    loop += [loop, loop]
    return (loop,) if kind == "tuple" else loop


# --- objects that lie


def _lying(base: type, **answers: Any) -> Any:
    """Methods that return what they shouldn't; a lambda is taken as the method itself."""
    methods = {
        name: answer if callable(answer) else (lambda self, *_, _answer=answer: _answer)
        for name, answer in answers.items()
    }
    return type("Lying", (base,), methods)({"a": 1} if base is UserDict else [1])


class EqualToAll:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("order_paid")


def _masked(kind: type) -> Any:
    return type("Masked", (), {"__class__": property(lambda self: kind)})()


def _dead() -> Any:
    return weakref.proxy(Point())


ODDITIES: dict[str, Callable[[], Any]] = {
    "endless mapping": EndlessMapping,
    "endless items": EndlessItems,
    "endless dict": lambda: EndlessDict(a=1),
    "endless set": EndlessSet,
    "endless sequence": EndlessSequence,
    "endless list": lambda: _endless_subclass(list),
    "endless tuple": lambda: _endless_subclass(tuple),
    "endless own set": lambda: _endless_subclass(set),
    "endless own frozenset": lambda: _endless_subclass(frozenset),
    "endless deque": lambda: _endless_subclass(deque),
    "endless generator": lambda: endless("generator"),
    "endless channels": lambda: itertools.repeat({"type": "email", "address": "a@example.org"}),
    "endless counter": itertools.count,
    "huge range": lambda: range(10**12),
    "range beyond a length": lambda: range(2**70),
    "largest range": lambda: range(2**20),
    "growing mapping": Growing,
    "growing sequence": GrowingSequence,
    "list in itself": lambda: _ring("list"),
    "tuple in itself": lambda: _ring("tuple"),
    "dict in itself": lambda: _ring("dict"),
    "dataclass in itself": lambda: _ring("dataclass"),
    "items without pairs": lambda: _lying(UserDict, items=[1, 2]),
    "items of three": lambda: _lying(UserDict, items=[(1, 2, 3)]),
    "items with unhashable keys": lambda: _lying(UserDict, items=[([], 1)]),
    "items none": lambda: _lying(UserDict, items=None),
    "items not callable": lambda: _lying(UserDict, items=property(lambda self: 7)),
    "mapping of no length": lambda: _lying(UserDict, __len__=0),
    "mapping of negative length": lambda: _lying(UserDict, __len__=-1),
    "mapping of huge length": lambda: _lying(UserDict, __len__=2**70),
    "mapping of no truth": lambda: _lying(UserDict, __bool__=7),
    "get that returns anything": lambda: _lying(UserDict, get=object()),
    "sequence of negative length": lambda: _lying(UserList, __len__=-1),
    "sequence of no iterator": lambda: _lying(UserList, __iter__=7),
    "equal to all": EqualToAll,
    "any": lambda: mock.ANY,
    "mock": mock.MagicMock,
    "mock of dict": lambda: mock.MagicMock(spec=dict),
    "mock of str": lambda: mock.MagicMock(spec=str),
    "masked as str": lambda: _masked(str),
    "masked as int": lambda: _masked(int),
    "masked as dict": lambda: _masked(dict),
    "masked as datetime": lambda: _masked(datetime.datetime),
    "dead": _dead,
    "proxy of itself": lambda: _proxy_of_itself(),
    "proxy that raises": lambda: _lying(UserDict, _get_current_object=_raise),
    "proxy of nothing": lambda: _lying(UserDict, _get_current_object=None),
    "fields that lie": lambda: type("Lying", (), {"__attrs_attrs__": 7})(),
    "struct of everything": lambda: type(
        "Lying", (), {"__struct_fields__": map(str, itertools.count())}
    )(),
    "unhashable class": Odd,
    "generator": lambda: (n for n in [("a", 1)]),
    "raising generator": lambda: (_raise() for _ in [1]),
    "object": object,
    "class": lambda: dict,
    "own class": lambda: Point,
    "metaclass": lambda: type,
    "function": lambda: raising,
    "method": lambda: "".join,
    "not implemented": lambda: NotImplemented,
    "ellipsis": lambda: ...,
    "exception": lambda: Hostile(),
    "lock": threading.Lock,
    "thread": lambda: threading.current_thread(),
    "file": io.BytesIO,
    "module": lambda: io,
    "text of a surrogate": lambda: "\ud800",
    "text of a null": lambda: "\x00",
    "long text": lambda: "x" * 2**20,
    "number of many digits": lambda: 10**5000,
    "nan": lambda: float("nan"),
    "complex": lambda: 1j,
    "bytes": lambda: b"\xff",
    "released memory": lambda: _released(),
}


def _proxy_of_itself() -> Any:
    proxy = Standing(None)
    proxy._target = proxy
    return proxy


def _released() -> memoryview:
    view = memoryview(b"a")
    view.release()
    return view
