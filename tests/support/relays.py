"""Relays as a test sees them: a Redis that it may kill and start again, and processes of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis_server import find_redis, free_port, launch

from support.clients import NEVER, numbers_at, track
from support.deadlines import DEADLINE, wait_until
from support.freezing import freeze, thaw
from support.groups import Group, started
from whisperr import Whisperr
from whisperr.cli._broker import ABOUT
from whisperr.sandbox import Sandbox

EVENTS = "{whisperr}:events:"  # and the app
DEAD = "{whisperr}:dead-letters"
GROUP = "relays"
CLAIM_AFTER = "15"  # seconds; a relay that gets no time to run for so long counts as dead


# What is looked for once a client of the broker of its first argument is made; its second one is not there.
IMPORTS = """
import os, sys

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if watching:
            os.write(2, ("looked for %s\\n" % name).encode())
        return None

watching = False
sys.meta_path.insert(0, Watcher())
from whisperr import Whisperr
client = Whisperr(broker_url=sys.argv[1], app="shop", max_retries=0, flush_at=10**6)
nowhere = Whisperr(broker_url=sys.argv[2], app="shop", max_retries=0, flush_at=10**6)
watching = True
for each, settled in ((client, True), (nowhere, False)):
    each.track("user", "it_happened", {"n": 1})
    assert each.flush() is settled
pid = os.fork()
if pid == 0:
    client.track("user", "it_happened", {"n": 2})
    sys.exit(not client.flush())
assert os.waitpid(pid, 0)[1] == 0
nowhere.shutdown(0)
watching = False
"""


class OwnRedis:
    """On loopback, in a folder of its own, with a file that every write is in before it is confirmed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket = Path(tempfile.mkdtemp()) / "redis"  # its name must be a short one
        self.client: Any = redis.Redis(port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": self.port, "logfile": self._folder / "log", "unixsocket": self.socket}
        durable = {"appendonly": "yes", "appendfsync": "always"}
        process = launch(find_redis(), self._folder, {**options, **durable})
        self._process = process
        assert wait_until(lambda: self._answers() or process.poll() is not None)
        assert process.poll() is None, (self._folder / "log").read_text()

    def kill(self) -> None:
        """As an operator's kill -9, or the OOM killer, does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing, for as long as the block lasts."""
        assert self._process is not None
        freeze(self._process.pid)
        try:
            yield
        finally:
            thaw(self._process.pid)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.exceptions.RedisError):
            said = self.client.config_get("dir")["dir"]
            return bool(os.path.samefile(said, self._folder))  # and not another one at this port
        return False

    # --- what lies in it

    def waiting(self, app: str = "shop") -> int:
        """Messages that no relay has settled."""
        return int(self.client.xlen(EVENTS + app))

    def newest(self, app: str = "shop") -> bytes:
        """The id that was given last: it stays when the message is gone."""
        return bytes(self.client.xinfo_stream(EVENTS + app)["last-generated-id"])

    def held(self, app: str = "shop") -> dict[str, int]:
        """Of these, how many each relay has in its hands."""
        with contextlib.suppress(redis.exceptions.ResponseError):
            rows = self.client.xinfo_consumers(EVENTS + app, GROUP)
            return {row["name"].decode(): row["pending"] for row in rows}
        return {}

    def dead(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.client.xrange(DEAD)]


@contextlib.contextmanager
def own_redis_with_a_file(folder: Path) -> Iterator[OwnRedis]:
    made = OwnRedis(folder)
    made.start()
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(made.socket.parent)


class RunningRelay:
    """One process of ``whisperr relay``."""

    def __init__(self, group: Group, log: Path) -> None:
        self.group = group
        self._log = log

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_it_says(self, words: str) -> None:
        self.group.wait_for(lambda: words in self.said(), f"it never said {words!r}")

    def stop(self) -> str:
        """SIGTERM, and what it said at its end. It ends with 0, and leaves nothing behind."""
        self.group.send(signal.SIGTERM)
        assert self.group.wait_for_end() == 0, self.said()
        return self.said()


