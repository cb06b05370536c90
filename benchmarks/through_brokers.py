"""Publishers, a broker and one relay, beside direct delivery, in one run.

    python through_brokers.py [--kinds classic,quorum,redis] [--events 100000] [--repeats 3]
    python through_brokers.py --fleet [--kinds ...]

The ways take turns within a repeat, and their medians are printed. A request of a client, and so a
message, has 20 events of 300 bytes. The relay's figures are those of its run between the first tenth of
the events and the last one: its start is told by itself. With ``--fleet`` 64 forked processes publish while
one relay delivers, and the requests are counted that reach the server.

Needs ``whisperr[amqp,redis]``, a RabbitMQ and a Redis that are installed, and Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from brokers import KINDS, Broker, brokers, running_relay, worker_output
from measuring import Sink

DIRECT = "direct"
LIMIT = 300.0  # seconds until something has failed
LOOK = 0.02  # seconds between two looks at the sink
FULL_REQUEST = 500  # events
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    given = parse()
    with tempfile.TemporaryDirectory() as folder, brokers(given.kinds, Path(folder)) as found:
        if given.fleet:
            for broker in found:
                with Sink() as sink:
                    fleet(broker, sink, Path(folder))
            return
        rounds: dict[str, list[dict[str, float]]] = {}
        for _ in range(given.repeats):
            with Sink() as sink:
                figures = published(sink, given.events, url=sink.url)
                rounds.setdefault(DIRECT, []).append(said(DIRECT, figures))
            for broker in found:
                with Sink() as sink:
                    figures = through(broker, sink, given.events, Path(folder))
                    rounds.setdefault(broker.kind, []).append(said(broker.kind, figures))
    report(rounds, given.events)


def said(way: str, figures: dict[str, float]) -> dict[str, float]:
    print(way, {name: float(f"{value:.3g}") for name, value in figures.items()}, flush=True)
    return figures


def report(rounds: dict[str, list[dict[str, float]]], events: int) -> None:
    """Medians; the ratios are those of one repeat."""
    names = (
        *("publisher, CPU s for 100,000 events", "  divided by that of direct delivery"),
        *("relay, events a CPU-second", "  events a second", "  its start, CPU s", "  peak MiB"),
        "publisher and relay, CPU divided by that of direct delivery",
    )
    rows: dict[str, list[str]] = {name: [] for name in names}
    direct = [it["deliver_cpu_s"] for it in rounds[DIRECT]]
    for all_of_way in rounds.values():
        publishers = [it["deliver_cpu_s"] for it in all_of_way]
        relays = [it.get("cpu_s_per_event", 0.0) for it in all_of_way]
        both = [cpu + events * relay for cpu, relay in zip(publishers, relays)]
        has_relay = "cpu_s_per_event" in all_of_way[0]

        def median(values: list[float], digits: int) -> str:
            return f"{statistics.median(values):,.{digits}f}" if values else "-"

        def of_relay(values: list[float], digits: int = 0) -> str:
            return median(values if has_relay else [], digits)  # noqa: B023  it is called at once

        cells = (
            median([100_000 * it / events for it in publishers], 2),
            median([it / other for it, other in zip(publishers, direct)], 2),
            of_relay([1 / it for it in relays if it]),
            of_relay([it.get("events_per_s", 0.0) for it in all_of_way]),
            of_relay([it.get("start_cpu_s", 0.0) for it in all_of_way], 2),
            of_relay([it.get("peak_mib", 0.0) for it in all_of_way]),
            median([it / other for it, other in zip(both, direct)], 2),
        )
        for name, cell in zip(names, cells):
            rows[name].append(cell)
    print(f"{'':60}" + "".join(f"{way:>10}" for way in rounds))
    for name, row in rows.items():
        print(f"{name:60}" + "".join(f"{cell:>10}" for cell in row))


# --- what is measured


def published(sink: Sink, events: int, **options: str) -> dict[str, float]:
    """By one process; ``url`` of the server, or of a ``broker``."""
    figures, sent = worker_output("publisher", events=events, **options)
    if "broker" not in options and sink.arrived() != sent:
        raise AssertionError("not all has arrived")
    return figures


def through(broker: Broker, sink: Sink, events: int, folder: Path) -> dict[str, float]:
    """All is published, then one relay delivers it."""
    broker.clear()
    figures = published(sink, events, broker=broker.url)
    with running_relay(folder, broker.url, sink.url, shop="wrk_benchmark") as relay:
        pid = relay.group.pid
        first, begun, cpu = wait_for(sink, events // 10, pid)
        last, ended, cpu_at_end = wait_for(sink, events, pid)
        peak = _peak_bytes(pid)
        relay.stop()
    used, delivered = cpu_at_end - cpu, last - first
    return {
        **figures,
        "cpu_s_per_event": used / delivered,
        "events_per_s": delivered / (ended - begun),
        "start_cpu_s": max(0.0, cpu - first * used / delivered),
        "peak_mib": peak / 2**20,
    }


def wait_for(sink: Sink, events: int, pid: int) -> tuple[int, float, float]:
    """How many came, when, and what CPU the relay had used by then."""
    until = time.monotonic() + LIMIT
    while (found := sink.total()) < events:
        assert time.monotonic() < until, f"{found} of {events} arrived"
        time.sleep(LOOK)
    return found, time.monotonic(), _cpu_seconds(pid)


def fleet(broker: Broker, sink: Sink, folder: Path) -> None:
    """Print how many requests reached the server for one full one."""
    broker.clear()
    with running_relay(
        folder, broker.url, sink.url, "--linger", "1", shop="wrk_benchmark"
    ) as relay:
        figures, sent = worker_output("fleet", broker=broker.url)
        wait_for(sink, sent, relay.group.pid)
        end = relay.stop().splitlines()[-1]
    assert sink.total() == sent, f"{sink.total()} of {sent} arrived"
    requests = sink.total("requests")
    ratio = requests / (sent / FULL_REQUEST)
    print(
        f"{broker.kind}: {sent:,} events published in {figures['publish_s']:.1f} s, {requests} requests "
        f"at the server: {ratio:.3f} times events/{FULL_REQUEST} ({end})",
        flush=True,
    )


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_bytes(pid: int) -> int:
    """The largest resident set that it had."""
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    return 1024 * int(line.split()[1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fleet", action="store_true", help="count the requests of many processes")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("it reads /proc")
    main()
