"""A run of pytest inside a test, with the hooks and fixtures of these tests, on a test of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.groups import Group, started

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = f"""\
import importlib.util
path = {str(ROOT / "tests" / "conftest.py")!r}
spec = importlib.util.spec_from_file_location("conftest_of_the_tests", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
globals().update((name, what) for name, what in vars(module).items() if name[:2] != "__")
"""


class InnerRun:
    """One under way: its processes, and what it said so far."""

    def __init__(self, group: Group, words: Path) -> None:
        self.group = group
        self._words = words

    def said(self) -> str:
        return self._words.read_text(errors="replace")


@contextmanager
def inner_run(folder: Path, source: str, *options: str, ci: bool = False) -> Iterator[InnerRun]:
    """Of a file with this source, in ``folder``. ``ci``: as on a machine of CI."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(source)
    words = folder / "said"
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *options]
    command += ["--basetemp", str(folder / "base"), str(folder / "test_it.py")]
    inherited = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("PYTEST_") and name != "CI"
    }
    with open(words, "wb") as output, started(
        command,
        lambda: words.read_text(errors="replace"),
        cwd=str(folder),
        env={**inherited, **({"CI": "true"} if ci else {})},
        stdout=output,
        stderr=subprocess.STDOUT,
    ) as group:
        yield InnerRun(group, words)
