"""The rooms of the house: imports run strictly downward, and some doors have one key.

Every import is read from the source, the lazy and the `TYPE_CHECKING` ones too. The table below
is the whole permission: a module that is not in it fails until someone says where it belongs.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import pytest

import whisperr

ROOT = Path(__file__).resolve().parents[2]

# From the ground up. A name that ends in a dot is a folder: what is in it may import each other,
# without a circle. Everything else imports from strictly lower rows alone.
ROWS = (
    (
        "whisperr._version",
        "whisperr._errors",
        "whisperr._atomic",
        "whisperr._clock",
        "whisperr._console",
        "whisperr._imports",
        "whisperr._serving",
        "whisperr.billing",
    ),
    ("whisperr._process.",),
    ("whisperr._encoding.",),
    ("whisperr._settings",),
    ("whisperr._reporting.",),
    ("whisperr._journal.", "whisperr._broker."),
    ("whisperr._delivery.",),
    ("whisperr._relay.",),
    ("whisperr._client",),
    ("whisperr._default",),
    ("whisperr", "whisperr.lifecycle"),
    ("whisperr.integrations.", "whisperr.sandbox."),
    ("whisperr.cli.", "whisperr.testing.", "whisperr.django"),
    ("whisperr.pytest_plugin", "whisperr.__main__"),
)
LAYERS = {name.rstrip("."): layer for layer, row in enumerate(ROWS) for name in row}
PACKAGES = frozenset(name.rstrip(".") for row in ROWS for name in row if name.endswith("."))

# Who may import what; every other module may not.
_PUBLIC_EDGE = frozenset(
    name for name, layer in LAYERS.items() if layer >= LAYERS["whisperr.integrations"]
)
_THREADS = _PUBLIC_EDGE | {
    "whisperr._process.exits",
    "whisperr._process.threads",
    "whisperr._reporting.feedback",
    "whisperr._delivery.caretaker",
    "whisperr._delivery.sender_thread",
    "whisperr._relay.depth",
    "whisperr._relay.http",
    "whisperr._relay.lane",
    "whisperr._relay.relay",
}
KEYS = {
    "requests": frozenset({"whisperr._delivery.session"}),
    "urllib3": frozenset({"whisperr._delivery.session", "whisperr._delivery.retry"}),
    "redis": frozenset({"whisperr._broker.redis_connection"}),
    "amqp": frozenset({"whisperr._broker.amqp_connection", "whisperr._broker.amqp_reading"}),
    "prometheus_client": frozenset(
        {"whisperr._relay.metrics", "whisperr._relay.http", "whisperr.integrations.prometheus"}
    ),
    "uvicorn": frozenset({"whisperr._serving", "whisperr._relay.http", "whisperr.sandbox"}),
    "orjson": frozenset({"whisperr._encoding.encoders"}),
    "msgspec": frozenset({"whisperr._encoding.encoders"}),
    "threading": _THREADS,
    "_thread": _THREADS,
    "os.register_at_fork": frozenset({"whisperr._process.at_fork"}),
}


def room(module: str) -> str:
    """The row of the table that `module` belongs to: its package's, or its own."""
    for package in PACKAGES:
        if module == package or module.startswith(package + "."):
            return package
    return module


