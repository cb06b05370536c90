"""The benchmarks' own arithmetic, words and plan. Nothing here is timed."""

from __future__ import annotations

import ast
import gzip
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support.deadlines import DEADLINE

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WORKERS = BENCHMARKS / "workers"
sys.path += [str(BENCHMARKS), str(WORKERS)]

import environments  # noqa: E402
import figures  # noqa: E402
import layout  # noqa: E402
import measuring  # noqa: E402
import plan  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import targets  # noqa: E402

COLUMNS = (environments.EMPTY, environments.OURS, environments.JOURNAL, *environments.PEERS)


# --- arithmetic


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.1, 1), (50, 50), (99, 99), (99.9, 100), (100, 100)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, expected: int) -> None:
    """The smallest value that so many percent of all do not exceed."""
    assert figures.percentile(range(1, 101), percent) == expected


def test_a_percentile_of_nothing_is_an_error() -> None:
    """No figure rather than a made-up one."""
    with pytest.raises(ValueError):
        figures.percentile([], 50)


def test_a_distribution_needs_a_thousand_values_for_its_last_rank() -> None:
    """Of fewer values the 99.9th percentile would be the largest under another name."""
    few = figures.distribution([3, 1, 2], "@x", 2.0)
    assert few == {"median@x": 4, "p99@x": 6, "max@x": 6}
    many = figures.distribution(range(1, 2_001))
    assert many == {"median": 1_000, "p99": 1_980, "p99.9": 1_998, "max": 2_000}


# --- words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0712, "0.071"), (1.519, "1.52"), (13.28, "13.3"), (1591.9, "1,592")],
)
def test_a_number_shows_the_digits_that_count(value: float, text: str) -> None:
    """Three at most below a thousand, none after the point from a hundred on."""
    assert report.number(value) == text


