"""Nothing is imported after a client is made: a fork in the middle of an import would leave a child
with a locked module, and a signal handler there would find a half-made one.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.apps import PREAMBLE, assert_arrived
from support.journal_programs import NAMES
from support.lazy_imports import HAS_LAZY, LAZY
from support.programs import run_program
from support.sockets import Answer, Listener
from support.tls import https_before
from whisperr._imports import _named_in
from whisperr.sandbox import Sandbox

MODES = {"normal": {"PYTHON_LAZY_IMPORTS": "normal"}, **({"lazy": LAZY} if HAS_LAZY else {})}

# Looks for every module that is looked for, found or not, from watch() on, in this process and its
# children. What is lazy, and left so, would be looked for some day.
WATCH = """
import types

LAZY = getattr(types, "LazyImportType", None)
PACKAGES = ("whisperr", "requests", "urllib3", "idna", "certifi", "charset_normalizer")
FOUND = os.open("found", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
watching = False


class Watcher:
    def find_spec(self, name, path=None, target=None):
        if watching:
            frame, places = sys._getframe(1), []
            while frame is not None:
                if "importlib" not in frame.f_code.co_filename:
                    places.append("%s:%d" % (frame.f_code.co_filename, frame.f_lineno))
                frame = frame.f_back
            os.write(FOUND, ("%s, in %s\\n" % (name, " < ".join(places))).encode())
        return None


def watch():
    global watching
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            for at, value in list(vars(module).items()):
                if LAZY is not None and type(value) is LAZY:
                    os.write(FOUND, ("%s.%s is left lazy\\n" % (name, at)).encode())
    watching = True


sys.meta_path.insert(0, Watcher())
"""

# Every road, in the order in which an application may take them. What it imports itself is there before.
ROADS = """
import asyncio
import datetime
import decimal
import json
import logging
import uuid

DESTINATIONS = json.loads(os.environ["APP_DESTINATIONS"])
said = []


def on_error(error):
    import whisperr
    said.append(whisperr.explain(error, URL))


def new(url=URL, **options):
    once = {"max_retries": 0, "flush_at": NEVER, "flush_interval": NEVER, "on_error": on_error}
    return Whisperr(KEY, base_url=url, **{**once, **options})


def all_calls(given, number):
    now = datetime.datetime.now(datetime.timezone.utc)
    values = {"n": number, "price": decimal.Decimal("1.5"), "at": now, "many": {1, 2}, "raw": b"x"}
    given.track("user", "it_happened", {"n": number})
    given.track(uuid.UUID(int=2), "it_happened", {"n": number, "deep": values}, {"page": now})
    given.track("user", "it_happened", {"n": number}, occurred_at=now, message_id=str(uuid.uuid4()))
    given.track("user", "it_happened", {"n": object()})
    given.track("user", "Not Snake")
    given.identify("user", traits={"deep": values}, email="user@example.org")


def deliver(given):
    for _ in range(20):
        if given.flush(60):
            break
    given.stats()
    repr(given)


def in_child(given):
    all_calls(given, 20)
    deliver(given)
    all_calls(given, 30)  # its exit delivers these


asyncio.run(asyncio.sleep(0))
{BEFORE}
from whisperr import Whisperr

client, debugging = new(max_retries=2), new(debug=True)
small = new(journal_dir=FOLDER, max_queue_size=3, max_journal_bytes=1 << 20)
others = [new(url) for url in DESTINATIONS]
watch()

undelivered(small, range(3))
pid = fork(in_child, small)
all_calls(client, 1)
reap([pid, fork(in_child, client)])
dead(undelivered, small, range(40, 45))
for given in (client, debugging, small):
    all_calls(given, 10)
    deliver(given)
for given in others:
    all_calls(given, 50)
    given.flush(60)
os.environ["http_proxy"] = os.environ["https_proxy"] = os.environ["APP_PROXY"]
for url in ("http://proxied.invalid", "https://proxied.invalid"):
    given = new(url)
    all_calls(given, 60)
    given.flush(60)
    given.shutdown(0)
del os.environ["http_proxy"], os.environ["https_proxy"]


async def from_a_loop():
    client.track("user", "it_happened", {"n": 70})
    assert await client.aflush(60)


asyncio.run(from_a_loop())
assert len(said) > 20, said
for given in (*others, debugging):
    given.shutdown(0)
all_calls(client, 80)  # at the exit, as in small
all_calls(small, 80)
"""
# What the application has imported before.
BEFORE = {
    "alone": "",
    "used": "import requests, urllib3, ssl, json, logging\nrequests.Session, json.dumps, logging.INFO",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_imported_after_a_client_was_made(
    server: Sandbox, key: str, tmp_path: Path, mode: str, before: str
) -> None:
    """Calls, deliveries and what goes wrong with them, proxies, TLS, the journal, children and exits look
    for no module, whatever the application had imported, or left lazy.
    """
    retry_at = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.inject(
        key,
        {"do": "reset"},
        {"do": "status", "status": 503, "headers": retry_at},
        {"do": "refuse", "where": {"properties.n": 10}},
        {"do": "status", "status": 401},
        {"do": "close"},
    )
    elsewhere = Answer(302, {"Location": "/elsewhere"})
    source = (PREAMBLE + NAMES + WATCH + ROADS).replace("{BEFORE}", BEFORE[before])
    with Listener(lambda heard: elsewhere) as listener, https_before(server.url, tmp_path) as tls:
        url, pem = tls
        destinations = [
            *(url, listener.url, listener.url.replace("http:", "https:")),
            *("http://127.0.0.1:9", "http://nowhere.invalid", "http://b\u00fccher.invalid"),
        ]
        environment = {
            **MODES[mode],
            "APP_URL": server.url,
            "APP_KEY": key,
            "APP_DESTINATIONS": json.dumps(destinations),
            "APP_PROXY": listener.url,
            "REQUESTS_CA_BUNDLE": str(pem),
        }
        run_program(source, tmp_path, environment=environment, timeout=60.0)
    found = (tmp_path / "found").read_text()
    assert not found, found


# --- forks while the first events are tracked

FORKS = 50
# (mode, what was imported before, runs)
RUNS = [
    ("normal", "alone", 1),
    *((mode, each, 5) for mode in MODES for each in BEFORE if mode == "lazy"),
]

# Everything that happens once in a process (its engine, its sender, its first request) comes between two of
# the forks somewhere.
FIRST_EVENTS = """
import threading

{BEFORE}
client = new_client(flush_at=1, shutdown_timeout=150)


def child(base):
    track(client, range(base, base + 2))


def parent():
    for n in range(20):
        track(client, [n])


thread = threading.Thread(target=parent)
pids = [fork(child, 1000)]
thread.start()
pids += [fork(child, 1000 + 10 * number) for number in range(1, {FORKS})]
thread.join()
reap(pids)
"""


@pytest.mark.storm
@pytest.mark.parametrize(("mode", "before", "runs"), RUNS)
def test_forks_during_the_first_events(
    server: Sandbox, key: str, tmp_path: Path, mode: str, before: str, runs: int
) -> None:
    """A child that is forked while its parent does everything for the first time delivers, and
    ends, however its modules were imported.
    """
    source = FIRST_EVENTS.replace("{BEFORE}", BEFORE[before]).replace("{FORKS}", str(FORKS))
    children = [1000 + 10 * child + n for child in range(FORKS) for n in (0, 1)]
    for run in range(runs):
        environment = {**MODES[mode], "APP_URL": server.url, "APP_KEY": f"{key}{run}"}
        run_program(PREAMBLE + source, tmp_path, environment=environment, timeout=60.0)
        assert_arrived(server, f"{key}{run}", [*range(20), *children])


class LazySettings:
    """As Django's: whoever asks for its class, as isinstance() does, has the settings loaded."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("settings are not configured")


def test_what_lies_about_its_class_is_not_asked() -> None:
    """A module may name such an object: making a client looks at its real type."""
    module = ModuleType("whisperr._with_settings")
    vars(module).update(settings=LazySettings(), json=json)
    assert {"json", LazySettings.__module__} <= _named_in(module, module.__name__)
