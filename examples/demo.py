"""The main job, on real input: Django under a preloaded gunicorn, Celery, a pool, a script.

Starts a strict ingestion server and a Redis on loopback, runs the programs beside this file
against them, and compares what they say they tracked with what arrived. Ends with 0 only when nothing
was lost and nothing arrived twice.

With --broker all of it goes through a broker and two relays, one of which is killed in the middle. Celery has
its tasks in the same broker.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, Iterator, Mapping

import requests
from accounts import read_accounts
from relays import APP, BROKERS, Relays, two_relays
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from whisperr.sandbox import Sandbox

HERE = Path(__file__).resolve().parent
KEY = "wrk_demo"
STOP_TIMEOUT = 300.0  # seconds for gunicorn, and for each program, to end: a busy machine is slow
CALLERS = 8  # threads that send requests to gunicorn


def main() -> int:
    options = _options()
    console = Console()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="whisperr-demo-"))
        server = stack.enter_context(Sandbox(numbers=True))
        broker = stack.enter_context(BROKERS[options.broker or "redis"](Path(folder)))
        console.print(f"ingestion server on {server.url} (open it in a browser), broker: {broker}")
        accounts = os.path.join(folder, "accounts")
        common = {"DEMO_ACCOUNTS": accounts, "DEMO_BROKER": broker, "NO_PROXY": "127.0.0.1"}
        relays: Relays | None = None
        if options.broker:
            relays = stack.enter_context(two_relays(broker, server, KEY))
            way = {"WHISPERR_BROKER_URL": broker, "WHISPERR_APP": APP}
        else:
            way = {"WHISPERR_BASE_URL": server.url, "WHISPERR_API_KEY": KEY}
        environment = {**_without_settings(os.environ), **common, **way}
        with _progress(console) as progress:
            programs = [
                _start(["pool.py", str(options.jobs)], environment),
                _start(["script.py", str(options.events)], environment),
                _start(["tasks.py", str(options.tasks)], environment),
            ]
            with _celery(environment), _gunicorn(environment) as url:
                in_the_middle = relays.kill_one if relays else _nothing
                _send_requests(url, options.requests, progress, in_the_middle)
                _await_tasks(accounts, options.tasks, progress)
            for program in programs:
                _end(program)
        tracked = read_accounts(accounts)
        if relays:
            relays.finish(sum(map(len, tracked.values())))
        arrived = _arrived(server, relays)
        names = relays.named() if relays else {}
        status = _report(console, tracked, arrived, names, server.ledger(KEY))
        if relays and relays.problem:
            console.print(relays.problem)
            status = 1
        if options.hold:
            _hold(console, server)
        return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000, help="sent to gunicorn")
    parser.add_argument("--tasks", type=int, default=1000, help="sent to Celery")
    parser.add_argument("--jobs", type=int, default=1000, help="of the pool")
    parser.add_argument("--events", type=int, default=1000, help="of the script")
    parser.add_argument(
        "--broker",
        nargs="?",
        const="redis",
        choices=tuple(BROKERS),
        help="through two relays behind a broker (default of it: redis), one of them killed",
    )
    parser.add_argument("--hold", action="store_true", help="keep the page until Ctrl-C")
    return parser.parse_args()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What our programs are told of whisperr is told here."""
    return {k: v for k, v in environment.items() if not k.startswith("WHISPERR_")}


def _nothing() -> None:
    pass


def _hold(console: Console, server: Sandbox) -> None:
    """Until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    # Before anybody can know the address: a SIGTERM from then on leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        console.print(f"everything that arrived is on {server.url}; Ctrl-C ends this")
        stop.wait()
    except KeyboardInterrupt:
        console.print()


# --- the programs


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
    return subprocess.Popen(command, env=environment)


def _end(program: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a program. Raises when it hangs, or ends with anything but 0."""
    try:
        status = program.wait(STOP_TIMEOUT)
    finally:
        program.kill()  # does nothing to one that has ended
    if status != 0:
        raise subprocess.CalledProcessError(status, program.args)


