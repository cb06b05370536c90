"""Metrics by the official clients: what they show is what the server has counted, however many forked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from support import run_program
from support.clients import open_client, track
from support.deadlines import DEADLINE
from support.servers import Setting, assert_delivered
from whisperr import Whisperr, lifecycle
from whisperr._reporting import observers
from whisperr.sandbox import Sandbox

MANY = pytest.param(10_000, 300, marks=[pytest.mark.endurance, pytest.mark.timeout(1800)])

CONFIGURATION = """
import os
os.environ["PROMETHEUS_MULTIPROC_DIR"] = "metrics"
os.makedirs("metrics", exist_ok=True)
from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_exit, worker_abort
from whisperr.integrations.prometheus import instrument
instrument()
workers, preload_app, max_requests_jitter, graceful_timeout = 4, True, 10, 60
"""

SCRAPE = """
import json
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(json.dumps([
    [sample.name, sample.labels, sample.value] for metric in registry.collect() for sample in metric.samples
]))
"""


def scraped(folder: Path) -> dict[str, float]:
    """The sums over all processes, as a scrape of any of them would have them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRAPE],
        cwd=folder,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    return {
        ":".join([name, *labels.values()]): value for name, labels, value in json.loads(done.stdout)
    }


@pytest.mark.parametrize(("requests", "of_a_worker"), [(400, 30), MANY])
def test_prometheus_under_gunicorn(
    server: Sandbox, key: str, tmp_path: Path, requests: int, of_a_worker: int
) -> None:
    """Four workers that are recycled all the time: the sums are what the server has counted."""
    setting = Setting(tmp_path, server, key)
    configuration = f"{CONFIGURATION}max_requests = {of_a_worker}\n"
    with setting.gunicorn("served:application", configuration) as served:
        served.send(requests)
        served.stop()
        tracked = served.numbers()
    assert_delivered(server, key, tracked)
    ledger, found = server.ledger(key), scraped(tmp_path)
    assert len(os.listdir(tmp_path / "metrics")) > 8  # of more than the four
    assert found["whisperr_accepted_total"] == found["whisperr_delivered_total"] == requests
    assert found["whisperr_delivered_total"] == ledger["arrived"]
    assert found["whisperr_requests_total"] == ledger["requests"]
    assert found["whisperr_pending"] == 0


def test_prometheus_files_in_forked_children(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Each counts its own, losses by reason too; an earlier process of the same id is added to."""
    source = f"""
        import os
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = "metrics"
        os.makedirs("metrics", exist_ok=True)
        from whisperr import Whisperr
        from whisperr.integrations import prometheus
        prometheus.instrument()
        prometheus.instrument()
        prometheus._identifier = lambda: str(len(children)) + "-whisperr"
        w = Whisperr({key!r}, base_url={server.url!r}, flush_at=1000, on_error=lambda error: None)
        children = []
        w.track("u", "number_seen", {{"n": -1}})
        assert w.flush(60)
        for number in range(3):
            pid = os.fork()
            if not pid:
                w.track("u", "number_seen", {{"n": number}})
                w.track("u", "number_seen", {{"n": object()}})
                assert w.shutdown(60)
                os._exit(0)
            children.append(pid)
            assert os.waitpid(pid, 0)[1] == 0
        w.track("u", "number_seen", {{"n": -2}})
        assert w.flush(60)
        w.track("u", "number_seen", {{"n": object()}})  # no pass comes after it
    """
    run_program(source, tmp_path)
    found = scraped(tmp_path)
    assert found["whisperr_accepted_total"] == 9
    assert found["whisperr_delivered_total"] == 5 == server.ledger(key)["arrived"]
    assert found["whisperr_dropped_total:refused"] == 4


def test_prometheus_in_one_process(server: Sandbox, key: str) -> None:
    """Without the multiprocess mode the figures are read when they are asked for."""
    from prometheus_client import CollectorRegistry, generate_latest

    from whisperr.integrations.prometheus import instrument

    registry = CollectorRegistry()
    instrument(registry)
    with open_client(server.url, key) as client:
        track(client, range(3))
        client.track("", "number_seen")
        waiting = lifecycle.stats_all()["pending"]
        text = generate_latest(registry).decode()
        assert f"whisperr_pending {float(waiting)}" in text and waiting >= 3
        assert client.flush()
        before, stats = generate_latest(registry).decode(), lifecycle.stats_all()
        for name in ("accepted", "delivered", "ignored", "requests"):
            assert f"\nwhisperr_{name}_total {float(stats[name])}\n" in before
        assert f"\nwhisperr_sent_bytes_total {float(stats['bytes'])}\n" in before


def test_opentelemetry(server: Sandbox, key: str) -> None:
    """Observable counters by the official API, read by the application's own reader."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from whisperr.integrations.opentelemetry import instrument

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider)

    def collected() -> dict[str, Any]:
        data: Any = reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics  # another may be the SDK's, on itself
        (scope,) = [each for each in scopes if each.scope.name == "whisperr"]
        points = [
            (metric.name, point) for metric in scope.metrics for point in metric.data.data_points
        ]
        return {
            ":".join([name, *map(str, point.attributes.values())]): point.value
            for name, point in points
        }

    try:
        with open_client(server.url, key, on_error=lambda error: None) as client:
            before = collected()
            track(client, range(3))
            client.track("u", "number_seen", {"n": object()})
            assert client.flush()
            after = collected()
        grown = {name: after[name] - before.get(name, 0) for name in after}
        assert grown["whisperr.accepted"] == 4
        assert grown["whisperr.delivered"] == 3 == server.ledger(key)["arrived"]
        assert grown["whisperr.dropped:refused"] == 1
        assert after["whisperr.pending"] == lifecycle.stats_all()["pending"]
    finally:
        provider.shutdown()


