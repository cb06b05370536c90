"""Runs a plan: the columns take turns within a repeat, and what was sent must have arrived.

In turn, because a machine that is slow for a minute is then slow for all. A sample whose
events did not all arrive at the sink is thrown away, and why is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List
from urllib.request import urlopen

from environments import JOURNAL, Environment
from plan import Part

# figure -> column -> one value for each repeat
Samples = Dict[str, Dict[str, List[float]]]

LIMIT = 300  # seconds for one measurement


class Invalid(Exception):
    """A measurement that failed, or whose events did not all arrive: no figure."""


class Sink:
    """sink.py in a process of its own, for the length of a ``with``."""

    def __enter__(self) -> Sink:
        script = Path(__file__).resolve().parent / "sink.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self._seen = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("", timeout=10)

    def total(self, what: str = "") -> int:
        """How many events came since it began, or how many ``requests``."""
        with urlopen(f"{self.url}/{what}", timeout=10) as answer:
            return int(answer.read())

    def arrived(self) -> int:
        """How many events came since this was last asked. Opens the gate, should it be closed."""
        with urlopen(f"{self.url}/gate/open", timeout=10) as answer:
            total = int(answer.read())
        fresh, self._seen = total - self._seen, total
        return fresh


@dataclass
class Result:
    """What one part found."""

    samples: Samples = field(default_factory=lambda: defaultdict(dict))
    invalid: dict[str, str] = field(default_factory=dict)  # column -> why it has no figure

    def add(self, column: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            self.samples[figure].setdefault(column, []).append(value)


def measure(
    part: Part, columns: list[Environment], sink: Sink, quick: bool, repeats: int | None = None
) -> Result:
    """All samples of one part. ``repeats``: instead of those of the plan."""
    result = Result()
    concerned = [column for column in columns if part.concerns(column.key, quick)]
    if part.together:
        _together(part, concerned, sink, quick, result)
        return result
    for _ in range(repeats or part.times(quick)):
        for column in concerned:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    output = _finish(_start(part, column, sink, quick, folder))
                _expect(sink.arrived(), output["sent"] if column.sdk != "none" else 0)
            except Invalid as why:
                result.invalid[column.key] = str(why)
            else:
                result.add(column.key, output["figures"])
    return result


def _together(
    part: Part, columns: list[Environment], sink: Sink, quick: bool, result: Result
) -> None:
    """All columns at once; one sample."""
    with tempfile.TemporaryDirectory() as folder:
        running = {column: _start(part, column, sink, quick, folder) for column in columns}
        outputs = {}
        for column, process in running.items():
            try:
                outputs[column] = _finish(process)
            except Invalid as why:
                result.invalid[column.key] = str(why)
    try:
        _expect(sink.arrived(), sum(outputs[it]["sent"] for it in outputs if it.sdk != "none"))
    except Invalid as why:
        result.invalid.update({column.key: str(why) for column in columns})
        return
    for column, output in outputs.items():
        result.add(column.key, output["figures"])


def _start(
    part: Part, column: Environment, sink: Sink, quick: bool, folder: str
) -> subprocess.Popen[str]:
    options = part.options(column.key, quick)
    if column.key == JOURNAL:
        options["journal"] = folder
    return column.start(part.worker, url=sink.url, **options)


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a worker printed. Raises Invalid when it failed."""
    try:
        output, complaint = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Invalid(f"not done after {LIMIT} s") from None
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        last = complaint.strip().splitlines()[-1:] or [""]
        raise Invalid(f"status {process.returncode}: {last[0]}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _expect(arrived: int, sent: int) -> None:
    """A figure for what never arrived is worth nothing."""
    if arrived != sent:
        raise Invalid(f"{arrived:,} of {sent:,} events arrived")
