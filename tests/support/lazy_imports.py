"""Programs whose imports are lazy: each module is loaded when one of its names is used (CPython 3.15).

With TESTS_LAZY_IMPORTS=all every program and server that the tests start is such a one. pytest itself
does not start in that mode.
"""

from __future__ import annotations

import os
import sys

HAS_LAZY = sys.version_info >= (3, 15)
LAZY = {"PYTHON_LAZY_IMPORTS": "all"}


def mode() -> dict[str, str]:
    """What the environment of a program says of it."""
    return LAZY if os.environ.get("TESTS_LAZY_IMPORTS") == "all" else {}