@contextlib.contextmanager
def running_relay(
    folder: Path, broker_url: str, base_url: str, *arguments: str, **keys: str
) -> Iterator[RunningRelay]:
    """``keys``: by app; ``nameless`` is that of messages without one."""
    log = folder / f"relay-{len(list(folder.glob('relay-*')))}"
    quick = {"--linger": "0.05", "--claim-after": CLAIM_AFTER, "--base-url": base_url}
    given = [part for item in quick.items() for part in item]
    with open(log, "wb") as file, started(
        [sys.executable, "-m", "whisperr", "relay", *given, *arguments],
        lambda: log.read_text(errors="replace"),
        cwd=str(folder),
        env={**os.environ, "WHISPERR_BROKER_URL": broker_url, **variables(keys)},
        stdout=file,
        stderr=subprocess.STDOUT,
    ) as group:
        relay = RunningRelay(group, log)
        relay.wait_until_it_says(" to http://")
        yield relay


def variables(keys: dict[str, str]) -> dict[str, str]:
    found = {f"WHISPERR_KEY_{app.upper()}": key for app, key in keys.items() if app != "nameless"}
    if "nameless" in keys:
        found["WHISPERR_API_KEY"] = keys["nameless"]
    return found


def publish(url: str, numbers: range, app: str | None = "shop", **options: Any) -> None:
    """By a client of its own, in one message."""
    given: dict[str, Any] = {
        "app": app,
        "broker_url": url,
        "flush_at": NEVER,
        "flush_interval": NEVER,
    }
    with Whisperr(**{**given, **options}) as client:
        track(client, numbers)
        assert client.flush()


def assert_all_arrived(server: Sandbox, key: str, count: int, *, resent: int = 0) -> dict[str, Any]:
    assert sorted(set(numbers_at(server, key))) == list(range(count))
    ledger = server.ledger(key)
    assert (ledger["arrived"], ledger["twice"]) == (count, 0), ledger
    assert ledger["resent"] <= resent, ledger
    return ledger


def sent_by_relay(server: Sandbox, key: str) -> Counter[str]:
    """Records in the requests of each relay, by the name that it gave; of one that gave none under ""."""
    sent: Counter[str] = Counter()
    for request in server.requests(key):
        sent[request["headers"].get("X-Whisperr-Relay", "")] += request["count"]
    return sent


def command(broker_url: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output of ``whisperr relay ...``."""
    done = subprocess.run(
        [sys.executable, "-m", "whisperr", "relay", *arguments],
        env={**os.environ, "WHISPERR_BROKER_URL": broker_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    return done.returncode, done.stdout


def command_json(broker_url: str, *arguments: str) -> Any:
    status, said = command(broker_url, *arguments, "--json")
    assert status == 0, said
    return json.loads(said)


def findings(url: str) -> list[tuple[str, str]]:
    """Level and sentence of what the doctor says of the broker."""
    done = subprocess.run(
        [sys.executable, "-m", "whisperr", "doctor", "--no-send", "--json"],
        env={**os.environ, "WHISPERR_BROKER_URL": url, "WHISPERR_APP": "shop"},
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
    )
    said = json.loads(done.stdout)["findings"]
    return [(each["level"].lower(), each["what"]) for each in said if each["about"] == ABOUT]


class CuttingProxy:
    """On the way to a Redis. The first command with these words arrives; its answer does not."""

    def __init__(self, port: int, words: bytes) -> None:
        self._port = port
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.has_cut = threading.Event()

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here: socket.socket) -> None:
        with here, socket.create_connection(("127.0.0.1", self._port)) as there:
            threading.Thread(target=self._answer, args=(there, here), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := here.recv(1 << 20):
                    is_it = self._words in data and not self.has_cut.is_set()
                    if is_it:
                        here.shutdown(socket.SHUT_WR)  # whatever is answered from here on
                    there.sendall(data)
                    if is_it:
                        self.has_cut.set()
                        return

    def _answer(self, there: socket.socket, here: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := there.recv(1 << 20):
                here.sendall(data)
