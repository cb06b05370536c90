"""gunicorn and Celery whose main process has a connection to the broker open while it forks.

Children come and go, cleanly and by SIGKILL, and the main process publishes all the while: its
connection lives, nothing is lost, nothing is there twice. No publish is tried again here
(``max_retries=0``): one that fails, since somebody has ended its connection, is reported.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pytest

from support.celery_worker import Setup, run_celery
from support.relays import EVENTS
from support.servers import Setting
from whisperr.sandbox import Sandbox

QUEUE = "whisperr.events.shop"
WORKERS = 2
REQUESTS = 100
TASKS, CRASHES = 60, 3
BROKERS = ("redis", "rabbitmq")

# One worker of pytest-xdist has the brokers of this room.
pytestmark = pytest.mark.xdist_group("rabbitmq")


@dataclass(frozen=True)
class Queue:
    """Of one broker, with nobody who takes from it."""

    url: str
    bodies: Callable[[], list[bytes]]

    def numbers(self) -> Counter[str]:
        """What lies there, and how often."""
        bodies = [json.loads(body)["events"] for body in self.bodies()]
        return Counter(event["properties"]["n"] for events in bodies for event in events)

    def options(self) -> dict[str, Any]:
        """Of a client."""
        return {"broker_url": self.url, "app": "shop", "max_retries": 0, "flush_interval": 0.2}


@pytest.fixture(params=BROKERS)
def queue(request: pytest.FixtureRequest) -> Queue:
    if request.param == "redis":
        redis = request.getfixturevalue("own_redis")
        return Queue(
            redis.url, lambda: [each[b"body"] for _, each in redis.client.xrange(EVENTS + "shop")]
        )
    rabbit = request.getfixturevalue("own_rabbit")
    rabbit.declare(QUEUE)
    return Queue(rabbit.url, lambda: [bytes(each.body) for each in rabbit.messages(QUEUE)])


def assert_all_once(queue: Queue, tracked: list[str]) -> None:
    found = queue.numbers()
    assert tracked and len(set(tracked)) == len(tracked)
    assert found == Counter(tracked), (Counter(tracked) - found, found - Counter(tracked))


# The master publishes before each fork, and at its end.
MASTER = f"""
from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_abort, worker_exit

def publish(where):
    import served
    served.note(where)
    assert served.client.flush()

def pre_fork(server, worker):
    publish("master")

def on_exit(server):
    publish("exit")

worker_class, workers, preload_app, max_requests, graceful_timeout = "sync", {WORKERS}, True, 20, 60
"""


def test_gunicorn(queue: Queue, server: Sandbox, key: str, tmp_path: Path) -> None:
    """A preloaded master; workers that are recycled, and one that is killed when all is published."""
    setting = Setting(tmp_path, server, key)
    with setting.gunicorn("served:application", MASTER, options=queue.options()) as served:
        served.send(REQUESTS)
        served.wait_for(lambda: set(served.numbers()) == set(queue.numbers()), "not all is there")
        workers = {line["pid"] for line in served.lines("senders")} - {served.pid}
        assert len(workers) > WORKERS, "none was recycled"
        victim = next(pid for pid in workers if Path(f"/proc/{pid}").exists())
        os.kill(victim, signal.SIGKILL)
        served.send(REQUESTS)
        served.stop()
        tracked, told = served.numbers(), served.lines("reports") + served.lines("warnings")
    assert told == [], told
    assert_all_once(queue, tracked)
    masters = [line["where"] for line in served.lines("accounts") if line["pid"] == served.pid]
    assert masters.count("master") > WORKERS and masters.count("exit") == 1


APPLICATION = """
import faulthandler, itertools, json, os, signal, threading
from celery import Celery, signals
import whisperr.integrations.celery
from whisperr import Whisperr

faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
accounts, errors = (
    os.open(os.environ[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for name in ("APP_ACCOUNTS", "APP_ERRORS")
)
app = Celery("app", broker=os.environ["APP_BROKER"])
app.conf.update(json.loads(os.environ["APP_CONF"]))


def tell(error):
    os.write(errors, b"%d %s %d\\n" % (os.getpid(), error.type.encode(), error.count))


client = Whisperr(on_error=tell, **json.loads(os.environ["APP_OPTIONS"]))
numbers = itertools.count()


def note(kind):
    number = f"{kind} {os.getpid()} {next(numbers)}"
    client.track("user_42", "task_ran", {"n": number})
    os.write(accounts, f"{number} 0\\n".encode())


note("import")
assert client.flush()  # the connection is open, and all children are forked after this


@app.task(name="work")
def work():
    note("work")


@app.task(name="crash")
def crash():
    note("crash")
    assert client.flush()
    os.kill(os.getpid(), signal.SIGKILL)


over = threading.Event()


def publish():
    while not over.wait(0.05):
        note("main")
        if not client.flush():
            os.write(errors, b"%d unpublished 1\\n" % os.getpid())


@signals.worker_ready.connect
def send_all(**_):
    threading.Thread(target=publish, daemon=True).start()
    for name, times in json.loads(os.environ["APP_PLAN"]).items():
        for _ in range(times):
            app.tasks[name].delay()


@signals.worker_shutting_down.connect
def leave(**_):
    over.set()
"""


def test_celery(queue: Queue, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Children of prefork that have done their share, and others that are killed in a task."""
    source = tmp_path / "source.py"
    source.write_text(APPLICATION)
    setup = Setup(
        plan={"work": TASKS, "crash": CRASHES},
        conf={"worker_max_tasks_per_child": 5},
        options=queue.options(),
        application=source,
    )
    with run_celery(server, key, tmp_path, setup) as host:
        host.wait_for(TASKS, "work")
        host.wait_for(CRASHES, "crash")
        host.wait_for(len(host.accounts("main")) + 3, "main")
        host.stop(signal.SIGTERM)
        tracked = host.accounts()
    assert host.errors() == [], host.log()
    assert len({entry.pid for entry in tracked if entry.kind == "work"}) > 4, "none was replaced"
    assert_all_once(queue, [entry.number for entry in tracked])
