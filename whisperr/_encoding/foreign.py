"""Values of other packages -> one step towards what values.py has a rule for.

Nothing is imported here, and nothing has to be installed. A type is known by the package and the name
of one of its classes, or by what a class declares in the open (``__attrs_attrs__``). All is read from
the real type: ``isinstance`` would ask the value, and a proxy answers for what it stands for.

A rule may raise whatever the value raises; who calls it says which value that was.
"""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import Any, Callable, NamedTuple

from whisperr._encoding.unencodable import Unencodable, type_name

# Seconds in a unit of numpy's times, as a fraction. A month and a year have no fixed length.
_UNITS = {
    "W": (604_800, 1),
    "D": (86_400, 1),
    "h": (3_600, 1),
    "m": (60, 1),
    "s": (1, 1),
    "ms": (1, 10**3),
    "us": (1, 10**6),
    "ns": (1, 10**9),
    "ps": (1, 10**12),
    "fs": (1, 10**15),
    "as": (1, 10**18),
}
_MAX_STEPS = 16  # proxies of proxies
_MAX_FIELDS = 2**16  # of a class; what says so may have no end
_NUMPY_NAT = -(2**63)


class Rule(NamedTuple):
    """What is made of a value, and whether the same is made of a key."""

    convert: Callable[[Any], Any]
    takes_keys: bool = True


# --- proxies: the value that they stand for


def _current_object(proxy: Any) -> Any:
    return proxy._get_current_object()


def _wrapped(proxy: Any) -> Any:
    return proxy.__wrapped__


def _lazy_object(proxy: Any) -> Any:
    return proxy.__reduce__()[1][0]  # what a pickle of it holds, made if it was not yet


def _lazy_result(promise: Any) -> Any:
    function, arguments, keywords = promise.__reduce__()[1][:3]  # what a pickle of it holds
    return function(*arguments, **keywords)


# --- numpy and pandas


def _missing(_: Any) -> None:
    return None


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind in "bSU":
        return value.item()
    if kind in "iu":
        return int(value)
    if kind == "f":
        return float(value)  # an item() of the widest is no float
    if kind == "M":
        return None if int(value.view("i8")) == _NUMPY_NAT else str(value)
    if kind == "m":
        return _numpy_seconds(value)
    raise _refused(value)


def _numpy_seconds(value: Any) -> float | None:
    count = int(value.view("i8"))
    if count == _NUMPY_NAT:
        return None
    unit = value.dtype.str.partition("[")[2].rstrip("]")  # "ns", "25s", or none
    name = unit.lstrip("0123456789")
    if name not in _UNITS:
        raise Unencodable(f"a value of type {type_name(value)} in {name or 'no unit'}")
    seconds, parts = _UNITS[name]
    return count * int(unit[: -len(name)] or 1) * seconds / parts


def _pandas_seconds(value: Any) -> Any:
    return value.to_timedelta64()  # in nanoseconds; some releases round total_seconds()


def _own_iso_text(value: Any) -> Any:
    return value.isoformat()  # with nanoseconds, and right beyond the years of a datetime


def _pandas_datetime(value: Any) -> Any:
    return value.to_pydatetime(warn=False)  # nanoseconds are cut off anyway


# --- times


def _arrow(value: Any) -> Any:
    return value.datetime


def _whenever(value: Any) -> str:
    return str(value).partition("[")[0]  # without the name of the zone


def _whenever_datetime(value: Any) -> Any:
    return value.to_stdlib() if hasattr(value, "to_stdlib") else value.py_datetime()


def _whenever_seconds(value: Any) -> Any:
    return value.total("seconds") if hasattr(value, "total") else value.in_seconds()


# --- objects


def _pydantic(model: Any) -> Any:
    if hasattr(type(model), "model_dump"):
        return model.model_dump(warnings=False)
    return model.dict()  # pydantic 1


def _dataclass(value: Any) -> dict[str, Any]:
    return _members(value, [field.name for field in dataclasses.fields(value)])


def _attrs(value: Any) -> dict[str, Any]:
    return _members(value, [attribute.name for attribute in type(value).__attrs_attrs__])


def _struct(value: Any) -> dict[str, Any]:
    members = _members(value, type(value).__struct_fields__)
    return {name: item for name, item in members.items() if not _is_unset(item)}


def _is_unset(item: Any) -> bool:
    return type_name(item) == "UnsetType" and _package(type(item)) == "msgspec"


def _members(value: Any, names: Any) -> dict[str, Any]:
    """The declared members that have a value."""
    members = {}
    for name in islice(names, _MAX_FIELDS):
        try:
            members[name] = getattr(value, name)
        except AttributeError:  # a slot that nobody filled
            continue
    return members


def _object_id(value: Any) -> str:
    return str(value)


def _decimal(value: Any) -> Any:
    return value.to_decimal()