def imported(module: str, tree: ast.AST, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that `tree` imports: `from a import b` is `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            name = getattr(node.args[0], "value", None)
            if function in {"import_module", "__import__"} and isinstance(name, str):
                yield node.lineno, name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) == ("os", "register_at_fork"):
                yield node.lineno, "os.register_at_fork"
            elif node.value.id == "whisperr" and private(node.attr):
                yield node.lineno, f"whisperr.{node.attr}"


def private(name: str) -> bool:
    """Whether `name` is ours alone: one leading underscore."""
    return name.startswith("_") and not name.startswith("__")


def own_module(name: str) -> str:
    """The module of ours behind `name`: `whisperr._encoding.records.Record` is `whisperr._encoding.records`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        candidate = ".".join(parts[:length])
        if room(candidate) in LAYERS:
            # A name of the package itself, unless it looks like a module the table has not.
            if candidate == "whisperr" and length < len(parts):
                rest = parts[length]
                if rest not in whisperr.__all__ and rest != "*":
                    return f"whisperr.{rest}"
            return candidate
    return name


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What `source`, as the module `module`, imports against the table: one line each."""
    here = room(module)
    if here not in LAYERS:
        return [f"{module}: not in the table of layers"]
    found = []

    def bad(line: int, why: str) -> None:
        found.append(f"{module}:{line}: {why}")

    tree = ast.parse(source)
    for line, name in imported(module, tree, is_package=is_package):
        for locked, holders in KEYS.items():
            allowed = here in holders or module in holders
            if (name == locked or name.startswith(locked + ".")) and not allowed:
                bad(line, f"imports {locked}")
        if name.partition(".")[0] != "whisperr":
            continue
        target = own_module(name)
        if room(target) not in LAYERS:
            bad(line, f"imports {target}, which is not in the table of layers")
        elif room(target) == here and (here in PACKAGES or target == module):
            continue
        elif LAYERS[room(target)] >= LAYERS[here]:
            bad(line, f"imports {target}, which is not below it")
        elif here == "whisperr.integrations":
            if target not in {"whisperr", "whisperr.lifecycle"} or private(name.rpartition(".")[2]):
                bad(line, f"imports {name}, which is not public")
            elif name.endswith(".*"):
                bad(line, "imports *")
    if here == "whisperr.integrations":
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                bad(node.lineno, "imports relatively")
    return found


def sources() -> dict[str, Path]:
    """Dotted name -> file of every module that ships, read from the checkout."""
    files = {}
    for package, folder in (("whisperr", "whisperr"), ("whisperr.integrations", "integrations")):
        top = ROOT / folder
        for path in sorted(top.rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            if folder == "whisperr" and parts[0] == "integrations":
                continue  # the link; its files are listed under the folder it points to
            if parts[-1] == "__init__":
                parts = parts[:-1]
            files[".".join((package, *parts))] = path
    return files


MODULES = sources()


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module: str) -> None:
    """A module imports only from strictly lower layers, or inside its own package."""
    path = MODULES[module]
    is_package = path.name == "__init__.py"
    found = violations(module, path.read_text(encoding="utf-8"), is_package=is_package)
    assert not found, "\n" + "\n".join(found)


def test_no_folder_has_a_circle() -> None:
    """Inside a folder, too, there is a first module to read: imports at the head run one way."""
    uses: dict[str, set[str]] = {name: set() for name in MODULES}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        head = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
        for _, name in imported(module, head, is_package=path.name == "__init__.py"):
            target = next((m for m in (name, name.rpartition(".")[0]) if m in MODULES), None)
            if target is not None and target != module and room(target) == room(module):
                uses[module].add(target)
    assert any(uses.values())
    while ready := [module for module, targets in uses.items() if not targets & set(uses)]:
        for module in ready:
            del uses[module]
    assert not uses


def test_every_part_is_looked_at() -> None:
    """The walk really sees both folders."""
    assert {"whisperr", "whisperr._client", "whisperr.integrations"} <= set(MODULES)
    assert any(name.startswith("whisperr.integrations.") for name in MODULES)


def test_every_name_of_the_tables_means_something() -> None:
    """A row names modules that there are, and a key something that one of its holders imports."""
    for package in PACKAGES:
        assert any(module.startswith(f"{package}.") for module in MODULES), package
    assert set(LAYERS) - PACKAGES <= set(MODULES)
    used = {
        (module, key)
        for module, path in MODULES.items()
        for _, name in imported(
            module,
            ast.parse(path.read_text(encoding="utf-8")),
            is_package=path.name == "__init__.py",
        )
        for key in KEYS
        if name == key or name.startswith(f"{key}.")
    }
    held = {(holder, key) for key in KEYS for holder in KEYS[key] - _PUBLIC_EDGE}
    idle = held - used - {(holder, "_thread") for holder in _THREADS}  # the same door as threading
    assert held and not idle, sorted(idle)


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        (
            "whisperr._encoding.records",
            "from whisperr._delivery.engine import Engine",
            "_delivery.engine.Engine, which is not below",
        ),
        (
            "whisperr._encoding.records",
            "from .._client import Whisperr",
            "_client, which is not below",
        ),
        (
            "whisperr._encoding.records",
            "from .. import _client",
            "_client, which is not below",
        ),
        (
            "whisperr._encoding.records",
            "import whisperr._delivery.queue as b",
            "_delivery.queue, which is not below",
        ),
        (
            "whisperr._encoding.records",
            "from whisperr import Whisperr",
            "whisperr, which is not below",
        ),
        (
            "whisperr._encoding.records",
            "def f():\n    import whisperr.cli",
            ":2: imports whisperr.cli",
        ),
        (
            "whisperr._encoding.records",
            "if TYPE_CHECKING:\n    from whisperr import _client",
            "not below",
        ),
        (
            "whisperr._encoding.records",
            "importlib.import_module('whisperr._delivery.engine')",
            "not below",
        ),
        (
            "whisperr._delivery.engine",
            "from whisperr import _new",
            "_new, which is not in the table",
        ),
        (
            "whisperr._delivery.engine",
            "from whisperr._new import X",
            "_new, which is not in the table",
        ),
        ("whisperr._new", "import os", "not in the table"),
        ("whisperr.new.deep", "import os", "not in the table"),
        ("whisperr.lifecycle", "import whisperr", "whisperr, which is not below"),
        ("whisperr.sandbox.app", "from whisperr.integrations import asgi", "not below"),
        ("whisperr._delivery.engine", "import requests", "imports requests"),
        (
            "whisperr._delivery.retry",
            "from requests.adapters import HTTPAdapter",
            "imports requests",
        ),
        ("whisperr.cli", "__import__('urllib3')", "imports urllib3"),
        ("whisperr._encoding.records", "import orjson", "imports orjson"),
        ("whisperr._encoding.values", "import msgspec.json", "imports msgspec"),
        ("whisperr._delivery.delivery_pass", "from threading import Lock", "imports threading"),
        ("whisperr._atomic", "import _thread", "imports _thread"),
        (
            "whisperr._delivery.engine",
            "import os\nos.register_at_fork()",
            ":2: imports os.register_at",
        ),
        (
            "whisperr._process.exits",
            "from os import register_at_fork",
            "imports os.register_at_fork",
        ),
        ("whisperr.integrations.asgi", "from whisperr._delivery.engine import X", "not public"),
        ("whisperr.integrations.asgi", "from whisperr import _client", "not public"),
        ("whisperr.integrations.asgi", "import whisperr\nwhisperr._client", ":2: imports"),
        ("whisperr.integrations.asgi", "from whisperr.billing import X", "not public"),
        ("whisperr.integrations.asgi", "from whisperr.lifecycle import _x", "not public"),
        ("whisperr.integrations.asgi", "from whisperr import *", "imports *"),
        ("whisperr.integrations.asgi", "from whisperr.django import X", "not below"),
        ("whisperr.integrations.asgi", "from .. import lifecycle", "imports relatively"),
        ("whisperr.integrations.asgi", "from . import celery", "imports relatively"),
    ],
)
def test_a_violation_is_caught(module: str, source: str, why: str) -> None:
    """Each rule fails when it is broken."""
    found = violations(module, source)
    assert any(why in line for line in found), found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "whisperr._delivery.sender_thread",
            "import threading\nfrom whisperr._delivery.queue import Buffer",
        ),
        ("whisperr._delivery.engine", "from . import queue\nfrom ..billing import BillingEvent"),
        ("whisperr._client", "def f():\n    from whisperr._delivery import transport"),
        ("whisperr._delivery.session", "import requests, urllib3.util.retry"),
        ("whisperr._process.at_fork", "import os\nos.register_at_fork()"),
        (
            "whisperr._encoding.encoders",
            "import json\ntry:\n    import orjson\nexcept ImportError:\n    pass",
        ),
        (
            "whisperr.integrations.asgi",
            "import threading\nfrom whisperr import Whisperr, lifecycle",
        ),
        ("whisperr.integrations.asgi", "import whisperr\nwhisperr.Whisperr\nwhisperr.__version__"),
        ("whisperr.integrations.asgi", "from whisperr.lifecycle import flush_all"),
        ("whisperr.integrations.celery", "from whisperr.integrations.asgi import X"),
        ("whisperr.integrations.celery", "import celery.signals"),
        ("whisperr.sandbox.app", "from . import ledger\nfrom .ledger import X\nimport starlette"),
        ("whisperr.django", "from whisperr.integrations.django import get_client"),
        ("whisperr.cli", "from whisperr.sandbox.app import main\nfrom whisperr import _settings"),
    ],
)
def test_a_lawful_import_passes(module: str, source: str) -> None:
    """The checker does not cry wolf."""
    assert violations(module, source) == []


def test_a_package_resolves_its_relative_imports() -> None:
    """`from . import x` in a package's `__init__` is inside that package."""
    assert violations("whisperr.sandbox", "from .app import main", is_package=True) == []
    assert violations("whisperr", "from ._client import Whisperr", is_package=True) == []
    found = violations("whisperr", "from .cli import main", is_package=True)
    assert found == ["whisperr:1: imports whisperr.cli.main, which is not below it"]
