"""Two relays between a broker and the server, and what each of them has sent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, ContextManager

import requests
from rabbitmq_server import own_rabbitmq
from redis_server import own_redis

from whisperr.sandbox import Sandbox

APP = "shop"  # by this name the relays know the key
RELAY_HEADER = "X-Whisperr-Relay"  # of each request of a relay: its name, which begins with its pid
CLAIM_AFTER = (
    15.0  # seconds without a sign of life; a Redis gives what a relay held to another then
)
TIMEOUT = 300.0  # seconds for anything here: a busy machine is slow
BROKERS: dict[str, Callable[[Path], ContextManager[str]]] = {
    "redis": own_redis,
    "rabbitmq": own_rabbitmq,
}


class Relays:
    """Two processes of ``whisperr relay``. The one that sends first can be killed."""

    def __init__(self, broker: str, server: Sandbox, key: str) -> None:
        self._server = server
        self._key = key
        self._environment = {
            **os.environ,
            "WHISPERR_BROKER_URL": broker,
            f"WHISPERR_KEY_{APP.upper()}": key,
        }
        self._command = [sys.executable, "-m", "whisperr", "relay"]
        self._is_rabbitmq = broker.startswith("amqp")
        declare = ["--declare", "classic"] if self._is_rabbitmq else []
        options = ["--base-url", server.url, "--claim-after", str(CLAIM_AFTER), *declare]
        self._running = [self._start([*self._command, *options]) for _ in range(2)]
        self._killed: subprocess.Popen[str] | None = None
        self.problem = ""  # what went wrong at the end

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, universal_newlines=True
        )

    def await_begin(self) -> None:
        """Until both read: then there are queues, too. Raises when one ends instead."""
        for relay in self._running:
            assert relay.stdout is not None
            line = relay.stdout.readline()
            if not line:
                raise subprocess.CalledProcessError(relay.wait(TIMEOUT), relay.args)
        if self._is_rabbitmq:
            _until(lambda: bool(self._waiting()["apps"]), "a relay has made the queues")

    def kill_one(self) -> None:
        """With SIGKILL, the one that has sent first: what it held goes through the other one."""
        _until(lambda: bool(self._senders()), "a relay has sent something")
        first = self._senders()[0]
        self._killed = next(it for it in self._running if first.startswith(f"{it.pid}-"))
        self._killed.send_signal(signal.SIGKILL)
        self._killed.wait(TIMEOUT)
        self._server.killed(self._key)  # what it was not told, another may send again

    def finish(self, events: int) -> None:
        """Wait until that many have arrived and the broker is empty; then end the other one."""
        with contextlib.suppress(TimeoutError):
            self._server.wait_for(self._key, events, TIMEOUT)
            _until(lambda: not self._messages(), "the broker is empty")
        for relay in self._running:
            if relay is not self._killed:
                relay.send_signal(signal.SIGTERM)
                if relay.wait(TIMEOUT) != 0:
                    self.problem = f"a relay ended with {relay.returncode}"
        if self._messages() or self._waiting()["dead_letters"]:
            self.problem = f"the broker is not empty: {self._waiting()}"

    def close(self) -> None:
        for relay in self._running:
            relay.kill()  # does nothing to one that has ended
            relay.communicate()

    def named(self) -> dict[str, str]:
        """Their names, and what became of each."""
        names: dict[str, str] = {}
        for relay in self._running:
            sent = (name for name in self._senders() if name.startswith(f"{relay.pid}-"))
            end = "SIGKILL" if relay is self._killed else f"ended with {relay.returncode}"
            names[next(sent, f"{relay.pid}-")] = f"relay {relay.pid}, {end}"
        return names

    def arrived(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each event once, and the name of the relay that sent it."""
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self._server.url}/page/export?state=arrived"
            with session.get(url, stream=True, timeout=TIMEOUT) as lines:
                for line in lines.iter_lines():
                    row = json.loads(line)
                    yield row["relay"] or "", row["body"]

    def _senders(self) -> list[str]:
        sent = (it["headers"].get(RELAY_HEADER, "") for it in self._server.requests(self._key))
        return list(dict.fromkeys(sent))

    def _messages(self) -> int:
        """That wait; of a Redis also those that a relay holds."""
        return sum(app["messages"] for app in self._waiting()["apps"])

    def _waiting(self) -> Any:
        command = [*self._command, "status", "--json"]
        return json.loads(subprocess.check_output(command, env=self._environment))


@contextlib.contextmanager
def two_relays(broker: str, server: Sandbox, key: str) -> Iterator[Relays]:
    relays = Relays(broker, server, key)
    try:
        relays.await_begin()
        yield relays
    finally:
        relays.close()


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not after {TIMEOUT:.0f} seconds: {what}")
        time.sleep(0.1)
