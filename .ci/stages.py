"""The stages of CI, several side by side, within a budget of time.

Run by .ci/run, which has found the interpreters and installed what is missing. The required stages
come first and must all end. The optional ones follow, in an order that changes from day to day, as
soon as a lane is free, and only while the budget lasts. The far ones come last: each day has two of
them, so that every six days have all. What was not begun, was stopped at the end of the budget, or is
another day's, is left out by name. A test that fails in any stage fails the run.
"""

from __future__ import annotations

import datetime
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import watchdog  # noqa: E402  (the tests' own)

DEV = (sys.executable, str(ROOT / "dev.py"))
NEWER = str(ROOT / ".ci" / "newer")
BUDGET = 75 * 60.0  # seconds; nothing is begun later
HARD_STOP = 80 * 60.0  # seconds; what is still under way then is ended
GRACE = 60.0  # seconds that it has to end by itself
WORKERS = "3"  # of pytest in a stage: there is another one beside it
LOOK = 0.2  # seconds between two looks at the stages
WIDTH = 100
SUMMARY = re.compile(
    r"^=*\s*(\d+ (?:passed|failed|error|skipped|deselected).* in [\d.]+s.*?)\s*=*$"
)
# A line of pytest's progress in which a test has failed.
PROGRESS = re.compile(r"^(?:\S+\.py )?[.sxXFE]*[FE][.sxXFE]*(?: +\[ *\d+%\])?$")


class Stage(NamedTuple):
    name: str
    arguments: tuple[str, ...]  # of dev.py
    runner: tuple[str, ...] = ()  # in place of dev.py on this Python


def tox(environment: str, *arguments: str) -> tuple[str, ...]:
    return ("tox", "run", "-e", environment, "--", *arguments)


def _ignoring(*folders: str) -> tuple[str, ...]:
    return tuple(f"--ignore={folder}" for folder in folders)


def _minor(environment: str) -> str:
    """What "312" is called."""
    return f"3.{environment[1:]}"


NEWEST = ("314", "315")  # of which few machines have one
MIDDLE = ("39", "310", "311", "312")
HOSTS = "tests/hosts"
DIFFERS = ("tests/atomic", "tests/process")  # threads, forks and exits are not the same everywhere
FILES = "tests/journal"
SLOW = "endurance"
REQUIRED = (
    Stage("3.13", ("test", "-m", "not endurance")),
    Stage(
        "3.8",
        tox(
            *("py38", "-m", "not storm and not endurance and not tools and not browser"),
            f"--ignore={HOSTS}",
        ),
    ),
    Stage("lint", ("tox", "run", "-e", "lint")),
    Stage("type", ("tox", "run", "-e", "type")),
)
NEAR = (
    *(Stage(_minor(each), tox(f"py{each}", *DIFFERS)) for each in MIDDLE),
    *(
        Stage(_minor(each), tox(f"py{each}", *DIFFERS, FILES), (NEWER, _minor(each)))
        for each in NEWEST
    ),
    Stage("msgspec", ("tox", "run", "-e", "msgspec")),
    Stage("without an encoder", ("tox", "run", "-e", "stdlib-json")),
    Stage("wheels", ("tox", "run", "-e", "wheels")),
    Stage("oldest", ("tox", "run", "-e", "oldest")),  # of what we import; 3.13 has the newest
    Stage("docs", ("tox", "run", "-e", "docs")),
)
FAR = (
    Stage("3.8, storms", tox("py38", "-m", "storm and not browser", f"--ignore={HOSTS}")),
    Stage("endurance, files", ("test", "-m", SLOW, "-k", "not 64_adopters", FILES)),
    *(
        Stage(f"{_minor(each)}, others", tox(f"py{each}", *_ignoring(HOSTS, *DIFFERS)))
        for each in MIDDLE
    ),
    *(Stage(f"{_minor(each)}, hosts", tox(f"py{each}", HOSTS)) for each in MIDDLE),
    Stage("3.8, hosts", tox("py38", HOSTS)),
    # What is left out takes the whole machine: by hand.
    Stage("endurance, others", ("test", "-m", SLOW, "-k", "not short_jobs", *_ignoring(FILES))),
)
EACH_DAY = 2  # of the far ones: those of one day, and after all of them the first two again


