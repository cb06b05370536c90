"""The brokers of a benchmark, each on loopback, started as the tests start theirs; and what lies in them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ContextManager

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

from support.rabbits import OwnRabbit, own_rabbit_in  # noqa: E402
from support.relays import (  # noqa: E402, F401  (running_relay: for who imports this)
    EVENTS,
    OwnRedis,
    own_redis_with_a_file,
    running_relay,
)

KINDS = ("classic", "quorum", "redis")
APP = "shop"
QUEUES = (f"whisperr.events.{APP}", "whisperr.dead-letters")
WORKERS = Path(__file__).resolve().parent / "workers"
FULL = 1  # byte; less memory than any Redis needs


class Broker:
    """One kind of queue. Those of a RabbitMQ share it, and are used one after the other."""

    def __init__(self, kind: str, own: OwnRabbit | OwnRedis) -> None:
        self.kind = kind
        self.own = own
        self.url = own.url

    def clear(self) -> None:
        """Begin with empty queues."""
        if isinstance(self.own, OwnRedis):
            self.own.client.flushall()
            return
        self.own.clear(*QUEUES)
        for queue in QUEUES:
            self.own.declare(queue, self.kind)
        self.own.write_down()

    def bodies(self) -> list[bytes]:
        """Of all messages that wait."""
        if isinstance(self.own, OwnRedis):
            return [fields[b"body"] for _, fields in self.own.client.xrange(EVENTS + APP)]
        return [bytes(message.body) for message in self.own.messages(QUEUES[0])]

    # --- outages, each for as long as its block lasts

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        self.own.kill()
        try:
            yield
        finally:
            self.own.start()

    def frozen(self) -> ContextManager[None]:
        return self.own.frozen()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """A RabbitMQ in its memory alarm; a Redis that has none left."""
        if isinstance(self.own, OwnRabbit):
            with self.own.alarm():
                yield
            return
        self.own.client.config_set("maxmemory", FULL)
        try:
            yield
        finally:
            self.own.client.config_set("maxmemory", 0)


@contextlib.contextmanager
def brokers(kinds: list[str], folder: Path) -> Iterator[list[Broker]]:
    """Those of these kinds, for the length of a ``with``."""
    with contextlib.ExitStack() as stack:
        made: dict[type, OwnRabbit | OwnRedis] = {}
        for own, start, needed in (
            (OwnRabbit, own_rabbit_in, set(kinds) - {"redis"}),
            (OwnRedis, own_redis_with_a_file, set(kinds) & {"redis"}),
        ):
            if needed:
                (folder / own.__name__).mkdir()
                made[own] = stack.enter_context(start(folder / own.__name__))
        yield [Broker(kind, made[OwnRedis if kind == "redis" else OwnRabbit]) for kind in kinds]


def worker(name: str, **options: Any) -> list[str]:
    """The command of a program in ``workers``."""
    arguments = [f"--{option}={value}" for option, value in options.items()]
    return [sys.executable, str(WORKERS / f"{name}.py"), "whisperr", *arguments]


def worker_output(name: str, **options: Any) -> tuple[dict[str, float], int]:
    """Its figures, and how many events it has sent."""
    output = subprocess.run(worker(name, **options), stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(output.splitlines()[-1])
    return found["figures"], found["sent"]