def _refused(value: Any) -> Unencodable:
    return Unencodable(f"a value of type {type_name(value)}")


def _refuse(value: Any) -> Any:
    raise _refused(value)


# --- the tables

# What a class says of itself, whatever its metaclass says.
_MRO, _NAME, _MODULE = (
    type.__dict__[name].__get__ for name in ("__mro__", "__name__", "__module__")
)

# By package and name of a class.
_BY_NAME: dict[tuple[str, str], Rule] = {
    ("django", "LazyObject"): Rule(_lazy_object),
    ("django", "Promise"): Rule(_lazy_result),
    ("numpy", "generic"): Rule(_numpy_scalar),
    ("pandas", "NaTType"): Rule(_missing),
    ("pandas", "NAType"): Rule(_missing),
    ("pandas", "Timestamp"): Rule(_own_iso_text),
    ("pandas", "Timedelta"): Rule(_pandas_seconds),
    ("arrow", "Arrow"): Rule(_arrow),
    ("bson", "ObjectId"): Rule(_object_id),
    ("bson", "Decimal128"): Rule(_decimal),
    ("pydantic", "BaseModel"): Rule(_pydantic, takes_keys=False),
    ("whenever", "Time"): Rule(_whenever, takes_keys=False),
    ("whenever", "TimeDelta"): Rule(_whenever_seconds),
}
_BY_NAME.update(
    (("whenever", name), Rule(_whenever))
    for name in (
        *("Instant", "ZonedDateTime", "OffsetDateTime", "SystemDateTime"),
        *("PlainDateTime", "LocalDateTime", "NaiveDateTime", "Date"),
    )
)
# By what a class has: before the rules for abstract classes, and after them.
_BY_PROTOCOL: dict[str, Rule] = {
    "_get_current_object": Rule(_current_object),
    "__wrapped__": Rule(_wrapped),
    # A row of a database behind an object: to read it may ask the database.
    "_sa_class_manager": Rule(_refuse, takes_keys=False),
}
_BY_FIELDS: dict[str, Rule] = {
    "__dataclass_fields__": Rule(_dataclass, takes_keys=False),
    "__attrs_attrs__": Rule(_attrs, takes_keys=False),
    "__struct_fields__": Rule(_struct, takes_keys=False),
}
# What is one moment, by package and name of a class -> a datetime.
_MOMENTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("pandas", "NaTType"): _missing,
    ("pandas", "Timestamp"): _pandas_datetime,
    ("arrow", "Arrow"): _arrow,
}
_MOMENTS.update(
    (("whenever", name), _whenever_datetime)
    for name in ("Instant", "ZonedDateTime", "OffsetDateTime", "SystemDateTime")
)
_PROXIES = frozenset({_current_object, _wrapped, _lazy_object, _lazy_result})
_SCALARS: frozenset[Callable[[Any], Any]] = frozenset({_numpy_scalar, _object_id})


def rule(kind: type) -> Rule | None:
    """The rule for a type of another package that must be asked before any of ours."""
    for base in _bases(kind):
        found = _BY_NAME.get((_package(base), _NAME(base)))
        if found is not None:
            return found
        for name, by_protocol in _BY_PROTOCOL.items():
            if name in vars(base) and _is_protocol(name, vars(base)[name]):
                return by_protocol
    return None


def _is_protocol(name: str, member: Any) -> bool:
    # functools.wraps() leaves a __wrapped__ on a class, too: what it stands for, and no descriptor.
    return name != "__wrapped__" or (hasattr(type(member), "__get__") and not callable(member))


def rule_by_fields(kind: type) -> Rule | None:
    """The rule for a type that declares its fields."""
    for base in _bases(kind):
        for name, found in _BY_FIELDS.items():
            if name in vars(base):
                return found
    return None


def unwrapped(value: Any) -> Any:
    """What a proxy stands for; anything else as it is."""
    for _ in range(_MAX_STEPS):
        found = rule(type(value))
        if found is None or found.convert not in _PROXIES:
            return value
        value = found.convert(value)
    raise _refused(value)


def scalar(value: Any) -> Any:
    """The str, int, float or bool that a scalar of numpy's or an id holds; anything else as it is."""
    found = rule(type(value))
    return found.convert(value) if found is not None and found.convert in _SCALARS else value


def moment(value: Any) -> Any:
    """The datetime of what is a moment in another package, None if it says it is none."""
    for base in _bases(type(value)):
        convert = _MOMENTS.get((_package(base), _NAME(base)))
        if convert is not None:
            return convert(value)
    return value


def _bases(kind: type) -> tuple[type, ...]:
    bases: tuple[type, ...] = _MRO(kind)
    return bases


def _package(kind: type) -> str:
    module = _MODULE(kind)
    return module.partition(".")[0] if isinstance(module, str) else ""