def test_the_sum_of_all_clients(server: Sandbox, key: str) -> None:
    """``stats_all()`` is that, of this process; an observer hears of each pass, and may raise."""
    heard: list[int] = []

    def look() -> None:
        heard.append(lifecycle.stats_all()["delivered"])
        raise LookupError

    before = lifecycle.stats_all()
    with observing(look), open_client(server.url, key) as one, open_client(
        server.url, key
    ) as other:
        track(one, range(2))
        track(other, range(2, 5))
        assert one.flush() and heard[-1] == before["delivered"] + 2
        assert other.flush() and heard[-1] == before["delivered"] + 5
        after = lifecycle.stats_all()
        assert after["accepted"] - before["accepted"] == 5
        assert set(after) == set(one.stats()) - {"last_error"}


def test_a_flush_that_finds_nothing_left(server: Sandbox, key: str) -> None:
    """Another thread has delivered it, and is still about to tell: the flush tells itself."""
    passing, may_go_on = threading.Event(), threading.Event()
    told: list[tuple[int, int]] = []

    def look() -> None:
        thread = threading.get_ident()
        if thread != threading.main_thread().ident:
            passing.set()
            may_go_on.wait(DEADLINE)
        told.append((thread, lifecycle.stats_all()["delivered"]))

    before = lifecycle.stats_all()["delivered"]
    with observing(look), open_client(server.url, key, flush_at=1) as client:
        track(client, [0])
        try:
            assert passing.wait(DEADLINE)
            assert client.flush(DEADLINE)
            assert told == [(threading.main_thread().ident, before + 1)]
        finally:
            may_go_on.set()


@contextlib.contextmanager
def observing(look: Callable[[], None]) -> Iterator[None]:
    """``look`` hears of each pass, until the end of the block."""
    lifecycle.after_pass(look)
    try:
        yield
    finally:
        del observers._observers[look]


def test_a_program_without_the_package(tmp_path: Path) -> None:
    """The rest of whisperr needs neither of the two."""
    source = """
        import sys
        sys.modules["prometheus_client"] = sys.modules["opentelemetry"] = None
        import whisperr
        assert whisperr.Whisperr("wrk_k", disabled=True).flush()
        for name in ("prometheus", "opentelemetry"):
            try:
                __import__("whisperr.integrations." + name)
            except ImportError:
                print("missing")
    """
    assert run_program(source, tmp_path).stdout == "missing\nmissing\n"


def test_disabled_clients_are_left_out() -> None:
    """They count nothing."""
    before = lifecycle.stats_all()
    Whisperr(disabled=True).track("u", "order_paid")
    assert lifecycle.stats_all()["accepted"] == before["accepted"]
