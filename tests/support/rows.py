"""Tables: rows as parameters of a test, and values compared as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest


def named(rows: Mapping[str, Any]) -> list[Any]:
    """Parameters under their names. A tuple is a row of several columns, anything else the only one."""
    return [
        pytest.param(*(row if type(row) is tuple else (row,)), id=name)
        for name, row in rows.items()
    ]


def same(found: object, expected: object) -> bool:
    """Whether two values are the same JSON: 1, 1.0, true and "1" are four things."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
