"""The stages of CI: which, in which order, and what becomes of those that find no time."""

from __future__ import annotations

import configparser
import datetime
import importlib.util
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAYS = [datetime.date(2030, 1, day) for day in range(1, 31)]


@pytest.fixture(scope="module")
def stages() -> Any:
    """.ci/stages.py, which is no package."""
    spec = importlib.util.spec_from_file_location("stages", ROOT / ".ci" / "stages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_optional_stages_change_places_from_day_to_day(stages: Any) -> None:
    """Every day all of the near ones, so each interpreter, and then some of the far ones, all in a few days."""
    orders, far = set(), []
    for day in DAYS:
        required, optional = stages.plan(day)
        assert required == list(stages.REQUIRED)
        assert set(optional[: len(stages.NEAR)]) == set(stages.NEAR)
        far.append(optional[len(stages.NEAR) :])
        assert len(far[-1]) == stages.EACH_DAY
        orders.add(tuple(optional))
    days = len(stages.FAR) // stages.EACH_DAY
    for begin in range(len(DAYS) - days):
        assert {stage for day in far[begin : begin + days] for stage in day} == set(stages.FAR)
    assert len(orders) > len(DAYS) / 2


def test_every_stage_names_an_environment_that_there_is(stages: Any) -> None:
    """Of tox.ini; tox itself would make an empty one of a name that it does not know."""
    configuration = configparser.RawConfigParser()
    configuration.read(ROOT / "tox.ini")
    known = set(re.split(r"[,\s]+", configuration["tox"]["env_list"]))
    known |= {section.partition(":")[2] for section in configuration.sections()}
    named = [
        stage.arguments[stage.arguments.index("-e") + 1]
        for stage in (*stages.REQUIRED, *stages.NEAR, *stages.FAR)
        if "-e" in stage.arguments
    ]
    assert named and set(named) <= known


def test_what_finds_no_time_is_left_out_by_name(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """After the budget no optional stage begins, and that is no failure."""
    monkeypatch.setattr(stages, "BUDGET", 0.0)
    _, optional = stages.plan(DAYS[0])
    results = stages.run(optional, 2, tmp_path, time.monotonic() - 1)
    assert results == []
    assert stages.close(results, optional, time.monotonic()) == 0
    said = capsys.readouterr().out
    assert all(f"left out {stage.name}\n" in said for stage in optional)


def test_a_required_stage_begins_after_the_budget(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an optional one behind it does not."""
    quick, other = stages.Stage("quick", ()), stages.Stage("other", ())
    monkeypatch.setattr(stages, "DEV", (sys.executable, "-c", ""))
    monkeypatch.setattr(stages, "REQUIRED", (quick,))
    begun = time.monotonic() - stages.BUDGET - 1
    results = stages.run([quick, other], 2, tmp_path, begun)
    assert [(result.stage.name, result.outcome) for result in results] == [("quick", "passed")]


STARTS = {"required": True, "optional": False}


@pytest.mark.parametrize("must", STARTS.values(), ids=list(STARTS))
def test_what_is_under_way_at_the_end_is_stopped(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, must: bool
) -> None:
    """An optional one is left out then; a required one that has not ended is a failure."""
    hanging = stages.Stage("hanging", ())
    monkeypatch.setattr(stages, "DEV", (sys.executable, "-c", "import time; time.sleep(1000)"))
    monkeypatch.setattr(stages, "REQUIRED", (hanging,) if must else ())
    monkeypatch.setattr(stages, "BUDGET", stages.HARD_STOP)
    begun = time.monotonic() - stages.HARD_STOP + 1  # a second before it
    results = stages.run([hanging], 1, tmp_path, begun)
    assert [result.outcome for result in results] == ["stopped"]
    assert stages.close(results, [hanging], begun) == (1 if must else 0)


OUTCOMES = [
    ("..F..... [ 12%]", True),
    ("....E", True),
    ("tests/encoding/test_wire.py ..F [ 43%]", True),
    ("tests/encoding/test_wire.py ... [ 43%]", False),
    ("........ [ 12%]", False),
    ("FAILED: no interpreter", False),
    ("..s..x.. [100%]", False),
]


@pytest.mark.parametrize("line, failed", OUTCOMES)
def test_a_failure_is_seen_in_a_stage_that_was_stopped(
    stages: Any, line: str, failed: bool
) -> None:
    """By pytest's line of progress: its summary is not there yet."""
    assert bool(stages.PROGRESS.match(line)) is failed


def test_the_last_lines_hold_pytests_own(stages: Any, capsys: Any) -> None:
    """'N passed' stands beside the stage."""
    said = "...\n======= 12 passed, 1 skipped in 3.45s =======\n= 1 failed, 2 passed in 61.02s (0:01:01) =\n"
    result = stages.Result(stages.REQUIRED[0], "passed", 65.0, said)
    assert result.summaries() == [
        "12 passed, 1 skipped in 3.45s",
        "1 failed, 2 passed in 61.02s (0:01:01)",
    ]
    assert stages.close([result], [], time.monotonic()) == 0
    assert "12 passed, 1 skipped in 3.45s" in capsys.readouterr().out