def plan(day: datetime.date) -> tuple[list[Stage], list[Stage]]:
    """The required stages, and the optional ones of this day in its order."""
    number = day.toordinal()
    lots = random.Random(number)
    far = [FAR[(number + half * len(FAR) // EACH_DAY) % len(FAR)] for half in range(EACH_DAY)]
    return list(REQUIRED), lots.sample(NEAR, len(NEAR)) + far


class Running:
    """A stage under way, in a process group of its own, its output in a file."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.begun = time.monotonic()
        self.stopped_at: float | None = None
        place = folder / re.sub(r"\W+", "-", stage.name)
        place.mkdir(parents=True)
        self._log = place / "log"
        environment = {"TESTS_WORKERS": WORKERS, **os.environ, "TOX_WORK_DIR": str(place / "tox")}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*(stage.runner or DEV), *stage.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Politely at first."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
            os.killpg(self._process.pid, signal.SIGTERM)
        elif time.monotonic() - self.stopped_at > GRACE:
            os.killpg(self._process.pid, signal.SIGKILL)

    def result(self) -> Result:
        said = self._log.read_text(errors="replace")
        seconds = time.monotonic() - self.begun
        failed = any(PROGRESS.match(line) for line in said.splitlines())
        if self.stopped_at is None:
            failed = self._process.returncode != 0
        outcome = "FAILED" if failed else "stopped" if self.stopped_at else "passed"
        return Result(self.stage, outcome, seconds, said)


class Result(NamedTuple):
    stage: Stage
    outcome: str
    seconds: float
    said: str

    def summaries(self) -> list[str]:
        """Pytest's own last lines."""
        found = map(SUMMARY.match, self.said.splitlines())
        return [match.group(1) for match in found if match]


def run(stages: list[Stage], lanes: int, folder: Path, begun: float) -> list[Result]:
    """So many at once, in this order: the required ones first, which begin even after the budget."""
    waiting, under_way, results = list(stages), [], []
    while waiting or under_way:
        passed = time.monotonic() - begun
        while waiting and len(under_way) < lanes and passed <= _latest_begin(waiting[0]):
            under_way.append(Running(waiting.pop(0), folder))
            say(f"{under_way[-1].stage.name}: begins at {passed:.0f} s")
        if not under_way:
            break
        for running in list(under_way):
            if passed > HARD_STOP and not running.has_ended():
                running.stop()
            if running.has_ended():
                under_way.remove(running)
                results.append(running.result())
                show(results[-1])
        time.sleep(LOOK)
    return results


def _latest_begin(stage: Stage) -> float:
    return HARD_STOP if stage in REQUIRED else BUDGET


def say(words: str) -> None:
    print(f"== {words}", flush=True)


def show(result: Result) -> None:
    """A stage's output, in one piece."""
    head = f"{result.stage.name}: {result.outcome} after {result.seconds:.0f} s"
    print(f"\n{f'== {head} ==':=<{WIDTH}}\n{result.said}", flush=True)


def close(results: list[Result], planned: list[Stage], begun: float) -> int:
    """The last lines: each stage with pytest's own summary, and what was left out."""
    say(f"stages, in {time.monotonic() - begun:.0f} s")
    for result in results:
        tests = "; ".join(result.summaries())
        print(f"   {result.outcome:8} {result.stage.name:16} {result.seconds:5.0f} s  {tests}")
    done = {result.stage for result in results if result.outcome != "stopped"}
    for stage in planned:
        if stage not in done:
            print(f"   left out {stage.name}")
    failed = [result.stage.name for result in results if result.outcome == "FAILED"]
    missing = [stage.name for stage in REQUIRED if stage in planned and stage not in done]
    if failed or missing:
        say(f"FAILED: {', '.join([*failed, *missing])}")
        return 1
    say("passed")
    return 0


def main(names: list[str]) -> int:
    """All stages, or those that are named."""
    begun = time.monotonic() - float(os.environ.get("CI_SECONDS_SO_FAR", "0"))
    every = (*REQUIRED, *NEAR, *FAR)
    strange = set(names) - {stage.name for stage in every}
    if strange:
        say(f"FAILED: no such stage: {', '.join(sorted(strange))}")
        return 2
    required, optional = plan(datetime.date.today())
    others = [stage for stage in FAR if stage not in optional]
    if names:
        required = [stage for stage in REQUIRED if stage.name in names]
        optional = [stage for stage in (*NEAR, *FAR) if stage.name in names]
        others = []
    watchdog.start()
    folder = ROOT / ".dev" / "ci"
    shutil.rmtree(folder, ignore_errors=True)
    lanes = int(os.environ.get("CI_LANES", "2"))
    subprocess.check_call([*DEV, "tox", "--version"])
    results = run([*required, *optional], lanes, folder, begun)
    return close(results, [*required, *optional, *others], begun)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
