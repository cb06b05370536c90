"""uWSGI, which forks in C and runs no at-fork hook: with and without the integration's import.

The whole table runs on the newest Python alone; elsewhere one row of each test.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.deadlines import generous
from support.servers import Served, Setting, assert_delivered
from whisperr.sandbox import Sandbox

WHOLE_TABLE = sys.version_info >= (3, 13)
MASTER = ["--master", "--processes", "2", "--die-on-term"]
MODES = {
    "default": [],
    "lazy-apps": ["--lazy-apps"],
    "fork-hooks": ["--py-call-uwsgi-fork-hooks"],
}
MODULE = "whisperr.integrations.uwsgi"
IMPORTS = {"without": [], "with": [MODULE]}
AT_IMPORT = 7
REQUESTS = 40
REST = 0.1  # seconds
MERCY = int(generous(12))  # seconds, of worker-reload-mercy


def rows(modes: list[str]) -> pytest.MarkDecorator:
    """Each mode without and with the import; not on the newest Python: one row alone."""
    chosen = [
        pytest.param(MODES[mode], imports, id=f"{mode}-{name}-import")
        for mode in modes
        for name, imports in IMPORTS.items()
    ]
    return pytest.mark.parametrize("mode, imports", chosen if WHOLE_TABLE else chosen[:1])


def processes(numbers: list[str]) -> Counter[str]:
    """How many events each process tracked."""
    return Counter(number.split()[0] for number in numbers)


@rows(["default", "lazy-apps", "fork-hooks"])
def test_all_arrives_after_sigterm(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """What the workers track arrives once, and so does what was tracked in the master while it
    imported the application: exactly one worker delivers it.
    """
    setting = Setting(tmp_path, server, key)
    with setting.uwsgi(
        "served:application", *MASTER, *mode, at_import=AT_IMPORT, imports=imports
    ) as served:
        served.wait_until_idle(2)
        served.send(REQUESTS)
        served.wait_until_idle(2)
        served.stop()
        tracked = served.numbers()
    loads = 2 if mode == MODES["lazy-apps"] else 1
    assert len(tracked) == REQUESTS + AT_IMPORT * loads
    assert_delivered(server, key, tracked)


FILE = """
import json, os
from served import application
from whisperr import Whisperr

class Last:
    def __del__(self, write=os.write):
        write(2, b"the teardown came here\\n")

