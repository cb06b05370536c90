"""What is measured: each measure runs its workers in turn (A, B, A, B, …) and returns samples.

In turn, because a machine that is slow for a minute is then slow for all. What is compared
is the median of each; the samples themselves are in the JSON.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping
from urllib.request import urlopen

from environments import Environment, finish

# figure -> environment -> one value for each round
Samples = Dict[str, Dict[str, List[float]]]

NO_SDK = "no SDK"  # the column of a loop without any
SLOW = "sentry_sdk"  # one request for each event, however many there are: give it fewer
SLOW_EVENTS = 1_000
NO_QUEUE = "sentry_sdk"  # encodes in the calling thread and drops what it can't send


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

    def expect(self, figures: Mapping[str, float]) -> None:
        """A figure for what never arrived is worth nothing. Raises."""
        with urlopen(self.url, timeout=10) as answer:
            total = int(answer.read())
        arrived, self._seen = total - self._seen, total
        if arrived != figures["events"]:
            raise SystemExit(f"{arrived} of {figures['events']:.0f} events arrived")


@dataclass(frozen=True)
class Bench:
    """What every measure is given."""

    environments: list[Environment]
    sink: Sink
    rounds: int
    quick: bool

    def scaled(self, full: int) -> int:
        return full // 5 if self.quick else full

    def alternate(self, measure: Callable[[Environment], Mapping[str, float] | None]) -> Samples:
        """Rounds of one measurement in each environment; None where it has no meaning."""
        samples: Samples = defaultdict(dict)
        for _ in range(self.rounds):
            for environment in self.environments:
                for figure, value in (measure(environment) or {}).items():
                    samples[figure].setdefault(environment.name, []).append(value)
        return samples


def burst(bench: Bench) -> Samples:
    """track(), called 5,000 times in a row."""

    def measure(environment: Environment) -> Mapping[str, float]:
        bursts = 1 if environment.module == SLOW else 10
        size = SLOW_EVENTS if environment.module == SLOW else 5_000
        figures = environment.run("burst", url=bench.sink.url, bursts=bursts, burst=size)
        bench.sink.expect(figures)
        return figures

    return bench.alternate(measure)


def delivery(bench: Bench) -> Samples:
    """CPU of events tracked and delivered."""

    def measure(environment: Environment) -> Mapping[str, float]:
        slow = environment.module == SLOW
        events = SLOW_EVENTS if slow else bench.scaled(100_000)
        size = min(events, 5_000)
        figures = environment.run("delivery", url=bench.sink.url, events=events, round=size)
        bench.sink.expect(figures)
        return figures

    return bench.alternate(measure)


def memory(bench: Bench) -> Samples:
    """Bytes of a queued event."""

    def measure(environment: Environment) -> Mapping[str, float] | None:
        if environment.module == NO_QUEUE:
            return None
        figures = {}
        for figure, traced in (("resident", 0), ("traced", 1)):
            if traced or sys.platform == "linux":
                found = environment.run("memory", events=bench.scaled(50_000), traced=traced)
                figures[figure] = found["bytes_per_event"]
        return figures

    return bench.alternate(measure)


def idle(bench: Bench) -> Samples:
    """Wake-ups of an idle client. All at once: they do nothing."""
    if sys.platform != "linux":
        return {}
    seconds = 10.0
    running = [
        (environment, environment.start("idle", url=bench.sink.url, seconds=seconds))
        for environment in bench.environments
    ]
    found = [(environment.name, finish(process)) for environment, process in running]
    bench.sink.expect({"events": len(found)})
    return {"wake_ups": {name: [figures["wake_ups"]] for name, figures in found}}


def imports(bench: Bench) -> Samples:
    """Milliseconds that an import adds to an interpreter that does nothing else."""

    def measure(environment: Environment) -> Mapping[str, float]:
        bare = _cost(environment, "pass")
        full = _cost(environment, f"import {environment.module}")
        return {figure: full[figure] - bare[figure] for figure in full}

    for environment in bench.environments:
        measure(environment)  # writes the byte code
    return _more_rounds(bench, 20).alternate(measure)


def construction(bench: Bench) -> Samples:
    """Milliseconds of the first client and of its first call."""

    def measure(environment: Environment) -> Mapping[str, float]:
        figures = environment.run("construction", url=bench.sink.url)
        bench.sink.expect(figures)
        return figures

    return _more_rounds(bench, 10).alternate(measure)


def tail(bench: Bench) -> Samples:
    """How late a loop of the application is meanwhile."""

    def measure(environment: Environment) -> Mapping[str, float]:
        slow = environment.module == SLOW
        given = {"events": 2_000, "per_tick": 1} if slow else {}
        figures = environment.run("tail", url=bench.sink.url, **given)
        bench.sink.expect(figures)
        return figures

    first = bench.environments[0]
    none = Environment(NO_SDK, "none", first.python)
    with_none = Bench([*bench.environments, none], bench.sink, bench.rounds, bench.quick)
    return with_none.alternate(measure)


MEASURES: dict[str, Callable[[Bench], Samples]] = {
    measure.__name__: measure
    for measure in (burst, delivery, memory, idle, imports, construction, tail)
}


def slowest_imports(environment: Environment, count: int = 25) -> list[tuple[float, str]]:
    """The modules that cost most by themselves in an import, in milliseconds."""
    said = environment.python_c(f"import {environment.module}", "-X", "importtime")
    rows = [line[len("import time:") :].split("|") for line in said.splitlines()]
    own = [(int(row[0]) / 1e3, row[2].strip()) for row in rows if row[0].strip().isdigit()]
    return sorted(own, reverse=True)[:count]


def medians(samples: Samples) -> dict[str, dict[str, float]]:
    return {
        figure: {name: statistics.median(values) for name, values in by_name.items()}
        for figure, by_name in samples.items()
    }


def _more_rounds(bench: Bench, rounds: int) -> Bench:
    """For what is short and noisy."""
    return Bench(bench.environments, bench.sink, max(rounds, bench.rounds), bench.quick)


def _cost(environment: Environment, program: str) -> dict[str, float]:
    """Milliseconds of one interpreter, from its start to its end."""
    cpu, begun = _children_cpu(), time.perf_counter()
    environment.python_c(program)
    took = time.perf_counter() - begun
    return {"wall_ms": took * 1e3, "cpu_ms": (_children_cpu() - cpu) * 1e3}


def _children_cpu() -> float:
    """Seconds of all children that ended."""
    try:
        from resource import RUSAGE_CHILDREN, getrusage
    except ImportError:  # Windows, which does not say
        return 0.0
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
