"""Nothing is imported while sending: what an import left for later is imported now.

From CPython 3.15 on an import may be lazy, in a whole program (``PYTHON_LAZY_IMPORTS=all``) or in parts
of the standard library. Its name then stands for nothing yet, and whoever uses it first, in whichever
thread, makes the import, under its locks. A child that is forked meanwhile inherits them locked, and
hangs at its own first use.

Guarantees:
    After finish() no such name is left in any module that code of ours can come to: ours, and what
    these name, at any distance. The application's own modules are not looked at: what it made lazy
    stays so.
Lock-free: two threads may be here at once, and then look at the same names.
"""

from __future__ import annotations

import sys
import types
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

# Beside the standard library: what a client may come to. No application is in it.
_PACKAGES = frozenset(
    {
        "whisperr",
        *("requests", "urllib3", "certifi", "idna", "charset_normalizer", "chardet"),
        *("orjson", "msgspec", "gevent", "greenlet", "OpenSSL", "cryptography", "socks"),
        *("redis", "hiredis", "async_timeout", "jwt", "amqp", "vine"),  # with broker_url
    }
)
_STANDARD: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())  # 3.10
_LAZY: Any = getattr(types, "LazyImportType", None)  # None: this interpreter has no such imports

# What a class says of itself, whatever its metaclass says.
_MRO, _MODULE = (type.__dict__[name].__get__ for name in ("__mro__", "__module__"))

_finished: set[str] = set()  # modules


def finish() -> None:
    """Make every lazy import that a client can come to, from the modules of ours that are loaded now."""
    if _LAZY is None:
        return
    names = {name for name in list(sys.modules) if name.partition(".")[0] == "whisperr"}
    while names:
        while names:
            name = names.pop()
            module = sys.modules.get(name)
            if name not in _finished and _may_come_to(name) and isinstance(module, ModuleType):
                names |= _named_in(module, name)
                _finished.add(name)
        names = _submodules()


def _may_come_to(name: str) -> bool:
    top = name.partition(".")[0]
    return top in _PACKAGES or top in _STANDARD


def _named_in(module: ModuleType, name: str) -> set[str]:
    """Modules that the names of this one lead to; its lazy ones are none any more."""
    found: list[Any] = [name.rpartition(".")[0]]
    classes: dict[int, type] = {}  # by id: some compare as they like
    for each, value in list(vars(module).items()):
        if type(value) is _LAZY:
            with suppress(Exception):  # as without us: told to whoever uses it
                value = getattr(module, each)
        kind = type(value)  # isinstance() would ask the value: Django's settings are loaded by that
        if issubclass(kind, ModuleType):
            found.append(value.__name__)
        elif kind is FunctionType:
            found.append(value.__globals__.get("__name__"))
        else:
            classes.update(
                (id(base), base) for base in _MRO(value if issubclass(kind, type) else kind)
            )
    found += map(_MODULE, classes.values())
    return {each for each in found if type(each) is str}  # it may be anything


def _submodules() -> set[str]:
    """``import a.b`` makes two lazy names, and the interpreter keeps the second one by itself."""
    found = set()
    for name in list(sys.lazy_modules):  # type: ignore[attr-defined]  # 3.15
        parent, _, child = name.rpartition(".")
        if parent in _finished and name not in sys.modules:
            with suppress(Exception):
                getattr(sys.modules[parent], child)
            if name in sys.modules:
                found.add(name)
    return found