setup = json.loads(os.environ["SERVED"])
client = Whisperr(setup["key"], base_url=setup["url"])
client.track("user", "file_read")
last = Last()
"""


@rows(["default", "lazy-apps"])
def test_a_client_of_a_file_goes_in_silence(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """Of ``--wsgi-file`` uWSGI makes a module, whose teardown finds every name of it gone."""
    setting = Setting(tmp_path, server, key)
    (tmp_path / "file.py").write_text(FILE)
    with setting.uwsgi("file.py", *MASTER, *mode, imports=imports) as served:
        served.wait_until_idle(2)
        served.stop()
        said = served.said()
    loads = 2 if mode == MODES["lazy-apps"] else 1
    assert server.ledger(key)["arrived"] == loads, said
    assert "the teardown came here" in said
    for word in ("Traceback", "Exception ignored", "Error"):
        assert word not in said, said


@rows(["default", "lazy-apps"])
def test_a_graceful_stop_delivers_what_a_busy_worker_has(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """uWSGI runs no exit handler in a worker that SIGTERM finds at work. Where SIGTERM is made
    graceful, the worker finishes its request and delivers all.
    """
    setting = Setting(tmp_path, server, key)
    options = [*MASTER, *mode, "--hook-master-start", "unix_signal:15 gracefully_kill_them_all"]
    with setting.uwsgi(
        "served:application", *options, at_import=AT_IMPORT, imports=imports
    ) as served:
        served.wait_until_idle(2)
        served.send(REQUESTS)
        with ThreadPoolExecutor(1) as caller:
            answer = caller.submit(served.get, "/slow")
            served.wait_for(lambda: "slow" in wheres(served), "it was never asked")
            served.stop()
            assert answer.result() == "ok"
        tracked = served.numbers()
    assert wheres(served).count("slow") == 2
    assert_delivered(server, key, tracked)


def wheres(served: Served) -> list[str]:
    return [line["where"] for line in served.lines("accounts")]


def has_none_at(requests: int, served: Served) -> bool:
    """Whether no worker has served so many, and goes for that."""
    return all(worker["delta_requests"] < requests for worker in served.uwsgi_workers())


@rows(["default", "fork-hooks"])
def test_a_recycled_worker_is_not_given_again_what_the_master_had(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """With max-requests=7 worker follows worker, each delivers its own, and the master's events
    arrive once.
    """
    setting = Setting(tmp_path, server, key)
    options = [*MASTER, *mode, "--max-requests", "7", "--min-worker-lifetime", "0"]
    with setting.uwsgi(
        "served:application", *options, at_import=AT_IMPORT, imports=imports
    ) as served:
        served.send(REQUESTS)
        served.wait_until_said("Respawned uWSGI worker", 2)
        served.send(7)
        # SIGTERM cuts off a worker that is about to end, too.
        served.wait_for(lambda: has_none_at(7, served), "a worker outlives its requests")
        served.wait_until_idle(2)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) >= AT_IMPORT + REQUESTS + 7
    assert len(processes(tracked)) > 3
    assert_delivered(server, key, tracked)


@rows(["default", "fork-hooks"])
def test_the_successor_of_a_killed_worker_delivers_its_own_events_alone(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """Workers killed with SIGKILL after all had arrived are followed by others, to which nothing
    of the master's is given again.
    """
    setting = Setting(tmp_path, server, key)
    with setting.uwsgi(
        "served:application",
        *MASTER,
        *mode,
        at_import=AT_IMPORT,
        imports=imports,
        options={"flush_at": 1},
    ) as served:
        served.wait_until_idle(2)
        served.send(REQUESTS)
        server.wait_for(key, len(served.numbers()))
        workers = [int(pid) for pid in processes(served.numbers()) if int(pid) != served.pid]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        server.killed(key)
        served.wait_until_said("Respawned uWSGI worker", len(workers))
        served.send(REQUESTS)
        served.wait_until_idle(2)
        served.stop()
        tracked = served.numbers()
    assert len(tracked) >= AT_IMPORT + 2 * REQUESTS
    assert_delivered(server, key, tracked)


@rows(["default"])
def test_without_a_master_the_one_process_delivers_all(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """``--processes 1`` without a master: the process that imported becomes the worker itself."""
    setting = Setting(tmp_path, server, key)
    with setting.uwsgi(
        "served:application", "--die-on-term", *mode, at_import=AT_IMPORT, imports=imports
    ) as served:
        served.send(REQUESTS)
        served.wait_for(lambda: is_asleep(served.pid), "it never rests")
        served.stop()
        tracked = served.numbers()
    assert len(tracked) == AT_IMPORT + REQUESTS
    assert set(processes(tracked)) == {str(served.pid)}
    assert_delivered(server, key, tracked)


def is_asleep(pid: int) -> bool:
    """Its main thread has not run for a while: without a master nobody tells whether it is busy."""
    status = Path(f"/proc/{pid}/task/{pid}/status")
    before = status.read_text()
    time.sleep(REST)
    return "State:\tS" in before and before == status.read_text()


@rows(["default", "fork-hooks"])
def test_there_is_no_thread_in_the_master(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """The master that imported the application, and tracked, has no thread besides its own."""
    setting = Setting(tmp_path, server, key)
    with setting.uwsgi(
        "served:application", *MASTER, *mode, at_import=AT_IMPORT, imports=imports
    ) as served:
        served.wait_until_idle(2)
        served.send(REQUESTS)
        served.wait_until_idle(2)
        tracked = served.numbers()
        workers = {line["pid"] for line in served.lines("senders")}
        assert threads(served.pid) == 1
        assert all(threads(pid) > 1 for pid in workers)
        assert workers and served.pid not in workers
        served.stop()
    assert_delivered(server, key, tracked)


def threads(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


@rows(["default", "lazy-apps"])
def test_with_the_import_the_sender_runs_before_the_first_event(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """With the import a worker has a sender when it answers its first request, though nothing was
    tracked; without it, or where each worker imports the application itself, at the first event.
    """
    setting = Setting(tmp_path, server, key)
    with setting.uwsgi("served:application", *MASTER, *mode, imports=imports) as served:
        served.wait_until_idle(2)
        told = served.ask("/senders")
        served.wait_until_idle(2)
        served.stop()
    running = bool(imports) and mode == MODES["default"]
    assert told.endswith(f'"senders": {int(running)}, "tracked": 0}}')


@rows(["default", "lazy-apps"])
def test_a_hanging_server_delays_the_stop_within_bounds_and_is_reported(
    server: Sandbox, key: str, tmp_path: Path, mode: list[str], imports: list[str]
) -> None:
    """Where the ingestion server never answers, the workers still end within worker-reload-mercy,
    and each that has events says once, to the logger and to on_error, how many are lost.
    """
    server.inject(key, {"do": "hang", "times": -1})
    setting = Setting(tmp_path, server, key)
    options = {"flush_at": 1_000_000, "flush_interval": 999, "shutdown_timeout": 1.0}
    arguments = [*MASTER, *mode, "--worker-reload-mercy", str(MERCY)]
    with setting.uwsgi(
        "served:application", *arguments, at_import=AT_IMPORT, imports=imports, options=options
    ) as served:
        served.wait_until_idle(2)
        served.send(REQUESTS)
        served.wait_until_idle(2)
        assert served.stop() < MERCY
        tracked = processes(served.numbers())
        reports, warnings = served.lines("reports"), served.lines("warnings")
        assert "NO MERCY" not in served.said()
    assert sum(report["count"] for report in reports) == sum(tracked.values())
    assert {report["type"] for report in reports} == {"dropped"}
    told = sorted(report["pid"] for report in reports)
    assert told == sorted(set(told)) == sorted(warning["pid"] for warning in warnings)
    assert server.events(key) == []
