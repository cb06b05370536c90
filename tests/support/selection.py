"""Which tests are of which kind, in which order they run, and under which names.

The environments of tox.ini choose by these markers. Each must mark something: a name that matches
no test any more fails the run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent.parent
MARKERS = ("storm", "endurance", "tools", "browser")

# Below tests/. What only tests our own tools: one interpreter is enough.
TOOLS = (
    "sandbox",
    "cli/test_doctor.py",
    "delivery/test_never_raises.py",
    "project/test_benchmarks.py",
    "project/test_demo.py",
    "project/test_hosts_table.py",
    "docs",
)
BROWSER = ("sandbox/browser",)

# Several at once would wait for each other: one worker of pytest-xdist runs all of them.
ALONE = {"browser": "browser"}


LONGEST_NAME = 60  # characters of a parameter that names its test


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long text names no test: it may hold the time, and then each worker finds other names."""
    is_text = isinstance(val, (str, bytes))
    return argname if is_text and len(val) > LONGEST_NAME else None  # type: ignore[arg-type]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks them all, checks their names, and puts the longest first, so that no worker is left
    with one of them at the end.
    """
    for folder in (*TOOLS, *BROWSER):
        if not (TESTS / folder).exists():
            raise pytest.UsageError(f"tests/support/selection.py: there is no tests/{folder}")
    for item in items:
        for marker, folders in (("tools", TOOLS), ("browser", BROWSER)):
            if _is_below(item.path, folders):
                item.add_marker(marker)
        for marker, group in ALONE.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.xdist_group(group))
    _check_names(items)
    if _is_whole(config):
        _check_markers(items)
    items.sort(key=_rank)


def _is_below(path: Path, folders: tuple[str, ...]) -> bool:
    return any(path == TESTS / each or (TESTS / each) in path.parents for each in folders)


def _check_names(items: list[pytest.Item]) -> None:
    """Every worker of pytest-xdist must find the same names: none may hold an address."""
    found = [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid)]
    if found:
        raise pytest.UsageError(f"give these parameters ids of their own: {found[:5]}")


def _check_markers(items: list[pytest.Item]) -> None:
    for marker in MARKERS:
        if not any(item.get_closest_marker(marker) for item in items):
            raise pytest.UsageError(f"no test is marked {marker}")


def _is_whole(config: pytest.Config) -> bool:
    given: Any = config.invocation_params.args
    return not any(os.path.exists(str(part).partition("::")[0]) for part in given)


def _rank(item: pytest.Item) -> int:
    for rank, marker in enumerate(("endurance", "browser", "storm")):
        if item.get_closest_marker(marker):
            return rank
    return len(MARKERS)
