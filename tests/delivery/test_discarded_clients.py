"""Clients that nobody refers to any more: a few threads deliver what they leave, however many they are.

Each test discards its clients during an outage, in a process of its own, and counts threads there.
"""

from __future__ import annotations

import random
from pathlib import Path
from textwrap import dedent

import pytest

from support.apps import run_app
from whisperr._delivery import caretaker
from whisperr.sandbox import Sandbox

MOST = 24  # threads while clients are discarded, those that are just ending included
FEW = 2  # the main one, and the one for all of them

# What an application does that makes a client for each of its requests.
DISCARDS = f"""
import threading
from whisperr import Whisperr
from whisperr._delivery import caretaker

caretaker.LONGEST_BACKOFF = 0.5  # seconds: no test needs to wait for longer
told = []


def tell(error):
    told.append(error)


def lost():
    return sum(error.count for error in told if error.type == "dropped")


def discard(numbers, **options):
    "One client for each number, which tracks it and is gone; the most threads at once."
    most = 0
    for n in numbers:
        client = new_client(**{{"on_error": tell, **options}})
        track(client, [n])
        del client
        most = max(most, threading.active_count())
    assert most <= {MOST}, most


def await_threads(count, seconds=200):
    end = time.monotonic() + seconds
    while threading.active_count() > count:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


def ask(path, method="GET"):
    import json, urllib.request
    request = urllib.request.Request(URL + "/sandbox/" + KEY + path, method=method)
    return json.loads(urllib.request.urlopen(request).read())


def end_outage():
    ask("/faults", "DELETE")


def number_that_arrived():
    return ask("/ledger")["arrived"]


"""


def arrived(server: Sandbox, key: str) -> list[int]:
    """The numbers that arrived, in order; none of them under two ids.

    A copy under the same id may come: of an attempt that was ended while it waited for its answer.
    """
    ledger = server.ledger(key)
    assert ledger["arrived"] == ledger["numbers"], ledger
    return sorted(event["properties"]["n"] for event in server.events(key))


OUTAGES = {
    "503": {"do": "status", "status": 503, "times": -1},
    "no-answer": {"do": "hang", "times": -1},
}
DISTINCT = "on_error=lambda error: told.append(error)"  # no two of them have the same options


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize(
    ("options", "count"),
    [("", 1000), ("flush_at=1", 200), (DISTINCT, 200)],
    ids=["same", "eager", "distinct"],
)
def test_a_thousand_discarded_clients_in_an_outage(
    server: Sandbox, key: str, tmp_path: Path, outage: str, options: str, count: int
) -> None:
    """They keep a handful of threads, and all that they tracked arrives when the outage is over;
    then no thread of theirs is left."""
    server.inject(key, OUTAGES[outage])
    source = f"""
        discard(range({count}), request_timeout=1, {options})
        await_threads({FEW})
        end_outage()
        await_threads(1)
        assert not lost(), told
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [*range(count)]


@pytest.mark.parametrize("options", ["", DISTINCT], ids=["same", "distinct"])
def test_what_they_leave_is_bounded(
    server: Sandbox, key: str, tmp_path: Path, options: str
) -> None:
    """All of them together keep what one may keep. The others are dropped, and reported; the end
    of the process delivers what is kept."""
    server.inject(key, OUTAGES["503"])
    source = f"""
        discard(range(300), max_queue_size=50, {options})
        end = time.monotonic() + 200
        while lost() < 250:
            assert time.monotonic() < end, lost()
            time.sleep(0.01)
        end_outage()
        sys.exit()
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert len(arrived(server, key)) == 50


@pytest.mark.parametrize("options", ["", DISTINCT], ids=["same", "distinct"])
def test_an_exit_in_the_outage_reports_them(
    server: Sandbox, key: str, tmp_path: Path, options: str
) -> None:
    """Delivered or reported: each is counted once."""
    server.inject(key, OUTAGES["503"])
    last = "import atexit\natexit.register(lambda: print(lost()))\n"
    source = f"discard(range(100), shutdown_timeout=0.5, {options})"
    done = run_app(server, key, tmp_path, last + DISCARDS + source)
    assert done.stdout.split() == ["100"]
    assert arrived(server, key) == []


