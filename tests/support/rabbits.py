"""A RabbitMQ that a test may freeze, starve, kill and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import amqp
from redis_server import free_port

from support.deadlines import DEADLINE, generous, wait_until
from support.freezing import freeze, thaw
from support.parts import find_rabbitmq

LARGEST = 2 << 20  # bytes of a message
CONFIGURATION = f"""
listeners.tcp.default = 127.0.0.1:{{port}}
max_message_size = {LARGEST}
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 1MB
"""
HIGH, NONE = "0.8", "0.000001"  # of the machine's memory: no alarm, and one at once


class OwnRabbit:
    """On loopback, in a folder of its own, with a registry of nodes of its own (``epmd``)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"amqp://127.0.0.1:{self.port}"
        self._registry = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._registry),
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",  # no waiting by spinning
        }

    def start(self) -> None:
        (self._folder / "plugins").write_text("[].")
        (self._folder / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port))
        if not self._processes:
            epmd = shutil.which("epmd")
            assert epmd is not None
            self._run([epmd, "-port", str(self._registry), "-address", "127.0.0.1"])
        server = find_rabbitmq()
        assert server is not None
        node = self._run([server])
        has_begun = wait_until(lambda: self._answers() or node.poll() is not None, generous(60))
        assert has_begun and node.poll() is None, self.said()

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with open(self._folder / "said", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=str(self._folder),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def said(self) -> str:
        return (self._folder / "said").read_text(errors="replace")[-5000:]

    def kill(self) -> None:
        """As an operator's kill -9, or the OOM killer, does."""
        self._end(self._processes.pop())

    def remove(self) -> None:
        """All of it."""
        while self._processes:
            self._end(self._processes.pop())

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

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

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, amqp.AMQPError):
            self.ask(lambda channel: None)
            return True
        return False

    # --- what lies in it

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What the question returns, of a channel of its own."""
        limit = generous(5)
        with amqp.Connection(
            f"127.0.0.1:{self.port}", connect_timeout=limit, read_timeout=limit, write_timeout=limit
        ) as connection:
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