@contextmanager
def _gunicorn(environment: dict[str, str]) -> Iterator[str]:
    """A preloading gunicorn of 4 workers; ended with SIGTERM, as a deployment ends it."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--config", str(HERE / "gunicorn.conf.py")]
        command += ["--pythonpath", str(HERE), "--bind", f"fd://{listener.fileno()}"]
        master = subprocess.Popen(
            [*command, "web:application"], env=environment, pass_fds=[listener.fileno()]
        )
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            master.send_signal(signal.SIGTERM)
            _end(master)


@contextmanager
def _celery(environment: dict[str, str]) -> Iterator[None]:
    """A prefork worker of 4 processes; ended with SIGTERM: it finishes what it has begun."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "--app",
        "tasks",
        "--workdir",
        str(HERE),
        "worker",
    ]
    command += ["--concurrency", "4", "--loglevel", "ERROR", "--without-gossip"]
    worker = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        _end(worker)


def _await_tasks(accounts: str, number: int, progress: Progress) -> None:
    """Until that many tasks have run. Raises TimeoutError when they don't."""
    bar = progress.add_task("tasks of Celery", total=number)
    deadline = time.monotonic() + STOP_TIMEOUT
    done = 0
    while done < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{done} of {number} tasks have run")
        time.sleep(0.1)
        tracked = read_accounts(accounts)
        done = sum(len(tracked[process]) for process in tracked if process.startswith("task "))
        progress.update(bar, completed=done)


def _send_requests(
    url: str, number: int, progress: Progress, in_the_middle: Callable[[], None]
) -> None:
    task = progress.add_task("requests to gunicorn", total=number)
    with requests.Session() as session, ThreadPoolExecutor(CALLERS) as callers:
        session.trust_env = False
        answers = [callers.submit(session.get, url, timeout=STOP_TIMEOUT) for _ in range(number)]
        for count, answer in enumerate(as_completed(answers), 1):
            answer.result().raise_for_status()
            progress.advance(task)
            if count == (number + 1) // 2:
                in_the_middle()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
    )


# --- the ledger


def _arrived(server: Sandbox, relays: Relays | None) -> dict[str, dict[str, str]]:
    """By process: the numbers, and by which relay each came ("": by none)."""
    sent = relays.arrived() if relays else (("", event) for event in server.events(KEY))
    numbers: dict[str, dict[str, str]] = {}
    for relay, event in sent:
        properties = event["properties"]
        numbers.setdefault(properties["process"], {}).setdefault(properties["n"], relay)
    return numbers


def _report(
    console: Console,
    tracked: dict[str, set[str]],
    arrived: dict[str, dict[str, str]],
    relays: dict[str, str],
    counts: dict[str, int],
) -> int:
    table = Table("process", "accepted", "arrived", "lost", *relays.values())
    for column in table.columns[1:]:
        column.justify = "right"
    for process in sorted(tracked):
        got, sent = arrived.get(process, {}), tracked[process]
        by_relay = Counter(got.values())
        figures = [len(sent), len(got), len(sent - got.keys()), *(by_relay[it] for it in relays)]
        table.add_row(process, *map(str, figures))
    by_relay = Counter(relay for numbers in arrived.values() for relay in numbers.values())
    if relays:
        table.add_section()
        table.add_row("all", "", "", "", *(str(by_relay[it]) for it in relays))
    console.print(table)

    accepted = set().union(*tracked.values())
    lost = accepted - set().union(*arrived.values())
    twice, resent = counts["twice"], counts["resent"]
    total = sum(len(numbers) for numbers in arrived.values())
    console.print(
        f"accepted {len(accepted)}  arrived {total}  lost {len(lost)}  "
        f"twice {twice}  resent {resent}  in {counts['requests']} requests "
        f"over {counts['connections']} connections"
    )
    return 0 if accepted and not lost and not twice else 1


if __name__ == "__main__":
    sys.exit(main())