def test_a_cell_shows_the_median_and_its_range() -> None:
    """A spread is shown wherever there is one."""
    assert report.cell([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert report.cell([2.0]) == "2.00"
    assert report.cell([]) == ""


def test_a_table_leaves_out_what_was_not_measured() -> None:
    """A column without figures has no row, and a figure of nobody has no column."""
    panel = layout.PANELS["burst"][0]
    text = report.table(panel, {"median": {"ours": [1.5]}}, {"ours": "us", "posthog": "them"})
    assert "us" in text and "1.50" in text
    assert "them" not in text and "p99" not in text


def test_a_column_without_a_figure_is_said_with_its_reason() -> None:
    """An invalid row is no silent gap."""
    found = {"samples": {}, "invalid": {"posthog": "3 of 4 events arrived"}}
    assert "them: 3 of 4 events arrived" in report.part("burst", found, {"posthog": "them"})


PAGE = """before
<!-- all 3.13 -->
old
<!-- end -->
<!-- targets 3.8 -->
old
<!-- end -->
after
"""
RUN: dict[str, Any] = {
    "machine": {
        "python": "CPython 3.8.1",
        "system": "Linux",
        "cpu": "a processor",
        "cores": 2,
        "load_before": 0.1,
        "load_after": 0.2,
        "date": "today",
        "seconds": 1.0,
        "quick": True,
    },
    "columns": [{"key": "ours", "name": "us", "packages": {}}],
    "notes": ["a note"],
    "targets": [{"what": "w", "target": "t", "reached": "r", "verdict": "met"}],
    "parts": {"exit": {"title": "the end", "samples": {"exit_ms": {"ours": [7]}}, "invalid": {}}},
}


def test_the_page_is_filled_only_in_the_places_of_this_python() -> None:
    """One run fills what is marked for its version, whole or targets alone, and nothing else."""
    page, plots = report.fill(PAGE, "3.8", RUN, "pictures")
    assert not plots
    assert page.count("old") == 1 and "| w " in page and "the end" not in page
    page, plots = report.fill(page, "3.13", RUN, "pictures")
    assert plots
    assert "old" not in page and "![the end](pictures/exit.png)" in page and "7.00" in page
    assert page.startswith("before\n") and page.endswith("after\n")
    assert report.fill(page, "3.13", RUN, "pictures")[0] == page
    with pytest.raises(ValueError):
        report.fill(page, "3.1", RUN, "pictures")


def test_the_page_in_the_documentation_has_its_places() -> None:
    """What `--docs` fills is there for the versions that are reported."""
    text = run.PAGE.read_text(encoding="utf-8")
    for version in ("3.13", "3.11", "3.8"):
        report.fill(text, version, RUN, "performance")


# --- verdicts


def _verdicts(found: Any) -> dict[str, str]:
    return {line.what: line.verdict for line in targets.judge(found)}


def test_a_ratio_is_taken_within_each_repeat() -> None:
    """A repeat in which the machine was slow counts as one ratio: here 0.1, 0.1 and 9."""
    found = {"burst": {"median": {"ours": [1, 9, 9], "0.2.1": [10, 90, 1]}}}
    assert targets.judge(found)[0].verdict == targets.MET
    assert targets.judge(found)[0].reached.startswith("0.1 ")


def test_every_target_can_be_met_missed_and_not_measured() -> None:
    """No verdict is always the same."""

    def found(good: bool) -> Any:
        low, high = ([1.0, 1.0], [100.0, 100.0]) if good else ([100.0, 100.0], [1.0, 1.0])
        # Low is what ours should be where little is good, high what the others then are.
        less = {"ours": low, "journal": low, "empty": high, "0.2.1": high, "posthog": high}
        first = {"ours": [1.0, 1.0], "journal": [1.5, 1.5] if good else [3.0, 3.0]}
        more = {"ours": high, "0.2.1": low}
        forks = {
            f"{side}@{name}": {"ours": values}
            for side in ("parent", "child")
            for name, values in {"none": high, "none_b": high, "100": low}.items()
        }
        return {
            "burst": {"median": less},
            "burst_8": {"p99.9": {**less, "journal": [1.0, 1.0] if good else [300.0, 300.0]}},
            "start": {"first_track_ms": first},
            "journal": {
                "dead_ms": {"journal": [20.0] if good else [200.0]},
                "disk_ratio": {"journal": [1.1] if good else [1.3]},
            },
            "paced": {"median": less, "max": less, "p99_late": less},
            "delivery": {"cpu_s_per_100k": less, "events_per_s": more},
            "memory": {"bytes": less},
            "idle": {"wake_ups": less},
            "forks": forks,
            "queue": {"median@1000": {"ours": high}, "median@1000000": {"ours": low}},
        }

    assert set(_verdicts(found(True)).values()) == {targets.MET}
    assert set(_verdicts(found(False)).values()) == {targets.MISSED}
    assert set(_verdicts({}).values()) == {targets.NOT_MEASURED}


# --- plan


def _known_options(worker: str) -> set[str]:
    """The keywords of the worker's figures.arguments(...)."""
    tree = ast.parse((WORKERS / f"{worker}.py").read_text(encoding="utf-8"))
    return {
        str(keyword.arg)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "arguments"
        for keyword in node.keywords
    }


@pytest.mark.parametrize("quick", [False, True])
def test_the_plan_leaves_nothing_out(quick: bool) -> None:
    """Every part, quick or not, has repeats, options its worker knows, columns, and a place in the report."""
    for part in plan.PARTS:
        assert part.times(quick) >= 1
        concerned = [column for column in COLUMNS if part.concerns(column, quick)]
        compared = {environments.OURS, environments.PUBLISHED}
        assert ({environments.JOURNAL} if part.name == "journal" else compared) <= set(concerned)
        for column in concerned:
            assert set(part.options(column, quick)) | {"url", "journal"} <= _known_options(
                part.worker
            )
        assert set(part.options(environments.OURS, quick)) == set(
            part.options(environments.OURS, not quick)
        )
    assert [part.name for part in plan.PARTS] == list(layout.PANELS)


def test_every_part_that_a_target_needs_is_planned() -> None:
    """A target that no run can judge would be no target."""
    assert {
        "burst", "burst_8", "paced", "paced_8", "identify", "keys", "queue", "memory", "traced",
        "delivery", "start", "idle", "forks", "exit", "journal",
    } == {part.name for part in plan.chosen(run.part_names(), "linux")}  # fmt: skip
    assert "idle" not in {part.name for part in plan.chosen(run.part_names(), "win32")}


def test_parts_and_peers_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the plan; a name that is none is an error that lists those there are."""
    given = run.parse(["--parts", "memory,burst", "--peers", "none", "--quick"])
    assert (given.parts, given.peers, given.quick) == (["burst", "memory"], [], True)
    with pytest.raises(SystemExit):
        run.parse(["--peers", "nobody"])
    assert "posthog" in capsys.readouterr().err


# --- the sink, and what it says of a measurement


def _post(url: str, body: bytes, **headers: str) -> tuple[str, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urlopen(Request(url, body, named), timeout=DEADLINE) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_the_sink_counts_events_and_speaks_their_protocol() -> None:
    """Each mark in a body counts once, compressed or not; OTLP is answered in protobuf."""
    with measuring.Sink() as sink:
        body = b'["payment_failed","payment_failed"]'
        assert _post(sink.url, body) == ("application/json", b"{}")
        _post(sink.url, gzip.compress(body), Content_Encoding="gzip")
        kind = "application/x-protobuf"
        assert _post(sink.url, b"payment_failed", Content_Type=kind) == (kind, b"")
        assert sink.arrived() == 5
        assert sink.arrived() == 0


def test_a_closed_gate_holds_answer_and_count() -> None:
    """What is sent meanwhile is answered and counts when the gate opens, not before."""
    with measuring.Sink() as sink:
        urlopen(f"{sink.url}/gate/close", timeout=DEADLINE).close()
        port = int(sink.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            # On one connection, so the sink has read the first when it answers the second.
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 14\r\n\r\npayment_failed")
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(4096).endswith(b"\r\n\r\n0")
            assert sink.arrived() == 1  # opens it
            assert connection.recv(4096).endswith(b"\r\n\r\n{}")


class Claiming(environments.Environment):
    """Says that it sent three events, and sent none."""

    def start(self, worker: str, **options: object) -> subprocess.Popen[str]:
        program = """print('{"figures": {"median": 1}, "sent": 3}')"""
        return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_measurement_whose_events_did_not_arrive_is_no_figure() -> None:
    """The row is invalid, and says why; also when all columns are measured at once."""
    burst, idle = plan.chosen(["burst", "idle"], "linux")
    liar = Claiming("posthog", "a liar", "posthog", sys.executable)
    with measuring.Sink() as sink:
        for part in (burst, idle):
            result = measuring.measure(part, [liar], sink, quick=True)
            assert not result.samples
            assert result.invalid == {"posthog": "0 of 3 events arrived"}


def test_a_journal_is_measured_where_the_client_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature decides; the client is then given a folder, and without the option there is no column."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = tmp_path / "whisperr.py"
    module.write_text("__version__ = '1'\nclass Whisperr:\n    def __init__(self, key): ...\n")
    assert environments.with_journal(environments.ours()) is None
    module.write_text(
        "import os\n__version__ = '1'\nclass Whisperr:\n"
        "    def __init__(self, key, *, base_url, journal_dir=None):\n"
        "        assert os.path.isdir(journal_dir)\n"
        "    def track(self, *given): ...\n"
        "    identify = flush = track\n"
    )
    column = environments.with_journal(environments.ours())
    assert column is not None and column.key == environments.JOURNAL
    with measuring.Sink() as sink:
        part = plan.Part("exit", "", "exits", {"events": 0}, {"events": 0})
        result = measuring.measure(part, [column], sink, True)
    # The stub had its folder, and delivers nothing: its one event is missed.
    assert result.invalid == {environments.JOURNAL: "0 of 1 events arrived"}


def test_ours_is_measured_beside_the_empty_function() -> None:
    """One small part for real: figures for both, and every event arrived."""
    part = plan.Part("burst", "", "calls", {"events": 20, "bursts": 1}, {"events": 20, "bursts": 1})
    with measuring.Sink() as sink:
        result = measuring.measure(part, [environments.empty(), environments.ours()], sink, True)
    assert result.invalid == {}
    assert set(result.samples["median"]) == {"empty", "ours"}
