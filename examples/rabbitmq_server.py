"""A RabbitMQ of one's own: on loopback, in a given folder, for as long as a ``with`` block lasts.

Its program comes with the system (Debian: ``apt-get install rabbitmq-server``); a service need not run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import amqp
from redis_server import free_port

START_TIMEOUT = 60.0  # seconds until a node must answer
ANSWER_TIMEOUT = 5.0  # seconds for one answer
CONFIGURATION = """
listeners.tcp.default = 127.0.0.1:{port}
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 1MB
"""


@contextlib.contextmanager
def own_rabbitmq(folder: Path) -> Iterator[str]:
    """The URL of a RabbitMQ that answers. Raises RuntimeError when there is none to start."""
    server = RabbitServer(folder)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


def find_rabbitmq(program: str = "rabbitmq-server") -> str | None:
    """Of Debian's not the one on the PATH, which runs as another user."""
    return shutil.which(program, path="/usr/lib/rabbitmq/bin") or shutil.which(program)


class RabbitServer:
    """One node, with a registry of nodes of its own (``epmd``)."""

    configuration = CONFIGURATION
    start_timeout = START_TIMEOUT
    answer_timeout = ANSWER_TIMEOUT

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
        """Returns once it answers. Raises RuntimeError when it does not."""
        program, registry = find_rabbitmq(), shutil.which("epmd")
        if program is None or registry is None:
            raise RuntimeError("no RabbitMQ: sudo apt-get install rabbitmq-server")
        (self._folder / "plugins").write_text("[].")
        (self._folder / "rabbitmq.conf").write_text(self.configuration.format(port=self.port))
        if not self._processes:
            self._run([registry, "-port", str(self._registry), "-address", "127.0.0.1"])
        node = self._run([program])
        deadline = time.monotonic() + self.start_timeout
        while not self.answers():
            if node.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program} does not start: {self.said()}")
            time.sleep(0.02)  # it tells nobody when it listens

    def answers(self) -> bool:
        with contextlib.suppress(OSError, amqp.AMQPError), self.connected() as connection:
            connection.channel()
            return True
        return False

    def connected(self) -> amqp.Connection:
        """For a ``with`` block."""
        limit = self.answer_timeout
        return amqp.Connection(
            f"127.0.0.1:{self.port}", connect_timeout=limit, read_timeout=limit, write_timeout=limit
        )

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
