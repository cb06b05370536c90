"""A RabbitMQ that a test may freeze, starve, kill and start again."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import amqp
from rabbitmq_server import (
    ANSWER_TIMEOUT,
    CONFIGURATION,
    START_TIMEOUT,
    RabbitServer,
    find_rabbitmq,
)

from support.deadlines import DEADLINE, generous
from support.freezing import freeze, thaw

LARGEST = 2 << 20  # bytes of a message
HIGH, NONE = "0.8", "0.000001"  # of the machine's memory: no alarm, and one at once


class OwnRabbit(RabbitServer):
    """On loopback, in a folder of its own."""

    configuration = f"{CONFIGURATION}max_message_size = {LARGEST}\n"
    start_timeout = generous(START_TIMEOUT)
    answer_timeout = generous(ANSWER_TIMEOUT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing, for as long as the block lasts."""
        script = self._processes[-1].pid
        children = Path(f"/proc/{script}/task/{script}/children").read_text().split()
        node = int(children[0]) if children else script  # unless the script became it
        freeze(node)
        try:
            yield
        finally:
            thaw(node)

    def control(self, *arguments: str) -> str:
        """What an administrator's command answers."""
        program = find_rabbitmq("rabbitmqctl")
        assert program is not None
        done = subprocess.run(
            [program, "-q", "-n", self._environment["RABBITMQ_NODENAME"], *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def write_down(self) -> None:
        """A quorum queue that was declared a moment ago is forgotten by a kill -9, with all in it."""
        self.control("eval", "[dets:sync(T) || T <- dets:all()].")

    @contextlib.contextmanager
    def alarm(self) -> Iterator[None]:
        """It has too little memory, for as long as the block lasts."""
        self.control("set_vm_memory_high_watermark", NONE)
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", HIGH)

    # --- what lies in it

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What the question returns, of a channel of its own."""
        with self.connected() as connection:
            return question(connection.channel())

    def declare(self, queue: str, kind: str = "classic", **arguments: Any) -> None:
        given = {"x-queue-type": kind, **arguments}
        self.ask(
            lambda channel: channel.queue_declare(
                queue, durable=True, auto_delete=False, arguments=given
            )
        )

    def has(self, queue: str) -> bool:
        with contextlib.suppress(amqp.NotFound):
            self.waiting(queue)
            return True
        return False

    def waiting(self, queue: str) -> int:
        """Messages that nobody has been given."""
        return int(
            self.ask(lambda channel: channel.queue_declare(queue, passive=True).message_count)
        )

    def messages(self, queue: str) -> list[Any]:
        """All that wait. They go back when the connection ends, that is, at once."""

        def take(channel: Any) -> list[Any]:
            return list(iter(lambda: channel.basic_get(queue), None))

        return list(self.ask(take))

    def counts(self) -> dict[str, tuple[int, int]]:
        """By queue: the messages that wait, and those that somebody holds; as of some seconds ago."""
        said = self.control("list_queues", "name", "messages_ready", "messages_unacknowledged")
        rows = [line.split() for line in said.splitlines()]
        return {
            row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].isdigit()
        }

    def clear(self, *queues: str) -> None:
        """Delete them, if they are there."""
        for queue in queues:
            self.ask(lambda channel: channel.queue_delete(queue))  # noqa: B023  it is asked at once


@contextlib.contextmanager
def own_rabbit_in(folder: Path) -> Iterator[OwnRabbit]:
    made = OwnRabbit(folder)
    try:
        made.start()
        yield made
    finally:
        made.remove()