def test_journals_of_discarded_clients(server: Sandbox, key: str, tmp_path: Path) -> None:
    """They keep few files open, and are delivered and deleted when the outage is over."""
    server.inject(key, OUTAGES["503"])
    source = f"""
        discard(range(60), journal_dir="journal")
        await_threads({FEW})
        end = time.monotonic() + 200
        while len(os.listdir("/proc/self/fd")) > 40:
            assert time.monotonic() < end, os.listdir("/proc/self/fd")
            time.sleep(0.01)
        end_outage()
        await_threads(1)
        assert not lost(), told
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [*range(60)]
    assert [path for path in (tmp_path / "journal").rglob("*") if path.is_file()] == []


def test_identities_and_ids_of_their_own_survive_the_move(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """What joins the records of another client keeps its id, its context, and what it is."""
    server.inject(key, OUTAGES["503"])
    source = f"""
        for n in range(20):
            client = new_client(on_error=tell, flush_at=1)
            client.track("u", "it_happened", {{"n": n}}, {{"page": "p"}}, message_id="mine-%d" % n)
            client.identify("u", traits={{"n": n}})
            del client
        await_threads({FEW})
        end_outage()
        await_threads(1)
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [*range(20)]
    contexts = [event["context"] for event in server.events(key)]
    assert {(each["page"], each["$message_id"]) for each in contexts} == {
        ("p", f"mine-{n}") for n in range(20)
    }
    assert sorted(each["traits"]["n"] for each in server.identities(key)) == [*range(20)]


def test_a_call_from_the_same_garbage(server: Sandbox, key: str, tmp_path: Path) -> None:
    """An object that is collected together with its client may still track, after the client's
    own end: it is delivered."""
    source = """
        import gc

        class Owner:
            def __init__(self, n):
                self.me, self.n, self.client = self, n, new_client(on_error=tell)
                track(self.client, [n])

            def __del__(self):
                self.client.__del__()  # whichever of the two is asked first
                await_threads(1)
                track(self.client, [100 + self.n])

        for n in range(3):
            Owner(n)
            gc.collect()
        await_threads(1)
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [0, 1, 2, 100, 101, 102]


def test_a_child_takes_nothing_of_them(server: Sandbox, key: str, tmp_path: Path) -> None:
    """They are the parent's; a child has its own discarded clients, in an outage of its own."""
    server.inject(key, OUTAGES["503"])
    source = f"""
        def child():
            discard(range(100, 120), shutdown_timeout=0)
            await_threads({FEW})

        discard(range(20))
        await_threads({FEW})
        reap([fork(child)])
        end_outage()
        await_threads(1)
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [*range(20)]


def test_an_outage_at_one_place_is_none_elsewhere(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Clients of another base URL are delivered meanwhile."""
    source = f"""
        for n in range(50):
            client = new_client(on_error=tell)
            track(client, [n])
            gone = Whisperr(KEY, base_url="http://127.0.0.1:9", on_error=tell)
            track(gone, [1000])
            del client, gone
        end = time.monotonic() + 200
        while number_that_arrived() < 50:
            assert time.monotonic() < end, told
            time.sleep(0.01)
        await_threads({FEW})
        os._exit(0)
    """
    run_app(server, key, tmp_path, DISCARDS + dedent(source))
    assert arrived(server, key) == [*range(50)]


def test_a_pause_takes_no_number_of_the_applications() -> None:
    """What a program draws from ``random`` that it has seeded does not depend on our outages."""
    before = random.getstate()
    caretaker._Outage().failed(None)
    shares = {caretaker._jitter() for _ in range(50)}
    assert random.getstate() == before
    assert len(shares) > 1 and min(shares) >= 0.5 and max(shares) <= 1.0
