"""track() while the broker comes and goes: what the calls take, what is lost, what comes twice.

    python broker_outages.py [--kinds classic,quorum,redis] [--outages down,frozen,full] [--seconds 30]

One process calls track() 500 times a second: for so long with its broker, and then as long while that is
killed, frozen (SIGSTOP), or full: in its memory alarm (a RabbitMQ), or out of memory (a Redis). Printed are
the median and the 99th percentile of all calls, and the usual 99th percentile of a second. Afterwards
the messages in the broker are counted. An event that is lost is an error; one that came twice, under one
id, is told: a broker that was cut from its client, or frozen, may have had the message.

Needs ``whisperr[amqp,redis]``, a RabbitMQ and a Redis that are installed, and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brokers import KINDS, Broker, brokers, worker

OUTAGES = ("down", "frozen", "full")
FLUSH = 240.0  # seconds for what has gathered, and the pauses before it
RATE = 500  # calls a second


class Steady:
    """The process that calls."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, word: str, seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(word, seconds, file=self._process.stdin, flush=True)
        return dict(json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def steady(broker: Broker) -> Iterator[Steady]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = worker("steady", broker=broker.url, rate=RATE)
    with subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield Steady(process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(FLUSH)


def measure(broker: Broker, outage: str, seconds: float) -> dict[str, float]:
    broker.clear()
    with steady(broker) as caller:
        caller.do("run", 1)
        assert caller.do("flush", FLUSH)["figures"]["done"]
        calm = caller.do("run", seconds)["figures"]
        with getattr(broker, outage)():
            trouble = caller.do("run", seconds)["figures"]
        end = caller.do("flush", FLUSH)
        assert end["figures"]["done"], "not delivered"
        lost, copies = account(broker, end["sent"])
    assert lost == 0, f"{lost} of {end['sent']} events are lost"
    found = {"sent": end["sent"], "lost": lost, "copies": copies}
    for name in ("median_us", "p99_us", "usual_p99_us"):
        found[name], found[f"{name}_in_outage"] = calm[name], trouble[name]
        found[f"{name}_ratio"] = trouble[name] / calm[name]
    return found


def account(broker: Broker, sent: int) -> tuple[int, int]:
    """How many events of those are not there, and how many are there again."""
    events = [event for body in broker.bodies() for event in json.loads(body)["events"]]
    found = Counter(event["properties"]["n"] for event in events)
    ids = {event["context"]["$message_id"] for event in events}
    assert len(ids) == len(found), "an event under two ids"
    return len(set(range(sent)) - set(found)), len(events) - len(found)


def main() -> None:
    given = parse()
    with tempfile.TemporaryDirectory() as folder, brokers(given.kinds, Path(folder)) as found:
        for broker in found:
            for outage in given.outages:
                figures = measure(broker, outage, given.seconds)
                said = ", ".join(f"{name} {value:.10g}" for name, value in _rounded(figures))
                print(f"{broker.kind} {outage}: {said}", flush=True)


def _rounded(figures: dict[str, float]) -> list[tuple[str, float]]:
    return [(name, round(value, 2)) for name, value in figures.items()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, known in (("kinds", KINDS), ("outages", OUTAGES)):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","), default=list(known))
    parser.add_argument("--seconds", type=float, default=30.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
