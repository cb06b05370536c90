"""rq with the integration: how soon a job's event is at the server, and what a job without one pays.

    python rq_jobs.py [--jobs 200] [--rounds 5]

Real workers on a Redis of its own. For each kind of worker that many jobs of 50 ms, each of which tracks one event: how many
arrived, how many twice, and the seconds from ``track()`` to the arrival. Then jobs that track nothing, with rq's own class and
with ours in turns: milliseconds of a job and of CPU, medians, and by how much ours is longer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "examples"))

import redis  # noqa: E402
import rq  # noqa: E402
from redis_server import own_redis  # noqa: E402

OURS, THEIRS = "whisperr.integrations.rq.", "rq.worker."
KINDS = {
    "Worker": ("worker", "Worker"),
    "SpawnWorker": ("worker", "SpawnWorker"),
    "worker-pool": ("worker-pool", "Worker", "-n", "2"),
}
SECONDS = 0.05  # of a job


class Receiver(BaseHTTPRequestHandler):
    """Notes of each event how long ago it was tracked."""

    protocol_version = "HTTP/1.1"
    lags: ClassVar[dict[int, list[float]]] = {}

    def do_POST(self) -> None:
        now = time.time()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for event in body["events"]:
            properties = event["properties"]
            self.lags.setdefault(properties["n"], []).append(now - properties["at"])
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Workers:
    """One Redis and one receiver for all runs."""

    def __init__(self, redis_url: str, sink: str) -> None:
        self._redis_url = redis_url
        self._queue = rq.Queue("benchmark", connection=redis.Redis.from_url(redis_url))
        self._environment = {**os.environ, "SINK": sink}

    def enqueue(self, name: str, count: int, *arguments: float) -> None:
        for n in range(count):
            numbered = (n, *arguments) if arguments else ()
            self._queue.enqueue(f"rq_jobs.{name}", *numbered, result_ttl=0)

    def burst(self, command: str, kind: str, *options: str) -> None:
        """Until the queue is empty."""
        words = [command, "-u", self._redis_url, "--burst", "-w", kind, *options, "benchmark"]
        subprocess.run(
            [sys.executable, "-m", "rq.cli", *words],
            cwd=HERE / "workers",
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def arrivals(workers: Workers, kind: str, count: int) -> None:
    command, name, *options = KINDS[kind]
    Receiver.lags.clear()
    workers.enqueue("work", count, SECONDS)
    workers.burst(command, OURS + name, *options)
    lags = [lag for each in Receiver.lags.values() for lag in each]
    print(
        f"{kind:12} {len(Receiver.lags)} of {count} arrived, {len(lags) - len(Receiver.lags)} twice,"
        f" after {statistics.median(lags):.3f} s, the last after {max(lags):.3f} s",
        flush=True,
    )


def idle_jobs(workers: Workers, count: int, rounds: int) -> None:
    figures: dict[str, list[tuple[float, float]]] = {THEIRS: [], OURS: []}
    for _ in range(rounds):
        for prefix, rows in figures.items():
            workers.enqueue("nothing", count)
            begun, cpu = time.perf_counter(), children_cpu()
            workers.burst("worker", prefix + "Worker")
            wall, cpu = time.perf_counter() - begun, children_cpu() - cpu
            rows.append((1000 * wall / count, 1000 * cpu / count))
    for at, what in enumerate(("ms of a job", "ms of CPU")):
        theirs, ours = (statistics.median(row[at] for row in rows) for rows in figures.values())
        longer = statistics.median(
            our[at] - their[at] for their, our in zip(figures[THEIRS], figures[OURS])
        )
        print(f"tracks nothing: {what}: rq's {theirs:.2f}, ours {ours:.2f}; longer by {longer:.2f}")


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, own_redis(Path(folder)) as redis_url:
        workers = Workers(redis_url, f"http://127.0.0.1:{server.server_address[1]}")
        for kind in KINDS:
            arrivals(workers, kind, given.jobs)
        idle_jobs(workers, given.jobs, given.rounds)


if __name__ == "__main__":
    main()
